"""The client as people use it: the operations, and around them the session's state, watches, leases and clean-up.

A `Client` is a light view of one session: `at` gives another root, `within` another deadline, both share the rest.

Not here: the operations (`operations.py`), connecting (`connect.py`), recipes (package `corekit_recipes`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from corekit.client import op
from corekit.client.dial import DialError, four_letter, why
from corekit.client.errors import ClientClosedError
from corekit.client.follow import ChildrenFollower, DataFollower
from corekit.client.hosts import parse_hosts
from corekit.client.lease import Lease
from corekit.client.op import Request
from corekit.client.operations import Operations
from corekit.client.paths import under
from corekit.client.protocol import Call
from corekit.client.state import StateFollower
from corekit.client.types import Children, Data, EventType, State, StateChange, WatchEvent
from corekit.client.watches import CHILD, DATA, PERSISTENT, RECURSIVE, Watch, WatchStream
from corekit.errors import NO_NODE, ConnectionLossError, KeeperError, NoNodeError, SessionExpiredError
from corekit.model.stat import Stat

T = TypeVar("T")
log = logging.getLogger(__name__)


class Client(Operations):
    """A session with an ensemble. Made by `connect`."""

    __slots__ = ()

    # ---------------------------------------------------------------------------------------- views
    def at(self, path: str) -> Client:
        """The same session, seeing `path` (which need not exist yet) as its root."""
        root = under(self._chroot, op.exists(path).path or b"").rstrip(b"/")
        return Client(self._runner, root, self._seconds, self._session)

    def within(self, seconds: float | None) -> Client:
        """The same session, with another deadline for each call (None: no deadline)."""
        return Client(self._runner, self._chroot, seconds, self._session)

    def bound(self, lease: Lease | None = None) -> Client:
        """A view of the present session (or a lease's) alone: when it has ended, calls raise `SessionExpiredError`.

        What it writes can therefore not happen in a session that has taken its place.
        """
        session = lease.session if lease is not None else self._session or self._runner.session
        return Client(self._runner, self._chroot, self._seconds, session)

    # ---------------------------------------------------------------------------------------- state
    @property
    def state(self) -> StateChange:
        """The present state, with the reason why it came."""
        return self._runner.board.now

    async def wait_state(self, *states: State) -> StateChange:
        """Wait until the session is in one of these states; at once if it is.

        Raises:
            ClientClosedError: a final state came instead.
        """
        return await self._runner.board.wait(lambda change: change.state in states)

    async def wait_connected(self) -> StateChange:
        """Wait until reads are answered."""
        return await self._runner.board.wait(lambda change: change.state.connected)

    def states(self) -> StateFollower:
        """`async for change in zk.states()`: the present state and every change, until the client is closed."""
        return self._runner.board.follow()

    @property
    def session_id(self) -> int:
        """The session's number as in a Stat's `ephemeral_owner`; 0 before there is one."""
        return (self._session or self._runner.session).id

    @property
    def session_timeout(self) -> float:
        """The timeout in seconds that the server granted."""
        return (self._session or self._runner.session).timeout

    @property
    def session_password(self) -> bytes:
        """The session's password."""
        return (self._session or self._runner.session).password

    @property
    def last_zxid(self) -> int:
        """The highest zxid seen in any reply."""
        session = self._runner.session
        return max(session.last_zxid, session.connection.last_zxid if session.connection else 0)

    async def server_version(self) -> tuple[int, ...]:
        """The version of ZooKeeper that the present server speaks, such as (3, 9, 5): what decides what it can do.

        Asked with the four-letter word `srvr`, which servers allow unless their administrator took it out of
        `4lw.commands.whitelist`.

        Raises:
            ConnectionLossError: there is no connection, or no answer that says a version.
        """
        server = self.state.server
        if not self.state.state.connected:
            raise ConnectionLossError(f"not connected ({self.state.reason}), so there is no server to ask")
        host = parse_hosts(server)[0][0]
        options = self._runner.options
        seconds = self.session_timeout if self._seconds is None else self._seconds
        try:
            answer = await four_letter(host, b"srvr", seconds, options.tls, options.dial)
        except (*DialError, TimeoutError) as error:
            raise ConnectionLossError(f"{server} did not answer srvr: {why(error)}") from error
        found = re.match(r"Zookeeper version: (\d+(?:\.\d+)*)", answer)
        if found is None:
            raise ConnectionLossError(f"{server} does not tell its version: {answer.strip()[:100]}")
        return tuple(int(part) for part in found[1].split("."))

    @property
    def safe_until(self) -> float:
        """The session cannot have expired before this moment (`anyio.current_time`); precise while a lease is held."""
        return (self._session or self._runner.session).safe_until

    def lease(self, margin: float | None = None) -> Lease:
        """`async with zk.lease():` runs the body only while the session cannot have expired.

        Args:
            margin: seconds before that moment at which the body is cancelled; a tenth of the timeout if not given.
        """
        return Lease(self._runner, margin)

    @property
    def renews(self) -> bool:
        """Whether another session takes the place of one that has expired."""
        return self._runner.options.renew

    async def clean_up(self, job: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Run `job` to its end though the caller may be cancelled: it becomes a task of the client.

        Waits for it, shielded, for at most so many seconds; then it goes on by itself until the client is closed
        (which ends the session, and so everything ephemeral). An error is raised here, or logged if nobody waits.
        """
        done = anyio.Event()
        failures: list[Exception] = []

        async def run() -> None:
            try:
                await job()
            except (SessionExpiredError, ClientClosedError):
                pass  # what it would have removed is gone
            except Exception as error:
                failures.append(error)
                if done.is_set():
                    log.warning("clean-up failed", exc_info=error)
            finally:
                done.set()

        if self._runner.jobs is None:
            return
        self._runner.jobs.start_soon(run)
        with anyio.move_on_after(seconds, shield=True):
            await done.wait()
        if done.is_set():
            if failures:
                raise failures[0]
        else:
            done.set()

    async def add_auth(self, scheme: str, credentials: str | bytes) -> None:
        """Authenticate, now and after every reconnection: `await zk.add_auth("digest", "user:password")`.

        Raises:
            AuthFailedError: refused; the session is over for good.
        """
        data = credentials.encode() if isinstance(credentials, str) else credentials
        await self._runner.authenticate(scheme, data, self._seconds)

    def set_hosts(self, hosts: str) -> None:
        """Use other servers from now on (`host:port,host:port`, without a chroot)."""
        self._runner.set_hosts(parse_hosts(hosts)[0])

    # ---------------------------------------------------------------------------------------- watches
    async def get_watch(self, path: str) -> tuple[Data, Watch]:
        """Read, and get told of the next change: `data, changed = await zk.get_watch(path)`, then `await changed`."""
        return await self._watched(op.get(path, True), DATA)

    async def get_watches(self, paths: Sequence[str]) -> list[tuple[Data, Watch] | KeeperError]:
        """As `get_watch` of many nodes, asked together; an error stands in the place of its result."""
        sent = [self._send_watched(op.get(path, True), DATA) for path in paths]
        results: list[tuple[Data, Watch] | KeeperError] = []
        for call, watch in sent:
            try:
                results.append((await self._runner.finish(call, self._seconds), watch))
            except KeeperError as error:
                results.append(error)
        return results

    async def exists_watch(self, path: str) -> tuple[Stat | None, Watch]:
        """As `exists`, with a watch for creation, change or removal."""
        watch = Watch(b"", DATA, len(self._chroot))
        try:
            return await self._watched(op.exists(path, True), DATA, watch)
        except NoNodeError:
            return None, watch

    async def children_watch(self, path: str) -> tuple[Children, Watch]:
        """Read the children, with a watch for children added or removed (not for changes of their data)."""
        return await self._watched(op.children(path, True), CHILD)

    async def _watched(self, request: Request[T], kind: int, watch: Watch | None = None) -> tuple[T, Watch]:
        call, watch = self._send_watched(request, kind, watch)
        return await self._runner.finish(call, self._seconds), watch

    def _send_watched(self, request: Request[T], kind: int, watch: Watch | None = None) -> tuple[Call[T], Watch]:
        assert request.path is not None
        if watch is None:
            watch = Watch(b"", kind, len(self._chroot))
        watch.path = under(self._chroot, request.path)
        call = Call(request, self._chroot, watch)
        self._submit(call)
        return call, watch

    def watch_removal(self, path: str, removed: Callable[[], None], made: int = 0) -> None:
        """Call `removed` (which must not block) when a node is removed, or if there is none. Ends with the session.

        The question is sent now and not waited for.

        Args:
            made: the czxid of the node that is meant: a node that was made anew while there was no connection is
                another one, though its server tells only of changed data. 0: the one that is there now.
        """

        def seen(event: WatchEvent) -> None:
            if event.type is EventType.DELETED:
                removed()
            elif event.type is not EventType.CREATED:
                self.watch_removal(path, removed, call.value.czxid if call.value is not None else made)

        def answered() -> None:
            if call.err == NO_NODE or (call.value is not None and made not in (0, call.value.czxid)):
                self.forget(watch)
                removed()

        call, watch = self._send_watched(op.exists(path, True), DATA, Watch(b"", DATA, len(self._chroot), seen))
        if call.done:
            answered()
        else:
            call.wake = answered

    def forget(self, watch: Watch) -> None:
        """Give up a one-shot watch that has not fired."""
        self._runner.session.watches.forget(watch)

    @asynccontextmanager
    async def watch(self, path: str, *, recursive: bool = False) -> AsyncIterator[WatchStream]:
        """All changes of a node, and of everything below it if `recursive` (3.6 and later).

        Example:
            async with zk.watch("/services", recursive=True) as events:
                async for event in events: ...

        Without `recursive` the stream shows creation, deletion, data and children changes of this one node; with it
        creation, deletion and data changes of the whole subtree. After a reconnection, and when the reader is too
        slow, an event RESYNC says that changes may be missing: read again. When the session is lost the stream ends
        with `SessionExpiredError`. Servers before 3.9 keep one kind of watch per path and connection: do not mix.
        """
        request = op.add_watch(path, recursive)
        assert request.path is not None
        session = self._session or self._runner.session
        full = under(self._chroot, request.path)
        stream = WatchStream(full, RECURSIVE if recursive else PERSISTENT, len(self._chroot))
        session.watches.add_stream(stream)
        try:
            await Client(self._runner, self._chroot, self._seconds, session).call(request)
            yield stream
        finally:
            unused = session.watches.forget_stream(stream) and not session.will_watch(full)
            if unused and session is self._runner.session and self.state.state.connected:
                self._submit(Call(op.remove_watches(path), self._chroot))

    def follow(self, path: str) -> DataFollower:
        """`async for data in zk.follow(path)`: the node's data now and after every change; None while there is none."""
        return DataFollower(self, path)

    def follow_children(self, path: str) -> ChildrenFollower:
        """`async for children in zk.follow_children(path)`: names and Stat now and after every change."""
        return ChildrenFollower(self, path)
