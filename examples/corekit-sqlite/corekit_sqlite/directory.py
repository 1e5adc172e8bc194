"""The data directory: whose it is, in which format, and the lock on it.

Layout

    corekit.json   marker: product, storage, format
    lock           flock; holds the pid of the process that has it
    floor          the floor record (`floor.py`)
    db/            SQLite: `corekit.sqlite`, `corekit.sqlite-wal`, `corekit.sqlite-shm`
    db.damaged-N/  databases that were set aside
    damaged        why the database must not be used any more; written when a read finds what opening it did not

Rules: nothing is written before the directory is known to be ours or empty; files that ZooKeeper's tools put beside the
data (`myid` and the like) do not count as foreign.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

from corekit.errors import DataDirError
from corekit_sqlite.floor import sync_directory, write_durably

FORMAT = 1

_MARKER = "corekit.json"
_LOCK = "lock"
_TOLERATED = {
    "myid",
    "initialize",
    "lost+found",
    "zookeeper_server.pid",
    "zoo.cfg",
    "readonly",
    _LOCK,
    _MARKER + ".tmp",
}
_TOLERATED_STARTS = (".", "zoo.cfg.dynamic")


class DataDirectory:
    """A claimed and locked directory. Release with `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "db"
        self.database = self.folder / "corekit.sqlite"
        self.floor = path / "floor"
        self._damaged = path / "damaged"
        self._lock: int | None = None

    def claim(self) -> None:
        """Lock the directory and make it ours if it is empty.

        Raises:
            DataDirError: in use, foreign, of another format, or not writable.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / _MARKER).exists():
                _refuse_foreign(self.path)
            self._take_lock()
            self._check_marker()
            if not self.folder.exists():
                self.folder.mkdir()
                sync_directory(self.path)
        except OSError as error:
            self.release()
            raise DataDirError(
                f"cannot use {error.filename or self.path}: {error.strerror}; choose another --data-dir"
            ) from error
        except BaseException:
            self.release()
            raise

    def _take_lock(self) -> None:
        fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise DataDirError(
                f"{self.path} is in use by another server (process {holder}); stop it or choose another --data-dir"
            ) from None
        self._lock = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def _check_marker(self) -> None:
        path = self.path / _MARKER
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            marker = {"product": "corekit", "storage": "sqlite", "format": FORMAT}
            write_durably(path, json.dumps(marker).encode() + b"\n")
            return
        try:
            found = json.loads(text)
            owner, version = f"{found['product']}/{found['storage']}", int(found["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataDirError(
                f"{path} cannot be read; restore it from a backup, or choose another --data-dir"
            ) from error
        if owner != "corekit/sqlite":
            raise DataDirError(
                f"{self.path} belongs to {owner}, not to corekit/sqlite; "
                "choose the matching storage plugin or another --data-dir"
            )
        if version != FORMAT:
            raise DataDirError(
                f"{self.path} has format {version}, this corekit-sqlite reads format {FORMAT}; "
                "use the corekit-sqlite that wrote it or choose another --data-dir"
            )

    def clear(self) -> None:
        """Remove a database to which nothing was ever written, such as one whose creation was interrupted."""
        for file in self.folder.iterdir():
            file.unlink()
        sync_directory(self.folder)

    def set_aside(self) -> Path:
        """Move the database out of the way, so that a new one can be begun. Returns to where."""
        number = 1
        while (aside := self.path / f"db.damaged-{number}").exists():
            number += 1
        os.rename(self.folder, aside)
        self.folder.mkdir()
        sync_directory(self.path)
        self._damaged.unlink(missing_ok=True)
        return aside

    def note_damage(self, why: str) -> None:
        """Write down that the database is not to be opened again."""
        try:
            write_durably(self._damaged, why.encode() + b"\n")
        except OSError:
            pass  # the disk is failing altogether; the reader is told of the damage in any case

    def noted_damage(self) -> str | None:
        """What `note_damage` wrote, until the database is set aside."""
        try:
            return self._damaged.read_text("utf-8").strip() or "a read found damage"
        except FileNotFoundError:
            return None

    def free_bytes(self) -> int:
        """Left on the file system. Raises OSError."""
        return shutil.disk_usage(self.path).free

    def release(self) -> None:
        """Give up the lock. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _refuse_foreign(path: Path) -> None:
    if list((path / "version-2").glob("log.*")) or list((path / "version-2").glob("snapshot.*")):
        raise DataDirError(
            f"{path} holds the data of Apache ZooKeeper (version-2), which is left untouched; choose another --data-dir"
        )
    foreign = [
        name for name in sorted(os.listdir(path)) if name not in _TOLERATED and not name.startswith(_TOLERATED_STARTS)
    ]
    if foreign:
        raise DataDirError(
            f"{path} is not empty and not a corekit data directory (it holds {foreign[0]}); choose an empty --data-dir"
        )
