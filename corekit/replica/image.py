"""The state as storage keeps it: pairs of keys and values, written in small steps behind the log, read back at
start-up.

Keys: `d` -> zxid and digest of the tree; `a` + ACL key (8 bytes) -> ACL; `n` + path -> record of the znode; `s` +
session id (8 bytes) -> timeout (4 bytes); `x` + path -> ACL key, stored owner, stored cversion of znodes where one of
them is not 0. In key order ACLs come before the znodes that use them, and a parent before its children.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Final

from corekit.codec.jute import Reader
from corekit.codec.snapshot import Image, ImageReader
from corekit.codec.txns import pack_acl, read_acl
from corekit.errors import DamagedError
from corekit.model import stat
from corekit.model.sessions import SessionTracker
from corekit.model.tree import Kids, Tree

_EXTRA: Final = Struct(">qqi")
_Q: Final = Struct(">q")
_I: Final = Struct(">i")
_NO_OWNER: Final = bytes(8)
_CHUNK_PAIRS: Final = 2048
_DIGEST_KEY: Final = b"d"
# Keys of znodes are between these two.
_NODES: Final = b"n"
_AFTER_NODES: Final = b"o"
_ZD: Final = Struct(">qQ")


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
        self._swept_acls: list[int] = []  # no znode has them any more; to be deleted from the stored state
        self._stored_extras: set[bytes] = set()
        self._digest: int | None = None  # as stored with the state
        self.zxid = 0
        self.sessions_changed: set[int] = set()

    def pending(self) -> int:
        """How many keys the next step will write, about."""
        return len(self._tree.changed) + len(self.sessions_changed)

    def step(self) -> tuple[int, list[tuple[bytes, bytes]], list[bytes]]:
        """Everything changed since the last step: (zxid, pairs to put, keys to delete). Clears the memory of it."""
        return self._step(self._tree.changed)

    def _step(self, changed: Iterable[bytes]) -> tuple[int, list[tuple[bytes, bytes]], list[bytes]]:
        tree = self._tree
        if not tree.pend:
            self._swept_acls += tree.acls.sweep()
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for key in self._swept_acls:
            if key in self._stored_acls:
                self._stored_acls.discard(key)
                deletes.append(b"a" + _Q.pack(key))
        self._swept_acls.clear()
        nodes, kids, acl_keys, owners = tree.nodes, tree.kids, tree.acl_keys, tree.owners
        for path in changed:
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
        if tree.digest_on:
            puts.append((_DIGEST_KEY, _ZD.pack(tree.zxid, tree.digest)))
        tree.changed.clear()
        self.sessions_changed.clear()
        self.zxid = tree.zxid
        return tree.zxid, puts, deletes

    def load(self, pairs: Iterable[tuple[Sequence[bytes], Sequence[bytes]]], zxid: int, now_ms: int) -> None:
        """Fill an empty tree from storage.

        Args:
            pairs: keys in order, and as many values, in portions of any size.

        Raises:
            DamagedError: the pairs do not make a tree.
        """
        tree = self._tree
        for keys, values in pairs:
            first, after = bisect_left(keys, _NODES), bisect_left(keys, _AFTER_NODES)
            if first < after:
                self._fill([key[1:] for key in keys[first:after]], values[first:after])
            for index in (*range(first), *range(after, len(keys))):
                self._load_other(keys[index], values[index], zxid, now_ms)
        if not tree.nodes and zxid == 0:
            tree.bootstrap()  # the first step of the state had not been made durable
        if b"/" not in tree.nodes:
            raise DamagedError("the stored state has no root znode: restore the data directory from a backup")
        tree.zxid = self.zxid = zxid
        self._swept_acls += tree.acls.sweep()
        self._sort_ephemerals()
        if tree.digest_on:
            tree.start_digest(self._digest)

    def _load_other(self, key: bytes, value: bytes, zxid: int, now_ms: int) -> None:
        """What is no znode's record."""
        kind = key[:1]
        if kind == b"x":
            self._load_extra(key[1:], value)
        elif kind == b"a":
            (acl_key,) = _Q.unpack(key[1:])
            self._tree.acls.restore(acl_key, read_acl(Reader(value)) or ())
            self._stored_acls.add(acl_key)
        elif kind == _DIGEST_KEY:
            at, digest = _ZD.unpack(value)
            self._digest = digest if at == zxid else None
        elif kind == b"s":
            (session_id,) = _Q.unpack(key[1:])
            (timeout,) = _I.unpack(value)
            self._sessions.add(session_id, timeout, now_ms)

    def _fill(self, nodes: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Add znodes (their paths in order, and as many records). There may be millions."""
        tree = self._tree
        tree.nodes.update(zip(nodes, records, strict=True))
        tree.data_bytes += sum(map(len, nodes)) + sum(map(len, records)) - 72 * len(nodes)
        start = 0
        while start < len(nodes):
            above = nodes[start][: nodes[start].rindex(b"/")]
            end = _siblings_end(nodes, start, above)
            known = tree.kids.get(above or b"/")
            if known is None:
                known = tree.kids[above or b"/"] = Kids()
            known.paths.update(nodes[start:end])
            start = end
        if (root := tree.kids.get(b"/")) is not None:
            root.paths.discard(b"/")
        owned = [(path, record) for path, record in zip(nodes, records, strict=True) if record[-24:-16] != _NO_OWNER]
        for path, record in owned:
            tree.ephemerals.setdefault(stat.owner_of(record), {})[path] = None

    def _sort_ephemerals(self) -> None:
        tree = self._tree
        for session_id, owned in tree.ephemerals.items():
            order = sorted(owned, key=lambda path: stat.zxid_at(tree.nodes[path], stat.CZXID))
            tree.ephemerals[session_id] = dict.fromkeys(order)

    def capture(self) -> Image:
        """The whole state as it is now, for a learner. Copies tables, not znodes."""
        tree = self._tree
        image = Image()
        image.zxid = tree.zxid
        image.sessions = [(s.id, s.timeout_ms) for s in self._sessions.sessions.values()]
        image.acls = dict(tree.acls.items())
        image.nodes = tree.nodes.copy()
        image.acl_keys = tree.acl_keys.copy()
        image.owners = tree.owners.copy()
        image.cversions = {path: kids.cversion for path, kids in tree.kids.items()}
        return image

    def replace(self, image: ImageReader, zxid: int, now_ms: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Put a received state in the place of tree and sessions; the result is all of it in chunks, for storage."""
        tree, sessions = self._tree, self._sessions
        tree.clear()
        sessions.clear()
        self._stored_acls.clear()
        self._swept_acls.clear()
        self._stored_extras.clear()
        for key, acl in image.acls.items():
            tree.acls.restore(key, acl)
        order = sorted(image.nodes)  # also for the storage: a memtable takes keys in their order with half the work
        self._fill(order, [image.nodes[path] for path in order])
        for path, key in image.acl_keys.items():
            tree.set_acl_key(path, key)
        tree.owners.update(image.owners)
        for path, cversion in image.cversions.items():
            tree.kids.setdefault(path, Kids()).cversion = cversion
        for session_id, timeout in image.sessions:
            sessions.add(session_id, timeout, now_ms)
        self._sort_ephemerals()
        tree.zxid = zxid
        if tree.digest_on:
            tree.start_digest()
        self.sessions_changed = set(sessions.sessions)
        _, puts, _ = self._step(order)
        for start in range(0, len(puts), _CHUNK_PAIRS):
            yield puts[start : start + _CHUNK_PAIRS]

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


def _siblings_end(nodes: Sequence[bytes], start: int, above: bytes) -> int:
    """Up to where the paths in `nodes`, which are in order, are children of `above`, as the one at `start` is.

    All that begin with `above` and a slash stand together, and children are those of them that have as many slashes as
    the first. Counting the slashes of many at once takes a tenth of a look at each.
    """
    prefix, slashes = above + b"/", above.count(b"/") + 1
    end, step = start + 1, 1
    while several := nodes[end : end + step]:
        if several[-1].startswith(prefix) and b"".join(several).count(b"/") == slashes * len(several):
            end += len(several)
            step *= 2
        elif step > 1:
            step //= 2
        else:
            break
    return end
