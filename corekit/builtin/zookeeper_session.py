"""A connection in ZooKeeper's client protocol: first bytes, four-letter words, the handshake, and frames from then on.

The kernel speaks ZooKeeper's requests itself, so after the handshake bytes go through unchanged; what is left to do
here is framing and the answers to first bytes that mean something else (four-letter words, HTTP, TLS). Sources:
`NIOServerCnxn`, `FourLetterCommands`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from corekit.api import ClientSession, Gateway, Peer
from corekit.codec.four_letter import extra_bytes, is_word, run_word
from corekit.errors import ProtocolError

log: Final = logging.getLogger("corekit.client")

_HTTP: Final = frozenset((b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"TRAC", b"CONN", b"PRI "))
_TLS_ALERT: Final = bytes((21, 3, 1, 0, 2, 2, 70))  # fatal, protocol_version
_HTTP_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
)
_HTTP_TEXT: Final = (
    b"This is a ZooKeeper client port, it does not speak HTTP.\n"
    b"Use a ZooKeeper client, or the admin port (admin.serverPort) for HTTP.\n"
)

_START: Final = 0
_WORD: Final = 1
_HELLO: Final = 2
_OPEN: Final = 3


class ZooKeeperSession:
    """One client connection."""

    def __init__(self, gateway: Gateway, peer: Peer, woken: Callable[[ClientSession], None]) -> None:
        self._gateway = gateway
        self._feed = gateway.feed
        self._overloaded = gateway.overloaded
        self._limit = gateway.frame_bytes_max
        self._woken = woken
        self._connection = gateway.connect(peer, self._wake)
        self._state = _START
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 4
        self.closing: str | None = None

    def _wake(self, connection: Any) -> None:
        if connection.closing is not None and self.closing is None:
            self.closing = connection.closing
        self._woken(self)

    def received(self, data: bytes) -> None:
        """Bytes from the client."""
        if not data and self._state == _OPEN:
            self._feed(self._connection, b"")  # replies that were held back come before those to what is in `_chunks`
        if self._chunks or self._state != _OPEN:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            if self._state != _OPEN:
                data = self._begin(data)
                if self._state != _OPEN:
                    self._keep(data, self._need)
                    return
        used = self._feed(self._connection, data)
        if used != len(data):
            rest = data[used:]
            size = int.from_bytes(rest[:4], "big", signed=True) if len(rest) >= 4 else 8
            if not 0 <= size <= self._limit:
                raise ProtocolError(f"frame of {size} bytes, jute.maxbuffer is {self._limit}")
            self._keep(rest, max(4 + size, 12))
        if self._connection.closing is not None:
            self.closing = self._connection.closing

    def _keep(self, data: bytes, need: int) -> None:
        self._have = len(data)
        self._need = need
        if data:
            self._chunks.append(data)

    def _begin(self, data: bytes) -> bytes:
        """Everything before the session's first request; returns what is left for it."""
        if self._state == _START:
            first = data[:4]
            if is_word(first):
                self._state = _WORD
                self._need = 4 + extra_bytes(first)
            elif first in _HTTP:
                self._refuse(_HTTP_ANSWER % (len(_HTTP_TEXT), _HTTP_TEXT), "an HTTP request came to the client port")
            elif first[0] == 0x16 and first[1] == 3:
                self._refuse(
                    _TLS_ALERT, "a TLS client came to the client port, which is plain: this version has no TLS"
                )
            else:
                size = int.from_bytes(first, "big", signed=True)
                if not 0 <= size <= self._limit:
                    raise ProtocolError(f"first frame of {size} bytes, jute.maxbuffer is {self._limit}")
                self._state = _HELLO
                self._need = 4 + size
        if self.closing is not None or len(data) < self._need:
            return data if self.closing is None else b""
        if self._state == _WORD:
            self._answer_word(data[:4], data[4 : self._need])
            return b""
        self._state = _OPEN
        hello, rest = data[4 : self._need], data[self._need :]
        self._gateway.attach(self._connection, hello)
        return rest

    def _answer_word(self, word: bytes, extra: bytes) -> None:
        self._connection.out.append(run_word(word, extra, self._gateway.view))
        self.closing = f"four-letter word {word.decode('ascii', 'replace')}"

    def _refuse(self, answer: bytes, why: str) -> None:
        self._connection.out.append(answer)
        self.closing = why
        log.warning("connection refused", extra={"why": why, "peer": self._connection.peer.address})

    def end_of_input(self) -> None:
        """Half-closed: four-letter words are asked that way. Anything else is over."""
        if self.closing is not None:
            return
        if self._state == _WORD:
            self._answer_word(b"".join(self._chunks)[:4], b"")
        else:
            self.closing = "client closed the connection"

    def take(self) -> list[bytes]:
        """What to send."""
        connection = self._connection
        connection.queued = False
        connection.owed = 0
        if connection.closing is not None and self.closing is None:  # decided after it had been woken for an event
            self.closing = connection.closing
        out: list[bytes] = connection.out
        if out:
            connection.out = []
        return out

    def paused(self) -> bool:
        """Wait for the session to be established, or for the server to catch up."""
        return (self._state == _OPEN and not self._connection.ready) or self._overloaded(self._connection)

    def established(self) -> bool:
        """Whether the handshake is over."""
        return self._state == _OPEN and self._connection.ready

    def closed(self, why: str) -> None:
        """The socket is gone."""
        self._gateway.disconnect(self._connection)
