"""The C client of Apache ZooKeeper: the checks of `c/client_checks.c`, and the command line tool `cli_mt`."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ServerFactory
from tests.interop.programs import assert_check, build_c, run_checks
from tests.support.servers import Server, package_file

pytestmark = pytest.mark.interop

CHECKS = (
    "base",
    "operations",
    "errors",
    "modes",
    "watches",
    "multi",
    "acls",
    "session-is-taken-over",
    "chroot",
    "async-order",
    "sync-and-config",
)


@pytest.fixture(scope="module")
def results(
    needs: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory, corekit_server: Server
) -> dict[str, str]:
    program = needs(build_c, "client_checks", tmp_path_factory.mktemp("c"))
    return run_checks([*program, corekit_server.hosts, "/c-client"])


@pytest.mark.parametrize("name", CHECKS)
def test_c_client(results: dict[str, str], name: str) -> None:
    assert_check(results, name)


class Cli:
    """An interactive `cli_mt`: everything it prints, and waiting for a piece of it."""

    def __init__(self, program: str, hosts: str) -> None:
        self.process = subprocess.Popen(
            [program, "-h", hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.printed = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def wait_for(self, *pieces: str, seconds: float = 15.0) -> None:
        """Read on until each of `pieces` was printed since the last wait, in any order."""
        deadline = time.monotonic() + seconds
        seen = ""
        while not all(piece in seen for piece in pieces):
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"cli_mt did not print all of {pieces!r}; it printed:\n{self.printed}")
            seen += line
            self.printed += line

    def ask(self, command: str, *pieces: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self.wait_for(*pieces)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def cli_mt(needs: Callable[..., str]) -> Iterator[Callable[[str], Cli]]:
    program = needs(package_file, "zookeeper-bin", "/cli_mt")
    opened: list[Cli] = []

    def start(hosts: str) -> Cli:
        opened.append(Cli(program, hosts))
        opened[-1].wait_for("Got a new session id")
        return opened[-1]

    yield start
    for cli in opened:
        cli.close()


def test_cli_mt_interactively(cli_mt: Callable[[str], Cli], corekit_server: Server) -> None:
    cli = cli_mt(corekit_server.hosts)
    cli.ask("create /cli", "\tname = /cli")
    cli.ask("create2 /cli/two", "name = /cli/two", "ephemeralOwner = 0")
    cli.ask("create +e /cli/e", "name = /cli/e")
    cli.ask("create +s /cli/s", "name = /cli/s0000000002")
    cli.ask("create +es /cli/s", "name = /cli/s0000000003")
    cli.ask("create +c /cli/c", "name = /cli/c")
    cli.ask("create +t=60000 /cli/t", "name = /cli/t")
    cli.ask("create /cli", "[/cli]: rc = -110")
    cli.ask("set /cli hello", "/cli: rc = 0", "version=1\taversion=0", "time = ")
    cli.ask("get /cli", "value_len = 5\nhello", "time = ")
    names = [f"\t{name}\n" for name in ("two", "e", "s0000000002", "s0000000003", "c", "t")]
    cli.ask("ls /cli", *names, "time = ")
    cli.ask("ls2 /cli", *names, "ephemeralOwner = 0", "time = ")
    cli.ask("sync /cli", "[/cli]: rc = 0")
    cli.ask("exists /cli")
    cli.ask("aexists /cli")
    cli.ask("wexists /cli/w", "Error -101 for /cli/w")
    cli.ask("create /cli/w", "CREATED_EVENT")
    cli.ask("aget /cli", "hello")
    cli.ask("config", "rc = 0")
    cli.ask("reconfig -remove 3", "rc = -123")
    cli.ask("addauth digest ann:secret")
    cli.ask("delete /cli/two", "/cli/two: rc = 0")
    cli.ask("delete /cli/two", "/cli/two: rc = -101")
    cli.ask("delete /cli", "/cli: rc = -111")
    cli.ask("get /none", "/none: rc = -101")
    cli.ask("verbose", "logging level set to DEBUG")
    assert cli.process.stdin is not None
    cli.process.stdin.write("quit\n")
    cli.process.stdin.flush()
    assert cli.process.wait(15) == 0


def test_cli_mt_with_one_command(needs: Callable[..., str], corekit_server: Server) -> None:
    program = needs(package_file, "zookeeper-bin", "/cli_mt")
    done = subprocess.run(
        [program, "-h", corekit_server.hosts, "-r", "-c", "ls /"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "zookeeper" in (done.stdout + done.stderr).split()


def test_cli_mt_through_a_restart(cli_mt: Callable[[str], Cli], server_factory: ServerFactory) -> None:
    server = server_factory()
    cli = cli_mt(server.hosts)
    cli.ask("create +e /mine", "name = /mine")
    cli.ask("wexists /later", "Error -101 for /later")
    server.restart(hard=True)
    cli.wait_for("CONNECTED_STATE")
    cli.ask("get /mine", "/mine: rc = 0", "ephemeralOwner = ")
    cli.ask("create /later", "CREATED_EVENT")
