"""Reading the log and the state back, with every check that what is read is what was written.

Not here: the checks of a whole database when it is opened (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from corekit.errors import DamagedError
from corekit_storage_rocks.database import Database, check_status, read_options, scan
from corekit_storage_rocks.records import (
    LOG_END,
    LOG_PREFIX,
    DamagedRecord,
    LogMeta,
    batch_chain,
    generation_prefix,
    key_zxid,
    log_key,
    unpack_batch,
)

_PAIRS_AT_A_TIME = 1000
_PREFIX_BYTES = len(generation_prefix(0))


def record_before(database: Database, zxid: int) -> tuple[int, bytes] | None:
    """(first zxid, value) of the last record that starts at or below `zxid`, or None. Raises `DamagedError`."""
    if zxid < 0:
        return None
    iterator = database.log.iter()
    iterator.seek_for_prev(log_key(zxid))
    if not iterator.valid():
        check_status(iterator)
        return None
    key = iterator.key()
    if not key.startswith(LOG_PREFIX):
        return None
    value: bytes = iterator.value()
    return key_zxid(key), value


def chain_before(database: Database, meta: LogMeta, first_zxid: int) -> int:
    """The chain before the record that starts at `first_zxid`."""
    record = record_before(database, first_zxid - 1)
    return meta.purged_chain if record is None else batch_chain(record[1])[1]


class LogReader:
    """Entries above a zxid, as they were when this was made; a purge meanwhile does not matter.

    Raises `DamagedError` when made and when drawn from, if a record is not what was written.
    """

    def __init__(self, database: Database, meta: LogMeta, after_zxid: int, end_zxid: int) -> None:
        self._after = after_zxid
        self._end = end_zxid
        record = record_before(database, after_zxid + 1)
        start = record[0] if record is not None else after_zxid + 1
        self._chain = chain_before(database, meta, start)
        self._records = scan(database.log, log_key(start), LOG_END)
        self._next = next(self._records, None)  # so that the iterator of RocksDB has its moment

    def take(self, max_bytes: int) -> list[tuple[int, bytes]]:
        """As `Storage.read_log`."""
        found: list[tuple[int, bytes]] = []
        size = 0
        while self._next is not None:
            zxid = key_zxid(self._next[0])
            try:
                entries, self._chain = unpack_batch(self._next[1], self._chain)
            except DamagedRecord as error:
                raise DamagedError(f"the log record of {zxid:#x}: {error}") from error
            for entry in entries:
                if zxid > self._after:
                    found.append((zxid, entry))
                    size += len(entry)
                    if size >= max_bytes:
                        return found
                zxid += 1
            self._next = next(self._records, None)
        if not found or found[-1][0] < self._end:
            raise DamagedError(f"the log ends at {found[-1][0] if found else 0:#x}, not at {self._end:#x}")
        return found


def read_pairs(database: Database, generation: int) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of the state in key order. Raises `DamagedError`.

    `items` takes one call for a pair instead of four, but ends without an error at a damaged block. What is behind
    the last pair, which is nothing or the damage, is looked at with `scan`, at the same moment of the database.
    """
    moment = database.state.snapshot()
    start, end = generation_prefix(generation), generation_prefix(generation + 1)
    # Its stub knows nothing of raw mode, in which keys and values are bytes.
    items: Iterator[tuple[bytes, bytes]] = moment.items(from_key=start, read_opt=read_options(end))  # type: ignore[assignment]
    while chunk := list(islice(items, _PAIRS_AT_A_TIME)):
        yield from [(key[_PREFIX_BYTES:], value) for key, value in chunk]
        start = chunk[-1][0] + b"\0"
    yield from scan(moment, start, end, _PREFIX_BYTES)
