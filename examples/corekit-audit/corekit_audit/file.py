"""A file that is appended to, and put aside when it has grown: PATH, PATH.1 (the youngest) ... PATH.N.

Rules
- Lines are whole: what a failed write left behind is cut off before the next one.
- Whoever moves the file away from outside finds a new one at PATH.
- Every method blocks; an `OSError` goes to the caller, who may try the same again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class RotatingFile:
    """The file.

    Args:
        bytes_max: it is put aside before it grows above this; a line that is larger stands alone.
        keep: files put aside that are kept.
    """

    def __init__(self, path: str, bytes_max: int, keep: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._keep = keep
        self._fd = -1
        self._size = 0

    def append(self, lines: Iterable[bytes]) -> int:
        """Write as many of these lines as fit into the present file, at least one; how many."""
        self._open()
        fitting: list[bytes] = []
        size = self._size
        for line in lines:
            if size + len(line) > self._bytes_max and size:
                if fitting:
                    break
                self._put_aside()
                self._open()
                size = 0
            fitting.append(line)
            size += len(line)
        self._write(b"".join(fitting))
        return len(fitting)

    def _write(self, data: bytes) -> None:
        os.ftruncate(self._fd, self._size)  # a write that failed half-way may have left something
        at = 0
        while at < len(data):
            at += os.write(self._fd, data[at:])
        self._size += len(data)

    def _open(self) -> None:
        if self._fd >= 0:
            try:
                there = os.stat(self.path)
                here = os.fstat(self._fd)
                if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                    return
            except FileNotFoundError:
                pass
            self.close()
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = _whole_lines(self._fd)

    def _put_aside(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            older = self.path if number == 1 else f"{self.path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self.path}.{number}")
        if not self._keep:
            os.unlink(self.path)

    def close(self) -> None:
        """Close it; the next `append` opens it again."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            os.close(descriptor)


def _whole_lines(descriptor: int) -> int:
    """The size of a file without the half of a line that a crash may have left at its end."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        begin = max(0, end - 65536)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
