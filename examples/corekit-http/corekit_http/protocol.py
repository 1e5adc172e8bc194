"""The protocol: where it listens, its sessions and streams, and what time does to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import trio

from corekit.api import ClientSession, Gateway, Peer
from corekit.hooks import Context
from corekit_http.connection import IDLE_MS, HttpConnection
from corekit_http.link import Link
from corekit_http.sessions import Sessions

log = logging.getLogger("corekit.plugin.http")

STREAMS_MAX = 1000
_LOOK_S = 1.0


class HttpProtocol:
    """HTTP on a port of its own.

    Attributes:
        sessions: those that clients named.
        openapi: the description, as sent.
        timeout_ms: of the session that a connection gets with its first write.
    """

    name = "http"

    def __init__(self, context: Context, address: str, port: int) -> None:
        self._clock = context.clock
        self._address = address
        self._port = port
        self._gateway: Gateway | None = None
        self._connections: dict[HttpConnection, None] = {}
        self._leaving: dict[Link, None] = {}
        self.sessions = Sessions(context.settings.max_client_cnxns)
        self.openapi = (files("corekit_http") / "openapi.json").read_bytes()
        self.timeout_ms = 2 * IDLE_MS  # `maxSessionTimeout` may cut it; the idle connection should end first

    def now_ms(self) -> int:
        """Milliseconds that never go back."""
        return self._clock.monotonic_ms()

    def bind(self, gateway: Gateway) -> None:
        """Remember the kernel."""
        self._gateway = gateway

    def listeners(self) -> Sequence[tuple[str, int, Any | None]]:
        """The port of the settings."""
        return [(self._address, self._port, None)]

    def open(self, peer: Peer, woken: Callable[[ClientSession], None]) -> ClientSession:
        """A client connected."""
        self._step()
        assert self._gateway is not None
        connection = HttpConnection(self, self._gateway, peer, woken)
        self._connections[connection] = None
        return connection

    def gone(self, connection: HttpConnection) -> None:
        """Its socket is closed."""
        self._connections.pop(connection, None)
        self._step()

    def leave(self, link: Link) -> None:
        """A link that nobody needs any more; it may have something to finish."""
        link.leave()
        if link.ended is None:
            self._leaving[link] = None

    def _step(self) -> None:
        for link in list(self._leaving):
            link.step()
            if link.ended is not None:
                del self._leaving[link]

    def may_stream(self) -> bool:
        """Whether there is room for one more stream."""
        return sum(connection.streams for connection in self._connections) < STREAMS_MAX

    async def look_after(self, gateway: Gateway) -> None:
        """Keep streams alive and close what is idle, for ever."""
        while True:
            await trio.sleep(_LOOK_S)
            self.look_around()

    def look_around(self) -> None:
        """Do once what `look_after` does for ever."""
        self._step()
        self.sessions.step()
        now_ms = self.now_ms()
        for connection in list(self._connections):
            connection.look_after(now_ms)
