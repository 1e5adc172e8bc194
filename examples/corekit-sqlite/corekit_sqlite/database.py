"""The database: its tables, what writes to it, what reads from it.

Rules
- One `Writer`, used by the disk worker only: every `sync` is one transaction, and committing one syncs the write-ahead
  log (`synchronous=FULL`). Whoever reads has a connection of its own, which cannot write; in WAL mode a reader sees one
  moment and never waits for the writer.
- As few statements as possible: Python's interpreter lock is given up and taken again around each of them, and beside a
  busy event loop that is what costs. So many pairs go into one INSERT, and all entries of a sync into one row.
- Triggers keep count and sum of the state's checksums, so that a pair that is missing is noticed as well.

Not here: what the event loop sees before it is written (`storage.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from corekit.errors import DamagedError
from corekit_sqlite.records import Meta, chained, pack_batch, pair_crc, sealed, unpack_batch, unpack_meta, unsealed

_ROW_BYTES = 256 * 1024  # a row of the log is not made larger by further entries
_PAIRS = 256  # of one INSERT
_WAL_KEPT_BYTES = 16 * 1024 * 1024  # the file is cut down to this after a large transaction

_PRAGMAS = """\
PRAGMA cell_size_check=ON;
PRAGMA mmap_size=0;
"""
_WRITER_PRAGMAS = f"""\
PRAGMA synchronous=FULL;
PRAGMA secure_delete=OFF;
PRAGMA journal_size_limit={_WAL_KEPT_BYTES};
"""
_TABLES = """\
CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, chain INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE tally (pairs INTEGER NOT NULL, total INTEGER NOT NULL);
INSERT INTO tally VALUES (0, 0);
"""
_STATE = (
    "CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TRIGGER pair_added AFTER INSERT ON state BEGIN"
    " UPDATE tally SET pairs = pairs + 1, total = total + NEW.crc; END",
    "CREATE TRIGGER pair_changed AFTER UPDATE ON state BEGIN UPDATE tally SET total = total + NEW.crc - OLD.crc; END",
    "CREATE TRIGGER pair_removed AFTER DELETE ON state BEGIN"
    " UPDATE tally SET pairs = pairs - 1, total = total - OLD.crc; END",
)
_UPSERT = "INSERT INTO state VALUES {} ON CONFLICT (key) DO UPDATE SET value = excluded.value, crc = excluded.crc"

Pairs = Sequence[tuple[bytes, bytes]]


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection for any thread, one at a time; transactions are begun and ended by hand. Raises sqlite3.Error."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.executescript(_PRAGMAS)
        if not read_only:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise sqlite3.OperationalError(f"the file system is not fit for a write-ahead log (mode {mode})")
            connection.executescript(_WRITER_PRAGMAS)
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(slots=True)
class Contents:
    """What a database holds.

    Attributes:
        last_zxid, chain: where the log ends.
        damage: what was noted about it.
        log_bytes: in the rows of the log.
    """

    meta: Meta
    last_zxid: int = 0
    chain: int = 0
    damage: str | None = None
    log_bytes: int = 0


class Writer:
    """The only writer. `apply` carries out staged calls, in one transaction; they are methods of this class."""

    def __init__(self, path: Path, contents: Contents | None) -> None:
        """Open; without `contents` the tables are made. Raises sqlite3.Error."""
        self._db = connect(path, read_only=False)
        self._run: list[bytes] = []
        self._run_first = self._run_bytes = 0
        self.meta = contents.meta if contents is not None else Meta()
        self._written = self.meta if contents is not None else None
        self.end, self.chain = (contents.last_zxid, contents.chain) if contents is not None else (0, 0)
        self.log_bytes = contents.log_bytes if contents is not None else 0
        try:
            if contents is None:
                self.apply([Writer._create])
        except BaseException:
            self._db.close()
            raise

    def _create(self) -> None:
        for statement in (*_TABLES.split(";\n")[:-1], *_STATE):
            self._db.execute(statement)

    def apply(self, calls: Sequence[Callable[[Writer], None]]) -> None:
        """All of them, or none; durable when this returns.

        Raises:
            sqlite3.Error: the database must not be written to any more.
        """
        self._db.execute("BEGIN IMMEDIATE")
        for call in calls:
            call(self)
        self._end_run()
        if self.meta != self._written:
            self._note("meta", self.meta.pack())
            self._written = self.meta
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Raises sqlite3.Error."""
        self._db.close()

    def _note(self, name: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    # ---------------------------------------------------------------------------------------------- log
    def append(self, first_zxid: int, entries: Sequence[bytes]) -> None:
        """Entries with consecutive zxids; written together with those that follow at once."""
        if self._run and (first_zxid != self._run_first + len(self._run) or self._run_bytes >= _ROW_BYTES):
            self._end_run()
        if not self._run:
            self._run_first = first_zxid
        self._run.extend(entries)
        self._run_bytes += sum(map(len, entries))

    def _end_run(self) -> None:
        if self._run:
            entries, self._run, self._run_bytes = self._run, [], 0
            self._put_row(self._run_first, entries)

    def _put_row(self, first_zxid: int, entries: Sequence[bytes]) -> None:
        body = pack_batch(first_zxid, entries)
        self.end, self.chain = first_zxid + len(entries) - 1, chained(entries, self.chain)
        row = (first_zxid, self.end, self.chain, crc32(body), body)
        self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
        self.log_bytes += len(body)

    def _row_of(self, zxid: int) -> tuple[int, int, int, list[bytes]] | None:
        """(first, last, chain before, entries) of the row with this entry, or of the one before."""
        rows = self._db.execute(
            "SELECT first, last, chain, crc, body FROM log WHERE first <= ? ORDER BY first DESC LIMIT 2", (zxid,)
        ).fetchall()
        if not rows:
            return None
        first, last, _, crc, body = rows[0]
        before = rows[1][2] if len(rows) > 1 else self.meta.purged_chain
        return first, last, before, unpack_batch(first, last, crc, body)

    def _delete_rows(self, which: str, zxid: int) -> None:
        gone = self._db.execute(f"SELECT total(length(body)) FROM log WHERE {which}", (zxid,)).fetchone()[0]
        self._db.execute(f"DELETE FROM log WHERE {which}", (zxid,))
        self.log_bytes -= int(gone)

    def truncate(self, zxid: int) -> None:
        """Remove the entries above; a row that is cut through is written anew, shorter."""
        self._end_run()
        row = self._row_of(zxid)
        if row is None:
            self._delete_rows("first > ?", zxid)
            self.end, self.chain = self.meta.purged_zxid, self.meta.purged_chain
        else:
            first, _, self.chain, entries = row
            self._delete_rows("first >= ?", first)
            self._put_row(first, entries[: zxid - first + 1])
        self.meta = replace(self.meta, cuts=self.meta.cuts + 1, cut_zxid=self.end)

    def end_up_to(self, zxid: int) -> int:
        """The largest zxid of an entry up to this one, or 0. Raises sqlite3.Error."""
        return _end_up_to(self._db, zxid)

    def purge(self, zxid: int) -> None:
        """Remove the entries up to this one; a row that is cut through is written anew, shorter."""
        self._end_run()
        row = self._row_of(zxid)
        if row is None:
            return
        first, _, chain, entries = row
        cut = zxid - first + 1
        self._delete_rows("first <= ?", zxid)
        self.meta = replace(self.meta, purged_zxid=zxid, purged_chain=chained(entries[:cut], chain))
        if left := entries[cut:]:
            end, self.chain, last = self.end, self.meta.purged_chain, self.chain
            self._put_row(zxid + 1, left)
            self.end, self.chain = end, last

    def save_epochs(self, accepted: int, current: int) -> None:
        """Both."""
        self.meta = replace(self.meta, accepted=accepted, current=current)

    def note_damage(self, damage: str | None) -> None:
        """What `Recovery.damage` says from now on."""
        if damage is None:
            self._db.execute("DELETE FROM note WHERE name = 'damage'")
        else:
            self._note("damage", sealed(damage.encode()))

    # -------------------------------------------------------------------------------------------- state
    def write_state(self, zxid: int, puts: Pairs, deletes: Sequence[bytes]) -> None:
        """One step."""
        self.put_pairs(puts)
        for at in range(0, len(deletes), _PAIRS):
            keys = deletes[at : at + _PAIRS]
            self._db.execute(f"DELETE FROM state WHERE key IN ({', '.join('?' * len(keys))})", keys)
        self.meta = replace(self.meta, state_zxid=zxid)

    def put_pairs(self, pairs: Pairs) -> None:
        """Many at once."""
        for at in range(0, len(pairs), _PAIRS):
            some = pairs[at : at + _PAIRS]
            values = [part for key, value in some for part in (key, value, pair_crc(key, value))]
            self._db.execute(_UPSERT.format(", ".join(["(?, ?, ?)"] * len(some))), values)

    def replace_state(self, zxid: int, chunks: Sequence[Pairs]) -> None:
        """A new state in the place of state and log."""
        self._run, self._run_bytes = [], 0
        self._db.execute("DROP TABLE state")
        for statement in _STATE:
            self._db.execute(statement)
        self._db.execute("UPDATE tally SET pairs = 0, total = 0")
        for chunk in chunks:
            self.put_pairs(chunk)
        self._db.execute("DELETE FROM log")
        self.end, self.chain, self.log_bytes = zxid, 0, 0
        cuts = self.meta.cuts + 1
        self.meta = replace(self.meta, cuts=cuts, cut_zxid=zxid, purged_zxid=zxid, purged_chain=0, state_zxid=zxid)

    def settle_damage(self, damage: str, accepted: int, current: int, cuts: int) -> None:
        """What is there counts from now on, and `damage` is known."""
        meta = self.meta
        self.meta = replace(
            meta,
            accepted=max(meta.accepted, accepted),
            current=max(meta.current, current),
            cuts=max(meta.cuts, cuts) + 1,
            cut_zxid=self.end,
        )
        self.note_damage(damage)


# ------------------------------------------------------------------------------------------------ reading
def examine(path: Path) -> Contents:
    """Read the bookkeeping and verify the tail of the log, without changing a file.

    Raises:
        DamagedError: nothing in it may be used.
    """
    folder = path.parent
    before = set(folder.iterdir())
    try:
        with closing(connect(path, read_only=True)) as db:
            db.execute("BEGIN")
            return _examine(db)
    except (sqlite3.Error, DamagedError) as error:
        raise DamagedError(f"{path} cannot be used: {error}") from error
    finally:
        for made in set(folder.iterdir()) - before:  # SQLite's own helpers: they hold nothing
            made.unlink()


def _examine(db: sqlite3.Connection) -> Contents:
    notes = dict(db.execute("SELECT name, value FROM note"))
    if "meta" not in notes:
        raise DamagedError("the bookkeeping is missing")
    meta = unpack_meta(notes["meta"])
    if meta.purged_zxid > meta.state_zxid:
        raise DamagedError(f"the state ends at {meta.state_zxid:#x} but the log starts after {meta.purged_zxid:#x}")
    last_zxid, chain = meta.purged_zxid, meta.purged_chain
    for row in _verified_rows(db, meta, meta.state_zxid):
        _, last_zxid, chain, _ = row
    if last_zxid < meta.state_zxid:
        raise DamagedError(f"the log ends at {last_zxid:#x}, below the state ({meta.state_zxid:#x})")
    damage = unsealed(notes["damage"], "a note of damage").decode() if "damage" in notes else None
    log_bytes = int(db.execute("SELECT total(length(body)) FROM log").fetchone()[0])
    return Contents(meta, last_zxid, chain, damage, log_bytes)


def _verified_rows(db: sqlite3.Connection, meta: Meta, after_zxid: int) -> Iterator[tuple[int, int, int, list[bytes]]]:
    """(first, last, chain, entries) of the rows from the one that holds `after_zxid` on. Raises `DamagedError`."""
    query = "SELECT {} FROM log WHERE first {} ? ORDER BY first {} LIMIT {}"
    row = db.execute(query.format("first", "<=", "DESC", 1), (after_zxid,)).fetchone()
    start = row[0] if row is not None else 0
    before = db.execute(query.format("last, chain", "<", "DESC", 1), (start,)).fetchone()
    end, chain_before = before or (meta.purged_zxid, meta.purged_chain)
    for first, last, chain, crc, body in db.execute(query.format("*", ">=", "", -1), (start,)):
        if first <= end:
            raise DamagedError(f"the log record of {first:#x} overlaps the one before it")
        entries = unpack_batch(first, last, crc, body)
        if chained(entries, chain_before) != chain:
            raise DamagedError(f"the hash chain is broken at the log record of {first:#x}: one before it is missing")
        yield first, last, chain, entries
        end, chain_before = last, chain


def _end_up_to(db: sqlite3.Connection, zxid: int) -> int:
    row = db.execute("SELECT last FROM log WHERE first <= ? ORDER BY first DESC LIMIT 1", (zxid,)).fetchone()
    return 0 if row is None else min(zxid, int(row[0]))


def chain_at(path: Path, meta: Meta, zxid: int) -> int | None:
    """The chain at `zxid` if a row ends there or the log starts there, or None. Raises sqlite3.Error."""
    if zxid == meta.purged_zxid:
        return meta.purged_chain
    with closing(connect(path, read_only=True)) as db:
        row = db.execute("SELECT chain FROM log WHERE first <= ? AND last = ?", (zxid, zxid)).fetchone()
    return None if row is None else row[0]


class LogReader:
    """Reads the log beside the writer."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, read_only=True)

    def first_after(self, zxid: int) -> int:
        """The smallest zxid of an entry above this one, or 0. Raises sqlite3.Error."""
        row = self._db.execute("SELECT first FROM log WHERE last > ? ORDER BY first LIMIT 1", (zxid,)).fetchone()
        return 0 if row is None else max(zxid + 1, int(row[0]))

    def end_up_to(self, zxid: int) -> int:
        """The largest zxid of an entry up to this one, or 0. Raises sqlite3.Error."""
        return _end_up_to(self._db, zxid)

    def read(self, after_zxid: int, upto_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Entries between, up to about `max_bytes`.

        Raises:
            LookupError: some of them have been purged.
            DamagedError: what is there is not what was written.
        """
        try:
            self._db.execute("BEGIN")
            try:
                return self._read(after_zxid, upto_zxid, max_bytes)
            finally:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise DamagedError(f"the log cannot be read: {error}") from error

    def _read(self, after_zxid: int, upto_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        meta = unpack_meta(self._db.execute("SELECT value FROM note WHERE name = 'meta'").fetchone()[0])
        if after_zxid < meta.purged_zxid:
            raise LookupError(f"the log starts after {meta.purged_zxid:#x}, above {after_zxid:#x}")
        found: list[tuple[int, bytes]] = []
        size = 0
        for first, last, _, entries in _verified_rows(self._db, meta, after_zxid + 1):
            for zxid in range(max(first, after_zxid + 1), min(last, upto_zxid) + 1):
                entry = entries[zxid - first]
                found.append((zxid, entry))
                size += len(entry)
                if size >= max_bytes:
                    return found
            if last >= upto_zxid:
                return found
        raise DamagedError(f"the log ends at {found[-1][0] if found else 0:#x}, not at {upto_zxid:#x}")

    def close(self) -> None:
        """Raises sqlite3.Error."""
        self._db.close()


def read_pairs(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The state in key order, as it is when the first pair is asked for. Raises `DamagedError`."""
    try:
        with closing(connect(path, read_only=True)) as db:
            db.execute("BEGIN")
            due = db.execute("SELECT pairs, total FROM tally").fetchone()
            pairs = total = 0
            for key, value, crc in db.execute("SELECT key, value, crc FROM state ORDER BY key"):
                if crc != pair_crc(key, value):
                    raise DamagedError(f"the state is damaged at {key!r}")
                pairs += 1
                total += crc
                yield key, value
            if due != (pairs, total):
                raise DamagedError(f"the state has lost pairs: {pairs} are left of {due[0]}")
    except sqlite3.Error as error:
        raise DamagedError(f"the state cannot be read: {error}") from error
