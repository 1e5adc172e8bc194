"""`SqliteStorage`: log, epochs and state of one server in one SQLite database (contract: `corekit.api.Storage`).

Rules
- The event loop writes nothing: a staged call is kept in memory, and `sync` carries all of them out in the disk worker,
  in one transaction. So they are durable in their order, and nobody on the event loop ever waits for the disk.
- `_recent` holds the entries that are not known to be in the database. The log is what the database holds up to
  `_written`, and then these. A cut on the event loop lowers `_written`; until it is carried out, the rows above it are
  there and not read.
- The first failure is for good: after a failed write or fsync nobody knows what is durable.
- `_lock` guards what both threads change; it is never held while something is written.

Not here: SQL (`database.py`), how a loss is noticed (`floor.py`).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from corekit.api import DiskUsage, Recovery
from corekit.errors import DamagedError, StorageError
from corekit_sqlite.database import Contents, LogReader, Pairs, Writer, chain_at, examine, read_pairs
from corekit_sqlite.directory import DataDirectory
from corekit_sqlite.floor import Floor, FloorFile, create_floor

FLOOR_SECONDS = 5.0  # between two synced writes of the floor record
USAGE_SECONDS = 2.0  # age of the figures that `usage` may return
_WAY_OUT = "Nothing is served from it and nothing was changed: restore a backup of the data directory"

_Recent = tuple[int, int, Sequence[bytes]]  # first zxid, last zxid, entries


class SqliteStorage:
    """Storage on SQLite in `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = DataDirectory(data_dir)
        self._lock = threading.Lock()
        self._opened = False
        self._stopped: str | None = "the storage is not open"
        self._calls: list[Callable[[Writer], None]] = []
        self._recent: list[_Recent] = []
        self._incoming: list[Pairs] | None = None
        self._usage = DiskUsage()

    # ------------------------------------------------------------------------------------ open and close
    def open(self, *, set_aside: bool = False) -> Recovery:
        directory = self._directory
        directory.claim()
        try:
            try:
                return self._open()
            except DamagedError as error:
                if not set_aside:
                    raise DamagedError(f"{error}. {_WAY_OUT}") from error
                reason = str(error)
            aside = directory.set_aside()
            return self._open(damage=f"{reason}; the database was set aside as {aside}")
        except (OSError, sqlite3.Error) as error:
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
        try:
            contents = None
            if floor is not None and floor.value == Floor():
                self._directory.clear()
            elif path.exists():
                contents = examine(path)
            elif damage is None:
                raise DamagedError(f"{path} is missing")
            return self._begin(floor, contents, damage or problem)
        except BaseException:
            if floor is not None:
                floor.close()
            raise

    def _open_floor(self) -> tuple[FloorFile | None, str | None]:
        """The floor record, or why there is none although there should be."""
        path = self._directory.floor
        if not path.exists() and not self._directory.database.exists():
            create_floor(path)
        try:
            return FloorFile(path), None
        except FileNotFoundError:
            return None, f"{path} is missing, so that it is not known whether the log is complete"
        except DamagedError as error:
            return None, f"{path} is damaged ({error}), so that it is not known whether the log is complete"

    def _begin(self, floor: FloorFile | None, contents: Contents | None, damage: str | None) -> Recovery:
        path = self._directory.database
        bar = floor.value if floor is not None else Floor()
        fresh = contents is None and damage is None
        if contents is not None:
            damage = damage or self._judge(contents, bar)
        writer = Writer(path, contents)
        try:
            if damage is not None:
                # From here on the note in the database carries the damage, and the floor follows what is there.
                told = damage
                writer.apply([lambda w: w.settle_damage(told, bar.accepted, bar.current, bar.cuts)])
            elif contents is not None:
                damage = contents.damage
            reader = LogReader(path)
        except BaseException:
            writer.close()
            raise
        if floor is None:
            self._directory.floor.unlink(missing_ok=True)
            create_floor(self._directory.floor)
            floor = FloorFile(self._directory.floor)
        meta = writer.meta
        self._writer, self._reader, self._floor = writer, reader, floor
        self._calls, self._recent, self._incoming = [], [], None
        self._last = self._written = writer.end
        self._purged = meta.purged_zxid
        self._state_zxid = self._durable_state = meta.state_zxid
        self._cuts = 0
        self._floor_at = self._usage_at = float("-inf")
        self._stopped = None
        self._opened = True
        self.sync()
        return Recovery(meta.accepted, meta.current, meta.state_zxid, writer.end, fresh, damage)

    def _judge(self, contents: Contents, floor: Floor) -> str | None:
        """Why the log may have lost acknowledged entries, or None. Raises `DamagedError`."""
        meta = contents.meta
        if floor.cuts > meta.cuts:
            return "a truncation of the log that was durable has been lost"
        if floor.accepted > meta.accepted or floor.current > meta.current:
            return (
                f"the epochs are {meta.accepted}/{meta.current}, below those that were durable "
                f"({floor.accepted}/{floor.current})"
            )
        must_reach = floor.zxid if floor.cuts == meta.cuts else meta.cut_zxid
        if contents.last_zxid < must_reach:
            return (
                f"the log ends at {contents.last_zxid:#x}, but entries up to {must_reach:#x} were durable: "
                "SQLite's write-ahead log is missing, was cut short, or is damaged"
            )
        if floor.cuts == meta.cuts and floor.zxid > meta.state_zxid:
            chain = chain_at(self._directory.database, meta, floor.zxid)
            if chain is not None and chain != floor.chain:
                raise DamagedError(f"the entry of {floor.zxid:#x} is not the one that was durable")
        return None

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
            for part in (self._reader, self._writer, self._floor):
                try:
                    part.close()
                except sqlite3.Error:
                    pass  # what was synced is durable, and what could not be written is known from `sync`
            self._directory.release()

    def _check(self) -> None:
        if self._stopped is not None:
            raise StorageError(self._stopped)

    # --------------------------------------------------------------------------------------------- stage
    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self._check()
        if first_zxid <= self._last or last_zxid - first_zxid + 1 != len(entries) or not entries:
            raise ValueError(f"{len(entries)} entries {first_zxid:#x}-{last_zxid:#x} do not follow {self._last:#x}")
        with self._lock:
            self._recent.append((first_zxid, last_zxid, entries))
            self._calls.append(lambda writer: writer.append(first_zxid, entries))
            self._last = last_zxid

    def save_epochs(self, accepted: int, current: int) -> None:
        self._stage(lambda writer: writer.save_epochs(accepted, current))

    def clear_damage(self) -> None:
        self._stage(lambda writer: writer.note_damage(None))

    def _stage(self, call: Callable[[Writer], None]) -> None:
        self._check()
        with self._lock:
            self._calls.append(call)

    def truncate(self, zxid: int) -> None:
        self._check()
        if zxid >= self._last:
            return
        if zxid < self._state_zxid:
            raise LookupError(f"the state is at {self._state_zxid:#x}, above {zxid:#x}")
        with self._lock:
            kept = [
                (first, min(last, zxid), entries[: zxid - first + 1])
                for first, last, entries in self._recent
                if first <= zxid
            ]
            if kept:
                end = kept[-1][1]
            else:
                end = max(self._purged, self._reader.end_up_to(min(zxid, self._written)))
                self._written = min(self._written, end)
            self._recent, self._last = kept, end
            self._cuts += 1
            self._calls.append(lambda writer: writer.truncate(zxid))

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        self._check()
        if not self._state_zxid <= zxid <= self._last:
            raise ValueError(f"a state of {zxid:#x} is not between {self._state_zxid:#x} and {self._last:#x}")
        pairs, keys = list(puts), list(deletes)
        self._stage(lambda writer: writer.write_state(zxid, pairs, keys))
        self._state_zxid = zxid

    def begin_state(self) -> None:
        self._check()
        self._incoming = []

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        self._check()
        if self._incoming is None:
            raise ValueError("stage_state without begin_state")
        self._incoming.append(list(puts))

    def commit_state(self, zxid: int) -> None:
        self._check()
        if self._incoming is None:
            raise ValueError("commit_state without begin_state")
        chunks, self._incoming = self._incoming, None
        with self._lock:
            self._calls.append(lambda writer: writer.replace_state(zxid, chunks))
            self._recent = []
            self._last = self._written = self._purged = self._state_zxid = zxid
            self._cuts += 1

    # ---------------------------------------------------------------------------------------------- sync
    def sync(self) -> None:
        self._check()
        self._durable_state = self._write_staged()

    def _write_staged(self) -> int:
        """Carry out what was staged; the zxid of the state that is durable now."""
        with self._lock:
            calls, self._calls = self._calls, []
            last, cuts, state_zxid = self._last, self._cuts, self._state_zxid
        try:
            if calls:
                self._writer.apply(calls)
            self._raise_floor()
        except Exception as error:  # a mistake in here leaves as little known as a failing disk
            if self._stopped is None:
                self._stopped = f"writing to {self._directory.path} failed: {error}"
            raise StorageError(self._stopped) from error
        with self._lock:
            if cuts == self._cuts:
                self._recent = [batch for batch in self._recent if batch[1] > last]
                self._written = last
        return state_zxid

    def _raise_floor(self) -> None:
        """Write down what has just become durable."""
        meta, old = self._writer.meta, self._floor.value
        floor = Floor(self._writer.end, self._writer.chain, meta.accepted, meta.current, meta.cuts)
        now = time.monotonic()
        kept = (floor.cuts, floor.accepted, floor.current) == (old.cuts, old.accepted, old.current)
        if kept and old != Floor() and now - self._floor_at < FLOOR_SECONDS:
            self._floor.note(floor)
        else:
            self._floor.settle(floor)
            self._floor_at = now

    # ---------------------------------------------------------------------------------------------- read
    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._check()
        with self._lock:
            if after_zxid >= self._last:
                return []
            if after_zxid < self._purged:
                raise LookupError(f"the log starts after {self._purged:#x}, above {after_zxid:#x}")
            written, recent = self._written, list(self._recent)
        found: list[tuple[int, bytes]] = []
        if after_zxid < written:
            try:
                found = self._reader.read(after_zxid, written, max_bytes)
            except DamagedError as error:
                self._directory.note_damage(str(error))
                raise
        size = sum(len(entry) for _, entry in found)
        for first, last, entries in recent:
            for zxid in range(max(first, after_zxid + 1), last + 1):
                if found and size >= max_bytes:
                    return found
                found.append((zxid, entries[zxid - first]))
                size += len(entries[zxid - first])
        return found

    def read_state(self) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        self._write_staged()
        return self._noting_damage(read_pairs(self._directory.database))

    def _noting_damage(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from pairs
        except DamagedError as error:
            self._directory.note_damage(str(error))
            raise

    def first_zxid(self) -> int:
        self._check()
        with self._lock:
            recent = self._recent[0][0] if self._recent else 0
            if self._written <= self._purged:
                return recent
        return self._reader.first_after(self._purged) or recent

    def purge(self, upto_zxid: int) -> None:
        """Carried out by the next `sync`."""
        self._check()
        with self._lock:
            limit = min(upto_zxid, self._durable_state, self._state_zxid, self._written)
            zxid = self._writer.end_up_to(limit)
            if zxid > self._purged:
                self._purged = zxid
                self._calls.append(lambda writer: writer.purge(zxid))

    def usage(self) -> DiskUsage:
        now = time.monotonic()
        if now - self._usage_at >= USAGE_SECONDS:
            self._check()
            self._usage = self._measure()
            self._usage_at = now
        return self._usage

    def _measure(self) -> DiskUsage:
        directory = self._directory
        rows = self._writer.log_bytes
        database = directory.database.stat().st_size
        wal = directory.database.with_name(directory.database.name + "-wal").stat().st_size
        return DiskUsage(rows + wal, max(0, database - rows), directory.free_bytes())
