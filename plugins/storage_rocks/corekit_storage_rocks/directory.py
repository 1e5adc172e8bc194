"""The data directory: whose it is, in which format, and the lock on it.

Layout

    corekit.json   marker: product, storage, format, a random id, whether the journal is elsewhere
    lock           flock; holds the pid of the process that has it
    floor          the floor record (`floor.py`)
    db/            RocksDB
    journal/       the journal (`journal.py`), unless there is a log directory
    db.damaged-N/, journal.damaged-N/  what was set aside
    damaged        why the database must not be used any more; written when a read finds what opening it did not

A log directory (ZooKeeper's `dataLogDir`) has a marker with the same id, a lock and `journal/`.

Rules: nothing is written before the directory is known to be ours or empty; names that ZooKeeper's own tools put
beside the data (`myid` and the like) do not count as foreign.

Not here: what is inside the database.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from corekit.errors import DataDirError
from corekit_storage_rocks.floor import sync_directory

FORMAT = 2
MARKER = "corekit.json"
LOCK = "lock"
FLOOR = "floor"
DATABASE = "db"
JOURNAL = "journal"
DAMAGED = "damaged"

_PRODUCT = "corekit"
_STORAGE = "rocks"
_TOLERATED = {"myid", "initialize", "lost+found", "zookeeper_server.pid", "zoo.cfg", "readonly", LOCK, MARKER + ".tmp"}
_TOLERATED_STARTS = (".", "zoo.cfg.dynamic")


class DataDirectory:
    """A claimed and locked directory, with its log directory if there is one. Release with `release`."""

    def __init__(self, data_dir: Path, log_dir: Path | None = None) -> None:
        self.path = data_dir
        self.database = data_dir / DATABASE
        self.floor = data_dir / FLOOR
        self.damaged = data_dir / DAMAGED
        separate = log_dir if log_dir is not None and log_dir.absolute() != data_dir.absolute() else None
        self.log_path = separate
        self.journal = (separate or data_dir) / JOURNAL
        self._locks: list[int] = []

    def claim(self) -> None:
        """Lock the directories and make them ours if they are empty.

        Raises:
            DataDirError: in use, foreign, of another format, not writable, or the two do not belong together.
        """
        try:
            self._lock(self.path)
            marker = _read_marker(self.path)
            if self.log_path is not None:
                self._lock(self.log_path)
            self._match(marker)
        except OSError as error:
            self.release()
            name = error.filename if error.filename is not None else self.path
            raise DataDirError(f"cannot use {name}: {error.strerror}; choose another --data-dir") from error
        except BaseException:
            self.release()
            raise

    def _lock(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / MARKER).exists():
            _refuse_foreign(path)
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise DataDirError(
                f"{path} is in use by another server (process {holder}); stop it or choose another --data-dir"
            ) from None
        self._locks.append(fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def _match(self, marker: dict[str, Any] | None) -> None:
        """Check that data and log directory belong together, and mark new ones."""
        log_path = self.log_path
        log_marker = _read_marker(log_path) if log_path is not None else None
        if marker is None:
            if log_marker is not None and self.journal.exists():
                raise DataDirError(
                    f"{log_path} is the log directory of another data directory than {self.path}; "
                    "choose an empty one, or the data directory that it belongs to"
                )
            marker = {"id": secrets.token_hex(8), "separate_log": log_path is not None}
            if log_path is not None:
                _write_marker(log_path, {**marker, "role": "log"})
            _write_marker(self.path, {**marker, "role": "data"})
        elif marker.get("role") != "data":
            raise DataDirError(f"{self.path} is a log directory, not a data directory; swap dataDir and dataLogDir")
        elif log_path is None:
            if marker["separate_log"]:
                raise DataDirError(f"the log of {self.path} is in a directory of its own; set dataLogDir to it")
        elif not marker["separate_log"]:
            raise DataDirError(f"the log of {self.path} is inside it; remove dataLogDir ({log_path})")
        elif log_marker is None or log_marker.get("id") != marker["id"]:
            raise DataDirError(f"{log_path} does not hold the log of {self.path}; set dataLogDir to the one that does")

    def set_aside(self) -> Path:
        """Move what there is of the database out of the way, so that a new one can be begun. Returns to where."""
        number = 1
        while (aside := _aside(self.database, number)).exists() or _aside(self.journal, number).exists():
            number += 1
        if self.journal.exists():
            os.rename(self.journal, _aside(self.journal, number))
            sync_directory(self.journal.parent)
        if self.database.exists():
            os.rename(self.database, aside)
        sync_directory(self.path)
        self.damaged.unlink(missing_ok=True)
        return aside

    def note_damage(self, why: str) -> None:
        """Write down that the database is not to be opened again."""
        try:
            self.damaged.write_text(why + "\n", encoding="utf-8")
            sync_directory(self.path)
        except OSError:
            pass  # the disk is failing altogether; the reader is told of the damage in any case

    def noted_damage(self) -> str | None:
        """What `note_damage` wrote, until the database is set aside."""
        try:
            return self.damaged.read_text(encoding="utf-8").strip() or "a read found damage"
        except FileNotFoundError:
            return None

    def release(self) -> None:
        """Give up the locks. Idempotent."""
        while self._locks:
            os.close(self._locks.pop())


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _refuse_foreign(path: Path) -> None:
    names = sorted(os.listdir(path))
    version_2 = path / "version-2"
    if version_2.is_dir() and any(name.startswith(("log.", "snapshot.")) for name in os.listdir(version_2)):
        raise DataDirError(
            f"{path} holds the data of Apache ZooKeeper (version-2), which is left untouched; choose another --data-dir"
        )
    foreign = [name for name in names if name not in _TOLERATED and not name.startswith(_TOLERATED_STARTS)]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise DataDirError(
            f"{path} is not empty and not a corekit data directory (it holds {foreign[0]}{more}); "
            "choose an empty --data-dir"
        )


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        marker: dict[str, Any] = json.loads((path / MARKER).read_text(encoding="utf-8"))
        product, storage, version = marker["product"], marker["storage"], int(marker["format"])
        marker["id"], marker["separate_log"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirError(
            f"{path / MARKER} cannot be read; restore it from a backup, or choose another --data-dir"
        ) from error
    if product != _PRODUCT or storage != _STORAGE:
        raise DataDirError(
            f"{path} belongs to {product}/{storage}, not to {_PRODUCT}/{_STORAGE}; "
            "choose the matching storage plugin or another --data-dir"
        )
    if version != FORMAT:
        raise DataDirError(
            f"{path} has format {version}, this corekit reads format {FORMAT}; "
            "use the corekit that wrote it or choose another --data-dir"
        )
    return marker


def _write_marker(path: Path, fields: dict[str, Any]) -> None:
    marker = {"product": _PRODUCT, "storage": _STORAGE, "format": FORMAT, **fields}
    temporary = path / (MARKER + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(marker, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path / MARKER)
    sync_directory(path)
