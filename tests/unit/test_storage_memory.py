"""The storage in memory: the conformance suite, and what only the twin can do."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from corekit.api import DiskUsage, Recovery, Storage
from corekit.builtin.memory import MemoryStorage
from corekit.errors import StorageError
from corekit.testing.storage import StorageSuite


class TestMemory(StorageSuite):
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


def filled() -> MemoryStorage:
    storage = MemoryStorage()
    storage.open()
    storage.append(1, [b"a"], 1)
    storage.sync()
    for zxid in range(2, 12):
        storage.append(zxid, [b"b"], zxid)
    return storage


def test_the_same_seed_gives_the_same_crash() -> None:
    lengths = set()
    for seed in range(30):
        survivors = []
        for _ in range(2):
            storage = filled()
            assert storage.unsynced == 10
            storage.crash(Random(seed))
            with pytest.raises(StorageError, match="crashed"):
                storage.append(12, [b"c"], 12)
            survivors.append(storage.open().last_zxid)
        assert survivors[0] == survivors[1]
        lengths.add(survivors[0])
    assert {1, 11} < lengths, "neither losing all nor losing nothing came up"


def test_a_sync_covers_what_was_staged_before_it_only() -> None:
    storage = filled()

    def meanwhile() -> None:
        storage.append(12, [b"late"], 12)

    storage.on_sync = meanwhile
    storage.sync()
    assert storage.unsynced == 1


def test_a_failing_sync_makes_nothing_durable() -> None:
    storage = filled()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    storage.on_sync = fail
    with pytest.raises(StorageError, match="Input/output error"):
        storage.sync()
    storage.on_sync = None
    with pytest.raises(StorageError):
        storage.sync()
    assert storage.unsynced == 10


def test_a_crash_in_the_middle_of_a_sync() -> None:
    storage = filled()
    storage.on_sync = lambda: storage.crash(Random(3))
    with pytest.raises(StorageError, match="crashed"):
        storage.sync()
    storage.on_sync = None
    assert storage.open().last_zxid in range(1, 12)


def test_losing_more_than_the_log_loses_the_state() -> None:
    storage = filled()
    storage.write_state(6, [(b"/a", b"1")], [])
    storage.close()
    storage.lose_above(5)
    recovery = storage.open()
    assert (recovery.state_zxid, recovery.last_zxid) == (0, 0)
    assert recovery.damage is not None
    assert list(storage.read_state()) == []


def test_free_space_is_a_knob() -> None:
    storage = MemoryStorage()
    assert storage.open() == Recovery()
    assert storage.usage() == DiskUsage()
    storage.free_bytes = 17
    assert storage.usage().free_bytes == 17
