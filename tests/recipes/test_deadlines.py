"""A deadline for every call (`call_timeout`) ends calls, not what lasts longer: that goes on after an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from corekit_recipes.election import latch
from corekit_recipes.group import Group
from corekit_recipes.service import Instance, Services
from corekit_recipes.tree_cache import tree_cache

from corekit.client import Client, State
from corekit.client.paths import join
from corekit.errors import RequestTimeoutError
from tests.client.proxy import Proxy
from tests.client.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def lasting(zk: Client, other: Client, kind: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Something of `other` that follows /r, and whether it has seen, or undone, what `disturb` does there."""
    if kind == "pool":
        async with Services(other, "/").pool("r") as pool:

            async def seen() -> bool:
                return bool(pool.instances)

            yield seen
    elif kind in ("tree", "tree of an old server"):
        async with tree_cache(other, "/r", recursive=kind == "tree") as tree:

            async def cached() -> bool:
                return len(tree) == 2

            yield cached
    else:
        entered = Group(other, "/r").join() if kind == "presence" else latch(other, "/r")
        async with entered:
            await until(lambda: has_children(zk))
            yield lambda: has_children(zk)


async def has_children(zk: Client) -> bool:
    return bool(await zk.children("/r"))


async def disturb(zk: Client) -> None:
    names = await zk.children("/r")
    for name in names:
        await zk.delete(join("/r", name))
    if not names:
        await zk.create("/r/new", Instance("r", "10.0.0.1", 80).encode())


@pytest.mark.parametrize("kind", ["pool", "tree", "tree of an old server", "presence", "latch"])
async def test_what_lasts_outlives_a_deadline(zk: Client, session, proxy: Proxy, kind: str) -> None:
    def cut_off(_: object) -> None:
        proxy.refusing = True
        proxy.cut()

    await zk.ensure("/r")
    async with session(proxy.hosts, call_timeout=0.5) as other, lasting(zk, other, kind) as good:
        _, changed = await other.children_watch("/r")
        changed.then = cut_off  # before what lasts has read what has changed
        await disturb(zk)
        await other.wait_state(State.SUSPENDED)
        with pytest.raises(RequestTimeoutError):  # and so theirs has passed, too
            await other.get("/r")
        proxy.refusing = False
        with anyio.fail_after(10):
            await until(good)
