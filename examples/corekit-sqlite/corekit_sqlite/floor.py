"""The floor record: a small file beside the database that says how far the log must reach.

Why: a write-ahead log that is missing, cut short or has a flipped bit in it makes SQLite go back to an earlier moment
without a word. The floor is written after each sync, so a database that ends below it has lost acknowledged entries.

Rules
- One page, three slots, each with a sequence number and a CRC; the valid slot with the highest number counts.
- Slots 0 and 1 are written in turn and synced (`settle`): a torn write spoils one of them at most.
- Slot 2 is written through a memory map after every sync of the log and not synced itself (`note`): exact after a crash
  of the process, a few seconds old after a power cut, and never too new.
- It falls only with `cuts`, which stands in the database too: whichever side is behind shows what happened.
- The first floor that is not nothing is synced: while a floor of nothing stands, there is nothing to lose.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from corekit.errors import DamagedError
from corekit_sqlite.records import sealed, unsealed

_slot = struct.Struct(">QQIIIQ")
_SLOT_BYTES = _slot.size + 4
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

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError, OSError, DamagedError (no valid slot)."""
        self.value = Floor()
        self._sequence = -1
        self._turn = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._load(os.pread(self._fd, _FILE_BYTES, 0))
            self._map = mmap.mmap(self._fd, _FILE_BYTES)
        except BaseException:
            os.close(self._fd)
            raise

    def _load(self, page: bytes) -> None:
        if len(page) != _FILE_BYTES:
            raise DamagedError("it is too short")
        for index, offset in enumerate(_OFFSETS):
            try:
                fields = _slot.unpack(unsealed(page[offset : offset + _SLOT_BYTES], "a slot"))
            except DamagedError:
                continue
            if fields[0] > self._sequence:
                self._sequence = fields[0]
                self.value = Floor(*fields[1:])
                self._turn = 1 if index == 0 else 0
        if self._sequence < 0:
            raise DamagedError("no slot of it is valid")

    def _bytes(self, floor: Floor) -> bytes:
        self._sequence += 1
        self.value = floor
        return sealed(_slot.pack(self._sequence, floor.zxid, floor.chain, floor.accepted, floor.current, floor.cuts))

    def note(self, floor: Floor) -> None:
        """Write without syncing: survives a crash of the process, not surely one of the machine."""
        self._map[_OFFSETS[2] : _OFFSETS[2] + _SLOT_BYTES] = self._bytes(floor)

    def settle(self, floor: Floor) -> None:
        """Write and sync. Raises OSError."""
        os.pwrite(self._fd, self._bytes(floor), _OFFSETS[self._turn])
        self._turn = 1 - self._turn
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._fd)


def create_floor(path: Path) -> None:
    """A file with a floor of nothing, complete or absent after a crash. Raises OSError."""
    slot = sealed(_slot.pack(0, 0, 0, 0, 0, 0))
    write_durably(path, slot.ljust(_FILE_BYTES, b"\0"))


def write_durably(path: Path, data: bytes) -> None:
    """A file with this content, complete or as it was after a crash. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
