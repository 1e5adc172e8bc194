"""Transactions ("entries"): TxnHeader, body, optional digest, in ZooKeeper's encoding.

The bytes made here once are what is logged, sent to followers and written to disk. Writers of the hot path inline
`HEADER.pack`; readers (recovery, learners, tools) use `decode`. Source: `SerializeUtils.deserializeTxn`,
`zookeeper.jute`.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.errors import ProtocolError
from corekit.model.acl import OPEN, Acl
from corekit.model.digest import VERSION as DIGEST_VERSION

HEADER = Struct(">qiqqi")  # session id, cxid, zxid, time in ms, type
HEADER_SIZE = 32
DIGEST = Struct(">iQ")  # TxnDigest: version, digest of the tree after the transaction

OPEN_ACL_WIRE = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone"

_DIGEST_MARK = DIGEST_VERSION.to_bytes(4, "big")
_I = Struct(">i")
_pack_int = _I.pack


class Txn(NamedTuple):
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

    def entry(r: Reader) -> tuple[int, str, str]:
        return r.int(), _text(r.string()), _text(r.string())

    entries = reader.vector(entry)
    return None if entries is None else tuple(entries)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def zxid_of(entry: bytes) -> int:
    """The zxid of an entry."""
    return int.from_bytes(entry[12:20], "big")


def decode(entry: bytes) -> Txn:
    """Decode an entry.

    Raises:
        ProtocolError: the bytes are no transaction.
    """
    try:
        session, cxid, zxid, time_ms, kind = HEADER.unpack_from(entry, 0)
    except StructError:
        raise ProtocolError(f"transaction of {len(entry)} bytes is shorter than its header") from None
    base = Txn(session, cxid, zxid, time_ms, kind)
    reader = Reader(entry, HEADER_SIZE)
    txn = _body(base, reader)
    if reader.end - reader.pos >= DIGEST.size:
        version, digest = DIGEST.unpack_from(entry, reader.pos)
        if version == DIGEST_VERSION:
            txn = txn._replace(digest=digest)
    return txn


def _body(base: Txn, r: Reader) -> Txn:
    kind = base.type
    if kind == ops.MULTI:
        count = r.int()
        subs = []
        for _ in range(count):
            sub_kind = r.int()
            subs.append(_body(base._replace(type=sub_kind), Reader(r.buffer() or b"")))
        return base._replace(subs=tuple(subs))
    if kind in (ops.CREATE, ops.CREATE2):
        path, data, acl = _string(r), _buffer(r), read_acl(r) or ()
        ephemeral = r.bool()
        # Logs older than 3.4 end here: the parent's cversion is then "one more than it is".
        version = r.int() if r.pos + 4 <= r.end else -1
        return base._replace(path=path, data=data, acl=acl, ephemeral=ephemeral, version=version)
    if kind in (ops.CREATE_TTL, ops.CREATE_CONTAINER):
        path, data, acl, version = _string(r), _buffer(r), read_acl(r) or (), r.int()
        ttl = r.long() if kind == ops.CREATE_TTL else 0
        return base._replace(path=path, data=data, acl=acl, version=version, ttl_ms=ttl)
    if kind in (ops.DELETE, ops.DELETE_CONTAINER):
        return base._replace(path=_string(r))
    if kind in (ops.SET_DATA, ops.RECONFIG):
        return base._replace(path=_string(r), data=_buffer(r), version=r.int())
    if kind == ops.SET_ACL:
        return base._replace(path=_string(r), acl=read_acl(r) or (), version=r.int())
    if kind == ops.CREATE_SESSION:
        return base._replace(timeout_ms=r.int())
    if kind == ops.CLOSE_SESSION:
        if r.pos + 4 > r.end or (r.end - r.pos == DIGEST.size and r.buf[r.pos : r.pos + 4] == _DIGEST_MARK):
            return base  # nothing is listed; what follows, if anything, is the digest
        return base._replace(paths=[path or b"" for path in r.vector(Reader.string) or ()])
    if kind == ops.ERROR:
        return base._replace(error=r.int())
    if kind == ops.CHECK:
        return base._replace(path=_string(r), version=r.int())
    raise ProtocolError(f"unknown transaction type {kind} at zxid 0x{base.zxid:x}")


def _string(r: Reader) -> bytes:
    value = r.string()
    if value is None:
        raise ProtocolError("null path in a transaction")
    return value


def _buffer(r: Reader) -> bytes:
    value = r.buffer()
    return b"\xff\xff\xff\xff" if value is None else _pack_int(len(value)) + value
