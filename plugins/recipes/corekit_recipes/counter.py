"""An atomic counter.

Promises: every `add` that returns took effect exactly once, and returns the value right after it. Reads by `value`
may be a moment behind; `value(fresh=True)` is not older than any change that was finished before the call.
Failures: when a connection breaks during an `add`, the counter is read again behind a sync. If its version is
unchanged, or it was changed once and to something else than we wrote, our write did not happen and is done again.
Otherwise it cannot be told from a write of somebody else, and `OutcomeUnknown` is raised for the caller to decide.
Cost: 2 requests without contention; under contention all but one start again, after a random wait that grows.
Znodes: PATH, data = the number as decimal text, as kazoo's Counter; empty is 0. `Form.INT32` is Curator's
SharedCount, `Form.INT64` its DistributedAtomicLong (big-endian binary).
"""

from __future__ import annotations

import random
from enum import Enum

import anyio

from corekit.client import Client, OutcomeUnknown, Stat
from corekit.errors import BadVersionError, NoNodeError, UserError

PAUSE_FIRST, PAUSE_LAST = 0.001, 0.25  # seconds: bounds of the random wait after losing a race


class Form(Enum):
    """How the number is written."""

    TEXT = 0
    INT32 = 4
    INT64 = 8

    def encode(self, number: int) -> bytes:
        """The number as data.

        Raises:
            UserError: it does not fit.
        """
        try:
            return b"%d" % number if self is Form.TEXT else number.to_bytes(self.value, "big", signed=True)
        except OverflowError:
            raise UserError(f"{number} does not fit into a counter of the form {self.name.lower()}") from None

    def decode(self, data: bytes) -> int:
        """The number in the data; empty data is 0.

        Raises:
            UserError: the data is something else.
        """
        if not data:
            return 0
        try:
            if self is Form.TEXT:
                return int(data)
            if len(data) == self.value:
                return int.from_bytes(data, "big", signed=True)
        except ValueError:
            pass
        raise UserError(f"{data[:40]!r} is not a counter of the form {self.name.lower()}")


class Counter:
    """`await Counter(zk, "/hits").add(1)`"""

    def __init__(self, zk: Client, path: str, *, form: Form = Form.TEXT) -> None:
        self.zk = zk
        self.path = path
        self.form = form

    async def value(self, *, fresh: bool = False) -> int:
        """The present value; 0 if nobody has counted yet."""
        try:
            return self.form.decode((await self.zk.get(self.path, fresh=fresh)).data)
        except NoNodeError:
            return 0

    async def add(self, step: int) -> int:
        """Add a number (negative to subtract); returns the new value.

        Raises:
            OutcomeUnknown: the connection broke, and others changed the counter meanwhile.
        """
        pause = PAUSE_FIRST
        while True:
            try:
                data, stat = await self.zk.get(self.path)
            except NoNodeError:
                await self.zk.ensure(self.path)
                continue
            number = self.form.decode(data) + step
            try:
                await self.zk.set(self.path, self.form.encode(number), stat.version)
                return number
            except BadVersionError:
                await anyio.sleep(random.uniform(0, pause))
                pause = min(PAUSE_LAST, pause * 2)
            except OutcomeUnknown as unknown:
                if not await self._surely_not_written(stat, self.form.encode(number)):
                    raise unknown

    async def _surely_not_written(self, before: Stat, ours: bytes) -> bool:
        """After a lost answer: a session keeps its order, so behind a sync ours has happened or never will."""
        data, stat = await self.zk.get(self.path, fresh=True)
        if stat.czxid != before.czxid:
            return False
        return stat.version == before.version or (stat.version == before.version + 1 and data != ours)

    async def set(self, number: int) -> None:
        """Write a value, whatever it was before."""
        await self.zk.ensure(self.path)
        await self.zk.set(self.path, self.form.encode(number))
