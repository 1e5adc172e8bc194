"""Applies changes of the tree and tells the connections that watch, in ZooKeeper's order.

An event is put into a connection's `out` at the moment the change becomes visible, so it leaves before the reply of
any later read that shows the change. Only connections that may read the znode are told (ZooKeeper 3.8.4, 3.9.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from corekit.api import AuthScheme
from corekit.model import paths
from corekit.model.acl import OPEN_KEY, READ
from corekit.model.quota import Quotas
from corekit.model.tree import ACL, CREATE, CVERSION, DELETE, SET, Change, Tree
from corekit.model.watches import CHILDREN_CHANGED, CREATED, DATA_CHANGED, DELETED, Watches, WatchTable
from corekit.replica.connection import Connection
from corekit.replica.instruments import Summary

_EVENT: Final = Struct(">iiqiiii")
_CONNECTED: Final = 3
_KINDS: Final = ((CREATED, "created"), (DELETED, "deleted"), (DATA_CHANGED, "changed"), (CHILDREN_CHANGED, "children"))


def event_frame(zxid: int, kind: int, path: bytes) -> bytes:
    """A watch event as sent: frame, ReplyHeader with xid -1, WatcherEvent. `zxid` is -1 for what setWatches replays."""
    size = len(path)
    return _EVENT.pack(28 + size, -1, zxid, 0, kind, _CONNECTED, size) + path


class Applier:
    """Makes committed changes visible.

    Attributes:
        told: events sent so far.
        fired: watchers told at once, by kind of event (1 created .. 4 children changed).
    """

    def __init__(
        self,
        tree: Tree,
        watches: Watches[Connection],
        quotas: Quotas,
        schemes: Mapping[str, AuthScheme],
        *,
        skip_acl: bool = False,
    ) -> None:
        self._tree = tree
        self._watches = watches
        self._quotas = quotas
        self._schemes = schemes
        self._skip_acl = skip_acl
        self.told = 0
        self.fired = {kind: Summary(f"node_{name}_watch_count") for kind, name in _KINDS}

    def apply(self, change: Change, zxid: int) -> None:
        """Commit one change and fire the watches it triggers."""
        tree, data = self._tree, self._watches.data
        kind, path = change[0], change[1]
        if kind == SET:
            if self._quotas.limited:
                growth = len(change[2]) - len(tree.nodes[path])
                tree.commit(change)
                self._quotas.changed(tree, path, growth, 0)
            else:
                tree.commit(change)
            if path in data.by_path or data.recursive:
                self._tell(data, path, DATA_CHANGED, path, zxid, tree.acl_keys.get(path, OPEN_KEY))
        elif kind in (ACL, CVERSION):
            tree.commit(change)
        elif kind == CREATE:
            tree.commit(change)
            if self._quotas.limited or path.startswith(paths.QUOTA):
                self._quotas.created(tree, path, max(len(change[2]) - 72, 0))
            self._created(change[4], path, zxid)
        elif kind == DELETE:
            self._deleted(change, zxid)

    def _created(self, parent: bytes, path: bytes, zxid: int) -> None:
        watches, keys = self._watches, self._tree.acl_keys
        if path in watches.data.by_path or watches.data.recursive:
            self._tell(watches.data, path, CREATED, path, zxid, keys.get(path, OPEN_KEY))
        if parent in watches.child.by_path:
            self._tell(watches.child, parent, CHILDREN_CHANGED, parent, zxid, keys.get(parent, OPEN_KEY))

    def _deleted(self, change: Change, zxid: int) -> None:
        tree, watches = self._tree, self._watches
        path, parent = change[1], change[4]
        key = tree.acl_keys.get(path, OPEN_KEY)
        size = max(len(tree.nodes[path]) - 72, 0)
        tree.commit(change)
        if self._quotas.limited or path.startswith(paths.QUOTA):
            self._quotas.deleted(tree, path, size)
        told: dict[Connection, None] = {}
        if path in watches.data.by_path or watches.data.recursive:
            told = self._tell(watches.data, path, DELETED, path, zxid, key)
        if path in watches.child.by_path:
            self._tell(watches.child, path, DELETED, path, zxid, key, told)
        if parent in watches.child.by_path:
            above = tree.acl_keys.get(parent, OPEN_KEY)
            self._tell(watches.child, parent, CHILDREN_CHANGED, parent, zxid, above)

    def _tell(
        self,
        table: WatchTable[Connection],
        path: bytes,
        kind: int,
        named: bytes,
        zxid: int,
        acl_key: int,
        told_already: Mapping[Connection, None] | None = None,
    ) -> dict[Connection, None]:
        watchers = table.fire(path)
        if not watchers:
            return watchers
        told = 0
        frame = event_frame(zxid, kind, named)
        guarded = acl_key != OPEN_KEY and not self._skip_acl
        acls = self._tree.acls
        for connection in watchers:
            if told_already and connection in told_already:
                continue
            if guarded and not acls.allows(acl_key, READ, connection.identities, self._schemes):
                continue
            connection.out.append(frame)
            connection.sent += 1
            told += 1
            if not connection.queued:
                connection.wake()
        self.told += told
        self.fired[kind].observe(told)
        return watchers
