"""ZooKeeper's snapshot stream: sessions, ACLs, nodes in pre-order, the terminator `/`. What a leader sends as SNAP.

The same items make up a snapshot file (between its header and its seal). Writing and reading are both incremental, so
that a million znodes stop nothing. Source: `DataTree.serialize`, `ReferenceCountedACLCache`,
`SerializeUtils.serializeSnapshot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct

from corekit.codec.jute import Reader
from corekit.codec.txns import pack_acl, pack_string, read_acl
from corekit.errors import ProtocolError
from corekit.model import stat
from corekit.model.acl import OPEN_KEY, Acl

_Q = Struct(">q")
_I = Struct(">i")
_QI = Struct(">qi")
_PERSISTED = Struct(">qqqqiiiqq")  # StatPersisted: the Stat without dataLength and numChildren
_REST = Struct(">q36xi4xq8x")  # of a znode behind its data: ACL key, and of `_PERSISTED` cversion and owner
_NO_CHILDREN = bytes(4)
_EMPTY = bytes(8)  # no data, no children
_CHUNK_NODES = 100  # a leader's clients wait while a chunk is made
_OPEN_ACL_KEY = -1  # ZooKeeper's key for world:anyone all, which is never in the table
_END = pack_string(b"/")
_ROOT = b"/"


class Image:
    """A state at one moment, as plain tables.

    Attributes:
        zxid: of the last transaction in it.
        sessions: (id, timeout in ms).
        acls: key -> ACL.
        nodes: path -> record, parents before their children.
        acl_keys, owners, cversions: for the znodes where they are not 0.
    """

    __slots__ = ("acl_keys", "acls", "cversions", "nodes", "owners", "sessions", "zxid")

    def __init__(self) -> None:
        self.zxid = 0
        self.sessions: Sequence[tuple[int, int]] = ()
        self.acls: Mapping[int, Acl] = {}
        self.nodes: Mapping[bytes, bytes] = {}
        self.acl_keys: Mapping[bytes, int] = {}
        self.owners: Mapping[bytes, int] = {}
        self.cversions: Mapping[bytes, int] = {}


def write_image(image: Image) -> Iterator[bytes]:
    """The stream in chunks of a hundred znodes."""
    parts = [_I.pack(len(image.sessions))]
    parts += [_QI.pack(session, timeout) for session, timeout in image.sessions]
    parts.append(_I.pack(len(image.acls)))
    parts += [_Q.pack(key) + pack_acl(acl) for key, acl in image.acls.items()]
    yield b"".join(parts)
    parts = []
    acl_keys, owners, cversions = image.acl_keys, image.owners, image.cversions
    open_key, pack_int = _Q.pack(_OPEN_ACL_KEY), _I.pack
    for path, record in image.nodes.items():
        # `_PERSISTED` stands in the record, but for the stored cversion and some owners.
        parts += (
            pack_string(path if path != _ROOT else b""),
            record[: -stat.STAT_SIZE],
            open_key if acl_keys.get(path, OPEN_KEY) == OPEN_KEY else _Q.pack(acl_keys[path]),
            record[stat.CZXID : stat.CVERSION],
            pack_int(cversions.get(path, 0)),
            record[stat.AVERSION : stat.DATA_LENGTH]
            if path not in owners
            else record[stat.AVERSION : stat.OWNER] + _Q.pack(owners[path]),
            record[stat.PZXID :],
        )
        if len(parts) >= 7 * _CHUNK_NODES:
            yield b"".join(parts)
            parts = []
    parts.append(_END)
    yield b"".join(parts)


class ImageReader:
    """Reads a stream as it comes.

    Attributes:
        sessions, acls, nodes, acl_keys, owners, cversions: as in `Image`; complete when `feed` returned bytes. The
            numbers of children in the records are filled in at the end.
    """

    def __init__(self) -> None:
        self.sessions: list[tuple[int, int]] = []
        self.acls: dict[int, Acl] = {}
        self.nodes: dict[bytes, bytes] = {}
        self.acl_keys: dict[bytes, int] = {}
        self.owners: dict[bytes, int] = {}
        self.cversions: dict[bytes, int] = {}
        self._counts: dict[bytes, int] = {}
        self._buffer = b""
        self._state = self._session_count
        self._left = 0

    def feed(self, data: bytes) -> bytes | None:
        """The next bytes.

        Returns:
            None while more are needed, else what follows the end of the stream.

        Raises:
            ProtocolError: this is no snapshot stream.
        """
        buffer = self._buffer + data if self._buffer else data
        reader = Reader(buffer)
        while True:
            if self._state == self._node:
                reader.pos = self._plain_nodes(buffer, reader.pos)
            start = reader.pos
            try:
                done = self._state(reader)
            except ProtocolError:
                if len(buffer) - start > _ITEM_BYTES_MAX:
                    raise
                self._buffer = buffer[start:]
                return None
            if done:
                self._complete()
                return buffer[reader.pos :]

    def _session_count(self, r: Reader) -> bool:
        self._left = r.int()
        self._state = self._session if self._left else self._acl_count
        return False

    def _session(self, r: Reader) -> bool:
        self.sessions.append((r.long(), r.int()))
        self._left -= 1
        if not self._left:
            self._state = self._acl_count
        return False

    def _acl_count(self, r: Reader) -> bool:
        self._left = r.int()
        self._state = self._acl if self._left else self._node
        return False

    def _acl(self, r: Reader) -> bool:
        key, acl = r.long(), read_acl(r)
        self.acls[key] = acl or ()
        self._left -= 1
        if not self._left:
            self._state = self._node
        return False

    def _plain_nodes(self, buf: bytes, pos: int) -> int:
        """All complete znodes that follow and have nothing special: most of a tree, so with little work."""
        last = len(buf) - _REST.size
        nodes, counts = self.nodes, self._counts
        unpack_size, unpack_rest = _I.unpack_from, _REST.unpack_from
        while pos + 8 <= last:
            start = pos + 4 + unpack_size(buf, pos)[0]
            if start + 4 > last or start <= pos + 5:  # not complete, the root or the end
                break
            size = unpack_size(buf, start)[0]
            end = start + 4 + (size if size > 0 else 0)
            if end > last:
                break
            key, cversion, owner = unpack_rest(buf, end)
            if cversion or owner < 0 or (key != _OPEN_ACL_KEY and key != OPEN_KEY):
                break
            path = buf[pos + 4 : start]
            parent = path[: path.rindex(b"/")] or _ROOT
            counts[parent] = counts.get(parent, 0) + 1
            sizes = buf[start : start + 4] + _NO_CHILDREN if size > 0 else _EMPTY
            pos = end + _REST.size
            nodes[path] = buf[start:end] + buf[end + 8 : pos - 8] + sizes + buf[pos - 8 : pos]
        return pos

    def _node(self, r: Reader) -> bool:
        path = r.text()
        if path == _ROOT:
            return True
        start = r.pos
        size = r.int()
        if size > 0:
            r.pos += size
        data = bytes(r.buf[start : r.pos])
        key = r.long()
        end = r.pos + _PERSISTED.size
        if end > r.end:
            raise ProtocolError("more bytes are needed")
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = _PERSISTED.unpack_from(r.buf, r.pos)
        r.pos = end
        path = path or _ROOT
        if key not in (OPEN_KEY, _OPEN_ACL_KEY):
            self.acl_keys[path] = key
        if owner < 0 and stat.owner_kind(owner, True) != "session":
            self.owners[path] = owner
            owner = 0
        if cversion:
            self.cversions[path] = cversion
        self.nodes[path] = data + stat.STAT.pack(
            czxid, mzxid, ctime, mtime, version, 0, aversion, owner, max(size, 0), 0, pzxid
        )
        if path != _ROOT:
            parent = path[: path.rindex(b"/")] or _ROOT
            self._counts[parent] = self._counts.get(parent, 0) + 1
        return False

    def _complete(self) -> None:
        """Fill in what clients see: numChildren, and cversion = 2 * stored - numChildren."""
        nodes = self.nodes
        for path in self._counts.keys() | self.cversions.keys():
            record = nodes.get(path)
            if record is None:
                raise ProtocolError(f"a znode without its parent in the snapshot, below {path!r}")
            count = self._counts.get(path, 0)
            wire = (2 * self.cversions.get(path, 0) - count) & 0xFFFFFFFF
            nodes[path] = (
                record[: stat.CVERSION]
                + wire.to_bytes(4, "big")
                + record[stat.AVERSION : stat.NUM_CHILDREN]
                + count.to_bytes(4, "big")
                + record[stat.PZXID :]
            )


_ITEM_BYTES_MAX = 64 * 1024 * 1024  # no session, ACL or znode is larger
