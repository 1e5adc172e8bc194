"""Storage on RocksDB in processes that are killed, lose power, or sit on a disk that fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from corekit_storage_rocks.storage import RocksStorage

from corekit.errors import EXIT_DISK
from corekit.testing.disk_faults import DiskFaults, build
from corekit.testing.storage_crash import FAILED, CrashTest

ROCKS = "corekit_storage_rocks.storage:RocksStorage"
POWER_CUTS = 12
WORK_SECONDS = 0.2


class ForgetfulStorage(RocksStorage):
    """Says that it synced, and did not: what the power cut must find."""

    def sync(self) -> None:
        journal = self._database._journal
        with self._database._gate:
            frame, at, _ = journal.take()
            os.pwrite(journal._fd, frame, at)


def flushing_storage(path: Path) -> RocksStorage:
    """Begins a segment and flushes its memtables all the time, so that a crash meets flushes and compactions."""
    return RocksStorage(path, segment_bytes=30_000)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip("needs a C compiler")
    return library


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def faults(library: Path, tmp_path: Path, path: Path) -> DiskFaults:
    path.mkdir()
    return DiskFaults(library, tmp_path / "faults", below=path)


def cut_power_once(test: CrashTest, faults: DiskFaults, rng: Random) -> int:
    """A round; returns the bytes that were lost."""
    faults.start_journal()
    environment = faults.environment({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    child = test.start(rng.randrange(1 << 30), environment)
    test.listen(child, rng.random() * WORK_SECONDS)
    test.kill(child)
    return faults.cut_power()


@pytest.mark.parametrize("factory", [ROCKS, f"{__name__}:{flushing_storage.__name__}"])
def test_power_cuts(path: Path, faults: DiskFaults, factory: str) -> None:
    test = CrashTest(factory, path)
    rng = Random(11)
    lost = 0
    for _ in range(POWER_CUTS):
        lost += cut_power_once(test, faults, rng)
        test.look()
    assert test.operations > POWER_CUTS
    assert lost > 0, "nothing was ever lost: the power cut does nothing"


def test_power_cuts_find_a_missing_sync(path: Path, faults: DiskFaults) -> None:
    test = CrashTest(f"{__name__}:{ForgetfulStorage.__name__}", path)
    rng = Random(12)

    def rounds() -> None:
        for _ in range(POWER_CUTS):
            cut_power_once(test, faults, rng)
            test.look()

    with pytest.raises(AssertionError, match="no prefix"):
        rounds()


@pytest.mark.parametrize(
    "plan",
    [
        {"fsync_errno": errno.EIO},
        {"write_errno": errno.ENOSPC},
        {"write_errno": errno.ENOSPC, "short_write": True},
        {"write_errno": errno.EIO},
        {"fsync_errno": errno.ENOSPC},
    ],
    ids=str,
)
def test_a_failing_disk_ends_it_and_loses_nothing(path: Path, faults: DiskFaults, plan: dict[str, Any]) -> None:
    test = CrashTest(ROCKS, path)
    rng = Random(13)
    for _ in range(3):
        child = test.start(rng.randrange(1 << 30), faults.environment())
        test.listen(child, rng.random() * WORK_SECONDS)
        faults.set(**plan)
        status = test.finish(child)
        assert status == EXIT_DISK
        assert FAILED in test.output.split()
        faults.set()
        test.look()


def test_a_disk_that_fails_while_it_is_opened(path: Path, faults: DiskFaults) -> None:
    test = CrashTest(ROCKS, path)
    child = test.start(1, faults.environment())
    test.listen(child, WORK_SECONDS)
    test.kill(child)
    plans: tuple[dict[str, Any], ...] = ({"fsync_errno": errno.EIO}, {"write_errno": errno.ENOSPC})
    for plan in plans:
        faults.set(**plan)
        program = (
            "import sys, pathlib; from corekit_storage_rocks.storage import RocksStorage\n"
            "from corekit.errors import CorekitError\n"
            "try: RocksStorage(pathlib.Path(sys.argv[1])).open()\n"
            "except CorekitError as error: sys.exit(f'{type(error).__name__}: {error}')"
        )
        result = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env=faults.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 1
        assert "Error: " in result.stderr
        assert "Traceback" not in result.stderr
        faults.set()
    test.look()


_STALL_PROGRAM = """
import sys, threading, time
from pathlib import Path
from corekit_storage_rocks.storage import RocksStorage

storage = RocksStorage(Path(sys.argv[1]))
storage.open()
durable = staged = syncs = held_up = 0
stop = False

def work():
    global durable, syncs
    while not stop:
        covered = staged
        storage.sync()
        syncs += covered > durable
        durable = covered

def stage(function, *arguments):
    global held_up
    before = syncs
    function(*arguments)
    held_up += syncs != before  # it ended only after a sync had

worker = threading.Thread(target=work)
worker.start()
pairs = [(b"/app/node%d" % n, b"v" * 230) for n in range(2000)]
while syncs < 5:
    if staged - durable >= 1000:
        time.sleep(0.001)
        continue
    stage(storage.append, staged + 1, [b"x" * 200] * 20, staged + 20)
    staged += 20
    if staged % 1000 == 0:
        stage(storage.write_state, staged, pairs, [])
stop = True
worker.join()
print(staged, held_up)
"""


def test_a_slow_disk_does_not_hold_up_the_event_loop(path: Path, faults: DiskFaults) -> None:
    faults.set(fsync_delay_ms=300)
    command = [sys.executable, "-c", _STALL_PROGRAM, str(path)]
    result = subprocess.run(
        command, env=faults.environment(), stdout=subprocess.PIPE, text=True, timeout=120, check=True
    )
    staged, held_up = map(int, result.stdout.split())
    assert staged >= 3000  # there was something to stage during most of the five syncs
    assert held_up < 3, "staging waited for the disk"


def children() -> set[str]:
    """Processes that this one started (servers shared by other modules among them)."""
    return {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


@pytest.fixture(autouse=True)
def no_child_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = children()
    yield
    assert not children() - before, "a child process is still there"
