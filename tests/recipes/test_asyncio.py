"""Programs on asyncio cancel with its own means, which no shield of anyio holds back: nothing may be left behind."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from corekit_recipes.claim_queue import ClaimQueue
from corekit_recipes.election import latch
from corekit_recipes.group import Group
from corekit_recipes.lock import Lock
from corekit_recipes.semaphore import Semaphore

from corekit.client import Client
from tests.client.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

PAUSES = (0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.1)  # seconds; so that every step of entering is met


def entered(zk: Client, recipe: str) -> AbstractAsyncContextManager[object]:
    if recipe == "lock":
        return Lock(zk, "/r").hold()
    if recipe == "semaphore":
        return Semaphore(zk, "/r", 1).hold()
    if recipe == "latch":
        return latch(zk, "/r")
    return Group(zk, "/r").join() if recipe == "group" else ClaimQueue(zk, "/q").claim()


@pytest.mark.parametrize("recipe", ["lock", "semaphore", "latch", "group", "claim"])
async def test_what_is_cancelled_leaves_nothing(zk: Client, recipe: str) -> None:
    await ClaimQueue(zk, "/q").put(b"item")
    lines = ["/r", "/r-__lock__", "/q/taken"]
    for path in lines:
        await zk.ensure(path)

    async def stay() -> None:
        async with entered(zk, recipe):
            await asyncio.Event().wait()

    async def nothing_left() -> bool:
        return not any([await zk.children(path, fresh=True) for path in lines])

    for pause in PAUSES:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(pause):
                await stay()
        impatient = asyncio.create_task(stay())
        await asyncio.sleep(pause)
        for _ in range(3):  # as a program that is interrupted again and again
            impatient.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await impatient
    await until(nothing_left)
    async with asyncio.timeout(8), entered(zk, recipe):
        pass
