"""A queue whose items become due at a time.

Promises: no item is taken before it is due by the taker's clock (wall clock; keep clocks in step), earliest first.
Failures, cost: as `queue.Queue`.
Znodes: PATH/due-<milliseconds since 1970, fifteen digits>-<sequence>, persistent, data = the item.
"""

from __future__ import annotations

import re
import time

import anyio

from corekit.client import Client, op
from corekit.client.follow import over
from corekit.client.paths import join
from corekit.errors import NoNodeError
from corekit_recipes.queue import Queue

_NAME = re.compile(r"due-(\d{15})-(-?\d+)$")


class DelayQueue:
    """`await DelayQueue(zk, "/later").put(b"...", delay=30)`"""

    def __init__(self, zk: Client, path: str) -> None:
        self.zk = zk
        self.path = path
        self._queue = Queue(zk, path)

    async def put(self, item: bytes, *, delay: float) -> None:
        """Add an item that is due in `delay` seconds.

        Raises:
            OutcomeUnknown: it is there once, or not at all.
        """
        due_ms = round((time.time() + delay) * 1000)
        create = op.create(join(self.path, f"due-{due_ms:015d}-"), item, sequential=True, acl=self.zk.default_acl)
        while True:
            try:
                await self.zk.call(create)
                return
            except NoNodeError:
                await self.zk.ensure(self.path)

    async def size(self) -> int:
        """How many items there are, due or not."""
        return await self._queue.size()

    async def try_take(self) -> bytes | None:
        """Remove and return an item that is due; None if there is none."""
        for due, name in await self._pending():
            if due > time.time():
                break
            item = await self._queue.take_entry(name)
            if item is not None:
                return item
        return None

    async def take(self, wait: float | None = None) -> bytes | None:
        """Remove and return the next item as soon as it is due. None after `wait` seconds (None: never)."""
        with anyio.move_on_after(wait) as limit:
            while True:
                deadline, limit.deadline = limit.deadline, float("inf")  # an item once removed must reach the caller
                item = await self.try_take()
                limit.deadline = deadline
                if item is not None:
                    return item
                await self._until_due()
        return None

    async def _until_due(self) -> None:
        """Wait until an item is due, or the items have changed."""
        try:
            children, changed = await self.zk.children_watch(self.path)
        except NoNodeError:
            await self.zk.ensure(self.path)
            return
        first = min((int(found[1]) / 1000 for found in map(_NAME.search, children.names) if found), default=None)
        with anyio.move_on_after(None if first is None else max(0.0, first - time.time())):
            await over(self.zk, changed)
        self.zk.forget(changed)

    async def _pending(self) -> list[tuple[float, str]]:
        try:
            names = await self.zk.children(self.path)
        except NoNodeError:
            return []
        return sorted((int(found[1]) / 1000, found.string) for found in map(_NAME.search, names) if found)
