"""A network that can fail between servers on one machine: a TCP proxy for every directed pair of them.

Server `a` is told that the ports of server `b` are those of the proxy for (a, b). What may go wrong is kept by
direction of travel, not by who dialled, so that a partition can be asymmetric:

    stall(a, b)      bytes from a to b wait, and are delivered after `heal` (as TCP does when packets are dropped);
                     new connections between the two come up only when both directions work
    refuse(a, b)     connections that a dials to b are reset, old and new ones
    reset(a, b)      connections between a and b are reset once
    half_open(a, b)  b loses its ends without a noticing: a's ends stay open and silent for ever
    delay(a, b, ms)  bytes from a to b arrive later

A target that does not listen cannot be shown as a refused connection, because the proxy has accepted it already. It is
dialled again for a moment before the near end is reset: Apache ZooKeeper's learners dial a leader again that refuses,
but take a reset for its end, and leave it waiting for a quorum (`initLimit`).

Everything is done by one thread. The methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

Pair = tuple[int, int]

_CHUNK = 64 * 1024
_HELD_MAX = 512 * 1024  # bytes held in one direction before its sender is not read any more
_NAP_S = 0.25
_REDIAL_S, _REDIAL_FOR_S = 0.02, 0.5
_RESET = struct.pack("ii", 1, 0)


class _Pipe:
    """One direction of one connection."""

    def __init__(self, pair: Pair, source: socket.socket) -> None:
        self.pair = pair
        self.source = source
        self.sink: socket.socket | None = None
        self.held: deque[tuple[float, bytes]] = deque()
        self.held_bytes = 0
        self.full = False  # the sink takes no more for now
        self.ended = False  # the source has closed
        self.shut = False  # and the sink was told


class _Connection:
    """A connection of the dialler to the proxy, and (once both directions work) of the proxy to the target."""

    def __init__(self, link: _Link, near: socket.socket) -> None:
        self.link = link
        self.near = near
        self.far: socket.socket | None = None
        self.connecting = False
        self.redial_at = 0.0
        self.redial_until = 0.0  # from the first dial on
        self.dead = False  # half-open: the far end is gone, and the near end does not know
        dialler, target = link.pair
        self.there = _Pipe((dialler, target), near)
        self.back: _Pipe | None = None

    def pipes(self) -> list[_Pipe]:
        return [self.there] if self.back is None else [self.there, self.back]


class _Link:
    """A listening port: what `pair[0]` dials to reach one port of `pair[1]`."""

    def __init__(self, pair: Pair, target: tuple[str, int]) -> None:
        self.pair = pair
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(False)
        self.port = int(self.listener.getsockname()[1])


class Network:
    """All proxies of one ensemble. Use it as a context manager."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._connections: set[_Connection] = set()
        self._stalled: set[Pair] = set()
        self._refused: set[Pair] = set()
        self._delays: dict[Pair, float] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._waker, self._wakee = socket.socketpair()
        self._wakee.setblocking(False)
        self._selector.register(self._wakee, selectors.EVENT_READ, self._wakee)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="test-network", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------- for the tests
    def link(self, source: int, target: int, port: int) -> int:
        """The port at which `source` reaches the port `port` of `target`."""
        link = _Link((source, target), ("127.0.0.1", port))

        def add() -> None:
            self._links.append(link)
            self._selector.register(link.listener, selectors.EVENT_READ, link)

        self._do(add)
        return link.port

    def stall(self, source: int, target: int) -> None:
        """See above."""
        self._do(lambda: self._stalled.add((source, target)))

    def refuse(self, source: int, target: int) -> None:
        """See above."""

        def refuse() -> None:
            self._refused.add((source, target))
            self._each({(source, target)}, self._abort)

        self._do(refuse)

    def reset(self, one: int, other: int) -> None:
        """See above."""
        self._do(lambda: self._each({(one, other), (other, one)}, self._abort))

    def half_open(self, alive: int, gone: int) -> None:
        """See above."""

        def lose(connection: _Connection) -> None:
            lost = connection.near if connection.link.pair[0] == gone else connection.far
            connection.dead = True
            for sock in (connection.near, connection.far):
                if sock is not None:
                    self._unregister(sock)
            if lost is not None:
                _abort_socket(lost)

        self._do(lambda: self._each({(alive, gone), (gone, alive)}, lose))

    def delay(self, source: int, target: int, ms: float) -> None:
        """See above. 0 ends it."""
        self._do(lambda: self._delays.__setitem__((source, target), ms / 1000))

    def partition(self, one: set[int], other: set[int], both_ways: bool = True) -> None:
        """Stall everything from `one` to `other`, and back."""
        for a in one:
            for b in other:
                self.stall(a, b)
                if both_ways:
                    self.stall(b, a)

    def heal(self) -> None:
        """The network works again. Connections that are half-open stay so until their owner closes them."""

        def heal() -> None:
            self._stalled.clear()
            self._refused.clear()
            self._delays.clear()

        self._do(heal)

    def close(self) -> None:
        """Close everything, and end the thread."""
        self._stopping = True
        self._wake()
        self._thread.join(10)
        for link in self._links:
            link.listener.close()
        for connection in list(self._connections):
            self._abort(connection)
        self._selector.close()
        self._waker.close()
        self._wakee.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --------------------------------------------------------------------------------------- the thread
    def _do(self, job: Callable[[], None]) -> None:
        """Run `job` in the thread and wait for it."""
        done = threading.Event()

        def run() -> None:
            job()
            done.set()

        with self._lock:
            self._jobs.append(run)
        self._wake()
        if not done.wait(10):
            raise RuntimeError("the test network hangs")

    def _wake(self) -> None:
        self._waker.send(b"x")

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select(self._nap()):
                if isinstance(key.data, _Link):
                    self._accept(key.data)
                elif isinstance(key.data, _Connection):
                    self._ready(key.data, key.fileobj, events)
                else:
                    with contextlib.suppress(BlockingIOError):
                        key.data.recv(4096)
            while self._jobs:
                self._jobs.popleft()()
            for connection in list(self._connections):
                self._advance(connection)

    def _nap(self) -> float:
        now = time.monotonic()
        pipes = [pipe for one in self._connections if not one.dead for pipe in one.pipes()]
        # What has no sink, or one that is full, may be due for long: another event comes first.
        dues = [pipe.held[0][0] for pipe in pipes if pipe.held and pipe.sink and not pipe.full and self._open(pipe)]
        waiting = [one for one in self._connections if one.far is None and one.redial_until]
        dues += [one.redial_at for one in waiting if self._usable(one)]
        return max(0.0, min([_NAP_S, *(due - now for due in dues)]))

    def _open(self, pipe: _Pipe) -> bool:
        return pipe.pair not in self._stalled

    def _usable(self, connection: _Connection) -> bool:
        dialler, target = connection.link.pair
        return (dialler, target) not in self._stalled and (target, dialler) not in self._stalled

    def _each(self, pairs: set[Pair], act: Callable[[_Connection], None]) -> None:
        for connection in list(self._connections):
            if connection.link.pair in pairs:
                act(connection)

    def _accept(self, link: _Link) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            near, _ = link.listener.accept()
            near.setblocking(False)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if link.pair in self._refused:
                _abort_socket(near)
                return
            connection = _Connection(link, near)
            self._connections.add(connection)
            self._advance(connection)

    def _ready(self, connection: _Connection, sock: object, events: int) -> None:
        if connection not in self._connections or connection.dead:
            return
        if connection.connecting and sock is connection.far:
            assert connection.far is not None
            if connection.far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._refused_by_target(connection)
                return
            connection.connecting = False
            dialler, target = connection.link.pair
            connection.there.sink = connection.far
            connection.back = _Pipe((target, dialler), connection.far)
            connection.back.sink = connection.near
        elif events & selectors.EVENT_READ:
            for pipe in connection.pipes():
                if pipe.source is sock and not pipe.ended:
                    self._read(connection, pipe)

    def _refused_by_target(self, connection: _Connection) -> None:
        assert connection.far is not None
        now = time.monotonic()
        if now >= connection.redial_until:
            self._abort(connection)
            return
        self._unregister(connection.far)
        connection.far.close()
        connection.far, connection.connecting = None, False
        connection.redial_at = now + _REDIAL_S

    def _read(self, connection: _Connection, pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            if self._open(pipe):
                self._abort(connection)
            else:
                pipe.ended = True
            return
        if data:
            pipe.held.append((time.monotonic() + self._delays.get(pipe.pair, 0.0), data))
            pipe.held_bytes += len(data)
        else:
            pipe.ended = True

    def _advance(self, connection: _Connection) -> None:
        """Dial, deliver what is due, and say what to wait for."""
        if connection not in self._connections or connection.dead:
            return
        now = time.monotonic()
        if connection.far is None and self._usable(connection) and now >= connection.redial_at:
            connection.redial_until = connection.redial_until or now + _REDIAL_FOR_S
            far = socket.socket()
            far.setblocking(False)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.connect_ex(connection.link.target)
            connection.far, connection.connecting = far, True
        for pipe in connection.pipes():
            if pipe.sink is not None and self._open(pipe) and not self._deliver(pipe):
                self._abort(connection)
                return
        pipes = connection.pipes()
        if all(pipe.shut for pipe in pipes) and len(pipes) == 2:
            self._abort(connection)
            return
        self._watch(connection)

    def _deliver(self, pipe: _Pipe) -> bool:
        """False: the sink is gone."""
        assert pipe.sink is not None
        now = time.monotonic()
        pipe.full = False
        while pipe.held and pipe.held[0][0] <= now and not pipe.full:
            due, data = pipe.held.popleft()
            try:
                sent = pipe.sink.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False
            pipe.held_bytes -= sent
            if sent < len(data):
                pipe.held.appendleft((due, data[sent:]))
                pipe.full = True
        if pipe.ended and not pipe.held and not pipe.shut:
            pipe.shut = True
            with contextlib.suppress(OSError):
                pipe.sink.shutdown(socket.SHUT_WR)
        return True

    def _watch(self, connection: _Connection) -> None:
        for sock in (connection.near, connection.far):
            if sock is None:
                continue
            events = 0
            for pipe in connection.pipes():
                if pipe.source is sock and not pipe.ended and pipe.held_bytes < _HELD_MAX:
                    events |= selectors.EVENT_READ
                if pipe.sink is sock and pipe.full and self._open(pipe):
                    events |= selectors.EVENT_WRITE
            if connection.connecting and sock is connection.far:
                events = selectors.EVENT_WRITE
            known = self._selector.get_map().get(sock)
            if known is None:
                if events:
                    self._selector.register(sock, events, connection)
            elif not events:
                self._selector.unregister(sock)
            elif known.events != events:
                self._selector.modify(sock, events, connection)

    def _unregister(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def _abort(self, connection: _Connection) -> None:
        """Reset both ends."""
        self._connections.discard(connection)
        for sock in (connection.near, connection.far):
            if sock is not None and sock.fileno() >= 0:
                self._unregister(sock)
                _abort_socket(sock)


def _abort_socket(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
