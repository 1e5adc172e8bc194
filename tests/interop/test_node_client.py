"""node-zookeeper-client from npm: the checks of `node/client_checks.js`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.programs import HERE, assert_check, install_node_client, run_checks
from tests.support.servers import Server, find_program

pytestmark = pytest.mark.interop

CHECKS = (
    "operations",
    "errors",
    "modes",
    "watches",
    "transactions",
    "acls",
    "chroot",
    "closed-session",
    "many-in-flight",
)


@pytest.fixture(scope="module")
def results(
    needs: Callable[..., object], tmp_path_factory: pytest.TempPathFactory, corekit_server: Server
) -> dict[str, str]:
    node = str(needs(find_program, "node", "nodejs"))
    env = needs(install_node_client, tmp_path_factory.mktemp("node"))
    assert isinstance(env, dict)
    return run_checks([node, str(HERE / "node" / "client_checks.js"), corekit_server.hosts, "/node-client"], env)


@pytest.mark.parametrize("name", CHECKS)
def test_node_client(results: dict[str, str], name: str) -> None:
    assert_check(results, name)
