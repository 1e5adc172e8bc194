"""A znode that exists as long as a block runs: the presence of a member, a service, a worker.

Promises: the node is there from when the block begins, and is made again, by itself, after its session has expired or
somebody has removed it. When the process dies it vanishes with the session. It is removed when the block ends.
Failures: between an expiry and the new session it is missing; `Presence.session_id` changes then. It says that its
process was alive at most one session timeout ago, no more: it excludes nobody (see `lock.Lock` for that).
Cost: 1 request to appear, 1 to go; 2 to appear again.
Znodes: the given path, ephemeral; or with `sequential` the path with a sequence number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from corekit.client import Client, OutcomeUnknown, State
from corekit.client.paths import parent
from corekit.client.tasks import alongside
from corekit.errors import BadVersionError, NodeExistsError, NoNodeError, SessionExpiredError
from corekit_recipes.contender import CLEAN_UP_SECONDS


class Presence:
    """Made by `presence`."""

    def __init__(self, zk: Client, path: str, data: bytes) -> None:
        self.zk = zk
        self.path = path
        self.data = data
        self.session_id = 0
        self._missing = anyio.Event()

    async def set(self, data: bytes) -> None:
        """Change the node's data, now and for every time it is made again."""
        self.data = data
        try:
            await self.zk.set(self.path, data)
        except (NoNodeError, OutcomeUnknown, SessionExpiredError):
            self._missing.set()  # `keep` writes it

    async def appear(self, zk: Client) -> None:
        """Make sure that the node is there, belongs to the present session, and holds the data."""
        while True:
            try:
                if await self._made(zk) or await self._adopted(zk):
                    return
            except SessionExpiredError:
                if not zk.renews:
                    raise
            except (NoNodeError, BadVersionError, OutcomeUnknown):
                pass  # it is looked at again

    async def _made(self, zk: Client) -> bool:
        try:
            self.session_id = (await zk.create(self.path, self.data, ephemeral=True)).stat.ephemeral_owner
        except NoNodeError:
            await zk.ensure(parent(self.path))
            return False
        except (NodeExistsError, OutcomeUnknown):
            return False
        return True

    async def _adopted(self, zk: Client) -> bool:
        """There is such a node: take ours; remove that of an earlier session of ours; wait for a stranger's to go."""
        (data, stat), changed = await zk.get_watch(self.path)
        if stat.ephemeral_owner == zk.session_id:
            if data != self.data:
                await zk.set(self.path, self.data)
            self.session_id = stat.ephemeral_owner
            return True
        if stat.ephemeral_owner == self.session_id:
            await zk.delete(self.path, stat.version)
        else:
            await changed  # perhaps of an earlier life of this process: it will expire
        return False

    async def keep(self) -> None:
        """Make the node again whenever it is missing, until cancelled."""
        zk = self.zk.within(None)
        while True:
            missing = self._missing
            zk.watch_removal(self.path, missing.set)
            async with alongside(self._until_lost):
                await missing.wait()
            self._missing = anyio.Event()  # before it appears: what is missed from now on is seen to next
            await self.appear(zk)

    async def _until_lost(self) -> None:
        async for change in self.zk.states():
            if change.state is State.LOST or (change.state.connected and change.session_id != self.session_id):
                self._missing.set()

    async def vanish(self) -> None:
        """Remove the node."""
        zk = self.zk.bound().within(None)

        async def job() -> None:
            while True:
                stat = await zk.exists(self.path, fresh=True)
                if stat is None or stat.ephemeral_owner != zk.session_id:
                    return
                try:
                    await zk.delete(self.path, stat.version)
                except (NoNodeError, BadVersionError, OutcomeUnknown):
                    pass

        await self.zk.clean_up(job, CLEAN_UP_SECONDS if self.zk.state.state.connected else 0)


@asynccontextmanager
async def presence(zk: Client, path: str, data: bytes = b"") -> AsyncIterator[Presence]:
    """`async with presence(zk, "/members/host1", b"10.0.0.1"): ...`"""
    here = Presence(zk, path, data)
    try:
        await here.appear(zk)
        async with alongside(here.keep):
            yield here
    finally:
        await here.vanish()
