"""One client connection as the heart sees it: who it is, what it waits for, and the bytes to send to it. No socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from corekit.api import Identity, Peer
from corekit.model.sessions import Session


class Connection:
    """State of one client connection.

    Requests of one connection are answered in order. Writes are proposed at once; a read that comes after the
    connection's own pending writes is held until they are committed (`held`), reads of others are not delayed by
    them. A sync and a write are answered by different ways, so one waits for the other (`behind`).

    Attributes:
        out: encoded replies and events to send, in order.
        woken: called once when `out` becomes non-empty or `closing` is set outside of a call to `Replica.feed` for this
            connection; the owner of the socket sets it.
        queued: `woken` was called and the owner has not taken `out` yet.
        submitted, done: own writes and syncs handed on and answered so far.
        syncs: how many of those that are not answered are syncs.
        held: (own writes to wait for, xid, op, body) of reads that wait.
        behind: (xid, op, body) of requests that wait until a write or sync before them may go, and it first of all.
        ready: the session is established; requests are only fed after that.
        closing: why the connection is to be closed once `out` is sent, or None.
        established_ms, received, sent, last_*: for `cons` and the admin port.
    """

    __slots__ = (
        "__weakref__",
        "behind",
        "closing",
        "done",
        "established_ms",
        "held",
        "identities",
        "last_latency_ms",
        "last_op",
        "last_response_ms",
        "last_xid",
        "last_zxid",
        "max_latency_ms",
        "min_latency_ms",
        "out",
        "owed",
        "peer",
        "queued",
        "read_only",
        "ready",
        "received",
        "sent",
        "session",
        "session_id",
        "submitted",
        "syncs",
        "timeout_ms",
        "total_latency_ms",
        "woken",
    )

    def __init__(
        self, peer: Peer, identities: list[Identity], woken: Callable[[Connection], None], now_ms: int
    ) -> None:
        self.peer = peer
        self.identities = identities
        self.woken = woken
        self.queued = False
        self.out: list[bytes] = []
        self.owed = 0  # bytes of big replies in `out`; above a bound its further requests wait
        self.session: Session | None = None
        self.session_id = 0
        self.timeout_ms = 0
        self.read_only = False
        self.ready = False
        self.closing: str | None = None
        self.submitted = 0
        self.done = 0
        self.syncs = 0
        self.held: deque[tuple[int, int, int, bytes]] = deque()
        self.behind: deque[tuple[int, int, bytes]] = deque()
        self.established_ms = now_ms
        self.received = 0
        self.sent = 0
        self.last_op = 0
        self.last_xid = 0
        self.last_zxid = 0
        self.last_response_ms = now_ms
        self.last_latency_ms = 0
        self.min_latency_ms = 0
        self.max_latency_ms = 0
        self.total_latency_ms = 0

    def wake(self) -> None:
        """Tell the owner that there is something to send (or that the connection is to be closed)."""
        if not self.queued:
            self.queued = True
            self.woken(self)

    def close(self, why: str) -> None:
        """Ask the owner to close the connection after sending what is in `out`."""
        if self.closing is None:
            self.closing = why
            self.ready = False
            self.wake()
