"""Disks that fail, are slow, or lose power; and a server that is killed while it works."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from corekit_sqlite.database import Writer
from corekit_sqlite.storage import SqliteStorage

from corekit.client import Client, connect
from corekit.errors import EXIT_DISK, DamagedError
from corekit.testing.disk_faults import DiskFaults, build
from corekit.testing.process import ServerProcess
from corekit.testing.storage_crash import FAILED, CrashTest

SQLITE = "corekit_sqlite.storage:SqliteStorage"
POWER_CUTS = 10
WORK_SECONDS = 0.2
KILLS = 4


def forgetful(path: Path) -> SqliteStorage:
    """Says that it synced, and did not: what a power cut must find."""
    apply = Writer.apply

    def apply_without_sync(writer: Writer, calls: Any) -> None:
        writer._db.execute("PRAGMA synchronous=OFF")
        apply(writer, calls)

    Writer.apply = apply_without_sync  # type: ignore[method-assign]
    return SqliteStorage(path)


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


def test_power_cuts(path: Path, faults: DiskFaults) -> None:
    test = CrashTest(SQLITE, path)
    rng = Random(11)
    lost = 0
    for _ in range(POWER_CUTS):
        lost += cut_power_once(test, faults, rng)
        test.look()
    assert test.operations > POWER_CUTS
    assert lost > 0, "nothing was ever lost: the power cut does nothing"


def test_power_cuts_find_a_missing_sync(path: Path, faults: DiskFaults) -> None:
    test = CrashTest(f"{__name__}:{forgetful.__name__}", path)
    rng = Random(12)

    def rounds() -> None:
        for _ in range(POWER_CUTS):
            cut_power_once(test, faults, rng)
            test.look()

    with pytest.raises((AssertionError, DamagedError)):
        rounds()


@pytest.mark.parametrize(
    "plan",
    [
        {"fsync_errno": errno.EIO},
        {"write_errno": errno.ENOSPC},
        {"write_errno": errno.EIO},
        {"fsync_errno": errno.ENOSPC},
    ],
    ids=str,
)
def test_a_failing_disk_ends_it_and_loses_nothing(path: Path, faults: DiskFaults, plan: dict[str, Any]) -> None:
    test = CrashTest(SQLITE, path)
    rng = Random(13)
    for _ in range(2):
        child = test.start(rng.randrange(1 << 30), faults.environment())
        test.listen(child, rng.random() * WORK_SECONDS)
        faults.set(**plan)
        status = test.finish(child)
        assert status == EXIT_DISK
        assert FAILED in test.output.split()
        faults.set()
        test.look()


def test_a_disk_that_fails_while_it_is_opened(path: Path, faults: DiskFaults) -> None:
    test = CrashTest(SQLITE, path)
    child = test.start(1, faults.environment())
    test.listen(child, WORK_SECONDS)
    test.kill(child)
    program = (
        "import sys, pathlib; from corekit_sqlite.storage import SqliteStorage\n"
        "from corekit.errors import CorekitError\n"
        "try: SqliteStorage(pathlib.Path(sys.argv[1])).open()\n"
        "except CorekitError as error: sys.exit(f'{type(error).__name__}: {error}')"
    )
    plans: tuple[dict[str, Any], ...] = ({"fsync_errno": errno.EIO}, {"write_errno": errno.ENOSPC})
    for plan in plans:
        faults.set(**plan)
        command = [sys.executable, "-c", program, str(path)]
        result = subprocess.run(
            command, env=faults.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 1
        assert "Error: " in result.stderr
        assert "Traceback" not in result.stderr
        faults.set()
    test.look()


_STALL_PROGRAM = """
import sys, threading, time
from pathlib import Path
from corekit_sqlite.storage import SqliteStorage

storage = SqliteStorage(Path(sys.argv[1]))
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
        stage(storage.read_log, staged - 100, 1000)
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


def test_a_server_that_is_killed_under_load_keeps_all_that_it_answered(path: Path) -> None:
    answered: list[str] = []
    rng = Random(14)
    for number in range(KILLS):
        with ServerProcess("-p", "sqlite", "--data-dir", str(path)) as server:
            trio.run(_load, server, f"r{number}", answered, 0.2 + rng.random() / 2)
            assert server.wait() == -9
    assert len(answered) > 20 * KILLS
    with ServerProcess("-p", "sqlite", "--data-dir", str(path)) as server:
        there = trio.run(_children, server)
        assert set(answered) <= there, f"lost: {sorted(set(answered) - there)[:5]}"
        assert len(there - set(answered)) <= KILLS * 8, "more is there than was ever asked for"
        assert server.stop() == 0


async def _load(server: ServerProcess, name: str, answered: list[str], seconds: float) -> None:
    """Eight writers, each a znode at a time; then the server is killed."""

    async def write(zk: Client, writer: int) -> None:
        number = 0
        while True:
            path = f"{name}-{writer}-{number}"
            await zk.create(f"/{path}", b"x" * 100)
            answered.append(path)
            number += 1

    async with connect(server.hosts) as zk, trio.open_nursery() as nursery:
        for writer in range(8):
            nursery.start_soon(write, zk, writer)
        await trio.sleep(seconds)
        server.process.kill()
        nursery.cancel_scope.cancel()


async def _children(server: ServerProcess) -> set[str]:
    async with connect(server.hosts) as zk:
        return set(await zk.children("/")) - {"zookeeper"}
