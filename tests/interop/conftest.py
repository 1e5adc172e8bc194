"""Fixtures of the interoperability tests: a namespace for each test, kazoo clients, and waiting with a bound."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest
from kazoo.client import KazooClient

from tests.support.servers import Server

T = TypeVar("T")
_numbers = itertools.count(1)


def wait_for(condition: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """Poll until `condition()` is true and return its value; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for: {what}; last value {value!r}")
        time.sleep(0.01)


@pytest.fixture
def namespace() -> str:
    """A path no other test of this run uses; not created yet."""
    return f"/interop-{next(_numbers)}"


KazooFactory = Callable[..., KazooClient]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """kazoo leaves the sockets of connections that ended to the garbage collector, which is no fault of ours."""
    for item in items:
        if "kazoo_factory" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture
def kazoo_factory(corekit_server: Server) -> Iterator[KazooFactory]:
    """Started kazoo clients: `kazoo_factory(hosts=..., chroot=..., start=True, **arguments of KazooClient)`."""
    clients: list[KazooClient] = []

    def make(hosts: str = "", chroot: str = "", start: bool = True, **arguments: object) -> KazooClient:
        client = KazooClient(hosts=(hosts or corekit_server.hosts) + chroot, **arguments)
        clients.append(client)
        if start:
            client.start(timeout=15)
        return client

    yield make
    for client in clients:
        with suppress(Exception):
            client.stop()
        client.close()
    clients.clear()
    gc.collect()


@pytest.fixture
def zk(kazoo_factory: KazooFactory) -> KazooClient:
    """One started kazoo client on the shared server."""
    return kazoo_factory()
