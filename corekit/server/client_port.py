"""The client port's fast path: one trio task, one epoll, all plain sockets.

A task a connection costs 15-30 us a wake-up, more than a request. So one task waits on an epoll object and then
receives, decodes, handles and sends for every socket that is ready, without awaiting. What does not fit (TLS, other
transports, platforms without epoll) goes through `streams.py`, with the same sessions.

Rules
- A reply leaves in the turn in which it was made; only what the socket does not take waits in `unsent`.
- A client whose requests must wait (`ClientSession.paused`) is not read from; TCP holds it back.
- A client that does not read its replies is not read from either, and is closed above `CLIENT_OUT_BYTES_MAX`.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import trio

from corekit.api import ClientProtocol, ClientSession, Peer
from corekit.errors import ProtocolError
from corekit.limits import CLIENT_OUT_BYTES_MAX, CLIENT_OUT_PAUSE_BYTES
from corekit.native import mypyc_attr
from corekit.server import rules
from corekit.server.admission import Admission
from corekit.server.sockets import peer_of, receive, send

log: Final = logging.getLogger("corekit.client")

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_ACCEPTS_A_TURN: Final = 64
_TURNS_WITHOUT_TRIO_S: Final = 0.005  # other tasks (timers, admin) get their turn about this often
_LINGER_S: Final = 0.001  # while there is traffic, wait here for more: the way through trio's own epoll costs 30-50 us
_STAY_S: Final = 0.003  # without an event for so long, wait in trio
_EVENTS_MAX: Final = 512
_AT_ONCE: Final = 64  # clients whose requests, or whose replies, are in memory together
_JOINED_BYTES: Final = 256 * 1024  # ... and of replies no more than about so much
_SPIN_S: Final = 0.00005  # a client that has its answer often asks again within this time; to be woken takes as long
_SPIN_FOR_DISK_S: Final = 0.0005  # a client that waits for the disk alone has its answer a sixth sooner
_TURN_S: Final = 0.0005  # a turn takes in what arrives meanwhile for so long at most
_TURN_BYTES: Final = 16384  # ... and until it received so much: writing it to disk and receiving more overlap then


class _Client:
    """One socket and its session."""

    __slots__ = ("ended", "fd", "interest", "more", "peer", "session", "sock", "unsent")

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.session: ClientSession
        self.unsent = b""
        self.interest = _IN
        self.ended = False  # it sends no more, and is closed when it has its last answer
        self.more = False  # its requests stopped because the replies were much, not because the server is behind


@mypyc_attr(allow_interpreted_subclasses=True)
class FastPort:
    """Serves clients on plain sockets.

    Args:
        begin_turn: called before the events of a turn are handled (sets the clocks).
        end_turn: called after them (proposes what was prepared); says how many writes are under way.
        admission: who may connect.
        alone: there are no other servers, so that the answer to a write waits for this server's disk only.

    Attributes:
        bytes_received, bytes_sent: of clients, so far.
        dropped: connections that ended, so far.
    """

    def __init__(
        self,
        begin_turn: Callable[[], None],
        end_turn: Callable[[], int],
        admission: Admission,
        *,
        alone: bool = False,
    ) -> None:
        self._begin_turn = begin_turn
        self._end_turn = end_turn
        self._admission = admission
        self._alone = alone
        self._epoll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._listeners: dict[int, tuple[socket.socket, ClientProtocol]] = {}
        self._wakers: dict[int, Callable[[int], None]] = {}
        self._woken: list[ClientSession] = []
        self._by_session: dict[ClientSession, _Client] = {}
        self._stalled: set[_Client] = set()
        self._accept_again_at = 0.0
        self._spin_until = 0.0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.dropped = 0

    def listen(self, plain: socket.socket, protocol: ClientProtocol) -> None:
        """Accept the connections of a listening socket."""
        self._listeners[plain.fileno()] = (plain, protocol)
        self._epoll.register(plain.fileno(), _IN)

    def watch(self, fd: int, ready: Callable[[int], None]) -> None:
        """Call `ready` with the events in a turn when a descriptor (the disk worker's, a link's) is readable."""
        self._wakers[fd] = ready
        self._epoll.register(fd, _IN)

    def rewatch(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor that is about to be closed."""
        if self._wakers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Serve until cancelled."""
        poll = self._epoll.poll
        clock = time.perf_counter
        last_checkpoint = last_event = clock()
        while True:
            events: list[tuple[int, int]] = []
            while not events and clock() < self._spin_until:
                events = poll(0, _EVENTS_MAX)
            if not events:
                events = poll(_LINGER_S, _EVENTS_MAX)
            now = clock()
            if events:
                self._turn(events)
                last_event = now
            elif now - last_event > _STAY_S:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                last_checkpoint = last_event = clock()
                continue
            if now - last_checkpoint > _TURNS_WITHOUT_TRIO_S:
                await trio.lowlevel.checkpoint()
                last_checkpoint = clock()

    def _turn(self, events: list[tuple[int, int]]) -> None:
        """Handle events, and what happens meanwhile, so that the writes of many clients are proposed together.

        A look that finds one event only is the last: whoever is alone does not wait for others.
        """
        self._begin_turn()
        until = time.perf_counter() + _TURN_S
        full, sent = self.bytes_received + _TURN_BYTES, self.bytes_sent
        while events:
            self._handle(events)
            if len(events) == 1 or self.bytes_received > full or time.perf_counter() > until:
                break
            events = self._epoll.poll(0, _EVENTS_MAX)
        writing = self._end_turn()
        self.send_woken()
        # While there are many writes, the disk worker needs the processor, and without clients the other servers may.
        if writing == 1 and self._alone:
            self._spin_until = time.perf_counter() + _SPIN_FOR_DISK_S
        elif self.bytes_sent > sent and not writing:
            self._spin_until = time.perf_counter() + _SPIN_S
        else:
            self._spin_until = 0.0

    def _handle(self, events: list[tuple[int, int]]) -> None:
        """Links, the disk and listeners first: nothing is received from a client that they close."""
        clients = self._clients
        for fd, event in events:
            if fd not in clients:
                self._other(fd, event)
        ready: list[_Client] = []
        for fd, event in events:
            client = clients.get(fd)
            if client is None:
                continue
            if event & ~_OUT:
                ready.append(client)  # what is unsent goes with the answer: it may be the last one
            else:
                self._send([client], [client.unsent])
        for at in range(0, len(ready), _AT_ONCE):
            self._receive(ready[at : at + _AT_ONCE])

    def _other(self, fd: int, event: int) -> None:
        ready = self._wakers.get(fd)
        if ready is not None:
            ready(event)
        elif fd in self._listeners:
            self._accept(fd)

    def _wake(self, session: ClientSession) -> None:
        self._woken.append(session)

    def send_woken(self) -> None:
        """Send what commits, watches and expiry left for clients; go on with those whose requests had to wait."""
        served: set[_Client] = set()
        while True:
            while self._woken:
                woken, self._woken = self._woken, []
                clients = [self._by_session[session] for session in dict.fromkeys(woken) if session in self._by_session]
                self._deliver(clients, fed=False)
            if not self._stalled or not self._resume(served):
                return
            self._end_turn()

    def _resume(self, served: set[_Client]) -> bool:
        """Read on from clients that need not wait any more; whether there were any.

        Args:
            served: who had a slice of large replies in this turn; the others' turn comes first.
        """
        resumed = False
        for client in list(self._stalled):
            if client in served or client.session.paused() or len(client.unsent) > CLIENT_OUT_PAUSE_BYTES:
                continue
            resumed = True
            client.more = False
            self._stalled.discard(client)
            if self._feed(client, b""):
                self._deliver([client], fed=True)
            if client.more:
                served.add(client)
            if client.fd in self._clients and client not in self._stalled:
                self._interest(client)
        return resumed

    def _deliver(self, clients: list[_Client], *, fed: bool) -> None:
        """Send what sessions have; when that is so much that requests wait for it, go on in the next turn.

        Args:
            clients: no one twice.
            fed: they have just been given bytes, so they are not to be read from while they wait for something else.
        """
        waiting: list[_Client] = []
        owners: list[_Client] = []
        outs: list[bytes] = []
        joined = 0
        for client in clients:
            session = client.session
            if session.paused():
                waiting.append(client)
            out = session.take()
            if out or client.unsent or session.closing is not None:
                data = _joined(client, out)
                owners.append(client)
                outs.append(data)
                joined += len(data)
                if joined > _JOINED_BYTES or len(owners) == _AT_ONCE:
                    self._send(owners, outs)
                    owners, outs, joined = [], [], 0
        if owners:
            self._send(owners, outs)
        for client in waiting:
            if client.fd in self._clients:
                client.more = not client.session.paused()
                if fed or client.more:
                    self._stalled.add(client)
                    self._interest(client)

    # ---------------------------------------------------------------------------------------- sockets
    def _accept(self, fd: int) -> None:
        plain, protocol = self._listeners[fd]
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, name = plain.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._accept_failed(fd, error)
                return
            peer = peer_of(name)
            why = self._admission.refuse(peer)
            if why is not None:
                log.warning("connection refused", extra={"why": why, "peer": peer.address})
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Client(sock, peer)
            session = rules.session(protocol, protocol.open(peer, self._wake))
            if session is None:
                self._admission.gone(peer)
                sock.close()
                continue
            client.session = session
            self._admission.opened(session)
            self._clients[client.fd] = client
            self._by_session[session] = client
            self._epoll.register(client.fd, _IN)
            self._receive([client])  # most clients have sent their first packet by now

    def _accept_failed(self, fd: int, error: OSError) -> None:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        log.error("cannot accept connections: raise the limit of open files (ulimit -n)", extra={"error": str(error)})
        self._epoll.modify(fd, 0)
        self._accept_again_at = time.monotonic() + 0.1

    def poll_listeners(self) -> None:
        """Called from time to time: accept again after the process ran out of file descriptors."""
        if self._accept_again_at and time.monotonic() >= self._accept_again_at:
            self._accept_again_at = 0.0
            for fd in self._listeners:
                self._epoll.modify(fd, _IN)

    def _receive(self, clients: list[_Client]) -> None:
        """Hand what arrived to the sessions, then answer all: a reply wakes its client, which takes the processor."""
        fed: list[_Client] = []
        for client, data in zip(clients, receive([client.fd for client in clients]), strict=True):
            if isinstance(data, int):
                if data != errno.EAGAIN:
                    self._close(client, os.strerror(data))
            elif not data:
                self._end_of_input(client)
            else:
                self.bytes_received += len(data)
                if self._feed(client, data):
                    fed.append(client)
        self._deliver(fed, fed=True)

    def _end_of_input(self, client: _Client) -> None:
        client.ended = client.session.closing is not None and bool(client.unsent)
        client.session.end_of_input()
        self._send([client], [_joined(client, client.session.take())])
        if client.ended and client.fd in self._clients:  # the end of its last answer is on its way
            self._interest(client)
        elif client.fd in self._clients:
            self._close(client, client.session.closing or "client closed the connection")

    def _feed(self, client: _Client, data: bytes) -> bool:
        try:
            client.session.received(data)
        except ProtocolError as error:
            log.warning("connection closed", extra={"why": str(error), "peer": client.peer.address})
            self._close(client, str(error))
            return False
        return True

    def _send(self, clients: list[_Client], outs: list[bytes]) -> None:
        for client, data, sent in zip(clients, outs, send([client.fd for client in clients], outs), strict=True):
            self._sent(client, data, sent)

    def _sent(self, client: _Client, data: bytes, sent: int) -> None:
        """What became of data that was sent: the bytes that the socket took, or minus an errno."""
        if sent < 0:
            if sent != -errno.EAGAIN:
                self._close(client, os.strerror(-sent))
                return
            sent = 0
        self.bytes_sent += sent
        if sent < len(data) or client.unsent:
            before, client.unsent = client.unsent, data[sent:]
            if len(client.unsent) > CLIENT_OUT_BYTES_MAX:
                log.warning("client does not read its replies", extra={"peer": client.peer.address})
                self._close(client, "client does not read its replies")
                return
            if len(client.unsent) > CLIENT_OUT_PAUSE_BYTES:
                self._stalled.add(client)
            if bool(before) != bool(client.unsent):
                self._interest(client)
        if client.session.closing is not None and not client.unsent:
            self._close(client, client.session.closing)

    def _interest(self, client: _Client) -> None:
        wanted = (0 if client in self._stalled or client.ended else _IN) | (_OUT if client.unsent or client.more else 0)
        if wanted != client.interest:
            client.interest = wanted
            self._epoll.modify(client.fd, wanted)

    def _close(self, client: _Client, why: str) -> None:
        if self._clients.pop(client.fd, None) is None:
            return
        self.dropped += 1
        self._epoll.unregister(client.fd)
        del self._by_session[client.session]
        self._stalled.discard(client)
        self._admission.closed(client.session)
        self._admission.gone(client.peer)
        client.session.closed(why)
        client.sock.close()

    # -------------------------------------------------------------------------------------- whole port
    def close_session(self, session: ClientSession, why: str) -> None:
        """Close one client (handshake overdue)."""
        client = self._by_session.get(session)
        if client is not None:
            self._close(client, why)

    def __len__(self) -> int:
        return len(self._clients)

    def close(self) -> None:
        """Close every socket, listeners included."""
        for client in list(self._clients.values()):
            self._close(client, "server stops")
        self._epoll.close()


def _joined(client: _Client, out: list[bytes]) -> bytes:
    """What a client has not got yet."""
    try:
        data = b"".join(out)
    except TypeError:
        raise rules.no_bytes(client.session, out) from None
    return client.unsent + data if client.unsent else data


def plain_socket(listener: Any) -> socket.socket | None:
    """The listening socket of a listener that the fast path can serve, else None."""
    plain = getattr(listener, "plain", None)
    return plain if isinstance(plain, socket.socket) else None
