"""When the disk worker starts a sync, and what it tells of one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from corekit.server.disk import DiskWorker


class Disk:
    """A storage that syncs in the background, and is done when the test says so."""

    def __init__(self) -> None:
        self.started = 0
        self.done = False

    def start_sync(self, wake: int) -> bool:
        self.started += 1
        self.done = False
        return True

    def finish_sync(self) -> float | None:
        return 0.001 if self.done else None


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


def worker(disk: Disk, wake: int) -> DiskWorker:
    def failed(error: BaseException) -> None:
        raise error

    return DiskWorker(disk, wake, failed, time.perf_counter, 1.0)  # type: ignore[arg-type]  # only what a sync asks for


def test_a_sync_starts_at_once_and_takes_all_that_waits_meanwhile(wake: int) -> None:
    disk, told = Disk(), []
    disks = worker(disk, wake)
    disks.sync(lambda: told.append("first"))
    assert disk.started == 1
    disks.sync(lambda: told.append("second"))
    disks.sync(lambda: told.append("third"))
    assert disk.started == 1
    disk.done = True
    disks.completed()
    assert (disk.started, told) == (2, ["first"])
    disk.done = True
    disks.completed()
    assert (disk.started, told) == (2, ["first", "second", "third"])


def test_what_is_held_starts_when_it_is_released(wake: int) -> None:
    disk, told = Disk(), []
    disks = worker(disk, wake)
    disks.hold()
    disks.sync(lambda: told.append("held"))
    disks.sync(lambda: told.append("too"))
    assert disk.started == 0
    disks.release()
    assert disk.started == 1
    disk.done = True
    disks.completed()
    assert told == ["held", "too"]
    disks.release()
    assert disk.started == 1  # nothing waits
    disks.sync(lambda: None)
    assert disk.started == 2  # nothing is held any more


def test_what_is_held_does_not_wait_for_the_release_when_a_sync_ends(wake: int) -> None:
    disk, told = Disk(), []
    disks = worker(disk, wake)
    disks.sync(lambda: told.append("first"))
    disks.hold()
    disks.sync(lambda: told.append("held"))
    disk.done = True
    disks.completed()
    assert (disk.started, told) == (2, ["first"])
    disks.release()
    assert disk.started == 2
