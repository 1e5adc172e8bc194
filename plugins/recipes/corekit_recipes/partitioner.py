"""Divides a set of items among the members of a group; each item is worked on by one member at a time.

Promises: every item is given to exactly one living member, evenly; never two bodies for one item at once, also while
members come and go, because each body holds a lock on its item. When members change, only as many items move as must.
Failures: a body is cancelled when its item moves, or before its session can have expired; the new owner begins when
the old one has ended or has expired. Items of a member that died are worked on after its session has expired.
Cost: as `group.Group` for each member, and one `lock.Lock` for each item.
Znodes: PATH/members/<guid>__party__, ephemeral; PATH/locks/<item>/..., see `lock.Lock`.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio

from corekit.client import Client, LeaseLost
from corekit.client.paths import join
from corekit.client.tasks import sole
from corekit_recipes.contender import Grant
from corekit_recipes.group import Group
from corekit_recipes.lock import Lock


def shares(items: Iterable[str], members: Sequence[str]) -> dict[str, list[str]]:
    """Who gets what: the same answer everywhere, even to one item, and stable when members come or go.

    Each item goes to the member that scores highest for it (rendezvous hashing) and still has room.
    """
    wanted = sorted(set(items))
    result: dict[str, list[str]] = {member: [] for member in sorted(set(members))}
    if not result:
        return {}
    room = -(-len(wanted) // len(result))
    for item in wanted:
        for member in sorted(result, key=lambda member: _score(item, member), reverse=True):
            if len(result[member]) < room:
                result[member].append(item)
                break
    return result


def _score(item: str, member: str) -> bytes:
    return hashlib.blake2b(f"{item}\0{member}".encode(), digest_size=8).digest()


class Partitioner:
    """`await Partitioner(zk, "/shards", ["a", "b", "c"]).run(work)`: runs `work(item, grant)` for each item of ours."""

    def __init__(self, zk: Client, path: str, items: Iterable[str], *, identifier: str = "") -> None:
        self.zk = zk
        self.path = path
        self.items = list(items)
        self.identifier = identifier
        self.name = uuid.uuid4().hex
        self.mine: list[str] = []
        for item in self.items:
            if not item or "/" in item:
                raise ValueError(f"an item is named in a path, so it cannot be {item!r}")

    async def run(self, work: Callable[[str, Grant], Awaitable[object]]) -> None:
        """Take part until cancelled or `work` raises. It is started again when it returns, after a short pause."""
        group = Group(self.zk, join(self.path, "members"))
        running: dict[str, anyio.CancelScope] = {}
        try:
            async with group.join(self.identifier.encode(), id=self.name), anyio.create_task_group() as tasks:
                async for members in group.follow():
                    self.mine = shares(self.items, [member.id for member in members]).get(self.name, [])
                    for item in set(running) - set(self.mine):
                        running.pop(item).cancel()
                    for item in set(self.mine) - set(running):
                        running[item] = anyio.CancelScope()
                        tasks.start_soon(self._keep, item, work, running[item])
        except BaseExceptionGroup as group_of_errors:
            raise sole(group_of_errors) from None

    async def _keep(self, item: str, work: Callable[[str, Grant], Awaitable[object]], scope: anyio.CancelScope) -> None:
        lock = Lock(self.zk, join(join(self.path, "locks"), item), identifier=self.identifier)
        with scope:
            while True:
                try:
                    async with lock.hold() as grant:
                        await work(item, grant)
                except LeaseLost:
                    pass
                await anyio.sleep(0.01)
