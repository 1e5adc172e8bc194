"""A double barrier: N members begin together and end together.

Promises: no body begins before `count` members have entered; the block is left only when every member that entered
has left or lost its session. A body is cancelled when its member's session may have expired.
Failures: a member that dies inside is counted as having left. A member that loses its session while it waits to enter
enters again. If a member dies after all had entered, the others go on.
Cost: to enter 4 requests and a watch; the last to enter wakes all. To leave 2 requests and one watch on one other
member.
Znodes (kazoo's DoubleBarrier, Curator's DistributedDoubleBarrier): PATH/<guid>, ephemeral, one for each member;
PATH/ready exists from when all have entered until the last leaves (kazoo: the first). For one use at a time: members
of the next round must not enter before the last has left.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from corekit.client import Client, EventType, NotAcquired, OutcomeUnknown, op
from corekit.client.paths import join
from corekit.errors import NodeExistsError, NoNodeError, SessionExpiredError
from corekit_recipes.contender import remove

READY = "ready"


class DoubleBarrier:
    """`async with DoubleBarrier(zk, "/round1", 10).inside(): ...`"""

    def __init__(self, zk: Client, path: str, count: int, *, identifier: str = "") -> None:
        if count < 1:
            raise ValueError("a double barrier needs at least one member")
        self.zk = zk
        self.path = path
        self.count = count
        self.identifier = identifier

    @asynccontextmanager
    async def inside(self, wait: float | None = None) -> AsyncIterator[None]:
        """Enter, run the body once all have entered, leave, and wait until all have left.

        Args:
            wait: seconds to wait for the others to enter; None waits for ever.

        Raises:
            NotAcquired: the others did not come in time.
            LeaseLost: the body was cut short; the others are not waited for.
        """
        name = uuid.uuid4().hex
        inside = False
        left = False
        try:
            with anyio.move_on_after(wait):
                await self._enter(name)
                inside = True
            if not inside:
                raise NotAcquired(f"fewer than {self.count} members entered {self.path} within {wait:g} s")
            async with self.zk.lease() as lease:
                lease.depend_on(self.zk, join(self.path, name))
                yield
            await self._leave(name)
            left = True
        finally:
            if not left:
                await remove(self.zk, self.path, name, join(self.path, name))

    async def _enter(self, name: str) -> None:
        zk = self.zk
        await zk.ensure(self.path)
        create = op.create(join(self.path, name), self.identifier.encode(), ephemeral=True, acl=zk.default_acl)
        while True:
            try:
                try:
                    await zk.call(create)
                except (NodeExistsError, OutcomeUnknown):
                    pass
                ready, changed = await zk.exists_watch(join(self.path, READY))
                members = await self._members()
                if name not in members:
                    continue
                if ready is not None:
                    zk.forget(changed)
                    return
                if len(members) >= self.count:
                    zk.forget(changed)
                    await zk.ensure(join(self.path, READY))
                    return
                if (await changed).type is EventType.CREATED:
                    return  # even if the first has left already and taken it away
            except SessionExpiredError:
                if not zk.renews:
                    raise

    async def _leave(self, name: str) -> None:
        """Everyone but the first waits for the first; the first waits for the last. So a leaving wakes one or all."""
        zk = self.zk
        while True:
            members = sorted(await self._members())
            if not members or members == [name]:
                await self._drop(READY)
                await self._drop(name)
                return
            other = members[-1] if members[0] == name else members[0]
            if members[0] != name:
                await self._drop(name)
            stat, changed = await zk.exists_watch(join(self.path, other))
            if stat is None:
                zk.forget(changed)
            else:
                await changed

    async def _members(self) -> list[str]:
        try:
            return [name for name in await self.zk.children(self.path) if name != READY]
        except NoNodeError:
            return []

    async def _drop(self, name: str) -> None:
        try:
            await self.zk.call(op.delete(join(self.path, name), retry=True))
        except NoNodeError:
            pass
