"""Byte layouts of what stands in the database, and the checks that it is what was written. Pure functions.

Rules
- A row of the log holds consecutive entries: `first u64 | count u32 | count x length u32 | the entries, joined`, all
  big-endian.
- `chain` of a row is the CRC-32 of all entries since the start of the log, carried on from row to row: a row that is
  missing or altered breaks it, and it does not depend on how the entries were cut into rows.
- SQLite has no checksums for its pages, so the body of a row and each pair of the state have one of their own.

Not here: SQL (`database.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from corekit.errors import DamagedError

_head = struct.Struct(">QI")
_meta = struct.Struct(">IIQIIQQ")
_crc = struct.Struct(">I")


@dataclass(slots=True, frozen=True)
class Meta:
    """Bookkeeping.

    Attributes:
        accepted, current: both epochs.
        purged_zxid, purged_chain: the log starts after this zxid; the chain's value there.
        cuts: how many truncations and new states there have been.
        cut_zxid: where the log ended after the last of them.
        state_zxid: of the state.
    """

    accepted: int = 0
    current: int = 0
    purged_zxid: int = 0
    purged_chain: int = 0
    cuts: int = 0
    cut_zxid: int = 0
    state_zxid: int = 0

    def pack(self) -> bytes:
        """The bytes, with a checksum behind them."""
        return sealed(
            _meta.pack(
                self.accepted,
                self.current,
                self.purged_zxid,
                self.purged_chain,
                self.cuts,
                self.cut_zxid,
                self.state_zxid,
            )
        )


def unpack_meta(data: bytes) -> Meta:
    """Raises `DamagedError`."""
    body = unsealed(data, "the bookkeeping")
    if len(body) != _meta.size:
        raise DamagedError("the bookkeeping has an unknown form")
    return Meta(*_meta.unpack(body))


def sealed(body: bytes) -> bytes:
    """With a checksum behind it."""
    return body + _crc.pack(crc32(body))


def unsealed(data: bytes, what: str) -> bytes:
    """What was sealed. Raises `DamagedError`."""
    body = data[: -_crc.size]
    if len(data) < _crc.size or _crc.pack(crc32(body)) != data[-_crc.size :]:
        raise DamagedError(f"{what} is damaged")
    return body


def pack_batch(first_zxid: int, entries: Sequence[bytes]) -> bytes:
    """The body of a row."""
    count = len(entries)
    return struct.pack(f">QI{count}I", first_zxid, count, *map(len, entries)) + b"".join(entries)


def unpack_batch(first_zxid: int, last_zxid: int, crc: int, body: bytes) -> list[bytes]:
    """The entries of a row.

    Raises:
        DamagedError: it is not what was written.
    """
    if crc32(body) != crc:
        raise DamagedError(f"the log record of {first_zxid:#x} has a wrong checksum")
    first, count = _head.unpack_from(body)
    if first != first_zxid or first + count - 1 != last_zxid:
        raise DamagedError(f"the log record of {first_zxid:#x} is out of place")
    lengths = struct.unpack_from(f">{count}I", body, _head.size)
    entries = []
    at = _head.size + 4 * count
    for length in lengths:
        entries.append(body[at : at + length])
        at += length
    return entries


def chained(entries: Iterable[bytes], chain: int) -> int:
    """The chain after these entries."""
    for entry in entries:
        chain = crc32(entry, chain)
    return chain


def pair_crc(key: bytes, value: bytes) -> int:
    """The checksum of a pair of the state."""
    return crc32(value, crc32(key, len(key)))
