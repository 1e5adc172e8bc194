"""Curator at the same znodes, and all three libraries at one lock."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from corekit_recipes.election import latch
from corekit_recipes.lock import Lock
from corekit_recipes.naming import Layout
from corekit_recipes.rwlock import ReadWriteLock
from corekit_recipes.semaphore import Semaphore
from kazoo.client import KazooClient

from corekit.client import Client
from tests.conftest import Site
from tests.interop.programs import JVM_OPTIONS, build, curator_class_path
from tests.recipes.checker import Record, Stay
from tests.support.servers import find_program

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

SOURCE = Path(__file__).parent / "java" / "Contender.java"
ROUNDS = 15


def build_contender(folder: Path) -> list[str]:
    """Compile the program; returns the command that runs it."""
    class_path = curator_class_path()
    javac = find_program("javac", "default-jdk-headless")
    build([javac, "-nowarn", "-d", str(folder), "-cp", class_path, str(SOURCE)])
    java = find_program("java", "default-jre-headless")
    return [java, *JVM_OPTIONS, "-cp", f"{folder}{os.pathsep}{class_path}", "Contender"]


@pytest.fixture(scope="session")
def contender(needs: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return needs(build_contender, tmp_path_factory.mktemp("contender"))


async def curator(contender: list[str], server: Site, path: str, kind: str, record: Record) -> None:
    """Run Curator's contender to its end and take its stays."""
    command = [*contender, server.hosts, path, str(ROUNDS), kind]
    with anyio.fail_after(90):
        done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    output = done.stdout.decode()
    assert done.returncode == 0, output
    lines = [line.split() for line in output.splitlines() if line.startswith(("IN ", "OUT "))]
    assert len(lines) == 2 * ROUNDS, output
    for began, ended in zip(lines[::2], lines[1::2], strict=True):
        record.stays.append(
            Stay(f"curator {kind}", int(began[2]), int(began[1]) / 1e9, int(ended[1]) / 1e9, kind == "read")
        )


async def ours(zk: Client, path: str, record: Record, layout: Layout) -> None:
    lock = Lock(zk, path, layout=layout)
    for _ in range(ROUNDS):
        async with lock.hold() as grant:
            with record.inside("corekit", grant.token):
                await anyio.sleep(0.005)


async def test_mutex(zk: Client, server: Site, root: str, contender: list[str]) -> None:
    record = Record()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(curator, contender, server, f"{root}/lock", "mutex", record)
        tasks.start_soon(ours, zk, "/lock", record, Layout.CURATOR)
        tasks.start_soon(ours, zk, "/lock", record, Layout.CURATOR)
    record.check_exclusive()
    assert len(record.stays) == 3 * ROUNDS


async def test_all_three_at_one_lock(zk: Client, server: Site, root: str, contender: list[str]) -> None:
    """Curator is told by its driver, kazoo by `extra_lock_patterns`, to look at each other's names; we always do."""
    record = Record()

    def kazoo() -> None:
        client = KazooClient(server.hosts + root)
        client.start()
        for _ in range(ROUNDS):
            lock = client.Lock("/lock", extra_lock_patterns=["lock-"])
            lock.acquire()
            with record.inside("kazoo", client.exists(f"/lock/{lock.node}").czxid):
                pass
            lock.release()
        client.stop()
        client.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(curator, contender, server, f"{root}/lock", "mutex-any", record)
        tasks.start_soon(anyio.to_thread.run_sync, kazoo)
        tasks.start_soon(ours, zk, "/lock", record, Layout.CURATOR)
        tasks.start_soon(ours, zk, "/lock", record, Layout.KAZOO)
    record.check_exclusive()
    assert len(record.stays) == 4 * ROUNDS


async def test_read_write_lock(zk: Client, server: Site, root: str, contender: list[str]) -> None:
    record = Record()

    async def we(reads: bool) -> None:
        lock = ReadWriteLock(zk, "/rw", layout=Layout.CURATOR)
        for _ in range(ROUNDS):
            async with lock.read() if reads else lock.write():
                with record.inside("corekit", 0, reads=reads):
                    await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        for kind in ("read", "write"):
            tasks.start_soon(curator, contender, server, f"{root}/rw", kind, record)
            tasks.start_soon(we, kind == "read")
    record.check_read_write()
    assert len(record.stays) == 4 * ROUNDS


async def test_semaphore(zk: Client, server: Site, root: str, contender: list[str]) -> None:
    record = Record()

    async def we() -> None:
        for _ in range(ROUNDS):
            async with Semaphore(zk, "/pool", 2, layout=Layout.CURATOR).hold():
                with record.inside("corekit", 0):
                    await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(curator, contender, server, f"{root}/pool", "semaphore", record)
        for _ in range(3):
            tasks.start_soon(we)
    assert record.most_at_once() <= 2
    assert len(record.stays) == 4 * ROUNDS


async def test_leader_latch(zk: Client, server: Site, root: str, contender: list[str]) -> None:
    record = Record()

    async def we() -> None:
        for _ in range(ROUNDS):
            async with latch(zk, "/latch", layout=Layout.CURATOR) as candidate:
                await candidate.elected()
                with record.inside("corekit", 0):
                    await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(curator, contender, server, f"{root}/latch", "latch", record)
        tasks.start_soon(we)
    assert record.most_at_once() == 1
    assert len(record.stays) == 2 * ROUNDS
