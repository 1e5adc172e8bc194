"""A queue, first in, first out.

Promises: every item is given to one taker; items are taken in the order in which the ensemble received them (takers
that compete may finish in another order).
Failures: `take` removes an item before it returns it: if the taker dies right then, or is cancelled from outside (the
end of `wait` is waited out), the item is lost; use `claim_queue.ClaimQueue` where that must not happen. When the
answer to a `put` is lost, `OutcomeUnknown` is raised: the item is there once or not at all, and putting it again may
double it. When the answer to the removal is lost, and the node is gone afterwards, nobody can tell who removed it:
`TakeUnknown` carries the item.
Cost: `put` 1 request; `take` 1 list and 2 for the item; a taker that loses a race goes on with the next item of its
list. Takers that wait are all woken by a `put`.
Znodes: PATH/entry-100-<sequence>, persistent, data = the item, as kazoo's Queue; with `layout=Layout.CURATOR`
PATH/qn-<sequence>, as Curator's SimpleDistributedQueue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import anyio

from corekit.client import Client, OutcomeUnknown, op
from corekit.client.follow import over
from corekit.client.paths import join
from corekit.errors import CorekitError, NoNodeError
from corekit_recipes.naming import Layout, distance

PRIORITY = 100
_NAME = re.compile(r"(?:entry-(\d+)-|qn-)(\d{10}|-\d{9,10})$")


class TakeUnknown(CorekitError):
    """An item was removed, but perhaps by another taker: the answer was lost.

    Attributes:
        item: its data.
    """

    def __init__(self, path: str, item: bytes) -> None:
        super().__init__(f"{path} is gone, but the answer to its removal was lost: another may have taken it")
        self.item = item


def in_order(names: Iterable[str]) -> list[str]:
    """The items among the children, lowest priority number first, then oldest first."""
    found = [(match, name) for name in names if (match := _NAME.search(name)) is not None]
    if not found:
        return []
    origin = int(found[0][0][2])
    found.sort(key=lambda item: (int(item[0][1] or 0), distance(int(item[0][2]), origin)))
    return [name for _, name in found]


class Queue:
    """`await Queue(zk, "/jobs").put(b"...")`, `item = await Queue(zk, "/jobs").take()`"""

    def __init__(self, zk: Client, path: str, *, layout: Layout = Layout.KAZOO) -> None:
        self.zk = zk
        self.path = path
        self.layout = layout
        self._listed: list[str] = []

    async def put(self, item: bytes) -> None:
        """Append an item.

        Raises:
            OutcomeUnknown: it is there once, or not at all.
        """
        await self.put_all([item])

    async def put_all(self, items: Iterable[bytes]) -> None:
        """Append items in one transaction: all of them, next to each other, or none."""
        await self._append(items, "qn-" if self.layout is Layout.CURATOR else f"entry-{PRIORITY:03d}-")

    async def _append(self, items: Iterable[bytes], prefix: str) -> None:
        path, acl = join(self.path, prefix), self.zk.default_acl
        parts = [op.create(path, item, sequential=True, acl=acl) for item in items]
        while True:
            try:
                await self.zk.multi(parts)
                return
            except NoNodeError:
                await self.zk.ensure(self.path)

    async def size(self) -> int:
        """How many items there are."""
        stat = await self.zk.exists(self.path)
        return 0 if stat is None else stat.num_children

    async def peek(self) -> bytes | None:
        """The next item, left where it is; None if there is none."""
        for name in await self.names():
            try:
                return (await self.zk.get(join(self.path, name))).data
            except NoNodeError:
                pass
        return None

    async def try_take(self) -> bytes | None:
        """Remove and return the next item; None if there is none.

        Raises:
            TakeUnknown: see there.
        """
        for fresh in (False, True):
            if not self._listed or fresh:
                self._listed = (await self.names())[::-1]
            while self._listed:
                name = self._listed.pop()
                try:
                    item = await self.take_entry(name)
                except BaseException:
                    self._listed.append(name)  # it may still be there, and is then the next one
                    raise
                if item is not None:
                    return item
        return None

    async def take(self, wait: float | None = None) -> bytes | None:
        """Remove and return the next item; wait for one. None after `wait` seconds (None: never; 0: it tries once)."""
        deadline = math.inf if wait is None else anyio.current_time() + wait
        while True:
            item = await self.try_take()  # the end of the wait does not interrupt it: what is removed must be returned
            if item is not None:
                return item
            with anyio.CancelScope(deadline=deadline) as limit:
                await self._until_changed()
            if limit.cancelled_caught:
                return None

    async def _until_changed(self) -> None:
        """Wait until there are items."""
        try:
            children, changed = await self.zk.children_watch(self.path)
        except NoNodeError:
            await self.zk.ensure(self.path)
            return
        if in_order(children.names):
            self.zk.forget(changed)
        else:
            await over(self.zk, changed)

    async def _children(self) -> list[str]:
        try:
            return await self.zk.children(self.path)
        except NoNodeError:
            return []

    async def names(self) -> list[str]:
        """Names of the items, next first."""
        return in_order(await self._children())

    async def take_entry(self, name: str) -> bytes | None:
        """Remove and return the item of this name; None if it has gone.

        Raises:
            TakeUnknown: see there.
        """
        zk, path = self.zk, join(self.path, name)
        while True:
            try:
                item = (await zk.get(path)).data
            except NoNodeError:
                return None
            try:
                await zk.delete(path)
                return item
            except NoNodeError:
                return None
            except OutcomeUnknown as unknown:
                if await zk.exists(path, fresh=True) is None:
                    raise TakeUnknown(path, item) from unknown
