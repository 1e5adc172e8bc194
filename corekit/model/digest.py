"""The digest of the tree: a sum of checksums of its znodes, so that servers can tell that they hold the same.

One 64-bit number that every change moves by the difference of the checksums of the znodes it touches. ACLs and
children are not in it, nor is anything below `/zookeeper/`. Sources: ZooKeeper `DigestCalculator`, `AdHash`, digest
version 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final
from zlib import crc32

from corekit.model.stat import AVERSION, CTIME, CVERSION, CZXID, DATA_LENGTH, OWNER, PZXID, STAT_SIZE

VERSION: Final = 2
MASK: Final = (1 << 64) - 1

_FIELDS: Final = Struct(">qqqqqiiiq")
_EXCLUDED: Final = b"/zookeeper/"
_pack_int: Final = Struct(">i").pack
_pack_long: Final = Struct(">q").pack


def node_digest(path: bytes, record: bytes, cversion: int, owner: int) -> int:
    """The checksum of one znode.

    Args:
        cversion: the stored one (creations so far).
        owner: stored owner of a container or TTL znode, else 0: then the session in the record counts.
    """
    if path.startswith(_EXCLUDED):
        return 0
    crc = crc32(record[4:-STAT_SIZE], crc32(path) if path != b"/" else 0)
    # The fields stand in the record as they are wanted here, in another order.
    fields = record[CZXID:CTIME] + record[PZXID:] + record[CTIME:CVERSION] + _pack_int(cversion)
    if owner:
        return crc32(fields + record[AVERSION:OWNER] + _pack_long(owner), crc)
    return crc32(fields + record[AVERSION:DATA_LENGTH], crc)


def new_digest(path: bytes, data: bytes, zxid: int, time_ms: int, owner: int) -> int:
    """`node_digest` of a znode just created, before there is a record. `data` is a jute buffer (length, bytes)."""
    if path.startswith(_EXCLUDED):
        return 0
    crc = crc32(data[4:], crc32(path))
    return crc32(_FIELDS.pack(zxid, zxid, zxid, time_ms, time_ms, 0, 0, 0, owner), crc)


def tree_digest(nodes: Mapping[bytes, bytes], cversions: Mapping[bytes, int], owners: Mapping[bytes, int]) -> int:
    """The digest of a whole tree, from scratch."""
    total = 0
    plain, excluded = _pack_int(0), _EXCLUDED
    for path, record in nodes.items():
        if path in cversions or path in owners or path == b"/" or path.startswith(excluded):
            total += node_digest(path, record, cversions.get(path, 0), owners.get(path, 0))
        else:  # most of a tree: the same without a call
            crc = crc32(record[4:-STAT_SIZE], crc32(path))
            fields = record[CZXID:CTIME] + record[PZXID:] + record[CTIME:CVERSION] + plain
            total += crc32(fields + record[AVERSION:DATA_LENGTH], crc)
    return total & MASK
