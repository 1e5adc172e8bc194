"""The programs of examples/scripts do what they say, as processes against a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import Site, running_site

SCRIPTS = Path(__file__).parents[2] / "examples" / "scripts"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("corekit", tmp_path_factory.mktemp("scripts"), {}) as running:
        yield running


class Scripts:
    """Runs them; what still runs at the end is killed."""

    def __init__(self, site: Site, directory: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `corekit` of this environment
        self.environment = {**os.environ, "COREKIT_HOSTS": site.hosts, "PATH": path}
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def _command(self, script: str, *arguments: str) -> list[str]:
        file = str(SCRIPTS / script)
        return [*([sys.executable] if script.endswith(".py") else ["sh"]), file, *arguments]

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(script, *arguments), env=self.environment, cwd=self.directory, timeout=PATIENCE,
            capture_output=True, text=True,
        )  # fmt: skip

    def start(self, script: str, *arguments: str) -> IO[str]:
        """Start one; its output."""
        process = subprocess.Popen(
            self._command(script, *arguments),
            env=self.environment,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        return process.stdout

    def end(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                assert process.stdout is not None
                process.stdout.close()


@pytest.fixture
def scripts(site: Site, tmp_path: Path) -> Iterator[Scripts]:
    made = Scripts(site, tmp_path)
    yield made
    made.end()


def test_every_script_is_described_and_tested() -> None:
    described = (SCRIPTS / "README.md").read_text()
    tested = Path(__file__).read_text()
    for script in SCRIPTS.iterdir():
        if script.suffix in (".py", ".sh"):
            assert f"`{script.name}`" in described
            assert f'"{script.name}"' in tested


@pytest.mark.parametrize(
    ("script", "variable"), [("cron_leader.py", "TERM_TOKEN"), ("cron_leader.sh", "COREKIT_LOCK_TOKEN")]
)
def test_another_leads_when_the_leader_ends(scripts: Scripts, script: str, variable: str) -> None:
    job = ("sh", "-c", f'echo "term ${variable}"')
    first = scripts.start(script, f"/{script}", "0.1", *job)
    term = first.readline()
    second = scripts.start(script, f"/{script}", "0.1", *job)
    assert first.readline() == term
    scripts.started[0].send_signal(signal.SIGINT)
    later = second.readline()
    assert int(later.split()[1]) > int(term.split()[1])


def test_workers_do_everything_once(scripts: Scripts) -> None:
    items = [f"item{number}" for number in range(20)]
    assert scripts.run("workers.py", "/work", "put", *items).returncode == 0
    done = scripts.run("workers.py", "/work", "work", "3")
    assert sorted(line.split()[2] for line in done.stdout.splitlines()) == sorted(items), done


def test_customers_stay_where_they_are(scripts: Scripts) -> None:
    for port in (1, 2, 3):
        assert scripts.start("discovery.py", "/services", "serve", "shop", f"host:{port}").readline() == "registered\n"
    customers = [f"customer{number}" for number in range(30)]
    before = scripts.run("discovery.py", "/services", "find", "shop", *customers).stdout.splitlines()
    assert {line.split()[1] for line in before} == {"host:1", "host:2", "host:3"}
    scripts.started[0].send_signal(signal.SIGINT)
    assert scripts.started[0].wait(PATIENCE) == 0
    after = scripts.run("discovery.py", "/services", "find", "shop", *customers).stdout.splitlines()
    assert {line.split()[1] for line in after} == {"host:2", "host:3"}
    assert [line for line in before if not line.endswith(":1")] == [
        now for was, now in zip(before, after, strict=True) if not was.endswith(":1")
    ]


def test_one_deployment_at_a_time(scripts: Scripts) -> None:
    running = scripts.start("deploy.sh", "shop", "sh", "-c", "echo begun; sleep 600")
    assert running.readline() == "begun\n"
    refused = scripts.run("deploy.sh", "shop", "echo", "never")
    assert (refused.returncode, refused.stdout) == (75, "")
    assert "shop is being deployed by" in refused.stderr
    assert scripts.run("deploy.sh", "other", "sh", "-c", "exit 3").returncode == 3


def test_a_program_gets_its_new_configuration(scripts: Scripts, corekit: Callable[..., None]) -> None:
    corekit("config", "set", "--base", "/conf", "api/port=1")
    output = scripts.start("config_exec.sh", "/conf", "sh", "-c", 'echo "port $API_PORT"; exec sleep 600')
    assert output.readline() == "port 1\n"
    corekit("config", "set", "--base", "/conf", "api/port=2")
    assert output.readline() == "port 2\n"


@pytest.fixture
def corekit(scripts: Scripts) -> Callable[..., None]:
    """Runs a command of corekit, which must succeed."""

    def run(*arguments: str) -> None:
        subprocess.run(["corekit", *arguments], env=scripts.environment, check=True, timeout=PATIENCE)

    return run
