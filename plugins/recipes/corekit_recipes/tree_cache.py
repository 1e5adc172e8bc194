"""A copy of a subtree in memory that follows the ensemble.

Promises: after `async with` has begun, the cache holds the whole subtree as it was at some moment; from then on it
follows: each node goes through states that it really had, and reaches the last one. It does not show the subtree at
one instant. A node that was removed and made again quickly may be shown removed for a moment by servers that tell no
zxid in events (before 3.9).
Failures: after a reconnection or an expired session everything is read again and only what changed is told. While
there is no connection the cache is stale: ask `zk.state`.
Cost: 1 recursive watch, and 2 requests for each node at the beginning and after each reconnection; 1 or 2 for each
change. On servers without recursive watches (before 3.6) 2 watches for each node.
Znodes: none of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import NamedTuple

import anyio

from corekit.client import Client, Data, EventType, WatchStream, op
from corekit.client.paths import join, parent
from corekit.client.tasks import alongside
from corekit.client.watches import Watch
from corekit.errors import KeeperError, NoNodeError, RequestTimeoutError, SessionExpiredError, UnimplementedError

CHANGES_MAX = 10_000  # changes that nobody reads; the oldest are dropped then


class Kind(Enum):
    """What happened to a node, as the cache sees it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Change(NamedTuple):
    """A change of one node: its data and Stat after it (before it, if it was removed)."""

    kind: Kind
    path: str
    data: Data


class TreeCache:
    """Made by `tree_cache`. `version` rises with every change; `ready` is set once everything was read."""

    def __init__(self, zk: Client, path: str) -> None:
        self.zk = zk
        self.path = path
        self.version = 0
        self._nodes: dict[str, Data] = {}
        self._children: dict[str, set[str]] = {}
        self.pending: deque[Change] = deque(maxlen=CHANGES_MAX)
        self._changed = anyio.Event()
        self.ready = anyio.Event()

    # What users look at
    def get(self, path: str) -> Data | None:
        """A node's data and Stat, or None."""
        return self._nodes.get(path)

    def children(self, path: str) -> list[str]:
        """The names of a node's children, sorted."""
        return sorted(self._children.get(path, ()))

    @property
    def data(self) -> dict[str, bytes]:
        """The data of every node, by path."""
        return {path: node.data for path, node in self._nodes.items()}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    async def changed(self, since: int) -> int:
        """Wait until `version` is above `since`; returns it."""
        while self.version <= since:
            await self._changed.wait()
        return self.version

    def versions(self) -> AsyncIterator[TreeCache]:
        """The cache itself, now and again whenever it has changed."""
        return _Versions(self)

    def changes(self) -> AsyncIterator[Change]:
        """Changes since the cache was made, the nodes found at the beginning included. For one reader."""
        return _Changes(self)

    # How it follows
    async def keep(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                async with self.zk.watch(self.path, recursive=True) as events:
                    await self._load()
                    await self._follow(events)
            except UnimplementedError:
                await self.keep_one_by_one()
            except SessionExpiredError:
                if not self.zk.renews:
                    raise
            except RequestTimeoutError:  # the client's `call_timeout`, without a connection
                if not self.ready.is_set():
                    raise

    async def _follow(self, events: WatchStream) -> None:
        async for event in events:
            if event.type is EventType.RESYNC:
                await self._load()
            elif event.type is EventType.DELETED:
                known = self._nodes.get(event.path)
                if known is not None and not 0 <= event.zxid < known.stat.czxid:  # else it was made again since
                    self._remove(event.path)
            else:
                await self._refresh(event.path)

    async def _refresh(self, path: str) -> None:
        try:
            self._put(path, await self.zk.get(path))
        except NoNodeError:
            self._remove(path)

    async def _load(self) -> None:
        """Read everything, and tell what is new, changed or gone."""
        found: set[str] = set()
        try:
            async for path, _ in self.zk.walk(self.path):
                found.add(path)
        except NoNodeError:
            pass
        await self._read(sorted(found))
        for path in sorted(set(self._nodes) - found, reverse=True):
            self._remove(path)
        self.ready.set()

    async def _read(self, paths: list[str]) -> None:
        answers = self.zk.stream((op.get(path) for path in paths), errors=True)
        for path in paths:
            answer = await anext(answers)
            if isinstance(answer, NoNodeError):
                self._remove(path)
            elif isinstance(answer, KeeperError):
                raise answer
            else:
                self._put(path, answer)

    def _put(self, path: str, data: Data) -> None:
        before = self._nodes.get(path)
        if before is not None and before.stat.mzxid >= data.stat.mzxid and before.stat.czxid == data.stat.czxid:
            self._nodes[path] = data  # the Stat may be newer
            return
        self._nodes[path] = data
        if path != self.path:
            self._children.setdefault(parent(path), set()).add(path.rpartition("/")[2])
        self._tell(Change(Kind.CHANGED if before is not None else Kind.ADDED, path, data))

    def _remove(self, path: str) -> None:
        data = self._nodes.pop(path, None)
        if data is not None:
            self._children.get(parent(path), set()).discard(path.rpartition("/")[2])
            self._tell(Change(Kind.REMOVED, path, data))

    def _tell(self, change: Change) -> None:
        self.version += 1
        self.pending.append(change)
        self._changed.set()
        self._changed = anyio.Event()

    # Without recursive watches
    async def keep_one_by_one(self) -> None:
        """Two one-shot watches for each node, set again by each reading."""
        touched = _Touched()
        touched.add(self.path)
        watches: dict[str, tuple[Watch, ...]] = {}

        async def after_expiry() -> None:
            session_id = self.zk.session_id
            async for change in self.zk.states():
                if change.state.connected and change.session_id != session_id:
                    session_id = change.session_id
                    touched.add(self.path, *self._nodes)

        async with alongside(after_expiry):
            while True:
                while touched.paths:
                    path = touched.paths.pop()
                    for watch in watches.pop(path, ()):
                        self.zk.forget(watch)
                    try:
                        watches[path] = await self._read_watched(path, touched)
                    except SessionExpiredError:
                        if not self.zk.renews:
                            raise
                        touched.add(path)
                    except RequestTimeoutError:
                        if not self.ready.is_set():
                            raise
                        touched.add(path)
                self.ready.set()
                await touched.wait()

    async def _read_watched(self, path: str, touched: _Touched) -> tuple[Watch, ...]:
        """Read one node and set its watches; children that are new are touched, those that are gone are removed."""
        zk = self.zk
        watches: tuple[Watch, ...] = ()
        try:
            data, changed = await zk.get_watch(path)
            watches = (changed,)
            children, added = await zk.children_watch(path)
            watches = (changed, added)
        except NoNodeError:
            self._remove_below(path)
            if path == self.path:
                stat, made = await zk.exists_watch(path)
                watches += (made,)
                if stat is not None:  # meanwhile
                    touched.add(path)
        else:
            self._put(path, data)
            known = self._children.get(path, set())
            touched.add(*(join(path, name) for name in children.names if name not in known))
            for name in known - set(children.names):
                self._remove_below(join(path, name))
        for watch in watches:
            watch.then = lambda _: touched.add(path)
            if watch.fired:
                touched.add(path)
        return watches

    def _remove_below(self, path: str) -> None:
        for name in self.children(path):
            self._remove_below(join(path, name))
        self._remove(path)


class _Versions:
    def __init__(self, cache: TreeCache) -> None:
        self._cache = cache
        self._seen = -1

    def __aiter__(self) -> AsyncIterator[TreeCache]:
        return self

    async def __anext__(self) -> TreeCache:
        self._seen = await self._cache.changed(self._seen)
        return self._cache


class _Changes:
    def __init__(self, cache: TreeCache) -> None:
        self._cache = cache

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        pending = self._cache.pending
        while not pending:
            await self._cache.changed(self._cache.version)
        return pending.popleft()


class _Touched:
    """Paths to be read again."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._some = anyio.Event()

    def add(self, *paths: str) -> None:
        self.paths.update(paths)
        self._some.set()

    async def wait(self) -> None:
        await self._some.wait()
        self._some = anyio.Event()


@asynccontextmanager
async def tree_cache(zk: Client, path: str, *, recursive: bool = True) -> AsyncIterator[TreeCache]:
    """`async with tree_cache(zk, "/config") as tree: tree.get("/config/db")`

    Without `recursive` it uses two watches for each node even where the server knows recursive ones.
    """
    cache = TreeCache(zk, path)
    async with alongside(cache.keep if recursive else cache.keep_one_by_one):
        await cache.ready.wait()
        yield cache
