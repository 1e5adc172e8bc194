"""The storage in memory: the conformance suite, and what only the twin can do."""

from __future__ import annotations

from random import Random

import pytest

from corekit.api import DiskUsage, Recovery
from corekit.builtin.memory import MemoryStorage
from corekit.errors import StorageError
from corekit.testing.own.memory import TestMemory

__all__ = ["TestMemory"]


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
