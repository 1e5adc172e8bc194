"""Fixtures for every test: real servers on loopback, and the rule for software that is not Python.

A test that needs such software calls `needs(...)` or uses a fixture that does: without the package it is skipped with
the package's name, and on a continuous-integration machine (`CI=true`) it fails, so that nothing is left out unseen.

`COREKIT_INTEROP_KIND=java` runs the same tests against Apache ZooKeeper itself, which proves the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.servers import KINDS, Ensemble, MissingSoftware, Server

T = TypeVar("T")


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


def server_kind() -> str:
    kind = os.environ.get("COREKIT_INTEROP_KIND", "corekit")
    if kind not in KINDS:
        pytest.exit(f"COREKIT_INTEROP_KIND={kind}: expected one of {', '.join(KINDS)}", returncode=2)
    return kind


@pytest.fixture(scope="session", name="needs")
def needs_fixture() -> Callable[..., object]:
    """`needs(find, *args)` for tests and fixtures elsewhere."""
    return needs


@pytest.fixture(scope="session")
def kind() -> str:
    """The kind of server under test: `corekit`, or `java` when COREKIT_INTEROP_KIND says so."""
    return server_kind()


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
