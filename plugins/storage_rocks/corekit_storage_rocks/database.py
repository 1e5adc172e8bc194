"""RocksDB as the storage uses it: options, two column families, iteration that does not hide errors.

Rules
- `put` and `write` touch memory only (`manual_wal_flush`): rocksdict holds the interpreter lock during them, so a
  synced one, or even a plain `write` system call, would stop the whole server while the disk is busy. `sync`
  (flush_wal) writes and syncs what has collected, and releases that lock meanwhile.
- Nothing is iterated with `items()`, `keys()` or `values()`: they end without an error at a damaged block. `scan`
  asks for the status at the end.
- The memtables are large and flushed in time in the background, because a write that has to wait for a memtable
  waits with the interpreter lock held. For the same reason RocksDB's own slow-downs of writes are switched off.
- The log has a column family of its own: its records arrive in key order, so that compaction can move its files
  instead of rewriting them, and the state's files are rewritten only when the state changes.
- WAL recovery is `tolerate_corrupted_tail_records`: the default mode drops everything after a flipped bit silently.

Not here: what the records mean (`records.py`, `storage.py`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
)

from corekit.errors import DamagedError

MEMTABLE_BYTES = 64 * 1024 * 1024
FLUSH_BYTES = 16 * 1024 * 1024  # flush long before a memtable is full: a switch inside a write would stall it
WAL_BUFFER_BYTES = 16 * 1024 * 1024  # above this a write goes to the file at once
LOG_FLUSHES_PER_STATE_FLUSH = 8  # bounds the write-ahead log that recovery has to replay
_PAIR_OVERHEAD_BYTES = 80  # of a key in the memtable, roughly
_READAHEAD_BYTES = 2 * 1024 * 1024
_STATE = "state"


class Database:
    """An open RocksDB with the column families `log` and `state`."""

    def __init__(self, path: Path, wal: Path | None, *, point_in_time: bool = False) -> None:
        """Open, and create if `path` holds nothing.

        `point_in_time`: accept a write-ahead log that is damaged in the middle, up to the damage (for `salvage`).

        Raises:
            DamagedError: RocksDB refuses what is there, or files that it would silently do without are missing.
        """
        names = set(os.listdir(path)) if path.exists() else set()
        if names and "CURRENT" not in names:
            raise DamagedError(f"{path / 'CURRENT'} is missing")
        if wal is not None:
            wal.mkdir(exist_ok=True)
        mode = DBRecoveryMode.point_in_time() if point_in_time else DBRecoveryMode.tolerate_corrupted_tail_records()
        log_options, state_options = _options(mode, wal), _options(mode, wal)
        try:
            log = Rdict(str(path), log_options, column_families={"default": log_options, _STATE: state_options})
        except Exception as error:  # rocksdict raises plain Exception for every status
            logs = sorted(name for name in os.listdir(wal or path) if name.endswith(".log"))
            hint = "" if str(path) in str(error) else f" (its write-ahead log is {', '.join(logs) or 'missing'})"
            raise DamagedError(f"{path} cannot be opened: {error}{hint}") from error
        self.path = path
        self._log: Rdict | None = log
        self._state: Rdict | None = log.get_column_family(_STATE)
        self.state_handle = log.get_column_family_handle(_STATE)
        self.put = log.put  # of a log record; unsynced
        self.write = log.write  # of a WriteBatch; unsynced
        self._flush_wal = log.flush_wal
        self.log_bytes = 0  # in the log's memtable, about
        self.state_bytes = 0
        self._log_flushes = 0

    @property
    def log(self) -> Rdict:
        assert self._log is not None, "closed"
        return self._log

    @property
    def state(self) -> Rdict:
        assert self._state is not None, "closed"
        return self._state

    def sync(self) -> None:
        """Make every write so far durable; then start a flush in the background if a memtable has grown."""
        self._flush_wal(True)
        if self.log_bytes >= FLUSH_BYTES:
            self.log_bytes = 0
            self._log_flushes += 1
            self.log.flush(False)
        if self.state_bytes >= FLUSH_BYTES or self._log_flushes >= LOG_FLUSHES_PER_STATE_FLUSH:
            self.state_bytes = self._log_flushes = 0
            self.state.flush(False)

    def note_state_pairs(self, batch: WriteBatch) -> None:
        """Count a batch of the state towards the next flush."""
        self.state_bytes += batch.size_in_bytes() + _PAIR_OVERHEAD_BYTES * len(batch)

    def close(self) -> None:
        """Flush and close. RocksDB is closed only when every reference is gone.

        Errors are passed over: what was synced is durable, and what could not be written is known from `sync`.
        """
        log, state = self._log, self._state
        self._log = self._state = None
        del self.state_handle, self.put, self.write, self._flush_wal
        for family in (state, log):
            try:
                if family is not None:
                    family.close()
            except Exception:
                pass


def scan(family: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs with start <= key < end, as they are now.

    Raises:
        DamagedError: a table could not be read or its checksum is wrong.
    """
    options = ReadOptions()
    options.set_readahead_size(_READAHEAD_BYTES)
    options.set_iterate_upper_bound(end)
    iterator = family.iter(options)
    iterator.seek(start)
    valid, key, value, advance = iterator.valid, iterator.key, iterator.value, iterator.next
    while valid():
        yield key(), value()
        advance()
    check_status(iterator)


def check_status(iterator: RdictIter) -> None:
    """Raises `DamagedError` if an iterator ended because of an error."""
    try:
        iterator.status()
    except Exception as error:
        raise DamagedError(f"a table of the database cannot be read: {error}") from error


# What rocksdict has no setters for. RocksDB reads it from a file in its own format.
_OPTION_FILE = """\
[Version]
  rocksdb_version=9.0.0
  options_file_version=1.1
[DBOptions]
  manual_wal_flush=true
  track_and_verify_wals_in_manifest=true
[CFOptions "default"]
[TableOptions/BlockBasedTable "default"]
"""
_ROCKSDICT_FILE = '{"raw_mode":true,"prefix_extractors":{}}'


def _base_options() -> Options:
    with tempfile.TemporaryDirectory(prefix="corekit-") as folder:
        Path(folder, "OPTIONS-000001").write_text(_OPTION_FILE)
        Path(folder, "rocksdict-config.json").write_text(_ROCKSDICT_FILE)
        options, _ = Options.load_latest(folder)
    return options


def _options(mode: DBRecoveryMode, wal: Path | None) -> Options:
    options = _base_options()
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(mode)
    if wal is not None:
        options.set_wal_dir(str(wal))
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_write_buffer_number(6)
    options.set_writable_file_max_buffer_size(WAL_BUFFER_BYTES)
    options.set_max_total_wal_size(1 << 30)
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
