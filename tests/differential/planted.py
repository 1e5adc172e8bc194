"""A proxy that spoils one reply or event on its way, to prove that the comparison sees it.

Bytes from clients go through unchanged; frames from the server are handed to a `Spoil`, which returns what is sent on.
The handshake and four-letter words are left alone.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

# Gets (number of the frame, frame without length), returns the frames to send on.
Spoil = Callable[[int, bytes], list[bytes]]


class Proxy:
    """Listens on `port` and passes everything to the server on `upstream`."""

    def __init__(self, upstream: int, spoil: Spoil) -> None:
        self._upstream = upstream
        self._spoil = spoil
        self._count = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [client, server]
                first = client.recv(65536)
                server.sendall(first)
                answer = self._copy if first[:1].isalpha() else self._frames
                threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
                threading.Thread(target=answer, args=(server, client), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def _frames(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for at, frame in enumerate(_split(server)):
                if at:
                    self._count += 1
                for sent in [frame] if at == 0 else self._spoil(self._count, frame):
                    client.sendall(struct.pack(">i", len(sent)) + sent)
            client.shutdown(socket.SHUT_WR)


def _split(sock: socket.socket) -> Iterator[bytes]:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
        while len(data) >= 4 and len(data) >= 4 + (size := struct.unpack(">i", data[:4])[0]):
            yield data[4 : 4 + size]
            data = data[4 + size :]


def _header(frame: bytes) -> tuple[int, int, int]:
    xid, zxid, err = struct.unpack(">iqi", frame[:16])
    return xid, zxid, err


class Plants:
    """Differences to plant, each about one frame in `every`."""

    def __init__(self, every: int = 150) -> None:
        self._every = every
        self._due = 0
        self._held: bytes | None = None

    def _now(self, count: int, fits: bool) -> bool:
        if count >= self._due + self._every and fits:
            self._due = count
            return True
        return False

    def wrong_code(self, count: int, frame: bytes) -> list[bytes]:
        xid, zxid, err = _header(frame)
        if self._now(count, err == -101 and xid > 0):
            return [struct.pack(">iqi", xid, zxid, -103)]
        return [frame]

    def wrong_zxid(self, count: int, frame: bytes) -> list[bytes]:
        xid, zxid, err = _header(frame)
        if self._now(count, err == 0 and xid > 0 and zxid > 0):
            return [struct.pack(">iqi", xid, zxid + 1, err) + frame[16:]]
        return [frame]

    def wrong_byte(self, count: int, frame: bytes) -> list[bytes]:
        """One bit of a body: a Stat field, a name, data."""
        xid, _, _ = _header(frame)
        if self._now(count, xid > 0 and len(frame) > 60):
            return [frame[:-1] + bytes([frame[-1] ^ 1])]
        return [frame]

    def lost_event(self, count: int, frame: bytes) -> list[bytes]:
        return [] if self._now(count, _header(frame)[0] == -1) else [frame]

    def doubled_event(self, count: int, frame: bytes) -> list[bytes]:
        return [frame, frame] if self._now(count, _header(frame)[0] == -1) else [frame]

    def late_event(self, count: int, frame: bytes) -> list[bytes]:
        """An event comes one frame too late."""
        if self._held is not None:
            held, self._held = self._held, None
            return [frame, held]
        if self._now(count, _header(frame)[0] == -1):
            self._held = frame
            return []
        return [frame]
