"""Group membership: who is here.

Promises: everyone who has joined and is alive is in the list; who died leaves it within a session timeout. Members
come back by themselves after an expired session. `follow` gives the present members, then every newer list.
Failures: lists may be a moment behind; two readers may see changes at different times.
Cost: 1 request to join and 1 to leave; a list takes 1 request and 1 for every member; who follows reads only
members that are new or changed, with a watch for each; a change wakes every reader that follows.
Znodes: PATH/<guid>__party__, ephemeral, data = the member's name, as kazoo's Party. Members of other forms are not
shown.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, TypeVar

from corekit.client import Children, Client, Data, op
from corekit.client.follow import Mapped
from corekit.client.paths import join
from corekit.client.watches import Watch
from corekit.errors import KeeperError, NoNodeError
from corekit_recipes.presence import Presence, presence

MARKER = "__party__"
T = TypeVar("T")


class Member(NamedTuple):
    """One member: `id` is its node's name, unique; `token` rises from one joining to the next."""

    id: str
    data: bytes
    token: int
    session_id: int

    @property
    def name(self) -> str:
        """The data as text."""
        return self.data.decode("utf-8", "replace")


class Group:
    """`async with Group(zk, "/workers").join(b"host1"): ...`, `await Group(zk, "/workers").members()`"""

    def __init__(self, zk: Client, path: str, *, marker: str = MARKER) -> None:
        self.zk = zk
        self.path = path
        self.marker = marker

    def join(self, data: bytes = b"", *, id: str | None = None) -> AbstractAsyncContextManager[Presence]:
        """Be a member while a block runs. `id` is unique by itself if not given."""
        name = uuid.uuid4().hex if id is None else id
        return presence(self.zk, join(self.path, name + self.marker), data)

    async def members(self, *, fresh: bool = False) -> list[Member]:
        """The members now, in the order in which they joined."""
        try:
            names = await self.zk.children(self.path, fresh=fresh)
        except NoNodeError:
            return []
        names = self._of_ours(names)
        answers = self.zk.stream((op.get(join(self.path, name)) for name in names), errors=True)
        return _by_token([self._member(name, data) for name in names if (data := _present(await anext(answers)))])

    def follow(self) -> AsyncIterator[list[Member]]:
        """`async for members in group.follow()`: the members now, and again after every change."""
        known: dict[str, tuple[Member, Watch]] = {}

        async def convert(children: Children | None) -> list[Member]:
            nonlocal known
            known = await self._read_watched([] if children is None else children.names, known)
            return _by_token([member for member, _ in known.values()])

        return Mapped(self.zk.follow_children(self.path), convert)

    async def _read_watched(
        self, names: list[str], known: dict[str, tuple[Member, Watch]]
    ) -> dict[str, tuple[Member, Watch]]:
        """Members of these names; those known already are not read again unless their node was changed or made anew."""
        found = {name: known[name] for name in self._of_ours(names) if name in known and not known[name][1].fired}
        new = [name for name in self._of_ours(names) if name not in found]
        for name, answer in zip(new, await self.zk.get_watches([join(self.path, name) for name in new]), strict=True):
            if (data := _present(answer)) is not None:
                found[name] = self._member(name, data[0]), data[1]
        return found

    def _of_ours(self, names: list[str]) -> list[str]:
        return [name for name in names if name.endswith(self.marker)]

    def _member(self, name: str, data: Data) -> Member:
        id = name.removesuffix(self.marker) if self.marker else name
        return Member(id, data.data, data.stat.czxid, data.stat.ephemeral_owner)


def _present(answer: T | KeeperError) -> T | None:
    """An answer; None if the node has gone."""
    if isinstance(answer, NoNodeError):
        return None
    if isinstance(answer, KeeperError):
        raise answer
    return answer


def _by_token(members: list[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.token)
