"""Jute, ZooKeeper's encoding: big-endian numbers, and lengths before strings, buffers and vectors (-1: null).

Rules
- A string is its UTF-8 bytes here; text is made at the edges of the program. A buffer has the same form.
- Whatever a length or a count promises must be in the packet, otherwise `ProtocolError`. So no packet makes us
  allocate more than a small multiple of its own size; the size of packets is bounded where they are read.
- A Reader never looks beyond `end`. Bytes left over are the caller's business (`done`).

Source: `BinaryInputArchive`, `BinaryOutputArchive`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final, NoReturn, TypeVar

from corekit.errors import ProtocolError

T = TypeVar("T")

INT: Final = Struct(">i")
LONG: Final = Struct(">q")

pack_int: Final = INT.pack
pack_long: Final = LONG.pack
_unpack_int: Final = INT.unpack_from
_unpack_long: Final = LONG.unpack_from

NULL: Final = b"\xff\xff\xff\xff"
TRUE: Final = b"\x01"
FALSE: Final = b"\x00"


def pack_bool(value: bool) -> bytes:
    """A boolean: one byte, 0 or 1."""
    return TRUE if value else FALSE


def pack_buffer(value: bytes | None) -> bytes:
    """A buffer or a string (as UTF-8 bytes); None is null."""
    return NULL if value is None else pack_int(len(value)) + value


pack_string: Final = pack_buffer


def pack_strings(values: Sequence[bytes] | None) -> bytes:
    """A vector of strings; None is null."""
    if values is None:
        return NULL
    parts = [pack_int(len(values))]
    for value in values:
        parts.append(pack_int(len(value)))
        parts.append(value)
    return b"".join(parts)


def pack_vector(encoded: Iterable[bytes] | None) -> bytes:
    """A vector of elements that are already encoded; None is null."""
    if encoded is None:
        return NULL
    parts = list(encoded)
    return pack_int(len(parts)) + b"".join(parts)


class Reader:
    """Takes values off a buffer, one after another.

    Args:
        buf: bytes or a memoryview of bytes. What is returned never refers to it.
        pos: where the next value begins.
        end: where the packet ends; the end of `buf` if not given.
    """

    __slots__ = ("buf", "end", "pos")

    def __init__(self, buf: bytes | memoryview, pos: builtins.int = 0, end: builtins.int | None = None) -> None:
        self.buf = buf
        self.pos = pos
        self.end = len(buf) if end is None else end

    def int(self) -> builtins.int:
        """A signed 32-bit number."""
        pos = self.pos
        self.pos = after = pos + 4
        if after > self.end:
            self._truncated("int")
        value: builtins.int = _unpack_int(self.buf, pos)[0]
        return value

    def long(self) -> builtins.int:
        """A signed 64-bit number."""
        pos = self.pos
        self.pos = after = pos + 8
        if after > self.end:
            self._truncated("long")
        value: builtins.int = _unpack_long(self.buf, pos)[0]
        return value

    def byte(self) -> builtins.int:
        """A byte, 0 to 255."""
        pos = self.pos
        self.pos = pos + 1
        if pos >= self.end:
            self._truncated("byte")
        return self.buf[pos]

    def bool(self) -> builtins.bool:
        """A boolean; any byte but 0 is true."""
        return self.byte() != 0

    def buffer(self) -> bytes | None:
        """A buffer; None is null."""
        pos = self.pos
        start = pos + 4
        end = self.end
        if start > end:
            self._truncated("length")
        size: builtins.int = _unpack_int(self.buf, pos)[0]
        if size < 0:
            if size != -1:
                raise ProtocolError(f"bad length {size} at offset {pos}")
            self.pos = start
            return None
        after = start + size
        if after > end:
            raise ProtocolError(f"length {size} at offset {pos}, but only {end - start} bytes follow")
        self.pos = after
        return bytes(self.buf[start:after])

    def string(self) -> bytes | None:
        """A string, UTF-8; None is null."""
        return self.buffer()

    def text(self) -> bytes:
        """A string that must not be null."""
        value = self.buffer()
        if value is None:
            raise ProtocolError("null where a string must be")
        return value

    def vector(self, element: Callable[[Reader], T], size_min: builtins.int = 1) -> list[T] | None:
        """A vector; None is null.

        Args:
            element: reads one element.
            size_min: no element takes fewer bytes; a count that cannot be true is refused before the loop.
        """
        pos = self.pos
        count = self.int()
        if count < 0:
            if count != -1:
                raise ProtocolError(f"bad count {count} at offset {pos}")
            return None
        if count * size_min > self.end - self.pos:
            raise ProtocolError(f"count {count} at offset {pos}, but only {self.end - self.pos} bytes follow")
        return [element(self) for _ in range(count)]

    def strings(self) -> list[bytes]:
        """A vector of strings. A null vector is empty; a null string in it is refused."""
        return self.vector(Reader.text, 4) or []

    def done(self) -> builtins.bool:
        """Whether nothing is left."""
        return self.pos >= self.end

    def rest(self) -> bytes:
        """Everything that is left."""
        pos = self.pos
        self.pos = self.end
        return bytes(self.buf[pos : self.end])

    def _truncated(self, what: str) -> NoReturn:
        raise ProtocolError(f"packet ends inside {what} (packet of {self.end} bytes)")
