"""Leader election, in two forms: `Election` (a body runs while leading) and `Latch` (take part, and ask who leads).

Promises: at most one leader's body at a time; leadership ends before the session can have expired; terms rise
(`grant.token` is the term: put it into whatever the leader writes). Candidates lead in the order in which they came.
A candidate that lost its session, or was removed, stands again by itself.
Failures: as `lock.Lock`. `Latch.is_leader` turns false before another candidate can be told that it leads.
Cost: as `lock.Lock`; a change of leader wakes one candidate.
Znodes: those of `lock.Lock` (and so of kazoo's Election, and with `layout=Layout.CURATOR` of Curator's
LeaderSelector). A `Latch` with Curator's layout is `_c_<uuid>-latch-<sequence>`, as Curator's LeaderLatch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from corekit.client import Client, LeaseLost
from corekit.client.tasks import alongside
from corekit.errors import RequestTimeoutError, SessionExpiredError
from corekit_recipes.contender import Grant, Turn, granted
from corekit_recipes.lock import Entry, blocks_writer, entries
from corekit_recipes.naming import Layout, Want


class Election:
    """`async with Election(zk, "/leader", identifier="host1").lead() as term: ...`"""

    def __init__(
        self,
        zk: Client,
        path: str,
        *,
        identifier: str = "",
        layout: Layout = Layout.KAZOO,
        margin: float | None = None,
        want: Want = Want.LOCK,
    ) -> None:
        self.zk = zk
        self.path = path
        self.identifier = identifier
        self.layout = layout
        self.margin = margin
        self.want = want

    def lead(self, wait: float | None = None) -> AbstractAsyncContextManager[Grant]:
        """Run a body as leader, once elected; leaving resigns. Arguments and errors as `Lock.hold`."""

        def make() -> Turn:
            return Turn(self.zk, self.path, self.want, self.layout, self.identifier, blocks_writer, self.margin)

        return granted(self.zk, make, wait, self.path)

    async def lead_always(self, body: Callable[[Grant], Awaitable[object]]) -> None:
        """Stand for election for ever: run `body` whenever elected, stand again when it returns or its term is lost."""
        while True:
            try:
                async with self.lead() as term:
                    await body(term)
            except LeaseLost:
                pass
            except SessionExpiredError:
                if not self.zk.renews:
                    raise

    async def candidates(self) -> list[Entry]:
        """The leader (first) and those who would follow."""
        return await entries(self.zk, self.path)

    async def leader(self) -> Entry | None:
        """Who leads as the servers see it: it may not know yet, or no longer act."""
        return next(iter(await self.candidates()), None)


class Latch:
    """Takes part in an election in the background, while a block runs.

    Example:
        async with latch(zk, "/leader") as candidate:
            await candidate.elected()
            if candidate.is_leader: ...
    """

    def __init__(self, election: Election) -> None:
        self.election = election
        self._term: Grant | None = None
        self._changed = anyio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads now, and will for `term.lease.remaining()` seconds at least."""
        return self.term is not None

    @property
    def term(self) -> Grant | None:
        """The present term, or None."""
        term = self._term
        return term if term is not None and term.lease.lost is None and term.lease.remaining() > 0 else None

    async def elected(self) -> Grant:
        """Wait until this candidate leads."""
        while (term := self.term) is None:
            await self._changed.wait()
        return term

    async def deposed(self) -> None:
        """Wait until this candidate does not lead (any more)."""
        while self.term is not None:
            await self._changed.wait()

    async def leader(self) -> Entry | None:
        """Who leads as the servers see it."""
        return await self.election.leader()

    async def stand(self) -> None:
        """Take part, until cancelled."""

        async def lead(term: Grant) -> None:
            self._set(term)
            try:
                await anyio.sleep_forever()
            finally:
                self._set(None)

        while True:
            try:
                await self.election.lead_always(lead)
            except RequestTimeoutError:
                pass  # the client's `call_timeout`, without a connection

    def _set(self, term: Grant | None) -> None:
        self._term = term
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def latch(
    zk: Client, path: str, *, identifier: str = "", layout: Layout = Layout.KAZOO, margin: float | None = None
) -> AsyncIterator[Latch]:
    """Take part in an election while the block runs; leaving resigns. See `Latch`."""
    candidate = Latch(Election(zk, path, identifier=identifier, layout=layout, margin=margin, want=Want.LATCH))
    async with alongside(candidate.stand):
        yield candidate
