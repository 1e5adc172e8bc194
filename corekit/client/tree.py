"""Work on whole subtrees: many requests in flight, none of it atomic."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from corekit.client import op
from corekit.client.paths import join
from corekit.client.types import Children
from corekit.errors import KeeperError, NoNodeError, NotEmptyError

if TYPE_CHECKING:
    from corekit.client.operations import Operations


class Walk:
    """Every node from `path` downwards, parents before children, level by level. Nodes that vanish are left out.

    Iterating raises `NoNodeError` if `path` itself does not exist.
    """

    def __init__(self, client: Operations, path: str) -> None:
        self._client = client
        self._path = path
        self._level: deque[str] = deque([path])
        self._below: list[str] = []
        self._answers = self._ask()

    def _ask(self) -> AsyncIterator[Children | KeeperError]:
        return self._client.stream((op.children(here) for here in tuple(self._level)), errors=True)

    def __aiter__(self) -> AsyncIterator[tuple[str, Children]]:
        return self

    async def __anext__(self) -> tuple[str, Children]:
        while True:
            if not self._level:
                if not self._below:
                    raise StopAsyncIteration
                self._level, self._below = deque(self._below), []
                self._answers = self._ask()
            here = self._level.popleft()
            children = await anext(self._answers)
            if not isinstance(children, KeeperError):
                self._below += [join(here, name) for name in children.names]
                return here, children
            if not isinstance(children, NoNodeError) or here == self._path:
                raise children


async def delete_tree(client: Operations, path: str, flight: int = 1000) -> int:
    """Remove a node and everything below it, whatever its version; returns how many nodes were removed.

    Nodes that others create meanwhile are removed too. Nodes that are gone already are not counted. The root and
    the server's own `/zookeeper` are never removed: of "/" everything else goes.
    """
    removed = 0
    while True:
        paths = [here async for here, _ in Walk(client, path) if not _reserved(here)]
        refilled = False
        async for error in client.stream((op.delete(here) for here in reversed(paths)), flight=flight, errors=True):
            if error is None:
                removed += 1
            elif isinstance(error, NotEmptyError):
                refilled = True
            elif not isinstance(error, NoNodeError):
                raise error
        if not refilled:
            return removed


def _reserved(path: str) -> bool:
    return path == "/" or path == "/zookeeper" or path.startswith("/zookeeper/")
