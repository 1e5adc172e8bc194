"""The network of a world: connections as TCP gives them - bytes in order, late, in pieces, held back, or lost with
their connection - between clients and servers and between servers.

Rules
- A connection is two directed pipes. Bytes arrive in order after a delay of their own; a delay never reorders.
- A cut direction holds bytes back; they arrive when it is healed, unless the connection has been given up first.
- A process that dies resets its connections. A machine that loses power is silent: the other side learns of it from
  its own timeouts, or by sending once the machine is back.

Not here: who cuts what (`faults.py`), the listeners (`corekit.builtin.memory_transport`).
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream

from corekit.builtin.memory_transport import MemoryStream, MemoryTransport
from corekit.client.dial import Dial
from corekit.client.hosts import Host

CHUNK = 64 * 1024


@dataclass(slots=True)
class Weather:
    """How the network behaves now, in seconds.

    Attributes:
        delay, jitter: every piece of bytes takes `delay` and up to `jitter` more.
        slow_share: this share of pieces takes twenty times as long.
        split_share: this share of what is sent arrives in two pieces.
    """

    delay: float = 0.0002
    jitter: float = 0.001
    slow_share: float = 0.0
    split_share: float = 0.0


class Pipe:
    """One direction of a connection.

    Attributes:
        source, target: names of the two sides.
        reset: the connection is broken for the reader.
    """

    def __init__(self, net: Net, source: str, target: str) -> None:
        self._net = net
        self.source = source
        self.target = target
        self.reset = False
        self.lost = False  # nothing arrives any more, and nobody is told
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._last = 0.0
        self._changed = trio.Event()

    def put(self, data: bytes | None) -> None:
        """Send bytes, or None: the end."""
        if self.reset or self.lost:
            return
        for piece in self._net.pieces(data):
            self._last = max(self._last, trio.current_time() + self._net.draw_delay())
            self._queue.append((self._last, piece))
        self._wake()

    def break_off(self) -> None:
        """What is on its way is lost; the reader gets a reset."""
        self.reset = True
        self._queue.clear()
        self._wake()

    def vanish(self) -> None:
        """What is on its way, and all that follows, is lost in silence."""
        self.lost = True
        self._queue.clear()

    async def get(self) -> bytes | None:
        """What arrives next; None at the end.

        Raises:
            trio.BrokenResourceError: the connection was reset.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self.reset:
                raise trio.BrokenResourceError("connection reset")
            if self._net.blocked(self.source, self.target):
                await self._net.changed.wait()
            elif not self._queue:
                await self._changed.wait()
            elif self._queue[0][0] > trio.current_time():
                with trio.move_on_at(self._queue[0][0]):
                    await self._changed.wait()
            else:
                return self._queue.popleft()[1]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Connection:
    """Two pipes between two names.

    Attributes:
        there: bytes from `source` to `target`; `back`: the others.
    """

    def __init__(self, net: Net, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.there = Pipe(net, source, target)
        self.back = Pipe(net, target, source)

    def break_off(self) -> None:
        """Reset it for both sides."""
        self.there.break_off()
        self.back.break_off()

    def vanish(self) -> None:
        """Lose it in silence: neither side is told."""
        self.there.vanish()
        self.back.vanish()


class ClientStream(ByteStream):
    """A client's end of a connection, as anyio knows streams."""

    def __init__(self, connection: Connection) -> None:
        self._out = connection.there
        self._in = connection.back
        self._rest = b""
        self._closed = False

    async def send(self, item: bytes) -> None:
        """Send; never waits for the reader."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise anyio.ClosedResourceError
        if self._in.reset:
            raise anyio.BrokenResourceError
        self._out.put(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What has arrived."""
        if self._closed:
            raise anyio.ClosedResourceError
        if not self._rest:
            try:
                data = await self._in.get()
            except trio.BrokenResourceError:
                raise anyio.BrokenResourceError from None
            if data is None:
                raise anyio.EndOfStream
            self._rest = data
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def send_eof(self) -> None:
        """Send no more."""
        await trio.lowlevel.checkpoint()
        self._out.put(None)

    async def aclose(self) -> None:
        """Close both directions."""
        if not self._closed:
            self._closed = True
            self._out.put(None)
        await trio.lowlevel.checkpoint()


class Net:
    """All connections of a world.

    Attributes:
        weather: delays from now on.
        cuts: (source, target) names that nothing passes between, in this direction; `heal` and `cut` change it.
        silent: names of machines without power: who dials them waits.
        connections: those that are open.
        holds: by the name of a server, what waits while its process is paused.
        changed: set when something of this has changed, and then replaced.
    """

    def __init__(self, nursery: trio.Nursery, random: Random) -> None:
        self.weather = Weather()
        self.cuts: set[tuple[str, str]] = set()
        self.silent: set[str] = set()
        self.connections: list[Connection] = []
        self.holds: dict[str, Callable[[], Awaitable[None]]] = {}
        self.changed = trio.Event()
        self._nursery = nursery
        self._random = random

    # What pipes ask
    def blocked(self, source: str, target: str) -> bool:
        """Whether nothing passes."""
        return (source, target) in self.cuts

    def draw_delay(self) -> float:
        """Seconds for one piece."""
        weather = self.weather
        delay = weather.delay + self._random.random() * weather.jitter
        return delay * 20 if self._random.random() < weather.slow_share else delay

    def pieces(self, data: bytes | None) -> list[bytes | None]:
        """In how many pieces bytes arrive."""
        if data is not None and len(data) > 1 and self._random.random() < self.weather.split_share:
            at = self._random.randrange(1, len(data))
            return [data[:at], data[at:]]
        return [data]

    # What faults do
    def change(self) -> None:
        """Let all who wait look again."""
        self.changed.set()
        self.changed = trio.Event()

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass in this direction."""
        self.cuts.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """Let what was held back, and what follows, pass."""
        self.cuts.discard((source, target))
        self.change()

    def heal_all(self) -> None:
        """The network is whole."""
        self.cuts.clear()
        self.change()

    def of(self, name: str) -> list[Connection]:
        """The open connections of a client or server."""
        return [one for one in self.connections if name in (one.source, one.target)]

    # Clients
    def dialler(self, source: str) -> Dial:
        """For `corekit.client.connect(dial=...)`: connections of the client called `source`; hosts are servers' names.

        They go to the names that the servers listen on over `memory-transport`.
        """

        async def dial(host: Host, seconds: float, tls: ssl.SSLContext | None) -> ByteStream:
            with trio.move_on_after(seconds):
                return await self._dial(source, host.name, host.port)
            raise TimeoutError

        return dial

    async def reach(self, source: str, target: str) -> None:
        """Wait until a first packet has gone there and back."""
        while True:
            await trio.sleep(2 * self.draw_delay())
            if not (self.blocked(source, target) or self.blocked(target, source) or target in self.silent):
                return
            await self.changed.wait()

    async def _dial(self, source: str, target: str, port: int) -> ByteStream:
        await self.reach(source, target)
        stream: MemoryStream = await MemoryTransport().connect(target, port)
        connection = self.connect(source, target)
        self._nursery.start_soon(self._relay, connection, stream)
        return ClientStream(connection)

    def connect(self, source: str, target: str) -> Connection:
        """A new connection, without anything at its ends."""
        connection = Connection(self, source, target)
        self.connections.append(connection)
        return connection

    def gone(self, connection: Connection) -> None:
        """It has ended."""
        if connection in self.connections:
            self.connections.remove(connection)

    async def _relay(self, connection: Connection, stream: Any) -> None:
        hold = self.holds[connection.target]

        async def there() -> None:
            try:
                while (data := await connection.there.get()) is not None:
                    await hold()
                    await stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            stream.close()

        async def back() -> None:
            try:
                while data := await stream.receive_some(CHUNK):
                    connection.back.put(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            connection.back.put(None)
            connection.there.break_off()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(there)
            nursery.start_soon(back)
        self.gone(connection)
