"""The tree of znodes: committed state, the pending view over it, and the one set of functions that change it.

Rules
- `nodes` holds committed state only; reads see nothing else. What is proposed but not committed lives in the pending
  view (`pend*`), which only the preparation of later transactions reads and which may be dropped at any time.
- A change is computed once, against the pending view, by one of the `change_*` functions, and becomes visible by
  `commit`. The leader computes it when it prepares a transaction, a learner when it receives a committed one: the
  same code.
- A pending entry may be older than its commit (it then equals the committed state), so it is dropped in bulk, not one
  by one.

Not here: validation and error codes (`replica/prepare.py`), encodings (`codec`), who watches (`watches.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from corekit.model import paths, stat
from corekit.model.acl import OPEN_KEY, READ_ONLY, Acl, AclTable
from corekit.model.digest import MASK, new_digest, node_digest, tree_digest
from corekit.model.stat import new_record, with_aversion, with_child, with_data

# Kinds of change: the first element of every change tuple.
SET: Final = 0
CREATE: Final = 1
DELETE: Final = 2
ACL: Final = 3
CVERSION: Final = 4

# One change to the tree: kind, path, record (None: deleted), how it moves the digest; and further
# CREATE: parent, its record, its stored cversion, acl key, stored owner if container or TTL; DELETE: parent, its
# record; ACL: key; CVERSION: stored cversion.
Change = tuple[Any, ...]

_EMPTY_DATA: Final = b"\x00\x00\x00\x00"
_NO_OWNER: Final = bytes(8)
_ABSENT: Final = object()
# How many digests of znodes are remembered, and the largest record of one.
_KNOWN_DIGESTS: Final = 4096
_KNOWN_BYTES: Final = 4096


class Kids:
    """The children of one znode: their full paths, and the stored cversion (creations so far)."""

    __slots__ = ("cversion", "paths")

    def __init__(self) -> None:
        self.cversion = 0
        self.paths: set[bytes] = set()


class Tree:
    """All znodes of one server.

    Attributes:
        nodes: path -> record (see `stat.py`). Read by the hot path of the client protocol.
        kids: path -> children, for znodes that have had any.
        acl_keys: path -> key in `acls`, for znodes whose ACL is not open to all.
        owners: path -> stored owner of container and TTL znodes.
        ephemerals: session id -> paths of its ephemeral znodes, in order of creation.
        zxid: of the last transaction applied.
        changed: paths changed since the state was last written to storage.
        digest_on: the digest is kept (`digest.py`).
        digest, pend_digest: of the committed tree, and of the pending view.
        data_bytes: sum of the lengths of paths and data, ZooKeeper's `approximate_data_size`.
    """

    def __init__(self) -> None:
        self.digest_on = False
        self.clear()

    def clear(self) -> None:
        """Forget everything (another state takes the place of this one)."""
        self.nodes: dict[bytes, bytes] = {}
        self.kids: dict[bytes, Kids] = {}
        self.acls = AclTable()
        self.acl_keys: dict[bytes, int] = {}
        self.owners: dict[bytes, int] = {}
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.zxid = 0
        self.changed: set[bytes] = set()
        self.data_bytes = 0
        self.digest = 0
        self.pend_digest = 0
        self._digests: dict[bytes, tuple[bytes, int, int, int]] = {}  # record, cversion and owner it is of, digest
        self.pend: dict[bytes, bytes | None] = {}
        self.pend_cversion: dict[bytes, int] = {}
        self.pend_acl: dict[bytes, int] = {}
        self.pend_owner: dict[bytes, int] = {}
        self._journal: list[tuple[Any, bytes, Any]] | None = None
        self._journal_digest = 0

    def bootstrap(self) -> None:
        """Make the znodes that every ZooKeeper has from the start, with zeroed stats."""
        blank = new_record(_EMPTY_DATA, 0, 0, 0)
        for path in (paths.ROOT, paths.ZOOKEEPER, paths.QUOTA, paths.CONFIG):
            self.nodes[path] = blank
            self.changed.add(path)
            self.data_bytes += len(path)
        for child in (paths.ZOOKEEPER, paths.QUOTA, paths.CONFIG):
            parent = paths.parent(child)
            self._kids(parent).paths.add(child)
            record = self.nodes[parent]
            count = stat.children_of(record) + 1
            # ZooKeeper adds these children without touching the parent's stored cversion: 2 * 0 - count is on the wire.
            self.nodes[parent] = (
                record[: stat.CVERSION]
                + (-count & 0xFFFFFFFF).to_bytes(4, "big")
                + record[stat.AVERSION : stat.NUM_CHILDREN]
                + count.to_bytes(4, "big")
                + record[stat.PZXID :]
            )
        # ZooKeeper guards the config node with a setACL of version -1 (`DataTree.addConfigNode`).
        self.nodes[paths.CONFIG] = with_aversion(blank, -1)
        self.set_acl_key(paths.CONFIG, self.acls.key(READ_ONLY))

    # ---------------------------------------------------------------------------------- committed state
    def node_count(self) -> int:
        """Number of znodes as ZooKeeper counts them (it stores the root twice)."""
        return len(self.nodes) + 1

    def children(self, path: bytes) -> list[bytes]:
        """Names of the committed children of a znode, in no particular order."""
        kids = self.kids.get(path)
        if kids is None:
            return []
        cut = len(path) + 1 if path != paths.ROOT else 1
        return [child[cut:] for child in kids.paths]

    def acl_key(self, path: bytes) -> int:
        """Key of a committed znode's ACL."""
        return self.acl_keys.get(path, OPEN_KEY)

    def descendants(self, path: bytes) -> Iterator[bytes]:
        """Committed znodes below a path, parents before children."""
        stack = [path]
        while stack:
            kids = self.kids.get(stack.pop())
            if kids is not None:
                yield from kids.paths
                stack.extend(kids.paths)

    def stored_cversion(self, path: bytes) -> int:
        """Creations below a committed znode so far (what sequential names count)."""
        kids = self.kids.get(path)
        return kids.cversion if kids is not None else 0

    def set_acl_key(self, path: bytes, key: int) -> None:
        """Give a committed znode another ACL."""
        old = self.acl_keys.get(path, OPEN_KEY)
        if key == old:
            return
        self.acls.use(key)
        self.acls.release(old)
        if key:
            self.acl_keys[path] = key
        else:
            del self.acl_keys[path]

    # ------------------------------------------------------------------------------------- pending view
    def record(self, path: bytes) -> bytes | None:
        """The record as the next transaction will find it."""
        pend = self.pend
        if path in pend:
            return pend[path]
        return self.nodes.get(path)

    def cversion(self, path: bytes) -> int:
        """Stored cversion as the next transaction will find it."""
        value = self.pend_cversion.get(path)
        return self.stored_cversion(path) if value is None else value

    def acl(self, path: bytes) -> Acl:
        """The ACL as the next transaction will find it."""
        key = self.pend_acl.get(path)
        return self.acls.acl(self.acl_keys.get(path, OPEN_KEY) if key is None else key)

    def owner(self, path: bytes) -> int:
        """The stored owner as the next transaction will find it."""
        owner = self.pend_owner.get(path)
        if owner is None:
            owner = self.owners.get(path, 0)
        if owner:
            return owner
        record = self.record(path)
        return stat.owner_of(record) if record is not None else 0

    def ephemerals_of(self, session: int) -> list[bytes]:
        """Paths that closing a session now would remove."""
        found = dict(self.ephemerals.get(session, ()))
        for path, record in self.pend.items():
            if record is None:
                found.pop(path, None)
            elif path not in found and stat.owner_of(record) == session:
                found[path] = None
            elif path in found and stat.owner_of(record) != session:
                del found[path]
        return list(found)

    def rebuild_pending(self, changes: Iterable[Change]) -> None:
        """Reduce the pending view to what these changes, not committed yet, say. Under load it is never empty."""
        digest = self.pend_digest
        self.drop_pending()
        self.pend_digest = digest
        for kind, path, record, _, *more in changes:
            self.pend[path] = record
            if kind == CREATE:
                parent, above, cversion, acl, special = more
                self.pend[parent] = above
                self.pend_cversion[parent] = cversion
                self.pend_cversion[path] = 0
                self.pend_acl[path] = acl
                self.pend_owner[path] = special
            elif kind == DELETE:
                self.pend[more[0]] = more[1]
            elif kind == ACL:
                self.pend_acl[path] = more[0]
            elif kind == CVERSION:
                self.pend_cversion[path] = more[0]

    def drop_pending(self) -> None:
        """Forget the pending view: everything proposed is committed, or will never be."""
        self.pend.clear()
        self.pend_cversion.clear()
        self.pend_acl.clear()
        self.pend_owner.clear()
        self.pend_digest = self.digest

    def begin(self) -> None:
        """Remember the pending view from here on, for `rollback` (a multi)."""
        assert self._journal is None
        self._journal = []
        self._journal_digest = self.pend_digest

    def keep(self) -> None:
        """Everything since `begin` stands."""
        self._journal = None

    def rollback(self) -> None:
        """Put the pending view back to where it was at `begin`."""
        assert self._journal is not None
        while self._journal:
            view, path, value = self._journal.pop()
            if value is _ABSENT:
                view.pop(path, None)
            else:
                view[path] = value
        self._journal = None
        self.pend_digest = self._journal_digest

    def _note(self, *touched: bytes) -> None:
        assert self._journal is not None
        for path in touched:
            for view in (self.pend, self.pend_cversion, self.pend_acl, self.pend_owner):
                self._journal.append((view, path, view.get(path, _ABSENT)))

    # ------------------------------------------------------------------------------------------- digest
    def start_digest(self, known: int | None = None) -> None:
        """Keep the digest from now on; computed from scratch if it is not known."""
        self.digest_on = True
        if known is None:
            cversions = {path: kids.cversion for path, kids in self.kids.items()}
            known = tree_digest(self.nodes, cversions, self.owners)
        self.digest = self.pend_digest = known

    def _move(self, path: bytes, old: bytes | None, new: bytes | None, cversions: tuple[int, int]) -> int:
        """How one znode's change moves the digest; adds it to the pending one."""
        owner = self.pend_owner.get(path)
        if owner is None:
            owner = self.owners.get(path, 0)
        delta = 0
        if old is not None:
            known = self._digests.get(path)
            if known is not None and known[0] is old and known[1] == cversions[0] and known[2] == owner:
                delta -= known[3]
            else:
                delta -= node_digest(path, old, cversions[0], owner)
        if new is not None:
            digest = node_digest(path, new, cversions[1], owner)
            delta += digest
            if old is not None and len(new) <= _KNOWN_BYTES:  # what changed will change again: parents, counters
                if len(self._digests) >= _KNOWN_DIGESTS:
                    self._digests.clear()
                self._digests[path] = (new, cversions[1], owner, digest)
        self.pend_digest = (self.pend_digest + delta) & MASK
        return delta

    # ------------------------------------------------------------------------------------------ changes
    def change_set(self, path: bytes, old: bytes, data: bytes, version: int, zxid: int, time_ms: int) -> Change:
        """setData. `old` is the znode's record as `record` finds it; `data` is a jute buffer (length, bytes)."""
        if self._journal is not None:
            self._note(path)
        record = with_data(old, data, version, zxid, time_ms)
        self.pend[path] = record
        if not self.digest_on:
            return (SET, path, record, 0)
        cversion = self.cversion(path)
        return (SET, path, record, self._move(path, old, record, (cversion, cversion)))

    def change_create(
        self,
        path: bytes,
        data: bytes,
        acl: int,
        session: int,
        special: int,
        cversion: int,
        zxid: int,
        time_ms: int,
        *,
        known: int | None = None,
    ) -> Change:
        """create. The parent exists and the path does not.

        Args:
            session: owner of an ephemeral znode, else 0.
            special: stored owner of a container or TTL znode, else 0.
            cversion: the parent's new stored cversion.
            known: the parent's stored cversion now, if the state may be ahead of this transaction, which is being
                replayed.
        """
        parent = path[: path.rindex(b"/")] or b"/"
        pend = self.pend
        if self._journal is not None:
            self._note(path, parent)
        old = pend.get(parent)
        if old is None:
            old = self.nodes[parent]
        if known is None:
            known = cversion - 1
        if cversion <= known:
            # The state came from a leader that had gone on while it was sent: this child is counted already.
            cversion = known
            above = with_child(old, 1, stat.zxid_at(old, stat.PZXID), -1)
        else:
            above = with_child(old, 1, zxid)
        record = new_record(data, zxid, time_ms, session)
        pend[parent] = above
        pend[path] = record
        self.pend_cversion[parent] = cversion
        if acl or path in self.acl_keys or path in self.pend_acl:
            self.pend_acl[path] = acl
        if special or path in self.owners or path in self.pend_owner:
            self.pend_owner[path] = special
        if path in self.kids or path in self.pend_cversion:
            self.pend_cversion[path] = 0
        delta = 0
        if self.digest_on:
            digest = new_digest(path, data, zxid, time_ms, special or session)
            self.pend_digest = (self.pend_digest + digest) & MASK
            delta = self._move(parent, old, above, (known, cversion)) + digest
        return (CREATE, path, record, delta, parent, above, cversion, acl, special)

    def change_delete(self, path: bytes, zxid: int) -> Change:
        """delete. The znode and its parent exist."""
        parent = path[: path.rindex(b"/")] or b"/"
        pend = self.pend
        if self._journal is not None:
            self._note(path, parent)
        old = pend.get(parent)
        if old is None:
            old = self.nodes[parent]
        above = with_child(old, -1, max(zxid, stat.zxid_at(old, stat.PZXID)))
        delta = 0
        if self.digest_on:
            cversion = self.cversion(parent)
            delta = self._move(parent, old, above, (cversion, cversion))
            delta += self._move(path, self.record(path), None, (self.cversion(path), 0))
        pend[parent] = above
        pend[path] = None
        return (DELETE, path, None, delta, parent, above)

    def change_acl(self, path: bytes, acl: int, aversion: int) -> Change:
        """setACL. The znode exists."""
        if self._journal is not None:
            self._note(path)
        old = self.record(path)
        assert old is not None, path
        record = with_aversion(old, aversion)
        self.pend[path] = record
        self.pend_acl[path] = acl
        cversion = self.cversion(path)
        delta = self._move(path, old, record, (cversion, cversion)) if self.digest_on else 0
        return (ACL, path, record, delta, acl)

    def change_cversion(self, path: bytes, cversion: int, zxid: int) -> Change:
        """Raise the stored cversion of a parent: a create was replayed whose znode exists already."""
        old = self.record(path)
        assert old is not None, path
        record = stat.with_cversion(old, cversion, zxid)
        delta = self._move(path, old, record, (self.cversion(path), cversion)) if self.digest_on else 0
        self.pend[path] = record
        self.pend_cversion[path] = cversion
        return (CVERSION, path, record, delta, cversion)

    def commit(self, change: Change) -> None:
        """Make one change visible. Watches are the caller's."""
        kind, path, record, delta = change[0], change[1], change[2], change[3]
        if delta:
            self.digest = (self.digest + delta) & MASK
        nodes = self.nodes
        self.changed.add(path)
        if kind == SET:
            self.data_bytes += len(record) - len(nodes[path])
            nodes[path] = record
        elif kind == CREATE:
            _, _, _, _, parent, above, cversion, acl, owner = change
            nodes[path] = record
            nodes[parent] = above
            self.changed.add(parent)
            kids = self._kids(parent)
            kids.paths.add(path)
            kids.cversion = cversion
            self.data_bytes += len(path) + len(record) - 72
            if acl:
                self.set_acl_key(path, acl)
            if owner:
                self.owners[path] = owner
            elif record[-24:-16] != _NO_OWNER:
                self.ephemerals.setdefault(stat.owner_of(record), {})[path] = None
        elif kind == DELETE:
            _, _, _, _, parent, above = change
            old = nodes.pop(path)
            nodes[parent] = above
            self.changed.add(parent)
            self.data_bytes -= len(path) + len(old) - 72
            kids = self.kids[parent]
            kids.paths.discard(path)
            self.kids.pop(path, None)
            self.set_acl_key(path, OPEN_KEY)
            if self.owners.pop(path, 0) == 0:
                session = stat.owner_of(old)
                if session:
                    self._forget_ephemeral(session, path)
        elif kind == ACL:
            nodes[path] = record
            self.set_acl_key(path, change[4])
        else:
            nodes[path] = record
            self._kids(path).cversion = change[4]

    def _forget_ephemeral(self, session: int, path: bytes) -> None:
        owned = self.ephemerals.get(session)
        if owned is not None:
            owned.pop(path, None)
            if not owned:
                del self.ephemerals[session]

    def _kids(self, path: bytes) -> Kids:
        kids = self.kids.get(path)
        if kids is None:
            kids = self.kids[path] = Kids()
        return kids
