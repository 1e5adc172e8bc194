"""A queue whose items have priorities.

Promises, failures, cost: as `queue.Queue`; of the items that a taker sees, one with the lowest priority number is
taken.
Znodes: PATH/entry-<priority, three digits>-<sequence>, as kazoo's Queue; a plain `Queue` there has priority 100.
"""

from __future__ import annotations

from collections.abc import Iterable

from corekit_recipes.queue import PRIORITY, Queue


class PriorityQueue(Queue):
    """`await PriorityQueue(zk, "/jobs").put(b"...", priority=5)`; lower numbers are taken first."""

    async def put(self, item: bytes, priority: int = PRIORITY) -> None:
        """Add an item with a priority from 0 (first) to 999."""
        await self.put_all([item], priority)

    async def put_all(self, items: Iterable[bytes], priority: int = PRIORITY) -> None:
        """Add items in one transaction."""
        if not 0 <= priority <= 999:
            raise ValueError("a priority is a number from 0 to 999")
        await self._append(items, f"entry-{priority:03d}-")

    async def try_take(self) -> bytes | None:
        """Remove and return an item of the lowest priority number; None if there is none."""
        self._listed = []  # something more urgent may have come since the last list
        return await super().try_take()
