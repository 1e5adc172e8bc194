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

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from corekit.client import Client, Lease, NotAcquired, OutcomeUnknown, op
from corekit.client.paths import join, name
from corekit.errors import ConnectionLossError, CorekitError, NoNodeError, SessionExpiredError
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
    """

    token: int
    path: str
    session_id: int
    lease: Lease


class Removed(CorekitError):
    """Somebody has removed our znode."""


class Contender:
    """A node of ours in a line, from `join` to `leave`. One use."""

    def __init__(self, zk: Client, line_path: str, want: Want, layout: Layout, data: bytes) -> None:
        self.zk = zk
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

    async def confirm(self, lease: Lease) -> bool:
        """Prove the session alive, then see that our node is there and ours; the lease depends on it from now on."""
        assert self.path is not None
        await lease.prove()
        stat = await self.zk.exists(self.path)
        if stat is None or stat.ephemeral_owner != lease.session_id:
            return False
        lease.depend_on(self.zk, self.path)
        return True

    async def leave(self) -> None:
        """Remove the node, whatever was or was not reached."""
        if self._tried:
            # Without a connection there is nothing to wait for: the removal is sent as soon as there is one.
            await self.zk.clean_up(self._remove, CLEAN_UP_SECONDS if self.zk.state.state.connected else 0)

    async def _remove(self) -> None:
        zk = self.zk.within(None)
        paths = [self.path] if self.path is not None else []
        if not paths:
            try:
                names = await zk.children(self.line_path, fresh=True)
            except NoNodeError:
                return
            paths = [join(self.line_path, found) for found in names if found.startswith(self.prefix)]
        for path in paths:
            try:
                await zk.call(op.delete(path, retry=True))
            except NoNodeError:
                pass


@asynccontextmanager
async def turn(
    zk: Client,
    line_path: str,
    want: Want,
    layout: Layout,
    data: bytes,
    blocks: Callable[[Place], bool],
    wait: float | None,
    margin: float | None,
) -> AsyncIterator[Grant]:
    """Stand in a line and run the body when the turn has come.

    Args:
        wait: seconds to wait; None waits for ever, 0 tries once.
        margin: see `Client.lease`.

    Raises:
        NotAcquired: the turn did not come in time.
        LeaseLost: the body was cut short, or ran longer than the session was known to live.
    """
    contender = Contender(zk, line_path, want, layout, data)
    lease = zk.lease(margin)
    try:
        ready = False
        with anyio.move_on_after(wait or None):
            while True:
                try:
                    names = await contender.join()
                    ready = await contender.wait_turn(names, blocks, wait != 0) and await contender.confirm(lease)
                    if ready or wait == 0:
                        break
                except (SessionExpiredError, Removed) as error:
                    if isinstance(error, SessionExpiredError) and not zk.renews:
                        raise
                except ConnectionLossError:
                    pass
                await contender.leave()
                contender = Contender(zk, line_path, want, layout, data)
                lease = zk.lease(margin)
        if not ready:
            raise NotAcquired(f"{line_path} was not free within {wait:g} s")
        assert contender.path is not None
        with lease:
            yield Grant(contender.token, contender.path, lease.session_id, lease)
    finally:
        await contender.leave()
