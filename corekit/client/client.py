"""The client as people use it: every operation, watches, state, bulk work.

Rules
- A `Client` is a light view of one session: `at` gives another root, `within` another deadline, both share the rest.
- Text outside, bytes inside; data is always bytes. Errors are those of `corekit.errors` and `corekit.client.errors`,
  with path, operation, server and session in their text.
- Calls made while there is no connection wait for one, up to their deadline.

Not here: connecting (`connect.py`), recipes (package `corekit_recipes`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from corekit.client import acl as acls
from corekit.client import op
from corekit.client.errors import OutcomeUnknown
from corekit.client.follow import ChildrenFollower, DataFollower
from corekit.client.hosts import parse_hosts
from corekit.client.lease import Lease
from corekit.client.op import Request
from corekit.client.paths import parent, path_bytes, path_text, under
from corekit.client.protocol import Call
from corekit.client.runner import Runner
from corekit.client.state import StateFollower
from corekit.client.stream import Stream
from corekit.client.tree import delete_tree, walk
from corekit.client.types import Children, Created, Data, Identity, State, StateChange
from corekit.client.watches import CHILD, DATA, PERSISTENT, RECURSIVE, Watch, WatchStream
from corekit.codec import ops
from corekit.errors import KeeperError, NoAuthError, NodeExistsError, NoNodeError, keeper_error
from corekit.model.stat import Stat

T = TypeVar("T")
Acl = Iterable[tuple[int, str, str]]


class Client:
    """A session with an ensemble. Made by `connect`."""

    __slots__ = ("_chroot", "_runner", "_seconds")

    def __init__(self, runner: Runner, chroot: str, seconds: float | None) -> None:
        self._runner = runner
        self._chroot = path_bytes(chroot)
        self._seconds = seconds

    # ---------------------------------------------------------------------------------------- views
    def at(self, path: str) -> Client:
        """The same session, seeing `path` (which need not exist yet) as its root."""
        root = under(self._chroot, op.exists(path).path or b"").rstrip(b"/")
        view = Client(self._runner, "", self._seconds)
        view._chroot = root
        return view

    def within(self, seconds: float | None) -> Client:
        """The same session, with another deadline for each call (None: no deadline)."""
        view = Client(self._runner, "", seconds)
        view._chroot = self._chroot
        return view

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
        return self._runner.session.id

    @property
    def session_timeout(self) -> float:
        """The timeout in seconds that the server granted."""
        return self._runner.session.timeout

    @property
    def session_password(self) -> bytes:
        """The session's password."""
        return self._runner.session.password

    @property
    def last_zxid(self) -> int:
        """The highest zxid seen in any reply."""
        session = self._runner.session
        return max(session.last_zxid, session.connection.last_zxid if session.connection else 0)

    @property
    def safe_until(self) -> float:
        """The session cannot have expired before this moment (`anyio.current_time`); precise while a lease is held."""
        return self._runner.session.safe_until

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

    # ----------------------------------------------------------------------------------- any operation
    async def call(self, request: Request[T]) -> T:
        """Send one request (see `corekit.client.op`) and wait for its result."""
        call = Call(request, self._chroot)
        self._runner.submit(call)
        return await self._runner.finish(call, self._seconds)

    async def gather(self, *requests: Request[Any]) -> list[Any]:
        """Send requests together and return their results in order; raises the first error once all have answers."""
        calls = [Call(request, self._chroot) for request in requests]
        for call in calls:
            self._runner.submit(call)
        for call in calls:
            try:
                await self._runner.finish(call, self._seconds)
            except Exception:
                pass  # raised below, when all answers are here
        return [call.result() for call in calls]

    def stream(self, requests: Iterable[Request[T]], *, flight: int = 1000, errors: bool = False) -> Stream[T]:
        """Send many requests, `flight` of them at a time, and yield their results in order.

        Args:
            requests: taken from as places become free, so it may be endless.
            errors: yield errors instead of raising them (raising leaves the stream usable).
        """
        return Stream(self._runner, self._chroot, self._seconds, requests, flight, errors)

    async def multi(self, parts: Sequence[Request[Any]]) -> list[Any]:
        """A transaction of `op.create`, `op.delete`, `op.set` and `op.check`: all of it happens, or nothing.

        Returns the results in order.

        Raises:
            KeeperError: that of the part that failed, with its path; the attribute `index` tells which it was.
        """
        if not parts:
            return []
        results = await self.call(op.multi(parts))
        for index, result in enumerate(results):
            if type(result) is int and result not in (0, -2):
                raise self._part_error(result, index, parts[index])
        if any(type(result) is int for result in results):
            raise self._part_error(-2, 0, parts[0])
        return results

    async def multi_read(self, parts: Sequence[Request[Any]]) -> list[Any]:
        """Several `op.get` and `op.names` in one packet; not atomic. An error stands in the place of its result."""
        results = await self.call(op.multi_read(parts)) if parts else []
        return [
            self._part_error(result, index, parts[index]) if type(result) is int else result
            for index, result in enumerate(results)
        ]

    def _part_error(self, code: int, index: int, part: Request[Any]) -> KeeperError:
        error = keeper_error(code, path=None if part.path is None else path_text(part.path))
        error.where = f"part {index} ({ops.op_name(part.op)}) of a multi at {self._runner.session.where}"
        error.index = index
        return error

    # ------------------------------------------------------------------------------------------ reads
    async def get(self, path: str, *, fresh: bool = False) -> Data:
        """Data and Stat. `fresh` syncs with the leader first: the answer holds every write finished before the call."""
        return await self._read(op.get(path), fresh)

    async def exists(self, path: str, *, fresh: bool = False) -> Stat | None:
        """The Stat, or None if there is no such node."""
        try:
            return await self._read(op.exists(path), fresh)
        except NoNodeError:
            return None

    async def children(self, path: str, *, fresh: bool = False) -> list[str]:
        """The names of the children, in no order."""
        return (await self._read(op.children(path), fresh)).names

    async def children_stat(self, path: str, *, fresh: bool = False) -> Children:
        """The names of the children, in no order, and the node's Stat."""
        return await self._read(op.children(path), fresh)

    async def _read(self, request: Request[T], fresh: bool) -> T:
        if not fresh:
            return await self.call(request)
        assert request.path is not None
        result: T = (await self.gather(op.sync(path_text(request.path)), request))[1]
        return result

    async def sync(self, path: str = "/") -> None:
        """Let the server catch up with the leader."""
        await self.call(op.sync(path))

    async def get_acl(self, path: str) -> tuple[list[acls.ACL], Stat]:
        """The ACL and the Stat."""
        return await self.call(op.get_acl(path))

    async def ephemerals(self, prefix: str = "/") -> list[str]:
        """Paths of this session's ephemerals that begin with the text `prefix`."""
        return await self.call(op.ephemerals(prefix))

    async def count_descendants(self, path: str) -> int:
        """How many nodes are below a path."""
        return await self.call(op.count_descendants(path))

    async def who_am_i(self) -> list[Identity]:
        """The identities that the server knows this connection by (3.7 and later)."""
        return await self.call(op.who_am_i())

    async def get_config(self) -> Data:
        """The ensemble's configuration, as text in bytes."""
        return await self.call(op.get_config())

    # ---------------------------------------------------------------------------------------- watches
    async def get_watch(self, path: str) -> tuple[Data, Watch]:
        """Read, and get told of the next change: `data, changed = await zk.get_watch(path)`, then `await changed`."""
        return await self._watched(op.get(path, True), DATA)

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
        assert request.path is not None
        if watch is None:
            watch = Watch(b"", kind, len(self._chroot))
        watch.path = under(self._chroot, request.path)
        call = Call(request, self._chroot, watch)
        self._runner.submit(call)
        return await self._runner.finish(call, self._seconds), watch

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
        session = self._runner.session
        full = under(self._chroot, request.path)
        stream = WatchStream(full, RECURSIVE if recursive else PERSISTENT, len(self._chroot))
        session.watches.add_stream(stream)
        try:
            await self.call(request)
            yield stream
        finally:
            unused = session.watches.forget_stream(stream)
            if unused and session is self._runner.session and self.state.state.connected:
                self._runner.submit(Call(op.remove_watches(path), self._chroot))

    def follow(self, path: str) -> DataFollower:
        """`async for data in zk.follow(path)`: the node's data now and after every change; None while there is none."""
        return DataFollower(self, path)

    def follow_children(self, path: str) -> ChildrenFollower:
        """`async for children in zk.follow_children(path)`: names and Stat now and after every change."""
        return ChildrenFollower(self, path)

    # ----------------------------------------------------------------------------------------- writes
    async def create(
        self,
        path: str,
        data: bytes | None = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
        acl: Acl = acls.OPEN,
        parents: bool = False,
    ) -> Created:
        """Create a node and return its path and Stat.

        Args:
            ephemeral: it goes when the session ends.
            sequential: the server appends ten digits that rise with every child of the parent.
            container: the server removes it some time after its last child has gone.
            ttl: seconds without change and children after which the server removes it (needs `extendedTypesEnabled`).
            parents: create missing parents, as empty persistent nodes.

        Raises:
            NodeExistsError, NoNodeError (no parent), NoAuthError, NoChildrenForEphemeralsError, InvalidACLError.
            OutcomeUnknown: see there; a name of your own making (a GUID in it) makes the node easy to find again.
        """
        request = op.create(
            path, data, ephemeral=ephemeral, sequential=sequential, container=container, ttl=ttl, acl=acl
        )
        while True:
            try:
                return await self.call(request)
            except NoNodeError:
                if not parents:
                    raise
                await self.ensure(parent(path), acl=acl)

    async def ensure(self, path: str, *, acl: Acl = acls.OPEN) -> None:
        """Make sure that a node and all its parents exist. Safe to repeat, and repeated when the outcome is unknown."""
        everything = Client(self._runner, "", self._seconds)
        await everything._ensure(path_text(under(self._chroot, path_bytes(path.rstrip("/") or "/"))), acl)

    async def _ensure(self, path: str, acl: Acl) -> None:
        while path != "/":
            try:
                await self.call(op.create(path, acl=acl))
                return
            except NodeExistsError:
                return
            except NoNodeError:
                await self._ensure(parent(path), acl)
            except NoAuthError:
                if await self.exists(path) is None:
                    raise
                return
            except OutcomeUnknown:
                pass

    async def set(self, path: str, data: bytes | None, version: int = -1) -> Stat:
        """Replace the data and return the new Stat.

        Raises:
            BadVersionError: the version is not `version` (-1: any will do).
        """
        return await self.call(op.set(path, data, version))

    async def delete(self, path: str, version: int = -1) -> None:
        """Remove a node without children.

        Raises:
            NotEmptyError, BadVersionError, NoNodeError.
        """
        await self.call(op.delete(path, version))

    async def delete_tree(self, path: str, *, flight: int = 1000) -> int:
        """Remove a node with everything below it; returns how many nodes were removed. Not atomic.

        Args:
            flight: how many deletes are sent and unanswered at once.

        Raises:
            NoNodeError: there is no such node.
        """
        return await delete_tree(self, path, flight)

    def walk(self, path: str) -> AsyncIterator[tuple[str, Children]]:
        """`async for path, children in zk.walk("/app")`: the node and all below it, parents first. Not atomic."""
        return walk(self, path)

    async def set_acl(self, path: str, acl: Acl, version: int = -1) -> Stat:
        """Replace the ACL; `version` is that of the ACL (`stat.aversion`)."""
        return await self.call(op.set_acl(path, acl, version))

    async def reconfig(
        self,
        *,
        joining: str | None = None,
        leaving: str | None = None,
        members: str | None = None,
        config_id: int = -1,
    ) -> Data:
        """Change the ensemble; returns the new configuration. Lists as in ZooKeeper's `reconfig` command."""
        return await self.call(op.reconfig(joining, leaving, members, config_id))
