"""The transport in memory: listeners with names inside one process, for tests of a whole server without sockets.

    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = await MemoryTransport().connect("", 2181)

Rules
- Every trio run is a network of its own: a name is free again in the next run, whatever the last one left behind.
- An address is any text; an empty one (or `0.0.0.0`, `::`) is reached under every name. Port 0 picks a free number.
- A stream holds up to `BUFFER_BYTES` that its reader has not taken; then the sender waits, as with sockets.

Not here: links between servers of an ensemble, which need plain sockets.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import trio

from corekit.api import API_VERSION, Peer
from corekit.errors import EXIT_PORT, UserError
from corekit.hooks import Context, hookimpl

kind = "transport"
api_version = API_VERSION
suite = "corekit.testing.own.memory_transport"

BUFFER_BYTES = 64 * 1024

_BACKLOG = 1024
_FIRST_FREE_PORT = 49152
_ANY = frozenset(("", "0.0.0.0", "::", "*"))


class _Pipe:
    """One direction: bytes that were sent and not received.

    Attributes:
        ended: the sender sends no more.
        broken: one of the two sides is gone.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.broken = False
        self._changed = trio.Event()

    def change(self) -> None:
        """Let who waits look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self) -> None:
        """Until something has changed."""
        await self._changed.wait()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection.

    Attributes:
        number: of the connection, the same at both ends.
    """

    def __init__(self, number: int, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.number = number
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = False
        self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; waits while the other end does not read."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await self._send_all(memoryview(data))
        finally:
            self._sending = False

    async def _send_all(self, view: memoryview) -> None:
        pipe = self._outgoing
        await self._checked_send(pipe)
        while view:
            room = BUFFER_BYTES - len(pipe.data)
            if room <= 0:
                await pipe.wait()
                await self._checked_send(pipe)
                continue
            pipe.data += view[:room]
            view = view[room:]
            pipe.change()

    async def _checked_send(self, pipe: _Pipe) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed or pipe.ended:
            raise trio.ClosedResourceError("this stream was closed here")
        if pipe.broken:
            raise trio.BrokenResourceError("the other end is closed")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._closed and not self._outgoing.broken and len(self._outgoing.data) >= BUFFER_BYTES:
                await self._outgoing.wait()
            if self._closed or self._outgoing.ended:
                raise trio.ClosedResourceError("this stream was closed here")
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Send no more; the other end reads what was sent and then the end."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed here")
        self._outgoing.ended = True
        self._outgoing.change()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, b"" at the end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            pipe = self._incoming
            while not pipe.data and not pipe.ended and not self._closed:
                await pipe.wait()
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed here")
            taken = bytes(pipe.data[:max_bytes])
            del pipe.data[: len(taken)]
            pipe.change()
            return taken
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both directions."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same at once: the other end reads what was sent, and can send no more."""
        self._closed = True
        self._outgoing.ended = True
        self._incoming.broken = True
        self._incoming.data.clear()
        self._outgoing.change()
        self._incoming.change()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Where clients arrive.

    Attributes:
        address, port: as listened on; the port is never 0.
    """

    def __init__(self, network: _Network, address: str, port: int, backlog: int) -> None:
        self.address = address
        self.port = port
        self._network = network
        self._arrive, self._arrived = trio.open_memory_channel[MemoryStream](backlog)

    async def connect(self, number: int) -> MemoryStream:
        """A client's end of a new connection; waits while too many are not accepted."""
        here, there = _Pipe(), _Pipe()
        accepted = MemoryStream(number, here, there)
        try:
            await self._arrive.send(accepted)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionRefusedError(f"nobody listens on memory:{self.address}:{self.port}") from None
        return MemoryStream(number, there, here)

    async def accept(self) -> MemoryStream:
        """The next connection."""
        return await self._arrived.receive()

    async def aclose(self) -> None:
        """Accept no more. Who has connected and was not accepted is sent away."""
        if self._network.listeners.get((self.address, self.port)) is self:
            del self._network.listeners[self.address, self.port]
        while True:
            try:
                self._arrived.receive_nowait().close()
            except (trio.WouldBlock, trio.ClosedResourceError):
                break
        self._arrived.close()
        await trio.lowlevel.checkpoint()


class _Network:
    """The listeners of one trio run."""

    def __init__(self) -> None:
        self.listeners: dict[tuple[str, int], MemoryListener] = {}
        self.numbers = itertools.count(1)

    def free_port(self) -> int:
        taken = {port for _, port in self.listeners}
        return next(port for port in itertools.count(_FIRST_FREE_PORT) if port not in taken)


_networks: WeakKeyDictionary[trio.lowlevel.TrioToken, _Network] = WeakKeyDictionary()


def _network() -> _Network:
    return _networks.setdefault(trio.lowlevel.current_trio_token(), _Network())


def _name(address: str) -> str:
    return "" if address in _ANY else address


class MemoryTransport:
    """Connections inside this process."""

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        """Take a name."""
        network, name = _network(), _name(address)
        if (name, port) in network.listeners:
            raise UserError(
                f"cannot listen on memory:{name}:{port}: the port is in use. Choose another with --client-port",
                EXIT_PORT,
            )
        port = port or network.free_port()
        listener = MemoryListener(network, name, port, backlog if backlog > 0 else _BACKLOG)
        network.listeners[name, port] = listener
        return [listener if tls is None else trio.SSLListener(listener, tls)]

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        """Connect to a listener of the same trio run.

        Raises:
            ConnectionRefusedError: there is none.
        """
        network, name = _network(), _name(address)
        listener = network.listeners.get((name, port)) or network.listeners.get(("", port))
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens on memory:{name}:{port}")
        stream = await listener.connect(next(network.numbers))
        return stream if tls is None else trio.SSLStream(stream, tls, server_hostname=name or "localhost")

    def peer(self, stream: Any) -> Peer:
        """The number of the connection stands for a port."""
        secure = isinstance(stream, trio.SSLStream)
        inner = stream.transport_stream if secure else stream
        return Peer("memory", inner.number, secure)

    def describe(self, listener: Any) -> str:
        """`memory:name:port`."""
        inner: Any = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
        return f"memory:{inner.address}:{inner.port}"


@hookimpl
def make_transport(context: Context) -> MemoryTransport:
    """Connections inside this process."""
    return MemoryTransport()
