"""Work on whole subtrees: many requests in flight, none of it atomic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from corekit.client import op
from corekit.client.paths import join
from corekit.client.types import Children
from corekit.errors import KeeperError, NoNodeError, NotEmptyError

if TYPE_CHECKING:
    from corekit.client.operations import Operations


async def walk(client: Operations, path: str) -> AsyncIterator[tuple[str, Children]]:
    """Every node from `path` downwards, parents before children, level by level. Nodes that vanish are left out.

    Raises:
        NoNodeError: `path` itself does not exist.
    """
    level = [path]
    while level:
        below: list[str] = []
        answers = client.stream((op.children(here) for here in level), errors=True)
        for here in level:
            children = await anext(answers)
            if isinstance(children, KeeperError):
                if isinstance(children, NoNodeError) and here != path:
                    continue
                raise children
            below += [join(here, name) for name in children.names]
            yield here, children
        level = below


async def delete_tree(client: Operations, path: str, flight: int = 1000) -> int:
    """Remove a node and everything below it, whatever its version; returns how many nodes were removed.

    Nodes that others create meanwhile are removed too. Nodes that are gone already are not counted. The root and
    the server's own `/zookeeper` are never removed: of "/" everything else goes.
    """
    removed = 0
    while True:
        paths = [here async for here, _ in walk(client, path) if not _reserved(here)]
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
