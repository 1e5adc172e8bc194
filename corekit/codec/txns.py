"""Transactions ("entries"): TxnHeader, body, optional digest, in ZooKeeper's encoding.

The bytes made here once are what is logged, sent to followers and written to disk. Writers of the hot path inline
`HEADER.pack`; readers (recovery, learners, tools) use `decode`. Source: `SerializeUtils.deserializeTxn`,
`zookeeper.jute`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.errors import ProtocolError
from corekit.model.acl import OPEN, Acl
from corekit.model.digest import VERSION as DIGEST_VERSION

HEADER: Final = Struct(">qiqqi")  # session id, cxid, zxid, time in ms, type
HEADER_SIZE: Final = 32
DIGEST: Final = Struct(">iQ")  # TxnDigest: version, digest of the tree after the transaction

OPEN_ACL_WIRE: Final = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone"

_VERSION_DIGEST: Final = Struct(">iiQ")  # where an entry ends: version, TxnDigest
_DIGEST_MARK: Final = DIGEST_VERSION.to_bytes(4, "big")
_I: Final = Struct(">i")
_pack_int: Final = _I.pack
_unsigned_at: Final = Struct(">I").unpack_from


@dataclass
class Txn:
    """One decoded transaction. Fields that its type does not have keep their defaults.

    Attributes:
        data: a jute buffer (length and bytes), ready to become part of a znode's record.
        version: the new version (setData, setACL) or the parent's new stored cversion (create*).
        paths: what closeSession removes, or None when the entry does not say.
        subs: the parts of a multi.
        digest: of the tree after it, if the entry says (and in the version we know).
    """

    session: int
    cxid: int
    zxid: int
    time_ms: int
    type: int
    path: bytes = b""
    data: bytes = b"\xff\xff\xff\xff"
    acl: Acl = OPEN
    ephemeral: bool = False
    version: int = 0
    ttl_ms: int = 0
    timeout_ms: int = 0
    error: int = 0
    paths: list[bytes] | None = None
    subs: tuple[Txn, ...] = ()
    digest: int | None = None


def pack_string(value: bytes) -> bytes:
    """A jute string or buffer."""
    return _pack_int(len(value)) + value


def pack_acl(acl: Acl) -> bytes:
    """A jute vector of ACLs."""
    if acl == OPEN:
        return OPEN_ACL_WIRE
    parts = [_pack_int(len(acl))]
    for perms, scheme, acl_id in acl:
        parts += (_pack_int(perms), pack_string(scheme.encode()), pack_string(acl_id.encode()))
    return b"".join(parts)


def read_acl(reader: Reader) -> Acl | None:
    """A jute vector of ACLs; None for a null vector. A null scheme or id becomes an empty text."""

    end = reader.pos + len(OPEN_ACL_WIRE)
    if reader.buf[reader.pos : end] == OPEN_ACL_WIRE and end <= reader.end:
        reader.pos = end
        return OPEN

    def entry(r: Reader) -> tuple[int, str, str]:
        return r.int(), _text(r.string()), _text(r.string())

    entries = reader.vector(entry)
    return None if entries is None else tuple(entries)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def decode(entry: bytes) -> Txn:
    """Decode an entry.

    Raises:
        ProtocolError: the bytes are no transaction.
    """
    session: int
    cxid: int
    zxid: int
    time_ms: int
    kind: int
    try:
        session, cxid, zxid, time_ms, kind = HEADER.unpack_from(entry, 0)
    except StructError:
        raise ProtocolError(f"transaction of {len(entry)} bytes is shorter than its header") from None
    if kind == ops.SET_DATA or kind == ops.CREATE:
        found = _common(entry, session, cxid, zxid, time_ms, kind)
        if found is not None:
            return found
    head = (session, cxid, zxid, time_ms)
    reader = Reader(entry, HEADER_SIZE)
    fields = _body(head, kind, reader)
    if reader.end - reader.pos >= DIGEST.size:
        version, digest = DIGEST.unpack_from(entry, reader.pos)
        if version == DIGEST_VERSION:
            return Txn(*head, kind, digest=digest, **fields)
    return Txn(*head, kind, **fields)


def _common(entry: bytes, session: int, cxid: int, zxid: int, time_ms: int, kind: int) -> Txn | None:
    """What `decode` makes of a plain setData or a create open to all, in a third of the time; None: look closer.

    Learners decode every transaction, nearly all are of these two forms.
    """
    end = len(entry)
    if end < HEADER_SIZE + 8:
        return None
    data_at: int = HEADER_SIZE + 4 + _unsigned_at(entry, HEADER_SIZE)[0]
    if data_at + 4 > end:
        return None
    after: int = data_at + 4 + _unsigned_at(entry, data_at)[0]
    path, data = entry[HEADER_SIZE + 4 : data_at], entry[data_at:after]
    ephemeral = False
    if kind == ops.CREATE:
        acl_end = after + len(OPEN_ACL_WIRE)
        if entry[after:acl_end] != OPEN_ACL_WIRE or end <= acl_end:
            return None
        ephemeral = entry[acl_end] != 0
        after = acl_end + 1
    rest = end - after
    if rest == 4:
        version: int = _I.unpack_from(entry, after)[0]
        return Txn(session, cxid, zxid, time_ms, kind, path, data, OPEN, ephemeral, version)
    if rest == _VERSION_DIGEST.size:
        version, kept, digest = _VERSION_DIGEST.unpack_from(entry, after)
        if kept == DIGEST_VERSION:
            return Txn(session, cxid, zxid, time_ms, kind, path, data, OPEN, ephemeral, version, digest=digest)
    return None


def _body(head: tuple[int, int, int, int], kind: int, r: Reader) -> dict[str, Any]:
    """The fields that a transaction of this type has besides those of every transaction."""
    if kind in (ops.SET_DATA, ops.RECONFIG):
        return {"path": _string(r), "data": _buffer(r), "version": r.int()}
    if kind in (ops.CREATE, ops.CREATE2):
        found = {"path": _string(r), "data": _buffer(r), "acl": read_acl(r) or (), "ephemeral": r.bool()}
        # Logs older than 3.4 end here: the parent's cversion is then "one more than it is".
        found["version"] = r.int() if r.pos + 4 <= r.end else -1
        return found
    if kind in (ops.CREATE_TTL, ops.CREATE_CONTAINER):
        found = {"path": _string(r), "data": _buffer(r), "acl": read_acl(r) or (), "version": r.int()}
        if kind == ops.CREATE_TTL:
            found["ttl_ms"] = r.long()
        return found
    if kind in (ops.DELETE, ops.DELETE_CONTAINER):
        return {"path": _string(r)}
    if kind == ops.MULTI:
        subs = []
        for _ in range(r.int()):
            sub_kind = r.int()
            subs.append(Txn(*head, sub_kind, **_body(head, sub_kind, Reader(r.buffer() or b""))))
        return {"subs": tuple(subs)}
    if kind == ops.SET_ACL:
        return {"path": _string(r), "acl": read_acl(r) or (), "version": r.int()}
    if kind == ops.CREATE_SESSION:
        return {"timeout_ms": r.int()}
    if kind == ops.CLOSE_SESSION:
        if r.pos + 4 > r.end or (r.end - r.pos == DIGEST.size and r.buf[r.pos : r.pos + 4] == _DIGEST_MARK):
            return {}  # nothing is listed; what follows, if anything, is the digest
        return {"paths": [path or b"" for path in r.vector(Reader.string) or ()]}
    if kind == ops.ERROR:
        return {"error": r.int()}
    if kind == ops.CHECK:
        return {"path": _string(r), "version": r.int()}
    raise ProtocolError(f"unknown transaction type {kind} at zxid 0x{head[2]:x}")


def _string(r: Reader) -> bytes:
    value = r.string()
    if value is None:
        raise ProtocolError("null path in a transaction")
    return value


def _buffer(r: Reader) -> bytes:
    """A jute buffer with its length; null as it is."""
    start = r.pos
    r.buffer()
    return bytes(r.buf[start : r.pos])
