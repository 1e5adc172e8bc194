"""What `corekit plugin test sqlite` and the tests run: the conformance suite of corekit."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from corekit.api import Storage
from corekit.testing.storage import StorageSuite
from corekit_sqlite.storage import SqliteStorage


class TestSqlite(StorageSuite):
    """What the server relies on."""

    factory = "corekit_sqlite.storage:SqliteStorage"

    def make_storage(self, path: Path) -> Storage:
        return SqliteStorage(path)

    def lose_end(self, storage: Storage, path: Path, zxid: int) -> None:
        with closing(sqlite3.connect(path / "db" / "corekit.sqlite")) as database, database:
            database.execute("DELETE FROM log WHERE first > ?", (zxid,))

    def break_disk(self, storage: Storage) -> None:
        """The write-ahead log becomes /dev/full: every write to it says that no space is left."""
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no /dev/full")
        full = os.open("/dev/full", os.O_WRONLY)
        broken = 0
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                name = os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:
                continue
            if name.endswith("/corekit.sqlite-wal"):
                os.dup2(full, fd)
                broken += 1
        os.close(full)
        assert broken
