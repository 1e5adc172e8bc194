"""The journal: where a write becomes durable. RocksDB's own write-ahead log is switched off.

Why not RocksDB's: its file grows with every write, so that each sync also waits for the file system to note the new
size and the new blocks. This one overwrites space that was filled with zeroes before, as ZooKeeper does.

Layout: files `NNNNNNNNNN.journal`, the segments, numbered from 1. Each is a row of frames; after the last one come
zeroes, or frames from an earlier life of the file. `spare` is a segment that waits to be used again.

    frame   magic 4s | crc u32 | before u32 | length u32 | segment u32 | synced u64 | body
    body    operations: kind u8 | family u8 | key length u32 | value length u32 | key | value

`crc` is the CRC-32 of what follows it, `before` that of the frame before, in the segment before for a first frame.
`synced` is the offset up to which the segment was durable when the frame was written.

Rules
- What is staged between two syncs is one frame: all of it is replayed or nothing.
- A segment gets its first frame when every frame of those before is durable.
- A frame that is not valid ends its segment. It is damage, and not a torn end, if a valid frame further on says that
  it had been durable, or if the next segment does not go on from the last valid one. (That the last frames of the
  whole journal are missing, only the floor record shows.)
- Nothing is ever appended to what an earlier process wrote: `begin` starts a new segment.

Not here: what the operations mean (`database.py`), threads (the caller has a lock around `add`, `take` and `switch`).
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from corekit.errors import DamagedError
from corekit_storage_rocks.floor import sync_directory

try:
    from corekit_storage_rocks._writer import Writer
except ImportError:  # it was installed without a C compiler
    Writer = None  # type: ignore[assignment, misc]

SEGMENT_BYTES: Final = 32 * 1024 * 1024  # when a segment is full; bounds what recovery has to replay
STEP_BYTES: Final = 2 * 1024 * 1024  # filled with zeroes at a time
PENDING_BYTES_MAX: Final = 16 * 1024 * 1024  # of staged operations in memory; above this they go to the file at once

PUT: Final = 0
DELETE: Final = 1
DELETE_RANGE: Final = 2

_MAGIC: Final = b"ckj1"
_frame: Final = struct.Struct(">4sIIIIQ")
_checked: Final = struct.Struct(">IIIQ")  # the head of a frame after its CRC
_operation: Final = struct.Struct(">BBII")
_mark: Final = struct.Struct(">QI")
_CHECKED_AT: Final = _frame.size - _checked.size
_NAME: Final = re.compile(r"[0-9]{10}\.journal")
_SPARE: Final = "spare"
_CRC_BYTES: Final = 4096  # zlib gives up the interpreter lock for more, and getting it back takes longer than the CRC


def operation(kind: int, family: int, key: bytes, value: bytes) -> bytes:
    """One operation as it stands in a frame."""
    return _operation.pack(kind, family, len(key), len(value)) + key + value


def operations(body: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """(kind, family, key, value) of the operations in a frame's body."""
    at, end, unpack, size = 0, len(body), _operation.unpack_from, _operation.size
    while at < end:
        kind, family, key_bytes, value_bytes = unpack(body, at)
        at += size
        middle = at + key_bytes
        yield kind, family, body[at:middle], body[middle : middle + value_bytes]
        at = middle + value_bytes


def _crc(data: bytes, crc: int) -> int:
    if len(data) <= _CRC_BYTES:
        return crc32(data, crc)
    view = memoryview(data)
    for start in range(0, len(data), _CRC_BYTES):
        crc = crc32(view[start : start + _CRC_BYTES], crc)
    return crc


@dataclass(slots=True)
class _Found:
    """A segment as an earlier process left it: its valid frames end at `end`."""

    path: Path
    number: int
    end: int = 0


class Journal:
    """The segments in a folder. First `find`, then `replay` and `begin`; from then on `add`, `take` and `write`.

    Between `start` and the `finish` that succeeds, neither `write` nor `switch` may be called.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._found: list[_Found] = []
        self._old: list[Path] = []  # segments before the present one
        self._number = 0
        self._chain = 0  # the CRC of the last frame
        self._fd = self._next_fd = -1
        self._size = 0  # of the segment's file
        self._at = 0  # where its next frame goes
        self._durable = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._failed = False
        self._growing = threading.Lock()  # zeroes must not go over what `add` writes
        self._dsync: int = getattr(os, "RWF_DSYNC", 0)
        self._dsync_works = False  # seen
        self._writer: Writer | None = None
        self._end_of_started: int | None = None

    # ------------------------------------------------------------------------------------------ recovery
    @property
    def mark(self) -> bytes:
        """What `find` needs to begin at this moment, at the start of a segment."""
        return _mark.pack(self._number, self._chain)

    def find(self, mark: bytes | None, *, up_to_damage: bool = False) -> None:
        """Read and verify what is there; changes nothing.

        Args:
            mark: of the moment up to which RocksDB has everything in tables, None for a new database.
            up_to_damage: take what comes before a damage, instead of raising.

        Raises:
            DamagedError: a segment is missing, or a frame that was durable is not valid.
        """
        needed, self._chain = _mark.unpack(mark) if mark is not None else (1, 0)
        numbers = sorted(_numbers(self._folder))
        self._old = [self._folder / _name(number) for number in numbers]
        self._number = numbers[-1] if numbers else needed - 1
        for number in range(needed, max(self._number, needed if mark is not None else 0) + 1):
            if number not in numbers:
                raise DamagedError(f"{self._folder / _name(number)} is missing")
        try:
            for number in range(needed, self._number + 1):
                self._verify(_Found(self._folder / _name(number), number))
        except DamagedError:
            if not up_to_damage:
                raise

    def _verify(self, segment: _Found) -> None:
        self._found.append(segment)
        with _mapped(segment.path) as data:
            while (frame := _frame_at(data, segment.number, segment.end)) is not None:
                crc, before, length, _ = frame
                if before != self._chain:
                    raise DamagedError(f"frames are missing before byte {segment.end} of {segment.path}")
                segment.end += _frame.size + length
                self._chain = crc
            if _durable_after(data, segment.number, segment.end):
                raise DamagedError(f"{segment.path} is damaged at byte {segment.end}")

    def replay(self) -> Iterator[bytes]:
        """The bodies of all frames that `find` found, in order."""
        for segment in self._found:
            with _mapped(segment.path) as data:
                at = 0
                while at < segment.end:
                    length = _frame.unpack_from(data, at)[3]
                    at += _frame.size + length
                    yield data[at - length : at]

    def begin(self) -> None:
        """Start a segment after those that were found; an empty one at the end is begun anew. Raises OSError."""
        if self._found and not self._found[-1].end:
            os.truncate(self._old.pop(), 0)
            self._number -= 1
        self._found = []
        self.prepare()
        self.switch()
        self._writer = Writer() if Writer is not None else None

    # ------------------------------------------------------------------------------------------- writing
    @property
    def full(self) -> bool:
        """Whether it is time for another segment."""
        return self._at >= self._segment_bytes

    def prepare(self) -> None:
        """Make the file of the next segment. Raises OSError."""
        path = self._folder / _name(self._number + 1)
        spare = self._folder / _SPARE
        if spare.exists():
            os.rename(spare, path)
        self._next_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        sync_directory(self._folder)

    def switch(self) -> None:
        """Go on in the segment that was prepared; everything has been synced."""
        if self._fd >= 0:
            os.close(self._fd)
            self._old.append(self._folder / _name(self._number))
        self._number += 1
        self._fd, self._next_fd = self._next_fd, -1
        self._size = os.fstat(self._fd).st_size
        self._at = self._durable = 0

    def add(self, data: bytes) -> None:
        """Stage operations, which stay together. Raises OSError."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > PENDING_BYTES_MAX:
            frame, at, _ = self.take()
            try:
                with self._growing:
                    _write(self._fd, frame, at)
                    self._size = max(self._size, at + len(frame))
            except OSError:
                self._failed = True
                raise

    def take(self) -> tuple[bytes, int, int]:
        """(frame, its offset, up to where the file was synced) of what is staged; the frame is empty if nothing is.

        What is taken must be written: frames after one that is not there would be lost.

        Raises:
            OSError: writing an earlier one failed.
        """
        if self._failed:
            raise OSError("an earlier write to the journal failed")
        at = self._at
        if not self._pending:
            return b"", at, self._durable
        body = b"".join(self._pending)
        self._pending = []
        self._pending_bytes = 0
        checked = _checked.pack(self._chain, len(body), self._number, self._durable)
        self._chain = _crc(body, crc32(checked))
        self._at += _frame.size + len(body)
        return b"".join((_MAGIC, self._chain.to_bytes(4, "big"), checked, body)), at, self._durable

    def write(self, frame: bytes, at: int, durable: int) -> None:
        """Write what `take` returned and make it durable, with everything before it. Raises OSError."""
        end = at + len(frame)
        if end == durable:
            return
        try:
            if end > self._size:
                self._grow(end)
            if at != durable or not self._write_through(frame, at):
                _write(self._fd, frame, at)
                _sync(self._fd)
        except OSError:
            self._failed = True
            raise
        self._durable = end

    def start(self, wake: int) -> bool:
        """Have the writer write what is staged and make it durable; it adds 1 to the eventfd `wake` at the end.

        Returns:
            False: nothing was done, `take` and `write` have to do it. Zeroes must be there for the frame, and a next
            segment is not begun here.
        """
        end = self._at + _frame.size + self._pending_bytes
        plain = self._at == self._durable and end <= self._size and end < self._segment_bytes
        if self._writer is None or not (plain and self._dsync_works and self._pending) or self._failed:
            return False
        frame, at, _ = self.take()
        self._end_of_started = end
        self._writer.begin(self._fd, frame, at, wake)
        return True

    def finish(self) -> float | None:
        """Seconds that the write took which `start` began, once; None: there is none, or it is not done.

        Raises:
            OSError: it failed.
        """
        if self._writer is None or self._end_of_started is None:
            return None
        try:
            took = self._writer.result()
        except OSError:
            self._failed = True
            raise
        if took is not None:
            self._durable = self._end_of_started
            self._end_of_started = None
        return took

    def wait(self) -> None:
        """Finish what `start` began. Blocks. Raises OSError."""
        if self._writer is not None:
            self._writer.wait()
            self.finish()

    def _grow(self, end: int) -> None:
        """Have zeroes on disk where the next frames go; a segment that is full just grows."""
        with self._growing:
            while self._size < min(end, self._segment_bytes):
                _write(self._fd, bytes(STEP_BYTES), self._size)
                _sync(self._fd)
                self._size += STEP_BYTES

    def _write_through(self, frame: bytes, at: int) -> bool:
        """Write and sync in one call, because after each the thread waits for the interpreter lock again."""
        if not self._dsync:
            return False
        try:
            self._dsync_works = os.pwritev(self._fd, [frame], at, self._dsync) == len(frame)
            return self._dsync_works
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            self._dsync = 0  # this file system cannot
            return False

    def free(self) -> None:
        """Forget the old segments: RocksDB has them in tables. Raises OSError."""
        spare = self._folder / _SPARE
        for path in self._old:
            if not spare.exists() and STEP_BYTES <= path.stat().st_size <= 2 * self._segment_bytes:
                os.rename(path, spare)
            else:
                path.unlink()
        self._old.clear()

    @property
    def used(self) -> bool:
        """Whether the present segment has a frame."""
        return self._at > 0

    @property
    def has_old(self) -> bool:
        """Whether there is something to `free`."""
        return bool(self._old)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
        for fd in (self._fd, self._next_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._next_fd = -1


def journal_bytes(folder: Path) -> int:
    """Size of all segments. Raises OSError."""
    total = 0
    with os.scandir(folder) as files:
        for file in files:
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                pass  # freed meanwhile
    return total


def _name(number: int) -> str:
    return f"{number:010d}.journal"


def _numbers(folder: Path) -> list[int]:
    names = os.listdir(folder) if folder.exists() else []
    return [int(name[:10]) for name in names if _NAME.fullmatch(name)]


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """The content of a file, without reading all of it into memory."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _frame_at(data: mmap.mmap | bytes, number: int, at: int) -> tuple[int, int, int, int] | None:
    """(crc, before, body length, synced) of the frame of this segment that starts there, or None."""
    if len(data) - at < _frame.size:
        return None
    magic, crc, before, length, segment, synced = _frame.unpack_from(data, at)
    end = at + _frame.size + length
    if magic != _MAGIC or segment != number or end > len(data) or crc32(data[at + _CHECKED_AT : end]) != crc:
        return None
    return crc, before, length, synced


def _durable_after(data: mmap.mmap | bytes, number: int, at: int) -> bool:
    """Whether a later frame shows that there was a durable one at `at`."""
    later = at
    while (later := data.find(_MAGIC, later + 1)) >= 0:
        frame = _frame_at(data, number, later)
        if frame is not None and frame[3] > at:
            return True
    return False


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view = view[written:]
        at += written


def _sync(fd: int) -> None:
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(fd)
