"""Quotas: limits and statistics in znodes below `/zookeeper/quota`, kept by each server as it applies changes.

The statistics znode is rewritten in place, without a transaction and without touching its Stat otherwise.
Sources: ZooKeeper `Quotas`, `StatsTrack`, `DataTree.updateQuotaStat`, `ZooKeeperServer.checkQuota`.
"""

from __future__ import annotations

import re
from typing import Final

from corekit.model import paths
from corekit.model.stat import data_of, with_quiet_data
from corekit.model.tree import Tree

_LIMITS: Final = b"/zookeeper_limits"
_STATS: Final = b"/zookeeper_stats"
_PREFIX: Final = paths.QUOTA + b"/"
_SEPARATORS: Final = re.compile(r"[,;]+")

# Keys that always come first, for readers older than hard limits.
_FIRST: Final = ("count", "bytes")


def parse_track(data: bytes | None) -> dict[str, int]:
    """The numbers in a limits or statistics znode, without what does not parse."""
    values: dict[str, int] = {}
    for pair in _SEPARATORS.split((data or b"").decode("utf-8", "replace")):
        parts = pair.split("=")
        if len(parts) > 1:
            try:
                values[parts[0]] = int(parts[1] or -1)
            except ValueError:
                continue
    return values


def format_track(values: dict[str, int]) -> bytes:
    """The text of a limits or statistics znode (the stray `=` before hard limits is ZooKeeper's)."""
    text = f"count={values.get('count', -1)},bytes={values.get('bytes', -1)}"
    others = sorted(key for key in values if key not in _FIRST)
    if others:
        text += "=" + "".join(f";{key}={values[key]}" for key in others)
    return text.encode()


class Quotas:
    """Which paths have a quota.

    Attributes:
        limited: paths with a limits znode. Empty in most trees, which the hot path checks first.
        exceeded: path -> what was asked for beyond its limits last, until somebody takes it away to tell of it.
        refused: writes refused so far, by the first part of the path.
    """

    def __init__(self) -> None:
        self.limited: set[bytes] = set()
        self.exceeded: dict[bytes, str] = {}
        self.refused: dict[str, int] = {}

    def above(self, path: bytes) -> bytes | None:
        """The nearest path at or above `path` that has a quota; the root's is not kept."""
        while path != paths.ROOT:
            if path in self.limited:
                return path
            path = paths.parent(path)
        return None

    def allows(self, tree: Tree, path: bytes, more_bytes: int, more_nodes: int, *, enforced: bool) -> bool:
        """Whether a create or setData may be done; beyond a soft limit it may, and is noted.

        Args:
            enforced: hard limits refuse; otherwise they are as soft ones.
        """
        if not self.limited:
            return True
        prefix = self.above(path)
        if prefix is None:
            return True
        limits = parse_track(_data(tree, paths.QUOTA + prefix + _LIMITS))
        if paths.QUOTA + prefix + _STATS not in tree.nodes:
            return True
        now = parse_track(_data(tree, paths.QUOTA + prefix + _STATS))
        for key, hard_key, more in (("count", "countHardLimit", more_nodes), ("bytes", "byteHardLimit", more_bytes)):
            hard = limits.get(hard_key, -1)
            limit = hard if hard > -1 else limits.get(key, -1)
            wanted = now.get(key, -1) + more
            if more and -1 < limit < wanted:
                self.exceeded[prefix] = f"{key} {wanted}, {'hard' if hard > -1 else 'soft'} limit {limit}"
                if hard > -1 and enforced:
                    namespace = prefix[1:].partition(b"/")[0].decode("utf-8", "replace")
                    self.refused[namespace] = self.refused.get(namespace, 0) + 1
                    return False
        return True

    def created(self, tree: Tree, path: bytes, size: int) -> None:
        """A znode was created: count it, and take notice if it is itself part of a quota."""
        if path.startswith(_PREFIX):
            if path.endswith(_LIMITS):
                self.limited.add(path[len(paths.QUOTA) : -len(_LIMITS)])
            elif path.endswith(_STATS):
                self._recount(tree, path[len(paths.QUOTA) : -len(_STATS)])
        self.changed(tree, path, size, 1)

    def deleted(self, tree: Tree, path: bytes, size: int) -> None:
        """A znode was deleted."""
        if path.startswith(_PREFIX) and path.endswith(_LIMITS):
            self.limited.discard(path[len(paths.QUOTA) : -len(_LIMITS)])
        self.changed(tree, path, -size, -1)

    def changed(self, tree: Tree, path: bytes, more_bytes: int, more_nodes: int) -> None:
        """Add to the statistics of the quota that covers a path, if there is one."""
        prefix = self.above(path) if self.limited else None
        if prefix is None:
            return
        where = paths.QUOTA + prefix + _STATS
        now = parse_track(_data(tree, where))
        now["count"] = now.get("count", -1) + more_nodes
        now["bytes"] = now.get("bytes", -1) + more_bytes
        _store(tree, where, now)

    def restore(self, tree: Tree) -> None:
        """Find the quotas of a tree that was just loaded."""
        self.limited = {
            path[len(paths.QUOTA) : -len(_LIMITS)] for path in tree.descendants(paths.QUOTA) if path.endswith(_LIMITS)
        }

    def _recount(self, tree: Tree, path: bytes) -> None:
        count = size = 0
        if path in tree.nodes:
            for below in (path, *tree.descendants(path)):
                count += 1
                size += len(data_of(tree.nodes[below]) or b"")
        _store(tree, paths.QUOTA + path + _STATS, {"count": count, "bytes": size})


def _data(tree: Tree, path: bytes) -> bytes | None:
    record = tree.nodes.get(path)
    return None if record is None else data_of(record)


def _store(tree: Tree, path: bytes, values: dict[str, int]) -> None:
    record = tree.nodes.get(path)
    if record is not None:
        tree.nodes[path] = with_quiet_data(record, format_track(values))
        tree.changed.add(path)
