"""The floor record: a small file beside the database that says how far the log must reach.

Why: a journal that was cut short between two frames looks like one that ended there. The
floor is written after each sync and never says more than what is durable, so a log that ends below it has lost
acknowledged entries.

Rules
- The file has one page with three slots, each with a sequence number and a CRC; the valid slot with the highest
  number counts. Slots 0 and 1 are written in turn and synced (`settle`); a torn write spoils one of them at most.
- Slot 2 is written through a memory map after every sync of the log and is not synced itself (`note`). It costs
  no system call (a second one in the worker would wait for the interpreter lock again), is exact after a crash of
  the process, and a few seconds old at worst after a power cut, when slots 0 and 1 take its place.
- The floor rises. It falls only with `cuts`, the count of truncations, which stands in the database too: whichever
  side is behind shows what happened (see `check` in `recovery.py`).
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

_MAGIC = b"ckfl"
_slot = struct.Struct(">4sQQIIIQ")
_crc = struct.Struct(">I")
_SLOT_BYTES = _slot.size + _crc.size
_OFFSETS = (0, 1024, 2048)
_FILE_BYTES = 4096


@dataclass(slots=True, frozen=True)
class Floor:
    """How far the log must reach: `zxid` with the chain's value there, both epochs, and the count of cuts."""

    zxid: int = 0
    chain: int = 0
    accepted: int = 0
    current: int = 0
    cuts: int = 0


class FloorFile:
    """The file, open. `value` is what the newest slot says."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Raises FileNotFoundError, OSError, ValueError (no valid slot)."""
        if create:
            _create(path)
        self.value = Floor()
        self._sequence = 0
        self._turn = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            page = os.pread(self._fd, _FILE_BYTES, 0)
            self._load(page)
            self._map = mmap.mmap(self._fd, _FILE_BYTES)
        except BaseException:
            os.close(self._fd)
            raise

    def _load(self, page: bytes) -> None:
        sequences = [-1, -1, -1]
        for index, offset in enumerate(_OFFSETS):
            slot = page[offset : offset + _SLOT_BYTES]
            if len(page) != _FILE_BYTES or slot[:4] != _MAGIC or crc32(slot[:-4]) != _crc.unpack(slot[-4:])[0]:
                continue
            _, sequences[index], *fields = _slot.unpack(slot[:-4])
            if sequences[index] == max(sequences):
                self._sequence = sequences[index]
                self.value = Floor(*fields)
        if max(sequences) < 0:
            raise ValueError("no slot of it is valid")
        self._turn = 0 if sequences[0] <= sequences[1] else 1

    def _bytes(self, floor: Floor) -> bytes:
        self._sequence += 1
        self.value = floor
        body = _slot.pack(_MAGIC, self._sequence, floor.zxid, floor.chain, floor.accepted, floor.current, floor.cuts)
        return body + _crc.pack(crc32(body))

    def note(self, floor: Floor) -> None:
        """Write without syncing: survives a crash of the process, not surely one of the machine."""
        self._map[_OFFSETS[2] : _OFFSETS[2] + _SLOT_BYTES] = self._bytes(floor)

    def settle(self, floor: Floor) -> None:
        """Write and sync. Raises OSError."""
        os.pwrite(self._fd, self._bytes(floor), _OFFSETS[self._turn])
        self._turn = 1 - self._turn
        os.fsync(self._fd)

    def close(self) -> None:
        self._map.close()
        os.close(self._fd)


def _create(path: Path) -> None:
    """A file with a floor of nothing, complete or absent after a crash."""
    body = _slot.pack(_MAGIC, 0, 0, 0, 0, 0, 0)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write((body + _crc.pack(crc32(body))).ljust(_FILE_BYTES, b"\0"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
