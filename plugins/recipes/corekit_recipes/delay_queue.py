"""A queue whose items become due at a time.

Promises: no item is taken before it is due by the taker's clock (wall clock; keep clocks in step), earliest first.
Failures, cost: as `queue.Queue`.
Znodes: PATH/due-<milliseconds since 1970, fifteen digits>-<sequence>, persistent, data = the item.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import anyio

from corekit.client.follow import over
from corekit.errors import NoNodeError
from corekit_recipes.queue import Queue

_NAME = re.compile(r"due-(\d{15})-(-?\d+)$")


class DelayQueue(Queue):
    """`await DelayQueue(zk, "/later").put(b"...", delay=30)`"""

    async def put(self, item: bytes, delay: float = 0.0) -> None:
        """Add an item that is due in `delay` seconds.

        Raises:
            OutcomeUnknown: it is there once, or not at all.
        """
        await self.put_all([item], delay)

    async def put_all(self, items: Iterable[bytes], delay: float = 0.0) -> None:
        """Add items in one transaction, all due in `delay` seconds."""
        await self._append(items, f"due-{round((time.time() + delay) * 1000):015d}-")

    async def names(self) -> list[str]:
        """Names of the items, due or not, next first."""
        return [name for _, name in self._by_due(await self._children())]

    async def try_take(self) -> bytes | None:
        """Remove and return an item that is due; None if there is none."""
        for due, name in self._by_due(await self._children()):
            if due > time.time():
                break
            item = await self.take_entry(name)
            if item is not None:
                return item
        return None

    async def _until_changed(self) -> None:
        """Wait until an item is due, or the items have changed."""
        try:
            children, changed = await self.zk.children_watch(self.path)
        except NoNodeError:
            await self.zk.ensure(self.path)
            return
        first = next((due for due, _ in self._by_due(children.names)), None)
        with anyio.move_on_after(None if first is None else max(0.0, first - time.time())):
            await over(self.zk, changed)

    @staticmethod
    def _by_due(names: Iterable[str]) -> list[tuple[float, str]]:
        return sorted((int(found[1]) / 1000, found.string) for found in map(_NAME.search, names) if found)
