"""RocksDB as the storage uses it: options, two column families, the journal before it, iteration that hides no errors.

Rules
- `put` and `write` touch memory only: the memtable and what the journal will write next. `sync` writes the journal.
  rocksdict holds the interpreter lock in `put` and `write`, so one that waited for the disk would stop the server.
- `_gate` keeps RocksDB and the journal in the same order. When a segment is full, `sync` holds it while it syncs the
  rest and starts a new memtable in both families: a table never has what the journal does not, and both families end
  at the same moment. `JOURNAL_KEY` in each says at the start of which segment. When both are in tables, the segments
  before it are free.
- Replaying operations that a table has already is harmless: all of them are replayed to the end, in order.
- `items()`, `keys()` and `values()` end without an error at a damaged block. `scan` asks for the status at the end, and
  `reading.read_pairs` ends with it.
- The memtables are large, because a write that has to wait for a memtable waits with the interpreter lock held. For the
  same reason RocksDB's own slow-downs of writes are switched off.
- The log has a column family of its own: its records arrive in key order, so that compaction can move its files
  instead of rewriting them, and the state's files are rewritten only when the state changes.

Not here: what the records mean (`records.py`, `storage.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    Snapshot,
    WriteBatch,
    WriteOptions,
)

from corekit.errors import DamagedError
from corekit_storage_rocks.floor import sync_directory
from corekit_storage_rocks.journal import DELETE, DELETE_RANGE, PUT, SEGMENT_BYTES, Journal, operation, operations
from corekit_storage_rocks.records import JOURNAL_KEY, STATE_JOURNAL_KEY

MEMTABLE_BYTES = 128 * 1024 * 1024  # more than a segment brings: a switch inside a write would stall it
_REPLAY_BYTES = 1024 * 1024  # written to RocksDB at a time
_READAHEAD_BYTES = 2 * 1024 * 1024

LOG, STATE = 0, 1  # the families, as the journal names them


class Batch:
    """Operations that become durable together, or not at all."""

    def __init__(self, database: Database) -> None:
        self.rocks = WriteBatch(raw_mode=True)
        self.operations: list[bytes] = []
        self._handles = database.handles

    def put(self, key: bytes, value: bytes, family: int = LOG) -> None:
        """Set a key."""
        self.rocks.put(key, value, self._handles[family])
        self.operations.append(operation(PUT, family, key, value))

    def put_all(self, prefix: bytes, pairs: Iterable[tuple[bytes, bytes]], family: int) -> None:
        """Set many keys, each behind `prefix`."""
        put, append, handle = self.rocks.put, self.operations.append, self._handles[family]
        for key, value in pairs:
            key = prefix + key
            put(key, value, handle)
            append(operation(PUT, family, key, value))

    def delete(self, key: bytes, family: int = LOG) -> None:
        """Remove a key; it need not be there."""
        self.rocks.delete(key, self._handles[family])
        self.operations.append(operation(DELETE, family, key, b""))

    def delete_range(self, start: bytes, end: bytes, family: int = LOG) -> None:
        """Remove start <= key < end."""
        self.rocks.delete_range(start, end, self._handles[family])
        self.operations.append(operation(DELETE_RANGE, family, start, end))


class Database:
    """An open RocksDB with the column families `log` and `state`, and its journal."""

    __deletable__ = ("handles", "_put", "_write")  # for mypyc: `close` lets go of what holds the database

    def __init__(
        self, path: Path, journal: Path, *, up_to_damage: bool = False, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Open, and create if `path` holds nothing.

        Args:
            up_to_damage: accept a journal that is damaged in the middle, up to the damage (for `salvage`).
            segment_bytes: of the journal, after which the memtables go to tables.

        Raises:
            DamagedError: RocksDB refuses what is there, the journal does, or files are missing.
        """
        names = set(os.listdir(path)) if path.exists() else set()
        if names and "CURRENT" not in names:
            raise DamagedError(f"{path / 'CURRENT'} is missing")
        log_options, state_options = _options(), _options()
        try:
            log = Rdict(str(path), log_options, column_families={"default": log_options, "state": state_options})
        except Exception as error:  # rocksdict raises plain Exception for every status
            raise DamagedError(f"{path} cannot be opened: {error}") from error
        self.path = path
        self._gate = threading.Lock()
        self._log: Rdict | None = log
        self._state: Rdict | None = log.get_column_family("state")
        self.handles = (log.get_column_family_handle("default"), log.get_column_family_handle("state"))
        unjournaled = WriteOptions()
        unjournaled.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, not what the stub says
        log.set_write_options(unjournaled)
        self.state.set_write_options(unjournaled)
        self._put = log.put
        self._write = log.write
        self._journal = Journal(journal, segment_bytes)
        self._recovered = False
        try:
            self._recover(journal, up_to_damage)
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> Rdict:
        assert self._log is not None, "closed"
        return self._log

    @property
    def state(self) -> Rdict:
        assert self._state is not None, "closed"
        return self._state

    def _recover(self, folder: Path, up_to_damage: bool) -> None:
        journal = self._journal
        marks = [self.log.get(JOURNAL_KEY), self.state.get(STATE_JOURNAL_KEY)]
        known = [mark for mark in marks if mark is not None]
        if not known:  # new, probably
            folder.mkdir(exist_ok=True)
            for parent in {folder.parent, self.path.parent}:
                sync_directory(parent)
        journal.find(min(known) if len(known) == len(marks) else None, up_to_damage=up_to_damage)
        batch, size = WriteBatch(raw_mode=True), 0
        for body in journal.replay():
            for kind, family, key, value in operations(body):
                handle = self.handles[family]
                if kind == PUT:
                    batch.put(key, value, handle)
                elif kind == DELETE:
                    batch.delete(key, handle)
                else:
                    batch.delete_range(key, value, handle)
            size += len(body)
            if size > _REPLAY_BYTES:
                self._write(batch)
                batch, size = WriteBatch(raw_mode=True), 0
        self._write(batch)
        journal.begin()
        if journal.has_old:
            self._new_memtables()
        self._recovered = True

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a record of the log."""
        data = operation(PUT, LOG, key, value)
        with self._gate:
            self._put(key, value)
            self._journal.add(data)

    def write(self, batch: Batch) -> None:
        """Stage a batch."""
        data = b"".join(batch.operations)
        with self._gate:
            self._write(batch.rocks)
            self._journal.add(data)

    def start_sync(self, wake: int) -> bool:
        """Begin to make every write so far durable, if that needs no work of this thread; see `Journal.start`."""
        with self._gate:
            return self._journal.start(wake)

    def finish_sync(self) -> float | None:
        """See `Journal.finish`. Raises OSError."""
        return self._journal.finish()

    def sync(self) -> None:
        """Make every write so far durable."""
        journal = self._journal
        journal.wait()
        with self._gate:
            frame, at, durable = journal.take()
        journal.write(frame, at, durable)
        if journal.full:
            journal.prepare()
            with self._gate:
                journal.write(*journal.take())
                journal.switch()
                self._new_memtables()
        elif journal.has_old and self._in_tables():
            journal.free()

    def _new_memtables(self) -> None:
        """What has been written so far, to earlier segments, goes to tables in the background."""
        mark = self._journal.mark
        self._put(JOURNAL_KEY, mark)
        self.state.put(STATE_JOURNAL_KEY, mark)
        self.log.flush(False)
        self.state.flush(False)

    def _in_tables(self) -> bool:
        families = (self.log, self.state)
        return not any(family.property_int_value("rocksdb.num-immutable-mem-table") for family in families)

    def close(self) -> None:
        """Write everything to tables and close. RocksDB is closed only when every reference is gone.

        Errors are passed over: what was synced is durable, and what could not be written is known from `sync`.
        """
        try:
            self._empty_journal()
        except Exception:
            pass
        log, state = self._log, self._state
        self._log = self._state = None
        for family in (state, log):
            try:
                if family is not None:
                    family.close()
            except Exception:
                pass
        self._journal.close()
        del self.handles, self._put, self._write

    def _empty_journal(self) -> None:
        """So that the next start has nothing to replay."""
        journal = self._journal
        if not self._recovered or not (journal.used or journal.has_old):
            return
        journal.wait()
        with self._gate:
            journal.write(*journal.take())
            journal.prepare()
            journal.switch()
            self._new_memtables()
        self.log.flush(True)
        self.state.flush(True)
        journal.free()


def read_options(end: bytes) -> ReadOptions:
    """For an iteration up to, and without, `end`."""
    options = ReadOptions()
    options.set_readahead_size(_READAHEAD_BYTES)
    options.set_iterate_upper_bound(end)
    return options


def scan(family: Rdict | Snapshot, start: bytes, end: bytes, skip: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Pairs with start <= key < end, as they are now; the first `skip` bytes of the keys are left out.

    Raises:
        DamagedError: a table could not be read or its checksum is wrong.
    """
    iterator = family.iter(read_options(end))
    iterator.seek(start)
    valid, key, value, advance = iterator.valid, iterator.key, iterator.value, iterator.next
    while valid():
        yield key()[skip:], value()
        advance()
    check_status(iterator)


def check_status(iterator: RdictIter) -> None:
    """Raises `DamagedError` if an iterator ended because of an error."""
    try:
        iterator.status()
    except Exception as error:
        raise DamagedError(f"a table of the database cannot be read: {error}") from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_write_buffer_number(6)
    options.set_max_background_jobs(2)
    options.set_bytes_per_sync(1 << 20)
    options.set_compression_type(DBCompressionType.none())
    options.set_level_zero_slowdown_writes_trigger(1000)
    options.set_level_zero_stop_writes_trigger(2000)
    options.set_soft_pending_compaction_bytes_limit(0)
    options.set_hard_pending_compaction_bytes_limit(0)
    options.set_keep_log_file_num(3)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    table = BlockBasedOptions()
    table.set_block_size(16 * 1024)
    table.set_block_cache(Cache(8 * 1024 * 1024))
    options.set_block_based_table_factory(table)
    return options
