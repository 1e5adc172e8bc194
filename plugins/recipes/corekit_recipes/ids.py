"""Unique numbers.

`Numbers` hands out numbers of one sequence. Promises: no number is ever given twice, also after crashes; each
generator's numbers rise. Gaps come from generators that end with numbers left over. Cost: 2 requests for a block of
numbers.
Znodes: PATH, data = the next free number as text (as `counter.Counter`).

`worker_number` lends a small number that no other living holder has, for a generator such as `Flakes`. Promises:
exclusive, as `lock.Lock`: the body is cancelled before its session can have expired. Cost: 1 list and 1 create, a few
more under contention.
Znodes: PATH/<number>, ephemeral.

`Flakes` makes 64-bit ids without any request: 41 bits of milliseconds, 10 bits of worker number, 12 bits of sequence.
Promises: unique as long as the worker number is exclusive and the clock of its next holder is not behind that of the
one before; those of one generator rise, also when the clock goes back (they then wait in the last millisecond seen).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from corekit.client import Client, LeaseLost, OutcomeUnknown
from corekit.client.paths import join
from corekit.errors import CorekitError, NodeExistsError, NoNodeError
from corekit_recipes.contender import Grant, confirm, grant_of, remove_marked
from corekit_recipes.counter import Counter

EPOCH_MS = 1_577_836_800_000  # 2020-01-01


class Numbers:
    """`number = await Numbers(zk, "/ids/orders").next()`"""

    def __init__(self, zk: Client, path: str, *, block: int = 100) -> None:
        if block < 1:
            raise ValueError("a block has at least one number")
        self._counter = Counter(zk, path)
        self._block = block
        self._next = 0
        self._end = 0
        self._lock = anyio.Lock()

    async def next(self) -> int:
        """A number that nobody else gets."""
        if self._next >= self._end:
            async with self._lock:
                if self._next >= self._end:
                    await self._reserve()
        self._next += 1
        return self._next - 1

    async def _reserve(self) -> None:
        while True:
            try:
                self._end = await self._counter.add(self._block)
            except OutcomeUnknown:
                continue  # at worst a block is never used
            self._next = self._end - self._block
            return


class NoNumberFree(CorekitError):
    """All worker numbers are taken."""


@asynccontextmanager
async def worker_number(zk: Client, path: str, limit: int = 1024) -> AsyncIterator[tuple[int, Grant]]:
    """Run a body that has a number below `limit` for itself: `async with worker_number(zk, "/w") as (number, _): ...`

    Raises:
        NoNumberFree: all are taken.
        LeaseLost: the body was cut short.
    """
    await zk.ensure(path)
    mark = uuid.uuid4().hex.encode()
    tried: list[str] = []
    try:
        number = await _lowest_free(zk, path, limit, mark, tried)
        node = tried[-1]
        lease = zk.lease()
        stat = await confirm(zk, node, lease)
        if stat is None:
            raise LeaseLost(f"{node} was removed before the body began")
        with lease:
            yield number, grant_of(zk, stat.czxid, node, lease)
    finally:
        if tried:
            await remove_marked(zk, tried, mark)


async def _lowest_free(zk: Client, path: str, limit: int, mark: bytes, tried: list[str]) -> int:
    """Take the lowest number that is free; `tried` then ends with its node."""
    while True:
        taken = set(await zk.children(path, fresh=True))
        number = next((number for number in range(limit) if str(number) not in taken), None)
        if number is None:
            raise NoNumberFree(f"all {limit} numbers of {path} are taken")
        tried.append(join(path, str(number)))
        if await _take(zk, tried[-1], mark):
            return number
        tried.pop()


async def _take(zk: Client, node: str, guid: bytes) -> bool:
    try:
        await zk.create(node, guid, ephemeral=True)
        return True
    except NodeExistsError:
        return False
    except OutcomeUnknown:
        try:
            return (await zk.get(node, fresh=True)).data == guid
        except NoNodeError:
            return False


class Flakes:
    """`Flakes(number).next()`: 64-bit ids that rise."""

    def __init__(self, worker: int, *, clock: Callable[[], float] = time.time) -> None:
        if not 0 <= worker < 1024:
            raise ValueError("a worker number is from 0 to 1023")
        self._worker = worker << 12
        self._clock = clock
        self._last_ms = -1
        self._sequence = 0

    def next(self) -> int:
        """A new id. More than 4096 in a millisecond run ahead of the clock."""
        now = int(self._clock() * 1000) - EPOCH_MS
        if now > self._last_ms:
            self._last_ms, self._sequence = now, 0
        else:
            self._sequence += 1
            if self._sequence == 4096:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        return self._last_ms << 22 | self._worker | self._sequence
