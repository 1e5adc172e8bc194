"""At most N holders at once.

Promises: never more than `permits` bodies at once, if all agree on the number; each body is cancelled before its
session can have expired. Permits are given first come, first served; their tokens rise. The number is written at the
semaphore when it is first used; who comes with another number is refused.
Failures: as `lock.Lock`. A permit is made in one transaction with a check that its maker is still first in line, so
that a maker that was frozen meanwhile cannot make one too many.
Cost: 7 requests to take a free permit (those of a lock, 1 list, 1 transaction), 1 to release.
Znodes (kazoo's Semaphore): PATH, data = the number as text; PATH/<guid>, ephemeral, one for each permit, data =
identifier; PATH-__lock__ is the line in which permits are made. With `layout=Layout.CURATOR` those of Curator's
InterProcessSemaphoreV2: PATH/locks and PATH/leases/_c_<uuid>-lease-<sequence>; the number is not written there.
"""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager

from corekit.client import Client, OutcomeUnknown, op
from corekit.client.paths import join
from corekit.errors import BadVersionError, NoNodeError, UserError
from corekit_recipes.contender import Contender, Grant, Removed, confirm, find, grant_of, granted, remove
from corekit_recipes.lock import Entry, blocks_writer, entry_of
from corekit_recipes.naming import Layout, Want


class Semaphore:
    """`async with Semaphore(zk, "/pool", 5).hold() as grant: ...`"""

    def __init__(
        self,
        zk: Client,
        path: str,
        permits: int,
        *,
        identifier: str = "",
        layout: Layout = Layout.KAZOO,
        margin: float | None = None,
    ) -> None:
        if permits < 1:
            raise ValueError("a semaphore has at least one permit")
        self.zk = zk
        self.path = path
        self.permits = permits
        self.identifier = identifier
        self.layout = layout
        self.margin = margin
        self.pool = path if layout is Layout.KAZOO else join(path, "leases")
        self.line = f"{path}-__lock__" if layout is Layout.KAZOO else join(path, "locks")

    def hold(self, wait: float | None = None) -> AbstractAsyncContextManager[Grant]:
        """Run a body while a permit is held. Arguments as `Lock.hold`.

        Raises:
            NotAcquired: all permits are taken.
            LeaseLost: the body was cut short.
            UserError: the semaphore was made with another number of permits.
        """
        return granted(self.zk, lambda: _Permit(self), wait, f"a permit of {self.path}")

    async def holders(self) -> list[Entry]:
        """Who has a permit, oldest first."""
        try:
            names = await self.zk.children(self.pool)
        except NoNodeError:
            return []
        found = [await entry_of(self.zk, join(self.pool, child)) for child in names]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.token)

    async def prepare(self) -> None:
        """Make the znodes, and agree on the number of permits."""
        await self.zk.ensure(self.pool)
        while self.layout is Layout.KAZOO:
            data, stat = await self.zk.get(self.path)
            if data.isdigit() and int(data) != self.permits:
                raise UserError(f"semaphore {self.path} has {data.decode()} permits, not {self.permits}")
            if data:
                return  # agreed, or the node's data is used for something else
            try:
                await self.zk.set(self.path, b"%d" % self.permits, stat.version)
            except (BadVersionError, OutcomeUnknown):
                pass


class _Permit:
    """An attempt to get a permit (`contender.Attempt`)."""

    def __init__(self, semaphore: Semaphore) -> None:
        zk = semaphore.zk.bound()
        self.lease = zk.lease(semaphore.margin)
        self.grant: Grant | None = None
        self._semaphore = semaphore
        self._zk = zk
        guid = uuid.uuid4()
        self._name = guid.hex if semaphore.layout is Layout.KAZOO else f"_c_{guid}-lease-"
        self._path: str | None = None
        self._tried = False
        self._place = Contender(zk, semaphore.line, Want.LOCK, semaphore.layout, semaphore.identifier.encode())

    async def take(self, patient: bool) -> bool:
        """Get first in line, wait for a free permit, take it, leave the line."""
        await self._semaphore.prepare()
        try:
            names = await self._place.join()
            if not await self._place.wait_turn(names, blocks_writer, patient):
                return False
            while True:
                children, changed = await self._zk.children_watch(self._semaphore.pool)
                if len(children.names) < self._semaphore.permits:
                    self._zk.forget(changed)
                    break
                if not patient:
                    self._zk.forget(changed)
                    return False
                await changed
            path = await self._make()
        finally:
            await self._place.leave()
        stat = await confirm(self._zk, path, self.lease)
        if stat is None:
            return False
        self.grant = grant_of(self._zk, stat.czxid, path, self.lease)
        return True

    async def _make(self) -> str:
        """Create the permit, if we are still in line."""
        semaphore = self._semaphore
        assert self._place.path is not None
        create = op.create(
            join(semaphore.pool, self._name),
            semaphore.identifier.encode(),
            ephemeral=True,
            sequential=semaphore.layout is Layout.CURATOR,
            acl=self._zk.default_acl,
        )
        while True:
            self._tried = True
            try:
                self._path = str((await self._zk.multi([op.check(self._place.path), create]))[1].path)
            except NoNodeError as error:
                raise Removed(error.path or "") from error
            except OutcomeUnknown:
                made = await find(self._zk, semaphore.pool, self._name)
                if not made:
                    continue
                self._path = made[0]
            return self._path

    async def release(self) -> None:
        """Give the permit back."""
        if self._tried:
            await remove(self._zk, self._semaphore.pool, self._name, self._path)
