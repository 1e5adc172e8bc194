"""Group membership: who is here.

Promises: everyone who has joined and is alive is in the list; who died leaves it within a session timeout. Members
come back by themselves after an expired session. `follow` gives the present members, then every newer list.
Failures: lists may be a moment behind; two readers may see changes at different times.
Cost: 1 request to join and 1 to leave; a list takes 1 request and 1 for every member that is new to the reader; a
change wakes every reader that follows.
Znodes: PATH/<guid>__party__, ephemeral, data = the member's name, as kazoo's Party. Members of other forms are not
shown.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from corekit.client import Children, Client, op
from corekit.client.follow import Mapped
from corekit.client.paths import join
from corekit.errors import KeeperError, NoNodeError
from corekit_recipes.presence import Presence, presence

MARKER = "__party__"


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
        return await self._read(names, {})

    def follow(self) -> AsyncIterator[list[Member]]:
        """`async for members in group.follow()`: the members now, and again after every change."""
        known: dict[str, Member] = {}

        async def convert(children: Children | None) -> list[Member]:
            nonlocal known
            members = await self._read([] if children is None else children.names, known)
            known = {member.id + self.marker: member for member in members}
            return members

        return Mapped(self.zk.follow_children(self.path), convert)

    async def _read(self, names: list[str], known: dict[str, Member]) -> list[Member]:
        """Members of these names; those known already are not read again."""
        names = [name for name in names if name.endswith(self.marker)]
        members = [known[name] for name in names if name in known]
        new = [name for name in names if name not in known]
        answers = self.zk.stream((op.get(join(self.path, name)) for name in new), errors=True)
        for name in new:
            answer = await anext(answers)
            if isinstance(answer, NoNodeError):
                continue
            if isinstance(answer, KeeperError):
                raise answer
            id = name.removesuffix(self.marker) if self.marker else name
            members.append(Member(id, answer.data, answer.stat.czxid, answer.stat.ephemeral_owner))
        return sorted(members, key=lambda member: member.token)
