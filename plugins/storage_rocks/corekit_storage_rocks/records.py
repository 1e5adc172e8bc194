"""Byte layouts of the log and of the two bookkeeping records, and the hash chain. Pure functions.

Rules
- One RocksDB record holds one appended batch. Its key is `L` + the first zxid, its value

      count u32 | chain u32 | count x length u32 | the entries, joined

  all big-endian. Zxids inside a batch are consecutive, so that the last one is first + count - 1.
- `chain` is the CRC-32 of all entries since the start of the log, up to and including this batch: CRC-32 of
  joined bytes can be carried on from one batch to the next, so the value does not depend on how the entries were
  cut into batches, and a record that is missing, altered or out of place breaks it. RocksDB's own checksums guard
  each record by itself; they do not see that one is missing.
- Bookkeeping that belongs to the log stands in the log's column family, that of the state in the state's: they
  are flushed to disk at different moments, and `generation` in both tells whether they belong together.

Not here: reading and writing (`storage.py`), the floor record (`floor.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from corekit.errors import DamagedError

LOG_PREFIX: Final = b"L"
LOG_END: Final = b"M"  # the first key after all log records
LOG_META_KEY: Final = b"N"
DAMAGE_KEY: Final = b"O"  # why the log once lost entries, until the server has fully synchronised from others
JOURNAL_KEY: Final = b"P"  # the first segment of the journal that is not in tables
STATE_JOURNAL_KEY: Final = b"\0\0\0\0J"  # the same of the state's family
STATE_META_KEY: Final = b"\0\0\0\0"  # generations start at 1, so this is before every pair of the state

_log_key: Final = struct.Struct(">cQ")
_head: Final = struct.Struct(">II")
_one: Final = struct.Struct(">III")
_log_meta: Final = struct.Struct(">BIIQIQQI")
_state_meta: Final = struct.Struct(">BIQ")
_META_VERSION: Final = 1


class DamagedRecord(DamagedError):
    """A record that does not have the form above, or breaks the chain."""


@dataclass(slots=True, frozen=True)
class LogMeta:
    """Bookkeeping of the log.

    Attributes:
        accepted, current: both epochs.
        purged_zxid, purged_chain: the log starts after this zxid; the chain's value there.
        cuts: how many truncations and state switches there have been.
        cut_zxid: where the log ended after the last of them.
        generation: of the state that the log continues.
    """

    accepted: int = 0
    current: int = 0
    purged_zxid: int = 0
    purged_chain: int = 0
    cuts: int = 0
    cut_zxid: int = 0
    generation: int = 1

    def pack(self) -> bytes:
        return _log_meta.pack(
            _META_VERSION,
            self.accepted,
            self.current,
            self.purged_zxid,
            self.purged_chain,
            self.cuts,
            self.cut_zxid,
            self.generation,
        )


def unpack_log_meta(value: bytes) -> LogMeta:
    """Raises `DamagedRecord`."""
    if len(value) != _log_meta.size or value[0] != _META_VERSION:
        raise DamagedRecord("the log's bookkeeping record has an unknown form")
    return LogMeta(*_log_meta.unpack(value)[1:])


def pack_state_meta(generation: int, zxid: int) -> bytes:
    """The bookkeeping record of the state."""
    return _state_meta.pack(_META_VERSION, generation, zxid)


def unpack_state_meta(value: bytes) -> tuple[int, int]:
    """(generation, state zxid). Raises `DamagedRecord`."""
    if len(value) != _state_meta.size or value[0] != _META_VERSION:
        raise DamagedRecord("the state's bookkeeping record has an unknown form")
    _, generation, zxid = _state_meta.unpack(value)
    return generation, zxid


def generation_prefix(generation: int) -> bytes:
    """What stands before every key of a state of this generation."""
    return generation.to_bytes(4, "big")


def log_key(zxid: int) -> bytes:
    """The key of the batch that begins with this zxid."""
    return _log_key.pack(LOG_PREFIX, zxid)


def key_zxid(key: bytes) -> int:
    """The zxid in a key of the log."""
    return int.from_bytes(key[1:], "big")


def pack_batch(entries: Sequence[bytes], chain: int) -> tuple[bytes, int]:
    """The value for a batch that follows `chain`, and the chain after it. On the path of every write."""
    count = len(entries)
    if count == 1:
        entry = entries[0]
        chain = crc32(entry, chain)
        return _one.pack(1, chain, len(entry)) + entry, chain
    joined = b"".join(entries)
    chain = crc32(joined, chain)
    return struct.pack(f">II{count}I", count, chain, *map(len, entries)) + joined, chain


def batch_chain(value: bytes) -> tuple[int, int]:
    """(count, chain after the batch) without looking at the entries. Raises `DamagedRecord`."""
    if len(value) < _head.size:
        raise DamagedRecord("too short")
    count, chain = _head.unpack_from(value)
    return count, chain


def unpack_batch(value: bytes, chain: int | None) -> tuple[list[bytes], int]:
    """The entries and the chain after them. With `chain`, its value before the batch, the content is verified.

    Raises:
        DamagedRecord: wrong lengths, or the chain does not come out.
    """
    count, after = batch_chain(value)
    if count == 1:
        entry = value[_one.size :]
        if value[_head.size : _one.size] != len(entry).to_bytes(4, "big"):
            raise DamagedRecord("wrong length")
        if chain is not None and crc32(entry, chain) != after:
            raise DamagedRecord("the hash chain is broken")
        return [entry], after
    start = _head.size + 4 * count
    if count == 0 or len(value) < start:
        raise DamagedRecord("wrong count")
    lengths = struct.unpack_from(f">{count}I", value, _head.size)
    if start + sum(lengths) != len(value):
        raise DamagedRecord("wrong lengths")
    if chain is not None and crc32(memoryview(value)[start:], chain) != after:
        raise DamagedRecord("the hash chain is broken")
    entries = []
    for length in lengths:
        entries.append(value[start : start + length])
        start += length
    return entries, after
