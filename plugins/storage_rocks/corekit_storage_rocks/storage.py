"""`RocksStorage`: log, epochs and state of one server in one RocksDB (contract: `corekit.api.Storage`).

Rules
- Every staging call is one write to the database, all of them go through one journal, so they become durable in
  their order and each as a whole. None of them is synced here; `sync` is.
- Anything RocksDB or the floor file refuses makes the storage fail for ever: after a failed write or fsync nobody
  knows what is durable, and trying again would only hide it.
- The event loop and the worker thread meet in three attributes. `_end` and `_meta` are replaced, never changed.
  A cut sets `_end` before `_meta` and `sync` reads them in the opposite order, so it never pairs a new count of
  cuts with an old end. `_lock` is for the read-modify-write of `_meta`, which `purge` does in the worker.

Not here: byte layouts (`records.py`), what recovery checks (`recovery.py`), RocksDB (`database.py`), the journal
(`journal.py`).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from corekit.api import DiskUsage, Recovery
from corekit.errors import DamagedError, StorageError
from corekit_storage_rocks.database import STATE, Batch, Database, scan
from corekit_storage_rocks.directory import DataDirectory
from corekit_storage_rocks.floor import Floor, FloorFile
from corekit_storage_rocks.journal import SEGMENT_BYTES, journal_bytes
from corekit_storage_rocks.reading import LogReader, chain_before, read_pairs, record_before
from corekit_storage_rocks.records import (
    DAMAGE_KEY,
    LOG_END,
    LOG_META_KEY,
    LOG_PREFIX,
    STATE_META_KEY,
    LogMeta,
    batch_chain,
    generation_prefix,
    key_zxid,
    log_key,
    pack_batch,
    pack_state_meta,
    unpack_batch,
)
from corekit_storage_rocks.recovery import Contents, examine, judge

FLOOR_SECONDS = 5.0  # between two synced writes of the floor record
USAGE_SECONDS = 2.0  # age of the figures that `usage` may return
WAY_OUT = (
    "Nothing is served from it and nothing was changed: restore a backup, "
    "or see what can be saved with `python -m corekit_storage_rocks check {}`"
)
_GENERATIONS_END = b"\xff\xff\xff\xff"


class RocksStorage:
    """Storage on RocksDB in `data_dir`; with `log_dir` its journal is there (ZooKeeper's `dataLogDir`)."""

    def __init__(self, data_dir: Path, *, log_dir: Path | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._segment_bytes = segment_bytes
        self._directory = DataDirectory(data_dir, log_dir)
        self._lock = threading.Lock()
        self._opened = False
        self._end = (0, 0)
        self._started = (LogMeta(), (0, 0), 0)
        self._put: Callable[[bytes, bytes], None] = _refuse_put
        self._stopped: str | None = "the storage is not open"
        self._usage = DiskUsage()
        self._usage_at = float("-inf")

    # ------------------------------------------------------------------------------------ open and close
    def open(self, *, set_aside: bool = False) -> Recovery:
        directory = self._directory
        directory.claim()
        try:
            try:
                return self._open()
            except DamagedError as error:
                reason = str(error)
                if not set_aside:
                    raise DamagedError(f"{reason}. {WAY_OUT.format(directory.path)}") from error
            aside = directory.set_aside()
            if aside.exists():
                reason += f"; the database was set aside as {aside}"
            return self._open(damage=reason)
        except OSError as error:
            directory.release()
            raise StorageError(f"cannot open {directory.path}: {error}") from error
        except BaseException:
            directory.release()
            raise

    def _open(self, damage: str | None = None) -> Recovery:
        """`damage`: the old database was set aside for this reason; begin a new one that says so."""
        path = self._directory.database
        if damage is None and (noted := self._directory.noted_damage()) is not None:
            raise DamagedError(f"{path}: {noted}")
        floor, problem = self._open_floor()
        known = floor is None or floor.value != Floor()
        database = None
        try:
            if not path.exists():
                if known and damage is None:
                    raise DamagedError(f"{path} is missing")
            elif not known and not (path / "CURRENT").exists():
                _remove_unborn(path, self._directory.journal)
            database = Database(path, self._directory.journal, segment_bytes=self._segment_bytes)
            contents = examine(database)
            if contents is None and known and damage is None:
                raise DamagedError(
                    f"{path} is empty: a file of {self._directory.journal} or of the database is missing or cut short"
                )
            return self._begin(database, floor, contents, damage or problem)
        except BaseException:
            if database is not None:
                database.close()
            if floor is not None:
                floor.close()
            raise

    def _open_floor(self) -> tuple[FloorFile | None, str | None]:
        """The floor record, or why there is none although there should be."""
        path = self._directory.floor
        try:
            return FloorFile(path, create=not path.exists() and not self._directory.database.exists()), None
        except FileNotFoundError:
            return None, f"{path} is missing, so that it is not known whether the log is complete"
        except ValueError as error:
            return None, f"{path} is damaged ({error}), so that it is not known whether the log is complete"

    def _begin(
        self, database: Database, floor: FloorFile | None, contents: Contents | None, damage: str | None
    ) -> Recovery:
        fresh = contents is None and damage is None
        bar = floor.value if floor is not None else Floor()
        if contents is None:
            contents = Contents(LogMeta(), 1, 0, 0, 0)
        elif damage is None:
            damage = judge(database, contents, bar)
        meta = contents.meta
        batch = Batch(database)
        if damage is not None:
            # From here on the note in the database carries the damage, and the floor follows what is there.
            meta = replace(
                meta,
                cuts=max(meta.cuts, bar.cuts) + 1,
                cut_zxid=contents.last_zxid,
                accepted=max(meta.accepted, bar.accepted),
                current=max(meta.current, bar.current),
            )
            batch.put(DAMAGE_KEY, damage.encode())
        else:
            note = database.log.get(DAMAGE_KEY)
            damage = note.decode() if note is not None else None
        batch.put(LOG_META_KEY, meta.pack())
        batch.put(STATE_META_KEY, pack_state_meta(contents.generation, contents.state_zxid), STATE)
        _drop_other_generations(batch, database, contents.generation)
        database.write(batch)
        database.sync()  # before a new floor record could hide a damage
        self._floor = floor or FloorFile(self._directory.floor, create=True)
        self._database = database
        self._meta = meta
        self._end = (contents.last_zxid, contents.chain)
        self._generation = contents.generation
        self._prefix = generation_prefix(contents.generation)
        self._state_zxid = self._durable_state = contents.state_zxid
        self._staging: bytes | None = None
        self._floor_at = self._usage_at = float("-inf")
        self._put = database.put
        self._stopped = None
        self._opened = True
        self.sync()
        return Recovery(meta.accepted, meta.current, contents.state_zxid, contents.last_zxid, fresh, damage)

    def close(self) -> None:
        if not self._opened:
            return
        try:
            if self._stopped is None:
                self._floor_at = float("-inf")
                self.sync()
        finally:
            self._stopped = self._stopped or "the storage is closed"
            self._opened = False
            self._put = _refuse_put
            self._database.close()
            self._floor.close()
            self._directory.release()

    def _check(self) -> None:
        if self._stopped is not None:
            raise StorageError(self._stopped)

    def _fail(self, doing: str, error: BaseException) -> StorageError:
        """Remember the first failure: nothing is accepted after it."""
        if self._stopped is None:
            self._stopped = f"{doing} {self._directory.path} failed: {error}"
            self._put = _refuse_put
        return StorageError(self._stopped)

    # --------------------------------------------------------------------------------------------- stage
    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        end, chain = self._end
        if first_zxid <= end or last_zxid - first_zxid + 1 != len(entries) or not entries:
            raise ValueError(f"{len(entries)} entries {first_zxid:#x}-{last_zxid:#x} do not follow {end:#x}")
        value, chain = pack_batch(entries, chain)
        try:
            self._put(log_key(first_zxid), value)
        except Exception as error:
            raise self._fail("writing to", error) from error
        self._end = (last_zxid, chain)

    def save_epochs(self, accepted: int, current: int) -> None:
        with self._lock:
            self._write_meta(replace(self._meta, accepted=accepted, current=current), Batch(self._database))

    def clear_damage(self) -> None:
        batch = Batch(self._database)
        batch.delete(DAMAGE_KEY)
        self._write(batch)

    def truncate(self, zxid: int) -> None:
        self._check()
        with self._lock:
            if zxid >= self._end[0]:
                return
            if zxid < self._state_zxid:
                raise LookupError(f"the state is at {self._state_zxid:#x}, above {zxid:#x}")
            batch = Batch(self._database)
            batch.delete_range(log_key(zxid + 1), LOG_END)
            end = (self._meta.purged_zxid, self._meta.purged_chain)
            record = record_before(self._database, zxid)
            if record is not None:
                first, value = record
                count, chain = batch_chain(value)
                end = (first + count - 1, chain)
                if end[0] > zxid:
                    end = (zxid, self._shorten(batch, first, value, zxid - first + 1))
            self._write_meta(replace(self._meta, cuts=self._meta.cuts + 1, cut_zxid=end[0]), batch, end)

    def _shorten(self, batch: Batch, first: int, value: bytes, keep: int) -> int:
        """Rewrite a record with its first `keep` entries only; returns the chain after it."""
        chain = chain_before(self._database, self._meta, first)
        entries, _ = unpack_batch(value, chain)
        shorter, chain = pack_batch(entries[:keep], chain)
        batch.put(log_key(first), shorter)
        return chain

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        if not self._state_zxid <= zxid <= self._end[0]:
            raise ValueError(f"a state of {zxid:#x} is not between {self._state_zxid:#x} and {self._end[0]:#x}")
        batch = Batch(self._database)
        batch.put_all(self._prefix, puts, STATE)
        for key in deletes:
            batch.delete(self._prefix + key, STATE)
        batch.put(STATE_META_KEY, pack_state_meta(self._generation, zxid), STATE)
        self._write(batch)
        self._state_zxid = zxid

    def begin_state(self) -> None:
        batch = Batch(self._database)
        if self._staging is not None:
            batch.delete_range(self._staging, generation_prefix(self._generation + 2), STATE)
        self._write(batch)
        self._staging = generation_prefix(self._generation + 1)

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        if self._staging is None:
            raise ValueError("stage_state without begin_state")
        batch = Batch(self._database)
        batch.put_all(self._staging, puts, STATE)
        self._write(batch)

    def commit_state(self, zxid: int) -> None:
        if self._staging is None:
            raise ValueError("commit_state without begin_state")
        generation = self._generation + 1
        batch = Batch(self._database)
        batch.put(STATE_META_KEY, pack_state_meta(generation, zxid), STATE)
        batch.delete_range(self._prefix, self._staging, STATE)
        batch.delete_range(LOG_PREFIX, LOG_END)
        with self._lock:
            meta = replace(
                self._meta,
                cuts=self._meta.cuts + 1,
                cut_zxid=zxid,
                purged_zxid=zxid,
                purged_chain=0,
                generation=generation,
            )
            self._write_meta(meta, batch, (zxid, 0))
        self._generation = generation
        self._prefix = self._staging
        self._staging = None
        self._state_zxid = zxid

    def _write(self, batch: Batch) -> None:
        self._check()
        try:
            self._database.write(batch)
        except Exception as error:
            raise self._fail("writing to", error) from error

    def _write_meta(self, meta: LogMeta, batch: Batch, end: tuple[int, int] | None = None) -> None:
        """Write a batch that also changes the bookkeeping of the log. The lock is held."""
        batch.put(LOG_META_KEY, meta.pack())
        self._write(batch)
        if end is not None:
            self._end = end
        self._meta = meta

    # ---------------------------------------------------------------------------------------------- sync
    def sync(self) -> None:
        self._check()
        meta = self._meta  # before the end: see the rules above
        end = self._end
        state_zxid = self._state_zxid
        try:
            self._database.sync()
            self._raise_floor(meta, end)
        except Exception as error:
            raise self._fail("syncing", error) from error
        self._durable_state = state_zxid

    def start_sync(self, wake: int) -> bool:
        meta = self._meta  # before the end: see the rules above
        if self._stopped is not None or self._must_settle(meta) or not self._database.start_sync(wake):
            return False
        self._started = (meta, self._end, self._state_zxid)
        return True

    def finish_sync(self) -> float | None:
        try:
            took = self._database.finish_sync()
        except OSError as error:
            raise self._fail("syncing", error) from error
        if took is not None:
            meta, end, self._durable_state = self._started
            self._floor.note(_floor_of(meta, end))
        return took

    def _must_settle(self, meta: LogMeta) -> bool:
        """Whether the floor record has to be synced after the log."""
        old = self._floor.value
        changed = (meta.cuts, meta.current, meta.accepted) != (old.cuts, old.current, old.accepted)
        return changed or time.monotonic() - self._floor_at >= FLOOR_SECONDS

    def _raise_floor(self, meta: LogMeta, end: tuple[int, int]) -> None:
        """Write down what has just become durable."""
        if self._must_settle(meta):
            self._floor.settle(_floor_of(meta, end))
            self._floor_at = time.monotonic()
        else:
            self._floor.note(_floor_of(meta, end))

    # ---------------------------------------------------------------------------------------------- read
    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._check()
        if after_zxid >= self._end[0]:
            return []
        try:
            with self._lock:
                if after_zxid < self._meta.purged_zxid:
                    raise LookupError(f"the log starts after {self._meta.purged_zxid:#x}, above {after_zxid:#x}")
                reader = LogReader(self._database, self._meta, after_zxid, self._end[0])
            return reader.take(max_bytes)
        except DamagedError as error:
            self._directory.note_damage(str(error))
            raise

    def read_state(self) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        return self._noting_damage(read_pairs(self._database, self._generation))

    def _noting_damage(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from pairs
        except DamagedError as error:
            self._directory.note_damage(str(error))
            raise

    def first_zxid(self) -> int:
        self._check()
        for key, _ in scan(self._database.log, LOG_PREFIX, LOG_END):
            return key_zxid(key)
        return 0

    def purge(self, upto_zxid: int) -> None:
        self._check()
        with self._lock:
            limit = min(upto_zxid, self._durable_state, self._state_zxid)
            record = record_before(self._database, limit)
            if record is not None and record[0] + batch_chain(record[1])[0] - 1 > limit:
                record = record_before(self._database, record[0] - 1)  # keep a record that is needed in part
            if record is None:
                return
            first, value = record
            count, chain = batch_chain(value)
            meta = replace(self._meta, purged_zxid=first + count - 1, purged_chain=chain)
            batch = Batch(self._database)
            batch.delete_range(LOG_PREFIX, log_key(first + 1))
            self._write_meta(meta, batch)

    def usage(self) -> DiskUsage:
        now = time.monotonic()
        if now - self._usage_at >= USAGE_SECONDS:
            self._check()
            self._usage = self._measure()
            self._usage_at = now
        return self._usage

    def _measure(self) -> DiskUsage:
        directory, database = self._directory, self._database
        log_bytes = database.log.property_int_value("rocksdb.total-sst-files-size") or 0
        log_bytes += journal_bytes(directory.journal)
        state_bytes = database.state.property_int_value("rocksdb.total-sst-files-size") or 0
        paths = [directory.path] if directory.log_path is None else [directory.path, directory.log_path]
        free = min(stat.f_bavail * stat.f_frsize for stat in map(os.statvfs, paths))
        return DiskUsage(log_bytes, state_bytes, free)


def _floor_of(meta: LogMeta, end: tuple[int, int]) -> Floor:
    return Floor(end[0], end[1], meta.accepted, meta.current, meta.cuts)


def _refuse_put(key: bytes, value: bytes) -> None:
    """Stands in for the database's `put` after a failure and before `open`."""
    raise StorageError("the storage has failed or is closed")


def _drop_other_generations(batch: Batch, database: Database, generation: int) -> None:
    """Remove what a staging that was not finished left behind."""
    here, above = generation_prefix(generation), generation_prefix(generation + 1)
    for start, end in ((generation_prefix(1), here), (above, _GENERATIONS_END)):
        if next(scan(database.state, start, end), None) is not None:
            batch.delete_range(start, end, STATE)


def _remove_unborn(path: Path, journal: Path) -> None:
    """Remove a database whose creation was interrupted: the floor says that nothing was ever written to it."""
    shutil.rmtree(path)
    if journal.exists():
        shutil.rmtree(journal)
