"""What `StorageSuite` asks of its subclasses, and the fixtures of its tests.

Not here: the tests (`storage.py`, which also says how to use all this).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from corekit.api import Recovery, Storage
from corekit.testing.storage_model import entry_for, read_all

_QUIET_SECONDS = 20.0


def entries_of(first_zxid: int, last_zxid: int) -> list[bytes]:
    """The entries that belong to these zxids."""
    return [entry_for(zxid) for zxid in range(first_zxid, last_zxid + 1)]


def log_of(storage: Storage, after_zxid: int) -> list[int]:
    """Zxids above `after_zxid`, after checking that each has its own entry."""
    pairs = list(read_all(storage, after_zxid, 100_000))
    assert [entry for _, entry in pairs] == [entry_for(zxid) for zxid, _ in pairs]
    return [zxid for zxid, _ in pairs]


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file; a file that vanishes while one looks has the size -1."""
    found = []
    for file in sorted(path.rglob("*")):
        try:
            stat = file.stat()
        except FileNotFoundError:
            found.append((str(file), -1, 0))
        else:
            found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return found


class StorageHarness:
    """Override what your storage needs; only `make_storage` must be."""

    factory: ClassVar[str | None] = None
    exclusive: ClassVar[bool] = True  # a second `open` of the same path is refused while the first lives

    def make_storage(self, path: Path) -> Storage:
        """A storage on `path`, not open. The same path means the same data."""
        raise NotImplementedError

    def crash(self, storage: Storage, path: Path, rng: Random) -> tuple[Storage, Path]:
        """What a crash at this moment leaves, not open, and where it is. `storage` is not used any more.

        The default copies the files as they are, like a kill -9, when no background work changes them.
        """
        copy = path.with_name(f"{path.name.split('~')[0]}~{rng.randrange(1 << 30)}")
        deadline = time.monotonic() + _QUIET_SECONDS
        while True:
            before = _files(path)
            try:
                shutil.copytree(path, copy)
            except shutil.Error:  # a file vanished
                pass
            else:
                if _files(path) == before:
                    break
            shutil.rmtree(copy)
            assert time.monotonic() < deadline, f"the files in {path} do not stop changing"
        storage.close()
        shutil.rmtree(path)
        return self.make_storage(copy), copy

    def lose_end(self, storage: Storage, path: Path, zxid: int) -> None:
        """Destroy durable entries above `zxid` of a closed storage, if that can be done."""
        pytest.skip("lose_end is not overridden")

    def break_disk(self, storage: Storage) -> None:
        """Make every write and sync of an open storage fail from now on, if that can be done."""
        pytest.skip("break_disk is not overridden")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "data"

    @pytest.fixture
    def storage(self, path: Path) -> Iterator[Storage]:
        """Open and fresh."""
        storage = self.make_storage(path)
        assert storage.open() == Recovery(fresh=True)
        yield storage
        storage.close()

    def reopen(self, storage: Storage, path: Path) -> tuple[Storage, Recovery]:
        storage.close()
        again = self.make_storage(path)
        return again, again.open()
