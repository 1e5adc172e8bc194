"""The journal by itself: whatever a crash leaves of what was not synced, all that was synced is found, as a prefix."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest
from corekit_storage_rocks import journal
from corekit_storage_rocks.journal import PUT, Journal, operation, operations

from corekit.errors import DamagedError

SECTORS = (512, 4096)
SEGMENT_BYTES = 30_000
COMPILED = journal.Writer is not None


class Writer:
    """A journal under random work, and what must be found after a crash."""

    def __init__(self, folder: Path, rng: Random) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.rng = rng
        self.staged: list[int] = []
        self.durable = 0  # how many of them
        self.image: dict[str, bytes] = {}  # the files, as of the last sync
        self.mark: bytes | None = None
        self.started = 0
        self.journal = Journal(folder, SEGMENT_BYTES)
        self.journal.find(None)
        self.journal.begin()

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}

    def stage(self) -> None:
        number = len(self.staged)
        self.journal.add(operation(PUT, 0, number.to_bytes(4, "big"), bytes([number % 251]) * self.rng.randrange(900)))
        self.staged.append(number)

    def sync(self) -> None:
        covered = len(self.staged)
        if self.rng.random() < 0.5 and self.start():
            self.journal.wait()
        else:
            self.journal.write(*self.journal.take())
        if self.journal.full:
            self.journal.prepare()
            self.journal.switch()
        self.durable = covered
        self.image = self.files()

    def start(self) -> bool:
        """Have the thread in C write what is staged, if it can now."""
        started = self.journal.start(-1)
        self.started += started
        return started

    def tables(self) -> None:
        """RocksDB has everything in tables now: old segments are free."""
        self.sync()
        self.journal.prepare()
        self.journal.switch()
        self.mark = self.journal.mark
        self.staged, self.durable = self.staged[:0], 0
        self.journal.free()
        self.image = self.files()

    def crash(self) -> None:
        """Of every sector that was not synced, the old or the new content is left; then a new process opens it."""
        if self.rng.random() < 0.5:
            self.start()
        self.journal.close()  # so that nothing is written any more; what was started is not durable for all one knows
        sector = self.rng.choice(SECTORS)
        for name, new in self.files().items():
            old = self.image.get(name, b"").ljust(len(new), b"\0")
            sectors = [(new if self.rng.random() < 0.5 else old)[at : at + sector] for at in range(0, len(new), sector)]
            (self.folder / name).write_bytes(b"".join(sectors))
        self.journal = Journal(self.folder, SEGMENT_BYTES)
        self.journal.find(self.mark)
        found = [int.from_bytes(key, "big") for body in self.journal.replay() for _, _, key, _ in operations(body)]
        assert found == self.staged[: len(found)], "not a prefix"
        assert len(found) >= self.durable, "something durable is missing"
        self.staged, self.durable = found, len(found)
        self.journal.begin()
        self.image = self.files()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STEP_BYTES", 8_000)
    monkeypatch.setattr(journal, "PENDING_BYTES_MAX", 3_000)  # so that much is written before it is synced


@pytest.mark.parametrize("seed", range(20))
def test_crashes(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    writer = Writer(tmp_path / "journal", rng)
    crashes = 0
    for _ in range(400):
        choice = rng.random()
        if choice < 0.7:
            writer.stage()
        elif choice < 0.93:
            writer.sync()
        elif choice < 0.95:
            writer.tables()
        else:
            writer.crash()
            crashes += 1
    writer.crash()
    writer.journal.close()
    assert crashes > 3
    assert (writer.started > 0) == COMPILED


def test_every_damage_to_what_a_later_frame_vouches_for_is_found(tmp_path: Path) -> None:
    rng = Random(3)
    writer = Writer(tmp_path / "journal", rng)
    for _ in range(90):
        writer.stage()
        writer.sync()
    writer.journal.close()
    shutil.copytree(writer.folder, tmp_path / "whole")
    segments = sorted(writer.folder.glob("*.journal"))
    assert len(segments) >= 2
    for _ in range(60):
        segment = rng.choice(segments)
        content = bytearray(segment.read_bytes())
        end = content.rindex(b"ckj1") if segment == segments[-1] else len(content.rstrip(b"\0"))
        content[rng.randrange(end)] ^= 1 << rng.randrange(8)
        segment.write_bytes(content)
        with pytest.raises(DamagedError, match=r"damaged|missing"):
            Journal(writer.folder, SEGMENT_BYTES).find(None)
        shutil.rmtree(writer.folder)
        shutil.copytree(tmp_path / "whole", writer.folder)
    Journal(writer.folder, SEGMENT_BYTES).find(None)


def test_what_was_never_synced_is_not_found_behind_new_frames(tmp_path: Path) -> None:
    """Of two frames that were not synced the second survives; a new first one of the same size takes its place."""
    folder = tmp_path / "journal"
    writer = Writer(folder, Random(0))
    for value in (b"a", b"b"):
        writer.journal.add(operation(PUT, 0, value, value * 4000))  # so much that it is written at once
    writer.journal.close()
    (segment,) = folder.iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"a" * 4000, b"\0" * 4000))
    again = Journal(folder, SEGMENT_BYTES)
    again.find(None)
    again.begin()
    again.add(operation(PUT, 0, b"c", b"c" * 4000))
    again.write(*again.take())
    again.close()
    last = Journal(folder, SEGMENT_BYTES)
    last.find(None)
    assert [key for body in last.replay() for _, _, key, _ in operations(body)] == [b"c"]


@pytest.mark.parametrize("background", [False, True] if COMPILED else [False])
def test_nothing_is_written_after_a_failure(tmp_path: Path, background: bool) -> None:
    """A frame after one that is not there would not be found, although it had been synced."""
    writer = Writer(tmp_path / "journal", Random(0))
    writer.stage()
    writer.sync()
    own = writer.journal._fd
    good = os.dup(own)
    read_only = os.open(writer.folder / "0000000001.journal", os.O_RDONLY)
    os.dup2(read_only, own)
    writer.stage()
    if background:
        assert writer.start()
    write = writer.journal.wait if background else lambda: writer.journal.write(*writer.journal.take())
    with pytest.raises(OSError, match="Bad file descriptor"):
        write()
    os.dup2(good, own)
    os.close(good)
    os.close(read_only)
    writer.stage()
    assert not writer.start()
    with pytest.raises(OSError, match="an earlier write"):
        writer.sync()
    writer.crash()
    assert writer.staged == [0]
    writer.journal.close()
