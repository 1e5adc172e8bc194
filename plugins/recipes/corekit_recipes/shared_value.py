"""A value that many read and change.

Promises: `update` applies a function to the newest value and writes the result only if nobody changed it meanwhile,
so that no change is lost; it applies the function again otherwise. `follow` gives the present value, then each newer
one (of several quick changes perhaps only the last).
Failures: a connection that breaks during a write raises `OutcomeUnknown`, unless it is plain that the write did not
happen.
Cost: 2 requests for an update without contention, 1 for a read.
Znodes: PATH, data = the value; the node is made by the first write.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import anyio

from corekit.client import Client, Data, OutcomeUnknown
from corekit.client.follow import Mapped
from corekit.errors import BadVersionError, NodeExistsError, NoNodeError

PAUSE_FIRST, PAUSE_LAST = 0.001, 0.25  # seconds: bounds of the random wait after losing a race


class Versioned(NamedTuple):
    """A value and its version; version -1 is a value that was never written (b"")."""

    value: bytes
    version: int


class SharedValue:
    """`await SharedValue(zk, "/limits").update(lambda old: new)`"""

    def __init__(self, zk: Client, path: str) -> None:
        self.zk = zk
        self.path = path

    async def get(self, *, fresh: bool = False) -> Versioned:
        """The present value. `fresh`: not older than any change finished before the call."""
        try:
            data, stat = await self.zk.get(self.path, fresh=fresh)
        except NoNodeError:
            return Versioned(b"", -1)
        return Versioned(data, stat.version)

    async def set(self, value: bytes) -> None:
        """Write a value, whatever it was before."""
        while True:
            try:
                await self.zk.set(self.path, value)
                return
            except NoNodeError:
                await self.zk.ensure(self.path)

    async def try_set(self, value: bytes, before: Versioned) -> bool:
        """Write a value if nobody has changed it since `before` was read; returns whether it was written.

        Raises:
            OutcomeUnknown: the connection broke and the node was changed since.
        """
        try:
            if before.version < 0:
                await self.zk.create(self.path, value, parents=True)
            else:
                await self.zk.set(self.path, value, before.version)
        except (BadVersionError, NodeExistsError, NoNodeError):
            return False
        except OutcomeUnknown:
            if await self.get(fresh=True) != before:
                raise
            return await self.try_set(value, before)
        return True

    async def update(self, change: Callable[[bytes], bytes]) -> bytes:
        """Replace the value by `change(value)`; returns the new value. `change` may be called several times."""
        pause = PAUSE_FIRST
        while True:
            before = await self.get()
            value = change(before.value)
            if await self.try_set(value, before):
                return value
            await self.zk.sync(self.path)
            await anyio.sleep(random.uniform(0, pause))
            pause = min(PAUSE_LAST, pause * 2)

    def follow(self) -> AsyncIterator[Versioned]:
        """`async for value, version in shared.follow()`: the present value, then every newer one."""

        async def convert(data: Data | None) -> Versioned:
            return Versioned(b"", -1) if data is None else Versioned(data.data, data.stat.version)

        return Mapped(self.zk.follow(self.path), convert)
