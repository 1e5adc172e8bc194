"""One session over all its connections, without a socket or a clock (`now` is an argument, in seconds).

Rules
- Order on a new connection: connect request, then credentials, then watches, then calls in the order they came.
- Calls wait until every credential was answered: none is refused for want of one that is on its way, and after a
  refusal it is certain that none of them happened (only those that were on their way when it was added are unknown).
- When a connection breaks, calls that were not sent stay queued; those that change nothing are sent again, before
  the others; a write that was sent ends as `OutcomeUnknown`. Nothing else is ever repeated.
- The session ends only when a server says so (or its user does): an expiry is never guessed.

How long the session is sure to live (`safe_until`)
The leader of the ensemble expires a session `timeout` after it last heard of it. A follower answers pings by itself
and tells the leader only when the leader pings the follower, every half tick. So the answer to a ping proves nothing
when that follower is cut off. What proves something: (1) the answer to the connect request, because the leader
checks and touches the session: the session lives until that request was sent + timeout; (2) the answer to a `sync`,
which the follower must get from the leader, behind everything it told the leader before: a heartbeat that was
*answered* a quarter of the timeout (at least half a tick, as timeouts are two ticks or more) before the sync was sent
is known to the leader, so the session lives until that heartbeat was sent + timeout. While somebody holds a lease,
heartbeats are therefore syncs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from corekit.client import op
from corekit.client.errors import OutcomeUnknown, server_error
from corekit.client.protocol import Authenticated, Broken, Call, Connection, Fired, Opened, Pong
from corekit.client.watches import CHILD, EXIST, WatchRegistry
from corekit.codec import ops
from corekit.codec.records import ConnectRequest
from corekit.errors import NO_NODE, SESSION_EXPIRED, ConnectionLossError, ProtocolError

NEVER = float("-inf")
LEASE_BEATS = 8  # heartbeats in one timeout while a lease is held
IDLE_BEATS = 4  # and otherwise
SWEEP_AT = 1024  # calls in the queue: those that nobody waits for any more are taken out
RELAY = 0.25  # of the timeout: a heartbeat answered this long ago has reached the leader


class Notice(Enum):
    """What the shell must act on."""

    OPENED = "opened"
    EXPIRED = "expired"
    AUTH_FAILED = "auth failed"
    BROKEN = "broken"


@dataclass(slots=True)
class Credential:
    """Sent on every new connection. `wake` is called when it was accepted (`accepted`), or the session has ended."""

    scheme: str
    data: bytes
    wake: Callable[[], None] | None = None
    accepted: bool = False


@dataclass(slots=True)
class Session:
    """See the module.

    Attributes:
        timeout: seconds; what was asked for until a server has said what it grants.
        flight: how many calls may be sent and unanswered at once.
        allow_read_only: servers without a quorum will do.
        id, password: 0 and zeros until a server grants them.
        server: text of the server's address, for errors.
        read_only: the present server has lost its quorum.
        granted: a server with a quorum has granted this session; before that an id is not worth keeping.
        safe_until: the session cannot have expired at the ensemble before this moment.
        leases: how many bodies depend on `safe_until` now.
        break_reason: why the present connection must be dropped (with `Notice.BROKEN`).
    """

    timeout: float
    flight: int
    packet_bytes_max: int
    allow_read_only: bool = False
    credentials: list[Credential] = field(default_factory=list)
    last_zxid: int = 0
    last_xid: int = 0
    id: int = 0
    password: bytes = bytes(16)
    server: str = ""
    read_only: bool = False
    granted: bool = False
    safe_until: float = NEVER
    leases: int = 0
    break_reason: str = ""
    connection: Connection | None = None
    watches: WatchRegistry = field(default_factory=WatchRegistry)
    queue: deque[Call[Any]] = field(default_factory=deque)
    ended: Callable[[], Exception] | None = None
    _asked_at: float = NEVER
    _sweep_at: int = SWEEP_AT
    _contacts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=4 * LEASE_BEATS))
    _presented: deque[Credential] = field(default_factory=deque)

    @property
    def where(self) -> str:
        """For error messages."""
        return f"{self.server}, session 0x{self.id & 0xFFFFFFFFFFFFFFFF:x}"

    @property
    def beat_every(self) -> float:
        """Seconds between heartbeats now."""
        return self.timeout / (LEASE_BEATS if self.leases else IDLE_BEATS)

    @property
    def silence_max(self) -> float:
        """Seconds without a byte from the server after which the connection is given up."""
        return self.timeout / (3 if self.leases else 2)

    # Connections
    def attach(self, server: str, now: float) -> Connection:
        """A connection was made: begin the handshake on it."""
        self.server = server
        self.connection = connection = Connection(self.packet_bytes_max, self.last_xid)
        connection.last_zxid = self.last_zxid
        self._asked_at = now
        self._contacts.clear()
        self._presented.clear()
        session_id, password = (self.id, self.password) if self.granted else (0, bytes(16))
        timeout_ms = round(self.timeout * 1000)
        connection.open(ConnectRequest(0, self.last_zxid, timeout_ms, session_id, password, self.allow_read_only))
        return connection

    def detach(self, why: str) -> None:
        """The connection is gone."""
        connection = self.connection
        self.connection = None
        if connection is None:
            return
        self.last_zxid = max(self.last_zxid, connection.last_zxid)
        self.last_xid = connection.last_xid
        again: list[Call[Any]] = []
        for call in connection.pending:
            if call.abandoned:
                call.finish(ConnectionLossError(why, path=call.path))
            elif call.beat_at or call.request.op == ops.CLOSE_SESSION:
                call.finish(ConnectionLossError(why))
            elif call.request.retry:
                call.sent = False
                again.append(call)
            else:
                call.finish(self._unknown(call, why))
        self.queue.extendleft(reversed(again))

    def end(self, make_error: Callable[[], Exception], heir: Session | None = None) -> None:
        """The session is over: everything that waits gets this error, and so does whatever comes later.

        A write that was sent ends as `OutcomeUnknown` all the same, with the error as its cause. Calls that change
        nothing and were not meant for this session in particular go on in the `heir`, if there is one.
        """
        self.ended = make_error
        self.leases = 0
        self.safe_until = NEVER
        pending = self.connection.pending if self.connection is not None else ()
        for call in [*pending, *self.queue]:
            if heir is not None and call.request.retry and not call.bound and not call.abandoned:
                call.sent = False
                heir.queue.append(call)
                continue
            error = make_error()
            if call.sent and not call.request.retry:
                unknown = self._unknown(call, str(error))
                unknown.__cause__ = error
                error = unknown
            call.finish(error)
        self.queue.clear()
        self.connection = None
        self.watches.end(make_error)
        for credential in self.credentials:
            if credential.wake is not None:
                credential.wake()

    def _unknown(self, call: Call[Any], why: str) -> OutcomeUnknown:
        error = OutcomeUnknown(call.request.op, call.path, why)
        error.where = self.where
        return error

    # Calls
    def will_watch(self, path: bytes) -> bool:
        """Whether an answer that is still to come may set a one-shot watch on this path."""
        pending = self.connection.pending if self.connection is not None else ()
        return any(call.watch is not None and call.watch.path == path for call in [*pending, *self.queue])

    def submit(self, call: Call[Any]) -> None:
        """Send a call as soon as its turn comes. `Connection.take` then has bytes, if a connection is open."""
        if self.ended is not None:
            call.finish(self.ended())
            return
        self.queue.append(call)
        if len(self.queue) >= self._sweep_at:
            self.queue = deque(waiting for waiting in self.queue if not waiting.abandoned)
            self._sweep_at = max(SWEEP_AT, 2 * len(self.queue))
        self._pump()

    def _pump(self) -> None:
        connection = self.connection
        if connection is None or not connection.opened or self._presented:
            return
        queue = self.queue
        pending = connection.pending
        while queue and len(pending) < self.flight:
            call = queue.popleft()
            if not call.abandoned:
                connection.send(call)

    def beat(self, now: float) -> Call[str] | None:
        """Queue a heartbeat, ahead of calls that wait: a sync while leases are held (and returned), else a ping."""
        assert self.connection is not None
        if not self.leases or self.read_only:
            self.connection.send_ping(now)
            return None
        call = Call(op.sync("/"))
        call.bound = True
        call.beat_at = now
        self.connection.send(call)
        return call

    def add_credential(self, credential: Credential) -> None:
        """Authenticate now, and on every connection to come."""
        self.credentials.append(credential)
        if self.connection is not None and self.connection.opened:
            self._present(credential)

    def _present(self, credential: Credential) -> None:
        assert self.connection is not None
        self._presented.append(credential)
        self.connection.send_auth(credential.scheme, credential.data)

    # Bytes in
    def feed(self, data: bytes, now: float) -> Notice | None:
        """Take bytes from the server, finish calls and fire watches in their order; say if the shell must act."""
        connection = self.connection
        assert connection is not None
        notice: Notice | None = None
        for event in connection.feed(data):
            if event.__class__ is Call:
                self._answer(event, now)
            elif isinstance(event, Fired):
                self.watches.fire(event.type, event.path, event.zxid)
            elif isinstance(event, Pong):
                self._contacts.append((event.sent_at, now))
            elif isinstance(event, Opened):
                notice = self._opened(event)
            elif isinstance(event, Authenticated):
                notice = self._authenticated(event.err) or notice
            elif isinstance(event, Broken):
                self._fail_oversized(connection, event.error)
                self.break_reason = str(event.error)
                notice = Notice.BROKEN
        self.last_zxid = max(self.last_zxid, connection.last_zxid)
        if self.queue:
            self._pump()
        return notice

    def _answer(self, call: Call[Any], now: float) -> None:
        err = call.err
        if call.watch is not None and not call.abandoned:
            self._set_watch(call)
        if not err:
            if call.beat_at:
                self._proved(call.beat_at, now)
            call.finish()
        else:
            call.finish(server_error(err, call.path, call.request.op, self.where))

    def _set_watch(self, call: Call[Any]) -> None:
        """An `exists` is a data watch if there is a node, else it waits for one; errors set nothing else."""
        watch = call.watch
        assert watch is not None
        if call.err == NO_NODE and watch.kind != CHILD and call.request.op == ops.EXISTS:
            watch.kind = EXIST
        elif call.err:
            return
        self.watches.add(watch)

    def _opened(self, opened: Opened) -> Notice:
        if opened.timeout_ms <= 0:
            return Notice.EXPIRED
        assert self.connection is not None
        again = self.granted or self.id != 0
        self.id = opened.session_id
        self.password = opened.password
        self.timeout = opened.timeout_ms / 1000
        self.read_only = opened.read_only
        if not opened.read_only:
            self.granted = True
            self.safe_until = self._asked_at + self.timeout
        for credential in self.credentials:
            self._present(credential)
        if again:
            for code, body in self.watches.restore(self.last_zxid):
                self.connection.send_watches(code, body)
            self.watches.resync()
        self._pump()
        return Notice.OPENED

    def _authenticated(self, err: int) -> Notice | None:
        if err:
            return Notice.AUTH_FAILED
        if self._presented:
            credential = self._presented.popleft()
            credential.accepted = True
            if credential.wake is not None:
                credential.wake()
        return None

    def _proved(self, sent_at: float, now: float) -> None:
        """A sync was answered: the newest heartbeat that the leader must know of says how long the session lives."""
        relayed = [sent for sent, answered in self._contacts if answered <= sent_at - RELAY * self.timeout]
        if relayed:
            self.safe_until = max(self.safe_until, relayed[-1] + self.timeout)
        self._contacts.append((sent_at, now))

    def _fail_oversized(self, connection: Connection, error: ProtocolError) -> None:
        """The answer at hand cannot be read: its call must not be sent again, or it would break every connection."""
        if connection.pending and connection.pending[0].request.retry:
            call = connection.pending.popleft()
            call.finish(error)


def expired() -> Exception:
    """The error of everything that belonged to a session which a server has declared expired."""
    return server_error(SESSION_EXPIRED, None, ops.CREATE_SESSION, "the ensemble")
