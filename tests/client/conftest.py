"""Fixtures: both event loops, servers, a path of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from corekit.client import Client, State, connect
from tests.client.proxy import Proxy, proxy_to
from tests.conftest import Site, running_site
from tests.support.rawzk import RawClient


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def server(site_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Servers for the whole run, with short ticks; tests use paths of their own."""
    settings = {"tickTime": 200, "extendedTypesEnabled": "true"}
    with running_site(site_name, tmp_path_factory.mktemp("client"), settings) as running:
        yield running


@pytest.fixture
def root() -> str:
    """A path that no other test uses; it does not exist."""
    return f"/t{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def zk(server: Site, root: str) -> AsyncIterator[Client]:
    """A session whose chroot is `root`, which exists."""
    async with connect(server.hosts + root, timeout=4) as client:
        await client.ensure("/")
        yield client


@pytest.fixture
async def proxy(server: Site) -> AsyncIterator[Proxy]:
    async with proxy_to(server.port) as running:
        yield running


@pytest.fixture
def session(server: Site, root: str) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """`async with session() as other:` is one more session on the same chroot, which then exists."""

    @asynccontextmanager
    async def open_session(hosts: str | None = None, **options: object) -> AsyncIterator[Client]:
        options.setdefault("timeout", 4)
        async with connect((hosts or server.hosts) + root, **options) as client:  # type: ignore[arg-type]
            await client.ensure("/")
            yield client

    return open_session


@pytest.fixture
def expire(server: Site, proxy: Proxy) -> Callable[[Client], Awaitable[None]]:
    """`await expire(zk)`: end its session on the server, as an expiry does, and wait until it knows.

    Another connection attaches to the same session and closes it. The client must be behind `proxy`.
    """

    def close_session(client: Client) -> None:
        with RawClient("127.0.0.1", server.port) as raw:
            raw.handshake(session_id=client.session_id, password=client.session_password)
            raw.close_session()

    async def run(client: Client) -> None:
        states = client.states()
        proxy.refusing = True
        proxy.cut()
        proxy.deaf = False
        await anyio.to_thread.run_sync(close_session, client)
        proxy.refusing = False
        with anyio.fail_after(10):
            async for change in states:
                if change.state is State.LOST:
                    return

    return run
