"""A server whose disk is full: it refuses writes, and ends if that was not enough; what it acknowledged is kept.

The disk is a real one, a small tmpfs. The end is also brought about by a library between the server and the system that
answers every write with ENOSPC, which is what is left where nothing can be mounted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import trio

from corekit.client import Client, connect
from corekit.errors import EXIT_DISK, CorekitError, NotReadOnlyError
from corekit.testing.disk_faults import DiskFaults, build
from corekit.testing.process import ServerProcess
from tests.support.small_disk import NoSmallDisk, SmallDisk

MB = 1 << 20
SIZE, WATERMARK = 96 * MB, 24 * MB
VALUE = b"v" * 50_000
PATIENCE = 60  # seconds


class Disk(Protocol):
    """Where a server keeps its data."""

    def serve(self, *settings: str) -> ServerProcess:
        """Start a server."""

    def fill(self) -> None:
        """Nearly nothing more fits."""

    def empty(self) -> None:
        """There is space again."""


class Tmpfs:
    """A small disk."""

    def __init__(self, at: Path) -> None:
        self.small = SmallDisk(at, SIZE)
        self._data = at / "data"

    def serve(self, *settings: str) -> ServerProcess:
        return ServerProcess("--data-dir", str(self._data), *settings, within=self.small.within)

    def fill(self) -> None:
        self.small.fill(leave=MB)

    def empty(self) -> None:
        self.small.empty()


class Injected:
    """A disk that says that it is full."""

    def __init__(self, library: Path, at: Path) -> None:
        self._data = at / "data"
        self._data.mkdir()
        self._faults = DiskFaults(library, at / "faults", below=self._data)

    def serve(self, *settings: str) -> ServerProcess:
        environ = self._faults.environment({})
        return ServerProcess("--data-dir", str(self._data), *settings, environ=environ)

    def fill(self) -> None:
        self._faults.set(write_errno=errno.ENOSPC)

    def empty(self) -> None:
        self._faults.set()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    try:
        disk = Tmpfs(tmp_path)
    except (NoSmallDisk, FileNotFoundError) as why:
        pytest.skip(f"no small disk can be mounted here: {why}")
    yield disk
    disk.small.close()


@pytest.fixture(params=["tmpfs", "injected"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "tmpfs":
        found: Disk = request.getfixturevalue("tmpfs")
        return found
    library = build(tmp_path)
    if library is None:
        pytest.skip("needs a C compiler")
    return Injected(library, tmp_path)


async def wait_until_written(zk: Client, path: str, *, refused: bool) -> str:
    """Write until it is refused, or until it is not; the error's text or ""."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await zk.set(path, b"1")
                if not refused:
                    return ""
            except NotReadOnlyError as error:
                if refused:
                    return str(error)
            await trio.sleep(0.05)


def test_below_the_watermark_writes_are_refused_and_reads_go_on(tmpfs: Tmpfs) -> None:
    async def main(hosts: str, server: ServerProcess) -> None:
        async with connect(hosts) as zk:
            await zk.create("/a", b"0")
            tmpfs.small.fill(leave=WATERMARK * 3 // 4)
            assert "disk is almost full" in await wait_until_written(zk, "/a", refused=True)
            server.wait_for("disk is almost full: writes are refused until space returns")
            before = await zk.get("/a")
            for write in (zk.create("/b", b""), zk.delete("/a"), zk.set("/a", b"2")):
                with pytest.raises(NotReadOnlyError):
                    await write
            assert await zk.get("/a", fresh=True) == before
            assert sorted(await zk.children("/")) == ["a", "zookeeper"]
            async with connect(hosts) as newcomer:
                assert await newcomer.get("/a") == before
            tmpfs.small.empty()
            await wait_until_written(zk, "/a", refused=False)
            server.wait_for("disk space is back: writes are accepted")
            await zk.create("/b", b"")

    with tmpfs.serve("-s", f"freeSpaceWatermark={WATERMARK}") as server:
        trio.run(main, server.hosts, server)
        assert server.stop() == 0


def test_a_full_disk_ends_the_server_and_nothing_acknowledged_is_lost(disk: Disk) -> None:
    acknowledged: list[str] = []

    async def write(hosts: str) -> None:
        async with connect(hosts, connect_timeout=None) as zk:
            await zk.ensure("/w")
            with trio.move_on_after(PATIENCE):
                for number in range(10_000):
                    if number == 20:
                        disk.fill()
                    try:
                        await zk.create(f"/w/{number:05}", VALUE)
                    except CorekitError:
                        return
                    acknowledged.append(f"{number:05}")

    async def read(hosts: str) -> None:
        async with connect(hosts) as zk:
            found = await zk.children("/w")
            assert set(acknowledged) <= set(found)
            assert len(found) <= len(acknowledged) + 1  # the last has an unknown outcome
            for name in acknowledged:
                assert (await zk.get(f"/w/{name}")).data == VALUE
            await zk.create("/w/after", b"")

    with disk.serve("-s", "freeSpaceWatermark=0") as server:
        trio.run(write, server.hosts)
        assert server.wait() == EXIT_DISK, server.lines
        said = "\n".join(server.lines)
        assert "Traceback" not in said
        assert "No space left on device" in said or "no space" in said.lower(), said
    assert len(acknowledged) >= 20
    disk.empty()
    with disk.serve("-s", "freeSpaceWatermark=0") as again:
        trio.run(read, again.hosts)
        assert again.stop() == 0
