"""Reading whole trees for commands: levels of znodes with what is wanted of each, many requests in flight.

Nothing here is atomic. A znode that vanishes while it is read is left out; the start of the walk must exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from corekit.client import ACL, Children, Client, Stat, op
from corekit.client.paths import join
from corekit.errors import KeeperError, NoAuthError, NoNodeError

SERVERS_OWN = "/zookeeper"


class Node(NamedTuple):
    """One znode. `data` is None for null data and where it was not read; `acl` is empty where it was not read."""

    path: str
    stat: Stat
    data: bytes | None = None
    acl: tuple[ACL, ...] = ()


async def levels(
    zk: Client, path: str, depth: int | None = None, refused: list[KeeperError] | None = None
) -> AsyncIterator[list[tuple[str, Children]]]:
    """The znode itself, then its children, then theirs ..., each level sorted by path.

    What may not be read has no children here.

    Args:
        depth: how many levels below `path`; None for all.
        refused: takes the errors of what may not even be looked at, which is then left out.

    Raises:
        NoNodeError: `path` does not exist.
        NoAuthError: something may not even be looked at, and `refused` is None.
    """
    level = [path]
    while level:
        found: list[tuple[str, Children]] = []
        answers = zk.stream((op.children(here) for here in level), errors=True)
        for here in level:
            answer = await anext(answers)
            if isinstance(answer, NoNodeError) and here != path:
                continue
            if isinstance(answer, NoAuthError) and here != path:
                try:
                    stat = await zk.exists(here)  # since ZOOKEEPER-2590 this needs permission too
                except NoAuthError:
                    if refused is None:
                        raise
                    refused.append(answer)
                    continue
                if stat is None:
                    continue
                answer = Children([], stat)
            if isinstance(answer, KeeperError):
                raise answer
            found.append((here, answer))
        yield found
        if depth is not None:
            depth -= 1
            if depth < 0:
                return
        level = [join(here, name) for here, children in found for name in sorted(children.names)]


async def below(
    zk: Client, path: str, depth: int | None = None, refused: list[KeeperError] | None = None
) -> AsyncIterator[tuple[str, Children]]:
    """As `levels`, one znode at a time, without the server's own `/zookeeper` unless the walk begins in it."""
    async for level in levels(zk, path, depth, refused):
        for here, children in level:
            if not own(here) or own(path):
                yield here, children


def own(path: str) -> bool:
    """Whether the path belongs to the server."""
    return path == SERVERS_OWN or path.startswith(SERVERS_OWN + "/")


async def read_data(zk: Client, paths: Iterable[str]) -> AsyncIterator[Node | KeeperError]:
    """Data and Stat of each path, in order; an error in the place of what cannot be read, nothing for what is gone."""
    listed = list(paths)
    answers = zk.stream((op.get_nullable(here) for here in listed), flight=200, errors=True)
    for here in listed:
        answer = await anext(answers)
        if isinstance(answer, NoNodeError):
            continue
        if isinstance(answer, KeeperError):
            yield answer
        else:
            yield Node(here, answer[1], answer[0])


async def read_all(zk: Client, paths: Iterable[str]) -> AsyncIterator[Node]:
    """Data, Stat and ACL of each path, in order; nothing for what is gone.

    Raises:
        NoAuthError: something may not be read.
    """
    listed = list(paths)

    def requests() -> Iterable[op.Request[object]]:
        for here in listed:
            yield op.get_nullable(here)  # type: ignore[misc]  # `Request` is invariant; the two
            yield op.get_acl(here)  # type: ignore[misc]  # ... kinds of answers come in turns

    answers = zk.stream(requests(), flight=200, errors=True)
    for here in listed:
        data, acl = await anext(answers), await anext(answers)
        for answer in (data, acl):
            if isinstance(answer, KeeperError) and not isinstance(answer, NoNodeError):
                raise answer
        if isinstance(data, KeeperError) or isinstance(acl, KeeperError):
            continue
        assert isinstance(data, tuple)
        assert isinstance(acl, tuple)
        yield Node(here, data[1], data[0], tuple(acl[0]))


def relative(path: str, base: str) -> str:
    """The path below `base`: "" for base itself, else with a slash in front."""
    return "" if path == base else path if base == "/" else path[len(base) :]


def moved(path: str, base: str, target: str) -> str:
    """Where a path below `base` comes to stand below `target`."""
    rest = relative(path, base)
    return (target.rstrip("/") + rest) or "/"


def depth_first(paths: Sequence[str]) -> list[str]:
    """Paths with each znode's descendants right behind it."""
    return sorted(paths, key=lambda path: path.split("/"))
