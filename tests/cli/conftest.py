"""`corekit` as a process against one server for the whole folder; servers of a test's own come from `server_factory`.

Tests run in subfolders of their own (`root`), so that they may share the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.prepared import Prepared
from tests.conftest import Site, running_site
from tests.support.rawzk import RawClient

# Short ticks allow short sessions, so that a lost session is a matter of seconds.
SETTINGS = {"tickTime": 500, "extendedTypesEnabled": "true", "maxSessionTimeout": 60000}
PATIENCE = 30.0  # seconds within which anything happens, even on a busy machine


def until(fulfilled: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for a condition and return its value; fails with `what`."""
    deadline = time.monotonic() + seconds
    while not (value := fulfilled()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return value


class Tool:
    """Starts `corekit` with a server in $COREKIT_HOSTS; kills what is left at the end."""

    def __init__(self, hosts: str, directory: Path, prepared: Prepared) -> None:
        self.hosts = hosts
        self.directory = directory
        self._prepared = prepared
        self._started: list[subprocess.Popen[str]] = []

    def environ(self, **variables: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
        return {
            **own,
            "COREKIT_HOSTS": self.hosts,
            "COLUMNS": "200",
            "TERM": "dumb",
            "TZ": "UTC",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }

    def start(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command; its output can be read from the process."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"text": True, **pipes, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "corekit", *arguments],
            env=self.environ(**(env or {})),
            cwd=self.directory,
            **options,
        )
        self._started.append(process)
        return process

    def run(
        self, *arguments: str, text: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with `text` as its standard input."""
        if env is None:
            return self._prepared.run(arguments, self.environ(), self.directory, text, PATIENCE)
        process = self.start(*arguments, env=env, stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL)
        out, err = process.communicate(text, timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def out(self, *arguments: str, text: str | None = None) -> str:
        """The output of a command that must succeed and say nothing on stderr."""
        done = self.run(*arguments, text=text)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return done.stdout

    def children(self, path: str) -> list[str]:
        """The names of a znode's children, asked without a process of its own; none if there is no such znode."""
        host, _, port = self.hosts.partition(",")[0].partition(":")
        with RawClient(host, int(port)) as client:
            client.handshake()
            client.sync(path)
            reply = client.children(path)
            found = [] if reply.err else reply.reader().texts()
            client.close_session()
        return found

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture(scope="session")
def cli_server(tmp_path_factory: pytest.TempPathFactory, site_name: str) -> Iterator[Site]:
    with running_site(site_name, tmp_path_factory.mktemp("cli"), SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def prepared() -> Iterator[Prepared]:
    one = Prepared()
    yield one
    one.close()


@pytest.fixture
def make_tool(tmp_path: Path, prepared: Prepared) -> Iterator[Callable[[str], Tool]]:
    """`make_tool(hosts)`."""
    made: list[Tool] = []

    def make(hosts: str) -> Tool:
        made.append(Tool(hosts, tmp_path, prepared))
        return made[-1]

    yield make
    for tool in made:
        tool.close()


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A path of the test's own, to be created by it."""
    return f"/{request.node.name.replace('[', '-').replace(']', '').replace('/', '-')}"


@pytest.fixture
def tool(cli_server: Site, make_tool: Callable[[str], Tool]) -> Tool:
    return make_tool(cli_server.hosts)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and output of a started process."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def lines(path: Path) -> Sequence[str]:
    return path.read_text().splitlines() if path.exists() else ()
