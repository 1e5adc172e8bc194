"""An exclusive lock.

Promises: no two bodies run at once, in whatever processes, as long as bodies end when they are cancelled; the body is
cancelled before the session can have expired, when the session is lost, and when somebody removes the lock's znode
(`Lock.evict`). Grants are first come, first served, and their tokens rise.
Failures: a broken connection, a killed or frozen server and an expired session lose nothing and leave no orphan
behind; a contender whose connection broke while it joined finds its place again. What cannot be promised: a process
that is stopped (SIGSTOP, a suspended machine) or does not await goes on for a moment after it is resumed, with its
lock gone; therefore send the token with every write elsewhere.
Cost: a free lock takes 5 requests in 3 round trips to take, 1 to release; a taken one 3 more after the wait, and a
release wakes exactly one contender. A heartbeat (sync) every eighth of the session timeout while held.
Znodes: PATH/<guid>__lock__<sequence>, ephemeral, data = identifier, as kazoo's Lock; with `layout=Layout.CURATOR`
PATH/_c_<uuid>-lock-<sequence>, as Curator's InterProcessMutex. The parent is persistent and stays.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from corekit.client import Client
from corekit.client.paths import join
from corekit.errors import NoNodeError
from corekit_recipes.contender import Grant, Turn, granted
from corekit_recipes.naming import Layout, Place, Want, line


@dataclass(slots=True)
class Entry:
    """A contender as seen from outside: the first in the list holds, the others wait."""

    path: str
    identifier: str
    token: int
    session_id: int
    since_ms: int


def blocks_writer(place: Place) -> bool:
    """Every older contender stands in the way of an exclusive one."""
    return True


class Lock:
    """`async with Lock(zk, "/locks/report").hold() as grant: ...`

    Args:
        identifier: text for people who look who holds the lock.
        margin: seconds before the end of the lease at which the body is cancelled; see `Client.lease`.
    """

    def __init__(
        self,
        zk: Client,
        path: str,
        *,
        identifier: str = "",
        layout: Layout = Layout.KAZOO,
        margin: float | None = None,
    ) -> None:
        self.zk = zk
        self.path = path
        self.identifier = identifier
        self.layout = layout
        self.margin = margin

    def hold(self, wait: float | None = None) -> AbstractAsyncContextManager[Grant]:
        """Run a body while the lock is held. Not re-entrant; every call is a contender of its own.

        Args:
            wait: seconds; None waits for ever, 0 tries once.

        Raises:
            NotAcquired: others hold it.
            LeaseLost: the body was cut short.
        """

        def make() -> Turn:
            return Turn(self.zk, self.path, Want.LOCK, self.layout, self.identifier, blocks_writer, self.margin)

        return granted(self.zk, make, wait, self.path)

    async def contenders(self) -> list[Entry]:
        """Who holds the lock (first) and who waits for it, in order."""
        return await entries(self.zk, self.path)

    async def evict(self, path: str | None = None) -> Entry | None:
        """Remove a contender, the holder if none is named. Its body is cancelled as soon as it learns of it.

        Returns who was removed. The next contender does not wait for that body to end: use it on dead processes.
        """
        for entry in await self.contenders():
            if path in (None, entry.path):
                try:
                    await self.zk.delete(entry.path)
                except NoNodeError:
                    return None
                return entry
        return None


async def entries(zk: Client, path: str) -> list[Entry]:
    """The contenders in a line, oldest first."""
    try:
        names = await zk.children(path)
    except NoNodeError:
        return []
    found = [await entry_of(zk, join(path, place.name)) for place in line(names)]
    return [entry for entry in found if entry is not None]


async def entry_of(zk: Client, path: str) -> Entry | None:
    """A contender's node as an entry; None if it is gone."""
    try:
        data, stat = await zk.get(path)
    except NoNodeError:
        return None
    return Entry(path, data.decode("utf-8", "replace"), stat.czxid, stat.ephemeral_owner, stat.ctime)
