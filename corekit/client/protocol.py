"""One connection of a client, without a socket: calls in and bytes out, bytes in and events out.

Rules
- `open` first; `feed` then yields `Opened`; only after that may anything else be sent.
- Replies come in the order of the calls (`pending`). A reply that does not fit, or bytes that make no sense, give a
  `Broken` event; after it nothing more is read. Everything before it was delivered.
- Nothing here waits, knows the time (it is an argument) or outlives the connection. What does is in `session.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeVar

from corekit.client.op import Request
from corekit.client.paths import path_text
from corekit.client.watches import Watch
from corekit.codec import ops, records
from corekit.codec.jute import Reader
from corekit.errors import ProtocolError

T = TypeVar("T")

_SIZE = Struct(">i")
_HEAD = Struct(">iii")
_REPLY = Struct(">iqi")
_unpack_size = _SIZE.unpack_from
_unpack_reply = _REPLY.unpack_from
_PING = _HEAD.pack(8, ops.XID_PING, ops.PING)
_XID_MAX = 0x7FFFFFFF


class Call(Generic[T]):
    """A request on its way, and then its answer.

    Attributes:
        body: encoded, with the chroot.
        skip: length of the chroot, cut from paths in the answer.
        watch: registered when the answer says that the server has set it.
        sent: it has left, so that a write may have happened.
        abandoned: nobody waits for it any more.
        done: `error` or `value` holds the answer.
        err: the code in the answer.
        wake: called once when it is done.
        bound: it is meant for one session, not for one that takes its place.
        beat_at: when it was sent, if it is a heartbeat; else 0.
    """

    __slots__ = (
        "abandoned",
        "beat_at",
        "body",
        "bound",
        "done",
        "err",
        "error",
        "request",
        "sent",
        "skip",
        "value",
        "wake",
        "watch",
    )

    def __init__(self, request: Request[T], chroot: bytes = b"", watch: Watch | None = None) -> None:
        self.request = request
        self.body = request.body(chroot)
        self.skip = len(chroot)
        self.watch = watch
        self.sent = False
        self.abandoned = False
        self.bound = False
        self.done = False
        self.err = 0
        self.value: T | None = None
        self.error: Exception | None = None
        self.wake: Callable[[], None] | None = None
        self.beat_at = 0.0

    @property
    def path(self) -> str | None:
        """The request's path as its caller knows it."""
        return None if self.request.path is None else path_text(self.request.path)

    def finish(self, error: Exception | None = None) -> None:
        """The answer is there."""
        self.error = error
        self.done = True
        if self.wake is not None:
            self.wake()

    def result(self) -> T:
        """The answer's value, or raise its error. Only when `done`."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # without an error there is one


class Opened(NamedTuple):
    """The server's answer to the connect request; `timeout_ms` 0 is a refusal."""

    timeout_ms: int
    session_id: int
    password: bytes
    read_only: bool


class Fired(NamedTuple):
    """A watch event, with the server's path."""

    zxid: int
    type: int
    path: bytes


class Pong(NamedTuple):
    """A ping was answered that had been sent at this time."""

    sent_at: float


class Authenticated(NamedTuple):
    """The oldest auth packet was answered; `err` 0 is success."""

    err: int


class Broken(NamedTuple):
    """The server sent something impossible. The connection must be dropped."""

    error: ProtocolError


Event = Call[Any] | Opened | Fired | Pong | Authenticated | Broken


class Connection:
    """See the module.

    Args:
        packet_bytes_max: bounds what the server may send in one packet.
        last_xid: of the session's last request on its connection before. ZooKeeper's followers know the answer to a
            request by session and xid, so within a session no xid may come again soon.
    """

    __slots__ = ("_out", "_pings", "_rest", "last_xid", "last_zxid", "opened", "packet_bytes_max", "pending")

    def __init__(self, packet_bytes_max: int, last_xid: int = 0) -> None:
        self.packet_bytes_max = packet_bytes_max
        self.opened = False
        self.pending: deque[Call[Any]] = deque()
        self.last_zxid = 0
        self._out: list[bytes] = []
        self._rest = b""
        self._pings: deque[float] = deque()
        self.last_xid = last_xid

    # Out
    def open(self, request: records.ConnectRequest) -> None:
        """Ask for a session, or to attach to one. Must be first."""
        self._out.append(records.frame(request.encode()))

    def send(self, call: Call[Any]) -> None:
        """Queue a call's packet; its answer will be an event."""
        self.last_xid = xid = self.last_xid + 1 if self.last_xid < _XID_MAX else 1
        body = call.body
        call.sent = True
        self._out.append(_HEAD.pack(len(body) + 8, xid, call.request.op))
        self._out.append(body)
        self.pending.append(call)

    def send_ping(self, now: float) -> None:
        """Queue a ping; a `Pong` will follow."""
        self._pings.append(now)
        self._out.append(_PING)

    def send_auth(self, scheme: str, data: bytes) -> None:
        """Queue credentials; an `Authenticated` will follow."""
        body = records.AuthPacket(0, scheme.encode(), data).encode()
        self._out.append(records.request(ops.XID_AUTH, ops.AUTH, body))

    def send_watches(self, op: int, body: bytes) -> None:
        """Queue one packet that puts watches back. Its reply says nothing of interest and gives no event."""
        self._out.append(records.request(ops.XID_SET_WATCHES, op, body))

    @property
    def unsent(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._out)

    def take(self) -> bytes:
        """Everything to be written now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # In
    def feed(self, data: bytes) -> list[Event]:
        """Events in these bytes, in order. Incomplete packets wait for the next call."""
        buf = self._rest + data if self._rest else data
        events: list[Event] = []
        pos = 0
        size = len(buf)
        reader = Reader(buf)
        try:
            while size - pos >= 4:
                length: int = _unpack_size(buf, pos)[0]
                if not 0 <= length <= self.packet_bytes_max:
                    raise ProtocolError(f"packet of {length} bytes; the client accepts {self.packet_bytes_max}")
                end = pos + 4 + length
                if end > size:
                    break
                reader.pos = pos + 4
                reader.end = end
                if self.opened:
                    self._reply(reader, events)
                else:
                    events.append(self._handshake(reader))
                pos = end
        except ProtocolError as error:
            events.append(Broken(error))
        self._rest = buf[pos:]
        return events

    def _handshake(self, reader: Reader) -> Opened:
        response = records.ConnectResponse.decode(reader)
        self.opened = response.timeout_ms > 0
        return Opened(response.timeout_ms, response.session_id, response.password or b"", bool(response.read_only))

    def _reply(self, reader: Reader, events: list[Event]) -> None:
        start = reader.pos
        if start + 16 > reader.end:
            raise ProtocolError("packet shorter than a reply header")
        xid, zxid, err = _unpack_reply(reader.buf, start)
        reader.pos = start + 16
        if zxid > self.last_zxid:
            self.last_zxid = zxid
        if xid > 0:
            if not self.pending or xid != self._xid_due():
                raise ProtocolError(f"reply to request {xid}, but {self._xid_due()} is due")
            call = self.pending[0]  # stays there if its answer cannot be read
            call.err = err
            if not err:
                call.value = call.request.decode(reader, call.skip)
            del self.pending[0]
            events.append(call)
        elif xid == ops.XID_NOTIFICATION:
            event = records.WatcherEvent.decode(reader)
            events.append(Fired(zxid, event.type, event.path or b""))
        elif xid == ops.XID_PING:
            if not self._pings:
                raise ProtocolError("answer to a ping that was not sent")
            events.append(Pong(self._pings.popleft()))
        elif xid == ops.XID_AUTH:
            events.append(Authenticated(err))
        elif xid != ops.XID_SET_WATCHES:
            raise ProtocolError(f"reply with xid {xid}")

    def _xid_due(self) -> int:
        """The xid of the oldest pending call: xids are consecutive, so it follows from the newest."""
        due = self.last_xid - len(self.pending) + 1
        return due if due > 0 else due + _XID_MAX


def packet_size(call: Call[Any]) -> int:
    """Bytes of a call's packet as the server counts them against its limit."""
    return len(call.body) + 8
