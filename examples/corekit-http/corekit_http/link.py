"""One connection into the kernel: requests with a function for the answer, events, and the session on it.

The kernel speaks ZooKeeper's frames; this is the only place that sees them. Answers come in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from corekit.api import Gateway, GatewayConnection, Peer
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import AuthPacket, ConnectRequest, ConnectResponse, WatcherEvent, frame, request
from corekit.errors import AUTH_FAILED, CONNECTION_LOSS, SESSION_EXPIRED, ProtocolError

Done = Callable[[int, int, Reader], None]  # error code (0: none), zxid, the reply's body
Event = Callable[[int, bytes, int], None]  # type, path, zxid

_HEAD = Struct(">iqi")
_NOTHING = Reader(b"")
_XID_MAX = 0x7FFFFFFF


class TooLarge(Exception):
    """A request above `jute.maxbuffer`."""


class Link:
    """A connection into the kernel.

    Args:
        changed: called from within the kernel when there is something to do: call `step`, but later in the turn, as the
            kernel may be in the middle of a transaction.
        lost: called once when the kernel has closed it; the code is that of unanswered requests, the text says why.
        event: called for what a watch saw.

    Attributes:
        session: the answer to `attach`, once it was granted.
        ended: what `lost` was called with.
    """

    def __init__(
        self,
        gateway: Gateway,
        peer: Peer,
        changed: Callable[[], None],
        lost: Callable[[int, str], None],
        event: Event | None = None,
    ) -> None:
        self._gateway = gateway
        self._changed = changed
        self._lost = lost
        self._event = event
        self._calls: dict[int, Done] = {}
        self._logins: list[Done] = []
        self._waiting = b""  # frames that the kernel has not taken
        self._xid = 0
        self._code = CONNECTION_LOSS
        self._attaching = self._leaving = self._busy = False
        self.session: ConnectResponse | None = None
        self.ended: tuple[int, str] | None = None
        self._connection: GatewayConnection = gateway.connect(peer, lambda _: self._news())

    @property
    def overloaded(self) -> bool:
        """Whether further requests should wait."""
        return self.ended is None and self._gateway.overloaded(self._connection)

    @property
    def has_session(self) -> bool:
        """Whether writes are possible, now or soon."""
        return self._attaching or self.session is not None

    def admit(self) -> None:
        """Read and watch without a session."""
        self._gateway.admit(self._connection)
        self.step()

    def attach(self, timeout_ms: int, session_id: int = 0, password: bytes = bytes(16)) -> None:
        """Open a session, or come back to one. Requests wait until it is granted."""
        self._attaching = True
        body = ConnectRequest(0, 0, timeout_ms, session_id, password, False).encode()
        self._gateway.attach(self._connection, body)
        self.step()

    def login(self, scheme: str, data: bytes) -> None:
        """Prove who it is. If that fails the link is lost."""
        self._logins.append(self._logged_in)
        self._send(frame(request(ops.XID_AUTH, ops.AUTH, AuthPacket(0, scheme.encode(), data).encode())[4:]))

    def _logged_in(self, code: int, zxid: int, body: Reader) -> None:
        if code:
            self._code = AUTH_FAILED

    def ask(self, op: int, body: bytes, done: Done) -> None:
        """A request; `done` is called with the answer, perhaps before this returns. Never called if the link is lost.

        Raises:
            TooLarge: it is larger than the server takes.
        """
        if len(body) + 8 > self._gateway.frame_bytes_max:
            raise TooLarge
        self._xid = self._xid % _XID_MAX + 1
        self._calls[self._xid] = done
        self._send(request(self._xid, op, body))

    def _send(self, data: bytes) -> None:
        self._waiting += data
        self.step()

    def step(self) -> None:
        """Hand over requests and answers as far as they go."""
        if self._busy or self.ended is not None:
            return
        self._pass_on()
        if self.ended is not None:
            return
        if self._connection.closing is not None:
            self._end(self._connection.closing)
        elif self._leaving and not self._calls and not self._waiting:
            if self.session is not None:
                self._gateway.feed(self._connection, request(self._xid + 1, ops.CLOSE_SESSION, b""))
            self._end("the client is gone")

    def _news(self) -> None:
        """The kernel calls, perhaps in the middle of its work."""
        if self.ended is None and (self._attaching or self._leaving) and not self._busy:
            self._pass_on()  # what waited for the session goes on in the turn that brought it
        self._changed()

    def _pass_on(self) -> None:
        self._busy = True
        try:
            while self._hand_over() or self._take():
                pass
        finally:
            self._busy = False

    def _hand_over(self) -> bool:
        if not self._waiting or self._attaching or not self._connection.ready:
            return False
        try:
            used = self._gateway.feed(self._connection, self._waiting)
        except ProtocolError as error:
            self._end(str(error))
            return False
        self._waiting = self._waiting[used:]
        return used > 0

    def _take(self) -> bool:
        connection = self._connection
        connection.queued = False
        connection.owed = 0
        if not connection.out:
            return False
        data = b"".join(connection.out)
        connection.out = []
        at = 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            self._frame(data[at + 4 : end])
            at = end
        return True

    def _frame(self, data: bytes) -> None:
        if data[:4] == bytes(4):  # no request has the xid 0
            self._attached(ConnectResponse.decode(Reader(data)))
            return
        xid, zxid, code = _HEAD.unpack_from(data)
        body = Reader(data[_HEAD.size :])
        if xid == ops.XID_NOTIFICATION:
            if self._event is not None:
                seen = WatcherEvent.decode(body)
                self._event(seen.type, seen.path or b"", zxid)
        elif xid == ops.XID_AUTH:
            self._logins.pop(0)(code, zxid, body)
        elif xid in self._calls:
            self._calls.pop(xid)(code, zxid, body)
        else:
            raise ProtocolError(f"an answer to nothing (xid {xid})")

    def _attached(self, answer: ConnectResponse) -> None:
        self._attaching = False
        if answer.session_id:
            self.session = answer
        else:
            self._code = SESSION_EXPIRED

    def leave(self) -> None:
        """Nobody is interested any more: what was asked is done, then the session ends with the link.

        While it is not `ended`, `step` is to be called from time to time.
        """
        self._leaving = True
        self._changed = lambda: None
        self._event = None
        self._lost = lambda code, why: None
        self.step()

    def _end(self, why: str) -> None:
        if self.ended is None:
            self.ended = (self._code, why)
            self._calls.clear()
            self._gateway.disconnect(self._connection)
            self._lost(self._code, why)
