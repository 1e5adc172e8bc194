"""Every operation of the protocol as a method, one at a time or in bulk. `Client` adds the session around it.

Rules: text outside, bytes inside; data is always bytes. Errors are those of `corekit.errors` and
`corekit.client.errors`, with path, operation, server and session in their text. Calls made while there is no
connection wait for one, up to their deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from corekit.client import acl as acls
from corekit.client import op
from corekit.client.errors import OutcomeUnknown
from corekit.client.op import Request
from corekit.client.paths import parent, path_bytes, path_text, under
from corekit.client.protocol import Call
from corekit.client.runner import Runner
from corekit.client.session import Session
from corekit.client.stream import Stream
from corekit.client.tree import Walk, delete_tree
from corekit.client.types import Children, Created, Data, Identity
from corekit.codec import ops
from corekit.errors import (
    KeeperError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    keeper_error,
)
from corekit.model.stat import Stat

T = TypeVar("T")
Acl = Iterable[tuple[int, str, str]]


class Operations:
    """The operations on a session, under a chroot and with a deadline for each call."""

    __slots__ = ("_chroot", "_runner", "_seconds", "_session")

    def __init__(self, runner: Runner, chroot: bytes, seconds: float | None, session: Session | None = None) -> None:
        self._runner = runner
        self._chroot = chroot
        self._seconds = seconds
        self._session = session

    def _submit(self, call: Call[Any]) -> None:
        self._runner.submit(call, self._session)

    @property
    def default_acl(self) -> tuple[tuple[int, str, str], ...]:
        """The ACL of nodes that are created without one."""
        return self._runner.options.default_acl

    # ----------------------------------------------------------------------------------- any operation
    async def call(self, request: Request[T]) -> T:
        """Send one request (see `corekit.client.op`) and wait for its result."""
        call = Call(request, self._chroot)
        self._submit(call)
        return await self._runner.finish(call, self._seconds)

    async def gather(self, *requests: Request[Any]) -> list[Any]:
        """Send requests together and return their results in order; raises the first error once all have answers."""
        calls = [Call(request, self._chroot) for request in requests]
        for call in calls:
            self._submit(call)
        for call in calls:
            try:
                await self._runner.finish(call, self._seconds)
            except Exception:
                pass  # raised below, when all answers are here
        return [call.result() for call in calls]

    def stream(self, requests: Iterable[Request[T]], *, flight: int = 1000, errors: bool = False) -> Stream[T]:
        """Send many requests, `flight` of them at a time, and yield their results in order.

        When the loop is left, what was not sent yet is not sent.

        Args:
            requests: taken from as places become free, so it may be endless.
            errors: yield errors instead of raising them (raising leaves the stream usable).
        """
        return Stream(self._runner, self._session, self._chroot, self._seconds, requests, flight, errors)

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
        acl: Acl | None = None,
        parents: bool = False,
    ) -> Created:
        """Create a node and return its path and Stat.

        Args:
            ephemeral: it goes when the session ends.
            sequential: the server appends ten digits that rise with every child of the parent.
            container: the server removes it some time after its last child has gone.
            ttl: seconds without change and children after which the server removes it (needs `extendedTypesEnabled`).
            acl: `default_acl` of the connection if not given.
            parents: create missing parents, as empty persistent nodes.

        Raises:
            NodeExistsError, NoNodeError (no parent), NoAuthError, NoChildrenForEphemeralsError, InvalidACLError.
            OutcomeUnknown: see there; a name of your own making (a GUID in it) makes the node easy to find again.
        """
        if acl is None:
            acl = self.default_acl
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

    async def ensure(self, path: str, *, acl: Acl | None = None) -> None:
        """Make sure that a node and all its parents exist.

        Safe to repeat, and repeated when the outcome is unknown, also in the session that takes the place of an expired
        one.
        """
        full = path_text(under(self._chroot, path_bytes(path.rstrip("/") or "/")))
        await Operations(self._runner, b"", self._seconds, self._session)._ensure(
            full, self.default_acl if acl is None else acl
        )

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
            except SessionExpiredError:
                if self._session is not None or not self._runner.options.renew:
                    raise

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

    def walk(self, path: str) -> Walk:
        """`async for path, children in zk.walk("/app")`: the node and all below it, parents first. Not atomic."""
        return Walk(self, path)

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
