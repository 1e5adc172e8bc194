"""A queue whose items come back when their worker dies.

Promises: an item is worked on by one body at a time, and removed only by a body that ended without an error while its
claim was held; otherwise it comes back and is claimed again. So every item that was put is worked on at least once,
and its removal happens exactly once. Each claim has a token that is higher than those of all earlier claims of the
item: send it with every effect elsewhere, so that a worker that was frozen can be refused.
Failures: the body is cancelled before its session can have expired; the item is free as soon as the ensemble has
expired the session. When the answer to the removal is lost, it is found out: the claim and the item go in one
transaction. `put`: see `queue.Queue`.
Cost: a claim takes 2 lists with watches, 1 create, 1 read, 1 sync and 1 read; finishing 1 transaction.
Znodes: PATH/entries/entry-<priority>-<sequence>, persistent; PATH/taken/<same name>, ephemeral, data = a GUID, while
it is worked on: as kazoo's LockingQueue.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from corekit.client import Client, LeaseLost, NotAcquired, OutcomeUnknown, Watch, op
from corekit.client.follow import over
from corekit.client.paths import join
from corekit.client.tasks import alongside
from corekit.errors import ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError
from corekit_recipes.contender import Grant, confirm, grant_of, remove_marked
from corekit_recipes.priority_queue import PriorityQueue
from corekit_recipes.queue import PRIORITY, in_order


@dataclass(slots=True)
class Item:
    """An item that is being worked on."""

    name: str
    data: bytes
    grant: Grant

    @property
    def token(self) -> int:
        """The fencing token of this claim."""
        return self.grant.token


class ClaimQueue:
    """`async with ClaimQueue(zk, "/jobs").claim() as item: ...` - leaving without an error removes the item."""

    def __init__(self, zk: Client, path: str, *, margin: float | None = None) -> None:
        self.zk = zk
        self.path = path
        self.margin = margin
        self.entries = join(path, "entries")
        self.taken = join(path, "taken")
        self._queue = PriorityQueue(zk, self.entries)

    async def put(self, item: bytes, priority: int = PRIORITY) -> None:
        """Add an item; lower priority numbers (0 to 999) are claimed first."""
        await self._queue.put(item, priority)

    async def put_all(self, items: list[bytes], priority: int = PRIORITY) -> None:
        """Add items in one transaction."""
        await self._queue.put_all(items, priority)

    async def size(self) -> int:
        """How many items there are, those being worked on included."""
        return await self._queue.size()

    @asynccontextmanager
    async def claim(self, wait: float | None = None) -> AsyncIterator[Item]:
        """Work on the next item: it is removed when the body ends, and comes back when it fails.

        Args:
            wait: seconds to wait for an item; None waits for ever, 0 tries once.

        Raises:
            NotAcquired: there was no free item in time.
            LeaseLost: the body was cut short; the item comes back.
        """
        item: Item | None = None
        claim = _Claim(self)
        done = False
        try:
            with anyio.move_on_after(wait or None):
                while item is None:
                    try:
                        item = await claim.try_take()
                    except SessionExpiredError:
                        if not self.zk.renews:
                            raise
                    except ConnectionLossError:
                        pass
                    if item is None:
                        await claim.give_back()
                        claim = _Claim(self)
                        if wait == 0:
                            break
                        await self._until_free()
            if item is None:
                raise NotAcquired(f"no free item in {self.path} within {wait:g} s")
            with item.grant.lease:
                yield item
                await claim.finish(item)
                done = True
        finally:
            if not done:
                await claim.give_back()

    async def free(self) -> list[str]:
        """Names of the items that nobody works on, next first."""
        try:
            names, taken = await self.zk.gather(op.names(self.entries), op.names(self.taken))
        except NoNodeError:
            return []
        return [name for name in in_order(names) if name not in set(taken)]

    async def _until_free(self) -> None:
        """Wait until an item may be free."""
        zk = self.zk
        try:
            names, added = await zk.children_watch(self.entries)
            taken, returned = await zk.children_watch(self.taken)
        except NoNodeError:
            await zk.ensure(self.entries)
            await zk.ensure(self.taken)
            return
        try:
            if set(in_order(names.names)) <= set(taken.names):
                changed = anyio.Event()

                async def tell(watch: Watch) -> None:
                    await over(zk, watch)
                    changed.set()

                async with alongside(lambda: tell(added), lambda: tell(returned)):
                    await changed.wait()
        finally:
            zk.forget(added)
            zk.forget(returned)


class _Claim:
    """One attempt to claim an item, and the claim."""

    def __init__(self, queue: ClaimQueue) -> None:
        self.queue = queue
        self.lease = queue.zk.lease(queue.margin)
        self.guid = uuid.uuid4().hex.encode()
        self.tried: list[str] = []

    async def try_take(self) -> Item | None:
        """Claim the first free item, if there is one."""
        for name in await self.queue.free():
            if await self._mark(name):
                item = await self._confirmed(name)
                if item is not None:
                    return item
                await self.give_back()
        return None

    async def _mark(self, name: str) -> bool:
        """Put our mark on an item; False if somebody else's is there."""
        zk, path = self.queue.zk, join(self.queue.taken, name)
        self.tried.append(name)
        while True:
            try:
                await zk.create(path, self.guid, ephemeral=True)
                return True
            except NodeExistsError:
                self.tried.remove(name)
                return False
            except NoNodeError:
                await zk.ensure(self.queue.taken)
            except OutcomeUnknown:
                try:
                    return (await zk.get(path, fresh=True)).data == self.guid
                except NoNodeError:
                    pass

    async def _confirmed(self, name: str) -> Item | None:
        """The item, if it is still there and the mark is ours."""
        zk, path = self.queue.zk, join(self.queue.taken, name)
        try:
            data, (mark, marked) = await zk.gather(op.get(join(self.queue.entries, name)), op.get(path))
        except NoNodeError:
            return None
        stat = await confirm(zk, path, self.lease)
        if stat is None or mark != self.guid or stat.czxid != marked.czxid:
            return None
        return Item(name, data.data, grant_of(zk, stat.czxid, path, self.lease))

    async def finish(self, item: Item) -> None:
        """Remove item and mark in one transaction, in the session of the claim or not at all."""
        item.grant.lease.let_go()
        parts = [op.delete(join(self.queue.entries, item.name)), op.delete(item.grant.path)]
        while True:
            try:
                await item.grant.zk.multi(parts)
                return
            except NoNodeError as error:
                raise LeaseLost(f"{item.name} was removed by somebody else while it was worked on") from error
            except OutcomeUnknown:
                # In this session nobody else can have removed the mark together with the item.
                if await item.grant.zk.exists(join(self.queue.entries, item.name), fresh=True) is None:
                    return

    async def give_back(self) -> None:
        """Take our marks away, only ours, so that the items are free."""
        names, self.tried = self.tried, []
        if names:
            await remove_marked(self.queue.zk, [join(self.queue.taken, name) for name in names], self.guid)
