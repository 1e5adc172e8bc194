"""Fixtures for every test: real servers on loopback, and the rule for software that is not Python.

A test that needs such software calls `needs(...)` or uses a fixture that does: without the package it is skipped with
the package's name, and on a continuous-integration machine (`CI=true`) it fails, so that nothing is left out unseen.

`--server=java` (or `COREKIT_INTEROP_KIND=java`) runs the same tests against Apache ZooKeeper itself, which proves the
tests. The suites of the client, the recipes and the command line also know `--server=ensemble`, three of ours; without
the option they run against one of ours, and the tests with the mark `everywhere` against all three.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests import ROOT
from tests.support.servers import KINDS, Ensemble, MissingSoftware, Server

T = TypeVar("T")
SITES = (*KINDS, "ensemble")


def on_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def needs(find: Callable[..., T], *args: object, **named: object) -> T:
    """Call `find`; turn `MissingSoftware` into a skip, or into a failure on a CI machine."""
    try:
        return find(*args, **named)
    except MissingSoftware as error:
        if on_ci():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=SITES, help="What the tests run against; see tests/conftest.py.")


def pytest_configure() -> None:
    """Refuse what would test something else.

    A shell's background job ignores SIGINT, nohup SIGHUP, and so would every process that the tests start. Those
    processes run what is compiled, which must be of the sources that are there now.
    """
    for library in (ROOT / "corekit").glob("_compiled__mypyc.*.so"):
        compiled = library.stat().st_mtime
        for one in (*ROOT.glob("corekit/*/*.so"), *ROOT.glob("plugins/*/*/*.so")):
            source = one.with_name(one.name.split(".")[0] + ".py")
            if source.exists() and source.stat().st_mtime > compiled:
                pytest.exit(f"{source} is newer than what was compiled of it: run `make .venv/.installed-dev`", 2)
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def site_chosen(config: pytest.Config) -> str | None:
    """One of `SITES` if the option or the environment names one."""
    name: str | None = config.getoption("--server") or os.environ.get("COREKIT_INTEROP_KIND")
    if name is not None and name not in SITES:
        pytest.exit(f"COREKIT_INTEROP_KIND={name}: expected one of {', '.join(SITES)}", returncode=2)
    return name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site_name" in metafunc.fixturenames:
        chosen = site_chosen(metafunc.config)
        everywhere = metafunc.definition.get_closest_marker("everywhere") is not None
        names = [chosen] if chosen else list(SITES) if everywhere else ["corekit"]
        metafunc.parametrize("site_name", names, indirect=True, scope="session")


@dataclass(frozen=True)
class Site:
    """Servers under test, as clients see them.

    Attributes:
        hosts: all of them, as clients take it.
        port: one of them; in an ensemble one that does not lead.
    """

    hosts: str
    port: int


@contextmanager
def running_site(name: str, directory: Path, settings: Mapping[str, object]) -> Iterator[Site]:
    """Start one of `SITES`: a server of either kind, or an ensemble of three of ours."""
    if name != "ensemble":
        with needs(Server.start, name, directory, settings) as server:
            yield Site(server.hosts, server.port)
        return
    with needs(Ensemble.start, ["corekit"] * 3, directory, settings) as ensemble:
        leader = ensemble.leader()
        yield Site(ensemble.hosts, next(member.port for member in ensemble.members if member is not leader))


@pytest.fixture(scope="session")
def site_name(request: pytest.FixtureRequest) -> str:
    """Which of `SITES` this test runs against; see `pytest_generate_tests`."""
    return str(request.param)


@pytest.fixture(scope="session", name="needs")
def needs_fixture() -> Callable[..., object]:
    """`needs(find, *args)` for tests and fixtures elsewhere."""
    return needs


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the servers that a test starts for itself: `corekit`, or `java` when the option says so."""
    return "java" if site_chosen(request.config) == "java" else "corekit"


@pytest.fixture(scope="session")
def corekit_server(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Iterator[Server]:
    """One server for the whole run (default plugins, data in a temporary folder); tests use paths of their own."""
    with needs(Server.start, kind, tmp_path_factory.mktemp("shared"), {"extendedTypesEnabled": "true"}) as server:
        yield server


ServerFactory = Callable[..., Server]


@pytest.fixture
def server_factory(tmp_path: Path, kind: str) -> Iterator[ServerFactory]:
    """Start servers of a test's own: `server_factory(settings, kind=..., extra_args=...)`; killed at its end."""
    started: list[Server] = []

    def start(
        settings: Mapping[str, object] | None = None,
        kind: str = kind,
        directory: Path | None = None,
        port: int = 0,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Server:
        home = directory or tmp_path / f"server{len(started)}"
        server = needs(Server.start, kind, home, settings, port, extra_args, env)
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def ensemble_factory(tmp_path: Path) -> Iterator[Callable[..., Ensemble]]:
    """Start ensembles of a test's own: `ensemble_factory(["corekit", "java", "java"], settings)`."""
    started: list[Ensemble] = []

    def start(kinds: Sequence[str], settings: Mapping[str, object] | None = None, **more: object) -> Ensemble:
        ensemble = needs(Ensemble.start, kinds, tmp_path / f"ensemble{len(started)}", settings, **more)
        started.append(ensemble)
        return ensemble

    yield start
    for ensemble in started:
        ensemble.kill()
