"""A TCP proxy inside the test's event loop that breaks connections in every way a network can.

`cut` closes what is open, `refusing` closes what comes, `frozen` lets nothing through in either direction without
closing anything, `deaf` lets requests through and holds the answers back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream

BROKEN = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Proxy:
    """Made by `proxy_to`."""

    def __init__(self, target: int, address: str, port: int) -> None:
        self.target = target
        self.address = address
        self.port = port
        self.refusing = False
        self.accepted = 0
        self.sent: list[bytearray] = []  # the first 64 KB that each client sent
        self._frozen = False
        self._deaf = False
        self._changed = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def hosts(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._scopes)

    @property
    def frozen(self) -> bool:
        return self._frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._frozen = value
        self._wake()

    @property
    def deaf(self) -> bool:
        return self._deaf

    @deaf.setter
    def deaf(self, value: bool) -> None:
        self._deaf = value
        self._wake()

    def cut(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def serve(self, client: SocketStream) -> None:
        self.accepted += 1
        async with client:
            if self.refusing:
                return
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    server = await anyio.connect_tcp("127.0.0.1", self.target)
                    async with server, anyio.create_task_group() as tasks:
                        tasks.start_soon(self._pump, client, server, False, scope)
                        tasks.start_soon(self._pump, server, client, True, scope)
                except BROKEN:
                    pass
                finally:
                    self._scopes.discard(scope)

    async def _pump(self, source: SocketStream, sink: SocketStream, answers: bool, scope: anyio.CancelScope) -> None:
        kept = bytearray()
        if not answers:
            self.sent.append(kept)
        try:
            while True:
                data = await source.receive()
                kept += data[: 65536 - len(kept)]
                while self._frozen or (answers and self._deaf):
                    await self._changed.wait()
                await sink.send(data)
        except BROKEN:
            scope.cancel()


@asynccontextmanager
async def proxy_to(target: int, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy before a port of this machine, on an address and port of its own (0: any that is free)."""
    listener = await anyio.create_tcp_listener(local_host=address, local_port=port)
    proxy = Proxy(target, address, listener.extra(SocketAttribute.local_port))
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()
