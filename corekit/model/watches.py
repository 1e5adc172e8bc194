"""Who watches what: ZooKeeper's two tables (data and child) with one-shot, persistent and recursive modes.

A watcher is any hashable object (a connection). What an event looks like and who may see it is the caller's.
Sources: ZooKeeper `WatchManager`, `WatcherMode`, `DataTree.setWatches`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

W = TypeVar("W")

STANDARD: Final = 1
PERSISTENT: Final = 2
RECURSIVE: Final = 4

# Event types on the wire (`Watcher.Event.EventType`).
CREATED: Final = 1
DELETED: Final = 2
DATA_CHANGED: Final = 3
CHILDREN_CHANGED: Final = 4

# Kinds of watcher named by removeWatches and checkWatches (`Watcher.WatcherType`).
CHILDREN_KIND: Final = 1
DATA_KIND: Final = 2
ANY_KIND: Final = 3
PERSISTENT_KIND: Final = 4
RECURSIVE_KIND: Final = 5


class WatchTable(Generic[W]):
    """One of the two tables.

    Attributes:
        by_path: path -> watcher -> modes. The hot path asks `path in by_path`.
        recursive: how many recursive watches there are; while 0, ancestors are not looked at.
    """

    __slots__ = ("by_path", "by_watcher", "recursive")

    def __init__(self) -> None:
        self.by_path: dict[bytes, dict[W, int]] = {}
        self.by_watcher: dict[W, set[bytes]] = {}
        self.recursive = 0

    def add(self, path: bytes, watcher: W, mode: int) -> None:
        """Watch a path, in addition to the modes already there."""
        watchers = self.by_path.get(path)
        if watchers is None:
            watchers = self.by_path[path] = {}
        old = watchers.get(watcher, 0)
        if mode == RECURSIVE and not old & RECURSIVE:
            self.recursive += 1
        watchers[watcher] = old | mode
        if not old:
            paths = self.by_watcher.get(watcher)
            if paths is None:
                self.by_watcher[watcher] = {path}
            else:
                paths.add(path)

    def modes(self, path: bytes, watcher: W) -> int:
        """The modes in which a watcher watches a path."""
        watchers = self.by_path.get(path)
        return watchers.get(watcher, 0) if watchers is not None else 0

    def remove(self, path: bytes, watcher: W, mode: int | None = None) -> bool:
        """Stop watching a path in one mode, or in all (None). Whether there was such a watch."""
        old = self.modes(path, watcher)
        gone = old if mode is None else old & mode
        if not gone:
            return False
        self._set(path, watcher, old & ~gone)
        if gone & RECURSIVE:
            self.recursive -= 1
        return True

    def forget(self, watcher: W) -> None:
        """Drop everything a watcher watches."""
        for path in self.by_watcher.pop(watcher, ()):
            watchers = self.by_path[path]
            if watchers.pop(watcher) & RECURSIVE:
                self.recursive -= 1
            if not watchers:
                del self.by_path[path]

    def fire(self, path: bytes) -> dict[W, None]:
        """Everyone to be told of a change of `path`; one-shot watches of it are used up."""
        told: dict[W, None] = {}
        watchers = self.by_path.get(path)
        if watchers is not None:
            told = dict.fromkeys(watchers)
            for watcher, modes in list(watchers.items()):
                if modes & STANDARD:
                    self._set(path, watcher, modes & ~STANDARD)
        if self.recursive:
            above = path
            while above != b"/":
                above = above[: above.rindex(b"/")] or b"/"
                for watcher, modes in self.by_path.get(above, {}).items():
                    if modes & RECURSIVE:
                        told[watcher] = None
        return told

    def _set(self, path: bytes, watcher: W, modes: int) -> None:
        watchers = self.by_path[path]
        if modes:
            watchers[watcher] = modes
            return
        del watchers[watcher]
        if not watchers:
            del self.by_path[path]
        paths = self.by_watcher[watcher]
        paths.discard(path)
        if not paths:
            del self.by_watcher[watcher]

    def __len__(self) -> int:
        return sum(map(len, self.by_watcher.values()))


class Watches(Generic[W]):
    """Both tables, and the rules that span them."""

    __slots__ = ("child", "data")

    def __init__(self) -> None:
        self.data: WatchTable[W] = WatchTable()
        self.child: WatchTable[W] = WatchTable()

    def add_persistent(self, path: bytes, watcher: W, recursive: bool) -> None:
        """addWatch: recursive watches live in the data table only (ZooKeeper 3.9)."""
        if recursive:
            self.data.add(path, watcher, RECURSIVE)
        else:
            self.data.add(path, watcher, PERSISTENT)
            self.child.add(path, watcher, PERSISTENT)

    def contains(self, path: bytes, watcher: W, kind: int) -> bool:
        """Whether there is a watch of a kind (`DataTree.containsWatcher`)."""
        data, child = self.data.modes(path, watcher), self.child.modes(path, watcher)
        if kind == CHILDREN_KIND:
            return bool(child & STANDARD)
        if kind == DATA_KIND:
            return bool(data & STANDARD)
        if kind == PERSISTENT_KIND:
            return bool(data & PERSISTENT)
        if kind == RECURSIVE_KIND:
            return bool(data & RECURSIVE)
        return bool(data or child)

    def remove(self, path: bytes, watcher: W, kind: int) -> bool:
        """Remove the watches of a kind; whether there was one (`DataTree.removeWatch`)."""
        if kind == CHILDREN_KIND:
            return self.child.remove(path, watcher, STANDARD)
        if kind == DATA_KIND:
            return self.data.remove(path, watcher, STANDARD)
        if kind == RECURSIVE_KIND:
            return self.data.remove(path, watcher, RECURSIVE)
        mode = PERSISTENT if kind == PERSISTENT_KIND else None
        child = self.child.remove(path, watcher, mode)
        return self.data.remove(path, watcher, mode) or child

    def forget(self, watcher: W) -> None:
        """Drop everything a watcher watches (its connection ended)."""
        self.data.forget(watcher)
        self.child.forget(watcher)

    def watchers(self) -> Iterator[W]:
        """Everyone who watches something."""
        yield from self.data.by_watcher
        for watcher in self.child.by_watcher:
            if watcher not in self.data.by_watcher:
                yield watcher

    def __len__(self) -> int:
        return len(self.data) + len(self.child)
