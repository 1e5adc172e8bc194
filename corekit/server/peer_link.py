"""Links to the other servers of an ensemble: sockets on the client port's epoll, so that a message costs no task hop.

What arrives is handed to consensus in the turn in which it arrived; what consensus sends in a turn leaves at its end,
one write a link. Dialling (resolving the name anew each time, connecting) is done by a task. Consensus bounds what
waits on a link (`send` tells it how much does), this file bounds nothing but one read.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final

import trio

from corekit.api import EnsembleConsensus
from corekit.errors import UserError
from corekit.server.client_port import FastPort
from corekit.server.members import MemberAddresses
from corekit.server.sockets import peer_of, receive

log: Final = logging.getLogger("corekit.ensemble")

_JOIN_BYTES: Final = 64 * 1024
_ACCEPTS_A_TURN: Final = 16
_UNKNOWN_MAX: Final = 64  # connections from unknown addresses that wait for a lookup
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class _Link:
    __slots__ = ("closing", "fd", "full", "kind", "number", "out", "peer", "sock", "waiting")

    def __init__(self, number: int, kind: str, peer: str) -> None:
        self.number = number
        self.kind = kind
        self.peer = peer
        self.sock: socket.socket | None = None  # None while it is being dialled
        self.fd = -1
        self.out: list[bytes | memoryview] = []
        self.waiting = 0
        self.full = False  # the socket takes no more for now
        self.closing = False


class PeerLinks:
    """The links of one server (`server.ensemble.Links`).

    Args:
        port: whose epoll is shared.
        turn: runs something as a turn of its own.
        connect_timeout_ms: for dialling.
        keep_alive: SO_KEEPALIVE on links.
        members: whose addresses may connect; None: any.
    """

    def __init__(
        self,
        port: FastPort,
        consensus: EnsembleConsensus,
        nursery: trio.Nursery,
        turn: Callable[[Callable[[], object]], None],
        *,
        connect_timeout_ms: int,
        keep_alive: bool,
        members: MemberAddresses | None = None,
    ) -> None:
        self._port = port
        self._consensus = consensus
        self._nursery = nursery
        self._turn = turn
        self._connect_timeout_s = connect_timeout_ms / 1000
        self._keep_alive = keep_alive
        self._members = members
        self._unknown = 0  # connections whose address is being looked up
        self._links: dict[int, _Link] = {}
        self._dirty: list[_Link] = []
        self._next = 1

    # ------------------------------------------------------------------------------ asked by consensus
    def dial(self, kind: str, host: str, port: int) -> int:
        """Open a link; `link_opened` or `link_closed` follows."""
        link = self._new(kind, f"{host}:{port}")
        self._nursery.start_soon(self._dial, link, host, port)
        return link.number

    def send(self, link: int, data: bytes) -> int:
        """Queue bytes; how many wait now."""
        one = self._links.get(link)
        if one is None:
            return 0
        if not one.out:
            self._dirty.append(one)
        one.out.append(data)
        one.waiting += len(data)
        return one.waiting

    def close(self, link: int, why: str) -> None:
        """Close after what was sent. No event follows."""
        one = self._links.pop(link, None)
        if one is None:
            return
        log.debug("link closed", extra={"peer": one.peer, "kind": one.kind, "why": why})
        one.closing = True
        if one.sock is not None:
            self._flush(one)
            self._release(one)

    # ------------------------------------------------------------------------------------------ sockets
    def listen(self, plain: socket.socket, kind: str) -> None:
        """Accept links of a kind on a listening socket."""
        self._port.watch(plain.fileno(), lambda _: self._accept(plain, kind))

    def _accept(self, plain: socket.socket, kind: str) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, name = plain.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                log.error("no file descriptor is left for another server", extra={"error": str(error)})
                return
            address = peer_of(name).address
            if self._members is None or self._members.knows(address):
                self._accepted(sock, kind, address)
            elif self._unknown < _UNKNOWN_MAX:
                self._unknown += 1
                self._nursery.start_soon(self._look_up, self._members, sock, kind, address)
            else:
                sock.close()

    def _accepted(self, sock: socket.socket, kind: str, address: str) -> None:
        link = self._new(kind, address)
        self._attach(link, sock)
        self._consensus.link_opened(link.number, kind, address, False)

    async def _look_up(self, members: MemberAddresses, sock: socket.socket, kind: str, address: str) -> None:
        try:
            admitted = await members.admits(address, kind)
        except BaseException:
            sock.close()
            raise
        finally:
            self._unknown -= 1
        if admitted:
            self._turn(lambda: self._accepted(sock, kind, address))
        else:
            sock.close()

    async def _dial(self, link: _Link, host: str, port: int) -> None:
        why = f"no connection within {self._connect_timeout_s:g} s"
        stream = None
        with trio.move_on_after(self._connect_timeout_s):
            try:
                stream = await trio.open_tcp_stream(host, port, happy_eyeballs_delay=0.05)
            except OSError as error:
                why = str(error)
        if stream is None:
            self._turn(lambda: self._lost(link, why))
            return
        sock = socket.socket(fileno=os.dup(stream.socket.fileno()))
        await stream.aclose()
        if link.closing:
            sock.close()
            return

        def opened() -> None:
            self._attach(link, sock)
            self._consensus.link_opened(link.number, link.kind, link.peer, True)

        self._turn(opened)

    def _new(self, kind: str, peer: str) -> _Link:
        link = _Link(self._next, kind, peer)
        self._next += 1
        self._links[link.number] = link
        return link

    def _attach(self, link: _Link, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._keep_alive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.sock = sock
        link.fd = sock.fileno()
        self._port.watch(link.fd, lambda event: self._ready(link, event))

    def _ready(self, link: _Link, event: int) -> None:
        if event & ~_OUT:
            self._receive(link)
        if event & _OUT and link.sock is not None:
            self._flush(link)

    def _receive(self, link: _Link) -> None:
        assert link.sock is not None
        data = receive([link.fd])[0]
        if isinstance(data, int):
            if data != errno.EAGAIN:
                self._lost(link, os.strerror(data))
        elif data:
            self._consensus.link_data(link.number, data)
        else:
            self._lost(link, "the other end closed the link")

    def _lost(self, link: _Link, why: str) -> None:
        """The link is gone without our doing."""
        if self._links.pop(link.number, None) is None:
            return
        self._release(link)
        self._consensus.link_closed(link.number, why)

    def _release(self, link: _Link) -> None:
        link.closing = True
        link.out.clear()
        link.waiting = 0
        if link.sock is not None:
            self._port.unwatch(link.fd)
            link.sock.close()
            link.sock = None

    def flush(self) -> None:
        """End of a turn: write what was sent in it."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for link in dirty:
                if link.sock is not None and link.out:
                    self._flush(link)

    def _flush(self, link: _Link) -> None:
        assert link.sock is not None
        if not link.out:
            return
        out = link.out
        while out:
            # What a slow peer left behind is not joined and copied again each time it takes a little of it.
            joined = len(out) > 1 and len(out[0]) < _JOIN_BYTES
            data = b"".join(out) if joined else out[0]
            try:
                sent = link.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                out.clear()
                if not link.closing:
                    self._lost(link, error.strerror or "the link broke")
                return
            link.waiting -= sent
            if sent < len(data):
                out[: len(out) if joined else 1] = [memoryview(data)[sent:]]
                if not link.full:
                    link.full = True
                    self._port.rewatch(link.fd, _IN | _OUT)
                return
            del out[: len(out) if joined else 1]
        if not link.closing:
            self._consensus.link_drained(link.number)
        if link.sock is None:
            return
        more = bool(link.out)  # of a long history: in a turn of its own, so that clients do not wait for all of it
        if more:
            self._dirty.remove(link)
        if more != link.full:
            link.full = more
            self._port.rewatch(link.fd, _IN | _OUT if more else _IN)

    def close_all(self) -> None:
        """The server stops."""
        for link in list(self._links):
            self.close(link, "the server stops")


def plain_of(listener: Any) -> socket.socket:
    """The plain socket of a listener for other servers; links need one.

    Raises:
        UserError: the transport has none.
    """
    plain = getattr(listener, "plain", None)
    if not isinstance(plain, socket.socket):
        raise UserError("servers of an ensemble need a transport with plain sockets, such as tcp")
    return plain
