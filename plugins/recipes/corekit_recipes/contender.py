"""One contender in a line: an ephemeral sequential znode with a GUID, its turn, and its removal.

What locks, semaphores and elections are made of. Rules
- Creating is safe under connection loss: after an unknown outcome the node is looked for by its GUID, behind a sync,
  before another is made. A session sees its own requests in order, so what is not there then will never be.
- Waiting watches one other node only, so that a release wakes one contender.
- Before the body runs, a sync has proved the session alive after the node was seen first in line, and the node is
  looked at once more. While it runs, the lease ends before the session can have expired, and at once when the node is
  removed by somebody else.
- Removing survives cancellation: it is a task of the client, waited for within a bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from corekit.client import Client, Lease, NotAcquired, OutcomeUnknown, Stat, op
from corekit.client.op import Request
from corekit.client.paths import join, name
from corekit.errors import ConnectionLossError, CorekitError, KeeperError, NoNodeError, SessionExpiredError
from corekit_recipes.naming import Layout, Place, Want, distance, line, new_prefix

CLEAN_UP_SECONDS = 5.0  # how long leaving waits for the server; the removal goes on after that


@dataclass(slots=True)
class Grant:
    """What the body of a recipe gets.

    Attributes:
        token: fencing token: rises with every grant of this recipe. Send it with every write elsewhere, and let the
            receiver refuse a token below one that it has seen.
        path: the znode that stands for the grant.
        session_id: the session that owns it.
        lease: when the body will be cancelled (`lease.remaining()`), and why it was (`lease.lost`).
        zk: the client, bound to the session of the grant: its calls fail once that session has ended.
    """

    token: int
    path: str
    session_id: int
    lease: Lease
    zk: Client

    async def multi(self, parts: Sequence[Request[Any]]) -> list[Any]:
        """A transaction that takes effect only if the grant is still held then, as the ensemble sees it.

        Raises:
            NoNodeError with index -1: it is not held any more. Otherwise as `Client.multi`.
        """
        try:
            results = await self.zk.multi([op.check(self.path), *parts])
        except KeeperError as error:
            error.index -= 1
            raise
        return results[1:]


class Removed(CorekitError):
    """Somebody has removed our znode."""


class Contender:
    """A node of ours in a line, from `join` to `leave`. One use."""

    def __init__(self, zk: Client, line_path: str, want: Want, layout: Layout, data: bytes) -> None:
        self.zk = zk.bound()  # a wait must end with the session, or it goes on without a place in the line
        self.line_path = line_path
        self.prefix = new_prefix(layout, want)
        self.data = data
        self.path: str | None = None
        self.token = 0
        self._tried = False

    async def join(self) -> list[str]:
        """Create the node; returns the children of the line as of then.

        Raises:
            SessionExpiredError: and so the node is gone, if there was one.
        """
        zk = self.zk
        while True:
            create = op.create(
                join(self.line_path, self.prefix), self.data, ephemeral=True, sequential=True, acl=zk.default_acl
            )
            self._tried = True
            try:
                created, children = await zk.gather(create, op.children(self.line_path))
            except NoNodeError:
                await zk.ensure(self.line_path)
            except OutcomeUnknown:
                children = await zk.children_stat(self.line_path, fresh=True)
                if await self._found(children.names):
                    return list(children.names)
            else:
                self.path, self.token = created.path, created.stat.czxid
                return list(children.names)

    async def _found(self, names: list[str]) -> bool:
        """Whether our node is among these; if so take its path and token."""
        for found in names:
            if found.startswith(self.prefix):
                stat = await self.zk.exists(join(self.line_path, found))
                if stat is not None:
                    self.path, self.token = join(self.line_path, found), stat.czxid
                    return True
        return False

    async def wait_turn(self, names: list[str], blocks: Callable[[Place], bool], patient: bool) -> bool:
        """Wait until no older contender that `blocks` is left; False if one is and we are not `patient`.

        Raises:
            Removed: our node is gone.
        """
        assert self.path is not None
        mine = name(self.path)
        while True:
            places = line(names)
            own = next((place for place in places if place.name == mine), None)
            if own is None:
                raise Removed(self.path)
            older = [place for place in places if distance(place.sequence, own.sequence) < 0 and blocks(place)]
            if not older:
                return True
            if not patient:
                return False
            stat, changed = await self.zk.exists_watch(join(self.line_path, older[-1].name))
            if stat is None:
                self.zk.forget(changed)
            else:
                await changed
            names = await self.zk.children(self.line_path)

    async def leave(self) -> None:
        """Remove the node, whatever was or was not reached."""
        if self._tried:
            await remove(self.zk, self.line_path, self.prefix, self.path)


async def remove(zk: Client, parent: str, prefix: str, path: str | None) -> None:
    """Remove a node of ours, though the caller may be cancelled. If its path never came back, its GUID finds it.

    Waits some seconds for the server if there is a connection; otherwise the removal is sent once there is one.
    """
    lasting = zk.within(None)

    async def job() -> None:
        paths = [path] if path is not None else await find(lasting, parent, prefix)
        for ours in paths:
            try:
                await lasting.call(op.delete(ours, retry=True))
            except NoNodeError:
                pass

    await zk.clean_up(job, CLEAN_UP_SECONDS if zk.state.state.connected else 0)


async def remove_marked(zk: Client, paths: Sequence[str], mark: bytes) -> None:
    """Remove nodes of known names if their data is a GUID of ours; as `remove`, but only in the present session.

    In another session such a node would be somebody else's, or gone.
    """
    bound = zk.bound().within(None)

    async def job() -> None:
        left = list(paths)
        while left:
            try:
                data, stat = await bound.get(left[-1], fresh=True)
                if data == mark:
                    await bound.delete(left[-1], stat.version)
            except OutcomeUnknown:
                continue  # look again: the same name may be somebody else's by now
            except NoNodeError:
                pass
            left.pop()

    await zk.clean_up(job, CLEAN_UP_SECONDS if zk.state.state.connected else 0)


async def find(zk: Client, parent: str, prefix: str) -> list[str]:
    """Paths of the children whose name begins with a GUID of ours, as of now."""
    try:
        names = await zk.children(parent, fresh=True)
    except NoNodeError:
        return []
    return [join(parent, found) for found in names if found.startswith(prefix)]


class Attempt(Protocol):
    """One try to get something, and what was got. `granted` makes a new one when a try came to nothing."""

    lease: Lease
    grant: Grant | None

    async def take(self, patient: bool) -> bool:
        """Get it (`grant` is then set and `lease` proved); False if others have it and we are not `patient`."""

    async def release(self) -> None:
        """Give back whatever was got or begun."""


@asynccontextmanager
async def granted(zk: Client, make: Callable[[], Attempt], wait: float | None, what: str) -> AsyncIterator[Grant]:
    """Try until something is got, run the body under its lease, and give it back.

    Args:
        wait: seconds; None waits for ever, 0 tries once.
        what: for the error's text.

    Raises:
        NotAcquired: it was not got in time.
        LeaseLost: the body was cut short, or ran longer than the session was known to live.
    """
    attempt = make()
    try:
        with anyio.move_on_after(wait or None):
            while not await _tried(zk, attempt, patient=wait != 0):
                if wait == 0:
                    break
                await attempt.release()
                attempt = make()
        if attempt.grant is None:
            raise NotAcquired(f"{what} was not free within {wait:g} s")
        with attempt.lease:
            yield attempt.grant
    finally:
        await attempt.release()


async def _tried(zk: Client, attempt: Attempt, patient: bool) -> bool:
    """One try; what only means that another is needed is False."""
    try:
        return await attempt.take(patient)
    except SessionExpiredError:
        if not zk.renews:
            raise
    except (Removed, ConnectionLossError, NoNodeError):
        pass  # NoNodeError: the line is a container, and goes when it is empty
    return False


class Turn:
    """An `Attempt` that is granted when its turn in a line has come."""

    def __init__(
        self,
        zk: Client,
        line_path: str,
        want: Want,
        layout: Layout,
        identifier: str,
        blocks: Callable[[Place], bool],
        margin: float | None,
    ) -> None:
        self.lease = zk.lease(margin)
        self.grant: Grant | None = None
        self._blocks = blocks
        self._contender = Contender(zk, line_path, want, layout, identifier.encode())

    async def take(self, patient: bool) -> bool:
        """Join the line and wait for the turn."""
        contender = self._contender
        names = await contender.join()
        if not await contender.wait_turn(names, self._blocks, patient):
            return False
        assert contender.path is not None
        if await confirm(contender.zk, contender.path, self.lease) is None:
            return False
        self.grant = grant_of(contender.zk, contender.token, contender.path, self.lease)
        return True

    async def release(self) -> None:
        """Leave the line."""
        await self._contender.leave()


def grant_of(zk: Client, token: int, path: str, lease: Lease) -> Grant:
    """A grant under a lease that is proved."""
    return Grant(token, path, lease.session_id, lease, zk.bound(lease))


async def confirm(zk: Client, path: str, lease: Lease) -> Stat | None:
    """Prove the session alive, then see that a node is there and ours; the lease depends on it from now on.

    Enter the lease at once: what is awaited in between may outlive the session.
    """
    await lease.prove()
    stat = await zk.exists(path)
    if stat is None or stat.ephemeral_owner != lease.session_id:
        return None
    lease.depend_on(zk, path, stat.czxid)
    return stat
