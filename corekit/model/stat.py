"""The record of one znode: a single `bytes` object that is at the same time the body of its getData reply.

Layout: int32 data length (-1: null) | data | Stat (68 bytes, ZooKeeper's field order). So a read costs one dictionary
look-up and no encoding, and a znode costs one object that the garbage collector never visits.

The Stat holds what clients see: `cversion` is 2 * stored - numChildren (`DataNode.copyStat`), `ephemeralOwner` is 0 for
container and TTL nodes. The stored counterparts of both live beside the record in `Tree`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

STAT: Final = Struct(">qqqqiiiqiiq")
STAT_SIZE: Final = 68

# Offsets from the end of a record.
CZXID: Final = -68
MZXID: Final = -60
CTIME: Final = -52
MTIME: Final = -44
VERSION: Final = -36
CVERSION: Final = -32
AVERSION: Final = -28
OWNER: Final = -24
DATA_LENGTH: Final = -16
NUM_CHILDREN: Final = -12
PZXID: Final = -8

_I: Final = Struct(">i")
_int_at: Final = _I.unpack_from
_TAIL: Final = Struct(">Iiqiiq")  # a Stat from its cversion on, which wraps round
_pack_tail: Final = _TAIL.pack
_unpack_tail: Final = _TAIL.unpack_from
_long_at: Final = Struct(">q").unpack_from
_pack_stat: Final = STAT.pack
_unpack_stat: Final = STAT.unpack_from

# Owners that are not sessions (`EphemeralType`).
CONTAINER_OWNER: Final = -0x8000000000000000
TTL_MASK: Final = 0xFF00000000000000
TTL_MAX_MS: Final = (1 << 40) - 1


class Stat(NamedTuple):
    """A znode's Stat as clients see it; zxids and times (milliseconds since 1970) are 64 bit, the rest 32 bit."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


def stat_of(record: bytes) -> Stat:
    """The Stat in a record."""
    return Stat._make(_unpack_stat(record, len(record) - STAT_SIZE))


def data_of(record: bytes) -> bytes | None:
    """The data in a record; None for null."""
    return record[4:-STAT_SIZE] if record[0] != 0xFF else None


def new_record(length_and_data: bytes, zxid: int, time_ms: int, owner: int) -> bytes:
    """The record of a znode just created.

    Args:
        length_and_data: the data as a jute buffer (length, then bytes).
        owner: session id for an ephemeral znode, else 0.
    """
    size = len(length_and_data) - 4
    return length_and_data + _pack_stat(zxid, zxid, time_ms, time_ms, 0, 0, 0, owner, size, 0, zxid)


def with_data(record: bytes, length_and_data: bytes, version: int, zxid: int, time_ms: int) -> bytes:
    """The record after a setData that gives `version`."""
    czxid, _, ctime, _, _, cversion, aversion, owner, _, children, pzxid = _unpack_stat(record, len(record) - 68)
    size = len(length_and_data) - 4
    return length_and_data + _pack_stat(
        czxid, zxid, ctime, time_ms, version, cversion, aversion, owner, size, children, pzxid
    )


def with_aversion(record: bytes, aversion: int) -> bytes:
    """The record after a setACL that gives `aversion`."""
    return record[:AVERSION] + _I.pack(aversion) + record[OWNER:]


def with_child(record: bytes, step: int, pzxid: int, bump: int = 1) -> bytes:
    """The record of a parent after one child more (`step` 1) or less (-1).

    Args:
        bump: change of the cversion that clients see: 1, or -1 for a child more when the stored cversion counted it
        already.
    """
    cversion: int
    children: int
    cversion, aversion, owner, length, children, _ = _unpack_tail(record, len(record) + CVERSION)
    return record[:CVERSION] + _pack_tail(
        (cversion + bump) & 0xFFFFFFFF, aversion, owner, length, children + step, pzxid
    )


def with_cversion(record: bytes, stored: int, pzxid: int) -> bytes:
    """The record of a parent whose stored cversion is raised without a child being added (a replayed create)."""
    _, aversion, owner, length, children, _ = _unpack_tail(record, len(record) + CVERSION)
    cversion = (2 * stored - children) & 0xFFFFFFFF
    return record[:CVERSION] + _pack_tail(cversion, aversion, owner, length, children, pzxid)


def with_quiet_data(record: bytes, data: bytes) -> bytes:
    """The record with other data and an otherwise unchanged Stat (ZooKeeper's quota statistics)."""
    head = _I.pack(len(data))
    return head + data + record[-STAT_SIZE:DATA_LENGTH] + head + record[NUM_CHILDREN:]


def version_of(record: bytes) -> int:
    """The data version in a record."""
    value: int = _int_at(record, len(record) + VERSION)[0]
    return value


def aversion_of(record: bytes) -> int:
    """The ACL version in a record."""
    value: int = _int_at(record, len(record) + AVERSION)[0]
    return value


def owner_of(record: bytes) -> int:
    """The session that owns an ephemeral znode, as clients see it; 0 for any other."""
    value: int = _long_at(record, len(record) + OWNER)[0]
    return value


def children_of(record: bytes) -> int:
    """The number of children."""
    value: int = _int_at(record, len(record) + NUM_CHILDREN)[0]
    return value


def zxid_at(record: bytes, offset: int) -> int:
    """One of the 64-bit fields: CZXID, MZXID, CTIME, MTIME or PZXID."""
    value: int = _long_at(record, len(record) + offset)[0]
    return value


def ttl_owner(ttl_ms: int) -> int:
    """The stored owner of a TTL znode (`EphemeralType.TTL.toEphemeralOwner`), as a signed 64-bit number.

    Raises:
        ValueError: the time to live is not in 1 .. 2^40-1.
    """
    if not 0 < ttl_ms <= TTL_MAX_MS:
        raise ValueError(ttl_ms)
    return (TTL_MASK | ttl_ms) - (1 << 64)


def owner_kind(owner: int, extended: bool, emulate_353: bool = False) -> str:
    """What a stored owner means: `none`, `session`, `container` or `ttl` (`EphemeralType.get`)."""
    if owner == 0:
        return "none"
    if owner == CONTAINER_OWNER:
        return "container"
    if extended and ((emulate_353 and owner < 0) or (owner >> 40) & 0xFFFFFF == 0xFF0000):
        return "ttl"
    return "session"


def ttl_of(owner: int) -> int:
    """The time to live in milliseconds held by a TTL znode's stored owner (`EphemeralType.TTL.getValue`)."""
    return owner & TTL_MAX_MS
