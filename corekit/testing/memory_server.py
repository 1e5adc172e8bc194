"""A real kernel in memory: heart, storage, consensus; no sockets, no thread, and a clock that the test moves.

    server = MemoryServer()
    server.run(protocol)                  # binds it
    line = Line(server, protocol)         # a client's connection
    line.send(b"...")
    server.settle()                       # what was written is durable and answered
    line.got                              # every byte that the client has received

Rules
- Nothing is durable before `settle` (or `sync`), so a test sees what a protocol does while a write is pending.
- A line treats its session exactly as the server's ports do: what a paused session may not read waits, what is closing
  is closed once everything is sent, a `ProtocolError` closes at once.

Not here: what a client says (`protocol.py`), sockets (the transport in memory, with a whole server).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from corekit.api import AuthScheme, ClientProtocol, ClientSession, Observer, Peer
from corekit.builtin.memory import MemoryStorage
from corekit.builtin.solo import SoloConsensus
from corekit.config import Settings, load
from corekit.errors import ProtocolError
from corekit.hooks import Context
from corekit.server.disk import DiskWorker
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry
from corekit.server.server import replica_options
from corekit.server.view import View

PEER = Peer("127.0.0.1", 40_000)
START_MS = 1_000_000
START_WALL_MS = 1_700_000_000_000

_TICK_MS = 100


class _InlineDisk(DiskWorker):
    """Does in `completed` what the real one does in a thread."""

    _queue: deque[tuple[Callable[[], Any], Callable[[Any], None]]]

    def start(self) -> None:
        """There is no thread."""
        self._queue = deque()

    def stop(self) -> None:
        """Do what is queued."""
        self.completed()

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """For `completed`."""
        self._queue.append((job, done))

    def sync(self, durable: Callable[[], None]) -> None:
        """For `completed`."""
        self._queue.append((self._storage.sync, lambda _: durable()))

    def completed(self) -> None:
        """Do what is queued."""
        while self._queue:
            job, done = self._queue.popleft()
            done(job())

    def __len__(self) -> int:
        return len(self._queue)


class _Clock:
    """The clocks of a server, for its plugins."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def monotonic_ms(self) -> int:
        """For timeouts."""
        return self._server.now_ms

    def wall_ms(self) -> int:
        """For people."""
        return self._server.wall_ms


class MemoryServer:
    """One server.

    Args:
        settings: as in the configuration file, by key.
        schemes: authentication schemes by name.

    Attributes:
        kernel: the `Gateway` that protocols are bound to.
        now_ms, wall_ms: its clocks.
        lines: connections that are open.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        schemes: Mapping[str, AuthScheme] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        options = {"4lw.commands.whitelist": "*", **(settings or {})}
        self.settings: Settings = load(environ={}, options=[(k, v, "the test") for k, v in options.items()]).settings
        self.now_ms = START_MS
        self.wall_ms = START_WALL_MS
        self.random = Random(1)
        storage = MemoryStorage()
        kernel = Kernel(
            replica_options(self.settings),
            storage,
            SoloConsensus(),
            schemes or {},
            observers,
            server_id=1,
            retain_entries=0,
        )
        kernel.disk = self._disk = _InlineDisk(storage, None, kernel._disk_failed, lambda: 0.0, 1.0)
        kernel.view = View(kernel, self.settings, Registry())
        self.kernel = kernel
        self.lines: list[Line] = []
        self._woken: list[Line] = []
        recovery = kernel.recover()
        self._set_time()
        kernel.start(recovery)

    def context(self, name: str = "plugin") -> Context:
        """What a plugin is given when it is wired."""
        return Context(
            name=name,
            settings=self.settings,
            options=self.settings.plugin_options.get(name, {}),
            data_dir=self.settings.data_dir,
            logger=logging.getLogger(f"corekit.plugin.{name}"),
            clock=_Clock(self),
            random=self.random,
        )

    @property
    def sessions(self) -> set[int]:
        """Ids of the sessions that live."""
        return set(self.kernel.replica.sessions.sessions)

    @property
    def outstanding(self) -> int:
        """Writes that are proposed and not decided."""
        return self.kernel.replica.outstanding

    def _set_time(self) -> None:
        self.kernel.replica.set_time(self.now_ms, self.wall_ms)

    def turn(self, work: Callable[[], object]) -> None:
        """Do something as a turn of the event loop, and send what it leaves for other clients."""
        self._set_time()
        work()
        self.kernel.end_turn()
        self._send_woken()

    def wake(self, line: Line) -> None:
        """A session has something to send."""
        self._woken.append(line)

    def _send_woken(self) -> None:
        while self._woken:
            woken, self._woken = self._woken, []
            for line in woken:
                line.flush()

    def sync(self) -> None:
        """Make durable what was proposed so far; answers go out."""
        self.turn(self._disk.completed)

    def settle(self) -> None:
        """The same until nothing is pending, with reading resumed where it had to wait."""
        for _ in range(100_000):
            self.sync()
            resumed = [line.resume() for line in list(self.lines)]
            if not len(self._disk) and not self.outstanding and not any(resumed):
                return
        raise AssertionError("the server does not come to rest")

    def later(self, ms: int) -> None:
        """Let time pass: sessions expire, containers go."""
        end = self.now_ms + ms
        while self.now_ms < end:
            step = min(_TICK_MS, end - self.now_ms)
            self.now_ms += step
            self.wall_ms += step
            self.turn(self.kernel.replica.tick)
            self.settle()

    def run(self, protocol: ClientProtocol) -> None:
        """Bind a protocol, as at the start of a server."""
        protocol.bind(self.kernel)


class Line:
    """One client's connection.

    Attributes:
        got: every byte that was sent to the client.
        waiting: bytes of the client that the server would not read yet.
        why: why the connection was closed, or "" while it is open.
        pauses: how often the session would not be read from.
    """

    def __init__(self, server: MemoryServer, protocol: ClientProtocol, peer: Peer = PEER) -> None:
        self.server = server
        self.got = b""
        self.waiting = b""
        self.why = ""
        self.pauses = 0
        self._stalled = False
        self.session: ClientSession
        self._woken: list[ClientSession] = []
        server.turn(lambda: self._open(protocol, peer))

    def _open(self, protocol: ClientProtocol, peer: Peer) -> None:
        session = protocol.open(peer, self._wake)
        if session is None:
            self.why = "refused"
            return
        self.session = session
        self.server.lines.append(self)

    def _wake(self, session: ClientSession) -> None:
        self._woken.append(session)  # it may be woken while it is opened
        self.server.wake(self)

    def send(self, data: bytes) -> None:
        """Bytes of the client arrive, in one piece."""
        self.waiting += data
        if not self.why and not self._stalled:
            self._receive()

    def _receive(self) -> None:
        data, self.waiting = self.waiting, b""
        self.server.turn(lambda: self._feed(data))

    def _feed(self, data: bytes) -> None:
        why: str | None = None
        try:
            self.session.received(data)
        except ProtocolError as error:
            why = str(error)
        if why is not None:
            assert why, "a ProtocolError says why: it goes into the log"
            self.close(why)
            return
        self.flush()
        if not self.why:
            self._stalled = self._stalled or self._paused()
            self.pauses += self._stalled

    def _paused(self) -> bool:
        paused = self.session.paused()
        assert isinstance(paused, bool)
        return paused

    def resume(self) -> bool:
        """Go on reading if the session was paused and is not any more; whether it did."""
        if self.why or not self._stalled or self._paused():
            return False
        self._stalled = False
        self._receive()
        return True

    def flush(self) -> None:
        """Send what the session has."""
        if self.why:
            return
        assert all(session is self.session for session in self._woken), "woken with another session"
        self._woken.clear()
        self._stalled = self._stalled or self._paused()  # perhaps only until what it has now is taken
        chunks = self.session.take()
        assert isinstance(chunks, list), "take gives a list"
        data = b"".join(chunks)
        self.got += data
        chunks.clear()  # it is the caller's
        if self.session.closing is not None:
            assert isinstance(self.session.closing, str)
            self.close(self.session.closing)

    def end(self) -> None:
        """The client sends no more."""
        if not self.why:
            self.server.turn(self.session.end_of_input)
            self.flush()

    def close(self, why: str = "the client is gone") -> None:
        """The connection ends."""
        if not self.why:
            self.why = why or "closed"
            self.server.lines.remove(self)
            self.session.closed(self.why)
