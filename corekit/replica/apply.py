"""Turns committed transactions that came as bytes (from the log or from a leader) into changes of the tree.

The leader's own transactions do not come this way: their changes were computed when they were prepared, by the same
`Tree.change_*` functions. Tolerant where a transaction may meet a state that contains it already (a fuzzy snapshot of a
ZooKeeper leader): an existing znode is not created again, a missing one not deleted. Source: `DataTree.processTxn`.
"""

from __future__ import annotations

from typing import Final

from corekit.codec import ops
from corekit.codec.txns import Txn
from corekit.model import stat
from corekit.model.acl import OPEN, OPEN_KEY
from corekit.model.stat import CONTAINER_OWNER, ttl_owner
from corekit.model.tree import Change, Tree


def changes_of(tree: Tree, txn: Txn) -> list[Change]:
    """What a transaction does to the tree, to be committed at once and in order."""
    changes: list[Change] = []
    if txn.type == ops.MULTI:
        if not any(sub.type == ops.ERROR for sub in txn.subs):
            for sub in txn.subs:
                _one(tree, sub, changes)
    else:
        _one(tree, txn, changes)
    return changes


def _one(tree: Tree, txn: Txn, changes: list[Change]) -> None:
    kind = txn.type
    if kind in _CREATES:
        _create(tree, txn, changes)
    elif kind in (ops.SET_DATA, ops.RECONFIG):
        old = tree.record(txn.path)
        if old is not None:
            changes.append(tree.change_set(txn.path, old, txn.data, txn.version, txn.zxid, txn.time_ms))
    elif kind in (ops.DELETE, ops.DELETE_CONTAINER):
        _delete(tree, txn.path, txn.zxid, changes)
    elif kind == ops.SET_ACL:
        if tree.record(txn.path) is not None:
            changes.append(tree.change_acl(txn.path, tree.acls.key(txn.acl), txn.version))
    elif kind == ops.CLOSE_SESSION:
        # Listed paths first, then whatever else this server has for the session.
        for path in dict.fromkeys((*(txn.paths or ()), *tree.ephemerals_of(txn.session))):
            record = tree.record(path)
            if record is not None and stat.owner_of(record) == txn.session:
                _delete(tree, path, txn.zxid, changes)


_CREATES: Final = frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_TTL, ops.CREATE_CONTAINER))


def _create(tree: Tree, txn: Txn, changes: list[Change]) -> None:
    path = txn.path
    parent = path[: path.rindex(b"/")] or b"/"
    if tree.record(parent) is None:
        return
    known = tree.cversion(parent)
    cversion = txn.version if txn.version != -1 else known + 1
    if tree.record(path) is not None:
        # Replayed over a state that has it: the parent may still be behind (`DataTree.setCversionPzxid`).
        if txn.type == ops.CREATE and cversion > known:
            changes.append(tree.change_cversion(parent, cversion, txn.zxid))
        return
    special = 0
    if txn.type == ops.CREATE_CONTAINER:
        special = CONTAINER_OWNER
    elif txn.type == ops.CREATE_TTL:
        special = ttl_owner(txn.ttl_ms)
    session = txn.session if txn.ephemeral else 0
    key = OPEN_KEY if txn.acl is OPEN else tree.acls.key(txn.acl)
    changes.append(
        tree.change_create(path, txn.data, key, session, special, cversion, txn.zxid, txn.time_ms, known=known)
    )


def _delete(tree: Tree, path: bytes, zxid: int, changes: list[Change]) -> None:
    record = tree.record(path)
    if record is not None and path != b"/":
        changes.append(tree.change_delete(path, zxid))
