"""The storage in memory: the object is the disk, so a crash is a method and the same path is the same object."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from corekit.api import Storage
from corekit.builtin.memory import MemoryStorage
from corekit.testing.storage import StorageSuite


class TestMemory(StorageSuite):
    """What the server relies on."""

    @pytest.fixture(autouse=True)
    def disks(self) -> None:
        self._disks: dict[Path, MemoryStorage] = {}

    def make_storage(self, path: Path) -> Storage:
        return self._disks.setdefault(path, MemoryStorage())

    def crash(self, storage: Storage, path: Path, rng: Random) -> tuple[Storage, Path]:
        assert isinstance(storage, MemoryStorage)
        storage.crash(rng)
        return storage, path

    def lose_end(self, storage: Storage, path: Path, zxid: int) -> None:
        assert isinstance(storage, MemoryStorage)
        storage.lose_above(zxid)

    def break_disk(self, storage: Storage) -> None:
        assert isinstance(storage, MemoryStorage)
        storage.fail("no space left")
