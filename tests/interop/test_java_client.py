"""Apache ZooKeeper's Java client: the checks of `java/ClientChecks.java`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import ServerFactory
from tests.interop.programs import assert_check, build_java, checks_of, java_client_class_path, run_checks
from tests.support.servers import Server

pytestmark = pytest.mark.interop

CHECKS = (
    "operations",
    "errors",
    "sequences",
    "multi",
    "multi-fails",
    "multi-read",
    "extended-modes",
    "counts",
    "who-am-i",
    "watches",
    "persistent-watches",
    "remove-watches",
    "sync",
    "async-order",
    "acls",
    "auth-failure",
    "chroot",
    "session-moves-and-expires",
    "closed-session",
    "read-only-client",
    "config-and-reconfig",
    "many-children",
    "largest-request",
)


@pytest.fixture(scope="module")
def program(needs: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return needs(build_java, "ClientChecks", tmp_path_factory.mktemp("java"), needs(java_client_class_path))


@pytest.fixture(scope="module")
def results(program: list[str], corekit_server: Server) -> dict[str, str]:
    return run_checks([*program, corekit_server.hosts, "/java-client"])


@pytest.mark.parametrize("name", CHECKS)
def test_java_client(results: dict[str, str], name: str) -> None:
    assert_check(results, name)


def test_java_client_through_a_crash_of_the_server(program: list[str], server_factory: ServerFactory) -> None:
    server = server_factory()
    command = [*program, server.hosts, "/java-restart", "restart"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        assert client.stdout is not None
        lines: list[str] = []
        try:
            for line in client.stdout:
                lines.append(line)
                if line.startswith("restart please"):
                    break
            else:
                pytest.fail("".join(lines))
            server.restart(hard=True)
            rest, _ = client.communicate("go on\n", timeout=60)
        finally:
            client.kill()
    assert checks_of(rest) == {"restart": ""}, "".join(lines) + rest
