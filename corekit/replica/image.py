"""The state as storage keeps it: pairs of keys and values, written in small steps behind the log, read back at
start-up.

Keys: `a` + ACL key (8 bytes) -> ACL; `n` + path -> record of the znode; `s` + session id (8 bytes) -> timeout (4
bytes); `x` + path -> ACL key, stored owner, stored cversion of znodes where one of them is not 0. In key order ACLs
come before the znodes that use them, and a parent before its children.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from corekit.codec.jute import Reader
from corekit.codec.txns import pack_acl, read_acl
from corekit.errors import DamagedError
from corekit.model import stat
from corekit.model.sessions import SessionTracker
from corekit.model.tree import Kids, Tree

_EXTRA = Struct(">qqi")
_Q = Struct(">q")
_I = Struct(">i")
_NO_OWNER = bytes(8)


class StateImage:
    """Keeps the stored state in step with a tree and its sessions.

    Attributes:
        zxid: the stored state is that of this zxid.
        sessions_changed: session ids opened or closed since.
    """

    def __init__(self, tree: Tree, sessions: SessionTracker) -> None:
        self._tree = tree
        self._sessions = sessions
        self._stored_acls: set[int] = set()
        self._stored_extras: set[bytes] = set()
        self.zxid = 0
        self.sessions_changed: set[int] = set()

    def pending(self) -> int:
        """How many keys the next step will write, about."""
        return len(self._tree.changed) + len(self.sessions_changed)

    def step(self) -> tuple[int, list[tuple[bytes, bytes]], list[bytes]]:
        """Everything changed since the last step: (zxid, pairs to put, keys to delete). Clears the memory of it."""
        tree = self._tree
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        nodes, kids, acl_keys, owners = tree.nodes, tree.kids, tree.acl_keys, tree.owners
        for path in tree.changed:
            record = nodes.get(path)
            if record is None:
                deletes.append(b"n" + path)
                if path in self._stored_extras:
                    self._stored_extras.discard(path)
                    deletes.append(b"x" + path)
                continue
            puts.append((b"n" + path, record))
            if path in kids or path in acl_keys or path in owners:
                key = acl_keys.get(path, 0)
                if key and key not in self._stored_acls:
                    self._stored_acls.add(key)
                    puts.append((b"a" + _Q.pack(key), pack_acl(tree.acls.acl(key))))
                extra = _EXTRA.pack(key, owners.get(path, 0), tree.stored_cversion(path))
                puts.append((b"x" + path, extra))
                self._stored_extras.add(path)
            elif path in self._stored_extras:
                self._stored_extras.discard(path)
                deletes.append(b"x" + path)
        for session_id in self.sessions_changed:
            session = self._sessions.sessions.get(session_id)
            if session is None:
                deletes.append(b"s" + _Q.pack(session_id))
            else:
                puts.append((b"s" + _Q.pack(session_id), _I.pack(session.timeout_ms)))
        tree.changed.clear()
        self.sessions_changed.clear()
        self.zxid = tree.zxid
        return tree.zxid, puts, deletes

    def load(self, pairs: Iterable[tuple[bytes, bytes]], zxid: int, now_ms: int) -> None:
        """Fill an empty tree from storage.

        Raises:
            DamagedError: the pairs do not make a tree.
        """
        tree = self._tree
        nodes, kids = tree.nodes, tree.kids
        ephemerals = tree.ephemerals
        parent: bytes | None = None
        siblings: set[bytes] = set()
        size = 0
        for key, value in pairs:
            kind = key[0]
            if kind == 0x6E:  # n
                path = key[1:]
                nodes[path] = value
                size += len(path) + len(value) - 72
                above = path[: path.rindex(b"/")] or b"/"
                if above != parent:
                    parent = above
                    known = kids.get(above)
                    if known is None:
                        known = kids[above] = Kids()
                    siblings = known.paths
                if len(path) > 1:
                    siblings.add(path)
                if value[-24:-16] != _NO_OWNER:
                    ephemerals.setdefault(stat.owner_of(value), {})[path] = None
            elif kind == 0x78:  # x
                self._load_extra(key[1:], value)
            elif kind == 0x61:  # a
                (acl_key,) = _Q.unpack(key[1:])
                tree.acls.restore(acl_key, read_acl(Reader(value)) or ())
                self._stored_acls.add(acl_key)
            elif kind == 0x73:  # s
                (session_id,) = _Q.unpack(key[1:])
                (timeout,) = _I.unpack(value)
                self._sessions.add(session_id, timeout, now_ms)
        if b"/" not in nodes:
            raise DamagedError("the stored state has no root znode: restore the data directory from a backup")
        tree.data_bytes = size
        tree.zxid = self.zxid = zxid
        tree.acls.sweep()
        for session_id in list(ephemerals):
            ephemerals[session_id] = dict.fromkeys(
                sorted(ephemerals[session_id], key=lambda path: stat.zxid_at(nodes[path], stat.CZXID))
            )

    def _load_extra(self, path: bytes, value: bytes) -> None:
        tree = self._tree
        acl_key, owner, cversion = _EXTRA.unpack(value)
        self._stored_extras.add(path)
        if acl_key:
            tree.set_acl_key(path, acl_key)
        if owner:
            tree.owners[path] = owner
        if cversion:
            known = tree.kids.get(path)
            if known is None:
                known = tree.kids[path] = Kids()
            known.cversion = cversion
