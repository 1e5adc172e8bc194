"""Values that are kept up to date: the present one first, then each newer one. Built on one-shot watches.

A follower shows states, not every step: of several quick changes it may show only the last. It goes on over
reconnections, and over an expired session if the client renews its sessions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from corekit.client.types import Children, Data
from corekit.client.watches import Watch
from corekit.errors import NoNodeError, SessionExpiredError

if TYPE_CHECKING:
    from corekit.client.client import Client


S = TypeVar("S")
T = TypeVar("T")


class DataFollower:
    """`async for data in zk.follow(path)`: `Data`, or None while there is no such node."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path
        self._watch: Watch | None = None
        self._seen: int | None = -1  # czxid and mzxid tell a node made anew from one that was only written
        self._made: int | None = -1

    def __aiter__(self) -> AsyncIterator[Data | None]:
        return self

    async def __anext__(self) -> Data | None:
        while True:
            if self._watch is not None and not await over(self._client, self._watch):
                self._watch = None
            data = await self._read()
            made, seen = (None, None) if data is None else (data.stat.czxid, data.stat.mzxid)
            if (made, seen) != (self._made, self._seen):
                self._made, self._seen = made, seen
                return data

    async def _read(self) -> Data | None:
        while True:
            try:
                data, self._watch = await self._client.get_watch(self._path)
                return data
            except NoNodeError:
                stat, watch = await self._client.exists_watch(self._path)
                if stat is None:  # otherwise it was made meanwhile, and is not read yet
                    self._watch = watch
                    return None


class ChildrenFollower:
    """`async for children in zk.follow_children(path)`: `Children`, or None while there is no such node."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path
        self._watch: Watch | None = None
        self._seen: tuple[int, int] | None = (-1, -1)

    def __aiter__(self) -> AsyncIterator[Children | None]:
        return self

    async def __anext__(self) -> Children | None:
        while True:
            if self._watch is not None and not await over(self._client, self._watch):
                self._watch = None
            children = await self._read()
            seen = None if children is None else (children.stat.czxid, children.stat.pzxid)
            if seen != self._seen:
                self._seen = seen
                return children

    async def _read(self) -> Children | None:
        while True:
            try:
                children, self._watch = await self._client.children_watch(self._path)
                return children
            except NoNodeError:
                stat, watch = await self._client.exists_watch(self._path)
                if stat is None:  # otherwise it was made meanwhile, and is not read yet
                    self._watch = watch
                    return None


class Mapped(Generic[S, T]):
    """What an iterator gives, converted; a value equal to the one before is left out.

    A class and not a generator, so that a loop over it may be left at any time, and `anext` cancelled: what came and
    was not converted yet is then converted next time.
    """

    def __init__(self, source: AsyncIterator[S], convert: Callable[[S], Awaitable[T]]) -> None:
        self._source = source
        self._convert = convert
        self._came: list[S] = []
        self._last: object = ...

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            if not self._came:
                self._came.append(await anext(self._source))
            value = await self._convert(self._came[0])
            self._came.clear()
            if value != self._last:
                self._last = value
                return value


async def over(client: Client, watch: Watch) -> bool:
    """Wait until a watch has fired; False if the session ended and another will take its place."""
    try:
        await watch
    except SessionExpiredError:
        if not client.renews:
            raise
        return False
    return True
