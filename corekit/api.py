"""The contracts that plugins implement, and the records that cross them.

Rules
- Contracts are coarse. Consensus and storage are crossed once a batch, authentication once an `auth` packet and
  once for an ACL entry that is not `world:anyone`, transport once a connection. None is crossed once a field.
- Everything here except `Transport` and the blocking methods of `Storage` is called on the event loop and must not
  block. `Storage.sync` runs in the disk worker thread.
- Paths inside the server are UTF-8 `bytes`, transactions ("entries") are `bytes` in ZooKeeper's own encoding
  (TxnHeader, record, optional digest), encoded once and handed on unchanged.
- A zxid is an int: epoch << 32 | counter.

Not here: how plugins are found (`plugins.py`) and the hooks that make these objects (`hooks.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from corekit.limits import API_VERSION as API_VERSION
from corekit.storage_api import BackgroundSync as BackgroundSync
from corekit.storage_api import DiskUsage as DiskUsage
from corekit.storage_api import Recovery as Recovery
from corekit.storage_api import Storage as Storage

# ------------------------------------------------------------------------------------- authentication
Identity = tuple[str, str]  # (scheme, id), as in ZooKeeper's Id record


@dataclass(slots=True)
class Peer:
    """Who is at the other end of a connection, as its transport tells it.

    Attributes:
        address: text of the network address without port ("127.0.0.1", "::1", "unix").
        port: TCP port, 0 if there is none.
        tls: the connection is encrypted.
        identities: identities proved by the transport itself (client certificate, socket credentials).
    """

    address: str
    port: int = 0
    tls: bool = False
    identities: tuple[Identity, ...] = ()


@runtime_checkable
class AuthScheme(Protocol):
    """One authentication scheme, such as `digest`.

    Attributes:
        name: the scheme's name in ACLs.
        authenticated: identities of this scheme stand for somebody (so the ACL scheme `auth` expands to them).
    """

    name: str
    authenticated: bool

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """Identities proved by the data of an `auth` packet, or None if it proves nothing."""

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """Identities that a new connection has by itself (the `ip` scheme); usually none."""

    def valid(self, acl_id: str) -> bool:
        """Whether `acl_id` is well-formed in an ACL of this scheme."""

    def matches(self, identity: str, acl_id: str) -> bool:
        """Whether an identity of this scheme is covered by an ACL entry's id."""


# ------------------------------------------------------------------------------------------ consensus
@dataclass(slots=True)
class ConsensusStatus:
    """What `stat`, `srvr`, `mntr` and the admin port say of the ensemble.

    Attributes:
        mode: ZooKeeper's word: standalone, leader, follower, observer, read-only; or `looking`.
        epoch: current epoch.
        leader: sid of the leader, or None.
        details: further `mntr` lines by key without the prefix `zk_`.
    """

    mode: str
    epoch: int = 0
    leader: int | None = None
    details: dict[str, int | float | str] = field(default_factory=dict)


class ConsensusHost(Protocol):
    """What the kernel offers to a consensus plugin. All calls are synchronous, on the event loop, and never block.

    The host keeps the *tail*: entries that are in the log and not decided yet. At start it is what the log holds
    above the state; `persist` adds to its end, `committed` takes from its front and applies, `truncate` cuts its
    end. Nothing undecided is ever applied, so nothing ever has to be taken back out of the tree.
    """

    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Put entries with consecutive zxids at the end of log and tail.

        `Consensus.persisted(last_zxid)` follows once they are durable; several calls may be answered by one.
        """

    def committed(self, upto_zxid: int) -> None:
        """Every entry of the tail up to here is decided: apply, answer, fire watches.

        In an ensemble this can come before the entry is durable here: it is durable on a quorum.
        """

    def serve(self, mode: str, next_zxid: int) -> None:
        """Begin to serve clients. A leader prepares its first transaction as `next_zxid`."""

    def suspend(self, why: str) -> None:
        """Stop serving: close client connections, drop prepared requests that were not proposed.

        The tail stays: whether its entries are decided is found out by the next leader. Idempotent.
        """

    def save_epochs(self, accepted: int, current: int) -> None:
        """Stage both epochs, in order with the entries."""

    def renumber(self, next_zxid: int) -> None:
        """Leader: the next transaction is prepared as `next_zxid`, in a higher epoch. Only from within `propose`."""

    # What follows is used by ensembles only.

    def clear_damage(self) -> None:
        """As `Storage.clear_damage`: this server has everything again."""

    def truncate(self, zxid: int) -> None:
        """Stage the removal of every entry above `zxid` from log and tail. Never below what is applied."""

    def mark(self, token: int) -> None:
        """`Consensus.durable(token)` follows when all that is staged is durable, in order with answers to `persist`."""

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """As `Storage.read_log`: entries above `after_zxid`, staged ones included.

        Raises:
            LookupError: entries above `after_zxid` have been purged.
        """

    def state_size(self) -> tuple[int, int]:
        """What a snapshot of the applied state would be: znodes, and about how many bytes of paths and data."""

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """The applied zxid, and the applied state as chunks of ZooKeeper's SNAP stream (sessions, ACLs, nodes, `/`).

        The iterator is drawn from over many turns of the event loop, while entries go on being applied. It may show
        their effects (ZooKeeper's snapshots do too: applying an entry again must be harmless).
        """

    def begin_snapshot(self, zxid: int) -> None:
        """A SNAP stream follows that brings the state of `zxid`. It is built beside the present one."""

    def snapshot_chunk(self, data: bytes) -> bytes | None:
        """The next bytes of the stream, cut anywhere. None: more are needed; else the bytes after its end.

        Raises:
            ProtocolError: this is not such a stream.
        """

    def end_snapshot(self) -> None:
        """The received state replaces the present state, log and tail at once, on disk in one batch."""

    def abort_snapshot(self) -> None:
        """Forget what was received."""

    def forwarded(
        self, origin: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]
    ) -> None:
        """Leader: a request of a client of the learner `origin` (its sid). Answered by the entry it becomes."""

    def revalidate(self, origin: int, session_id: int, timeout_ms: int) -> bool:
        """Leader: a client came back to the learner `origin`. True: the session lives; touch it, `origin` owns it."""

    def revalidated(self, session_id: int, valid: bool) -> None:
        """Learner: the leader's answer to `EnsembleConsensus.revalidate`."""

    def synced(self, session_id: int, cxid: int) -> None:
        """The answer to `EnsembleConsensus.sync`: what was decided before that call is applied here now.

        It can come before that call returns.
        """

    def touched(self) -> Sequence[tuple[int, int]]:
        """Learner: (session id, timeout in ms) of the sessions heard from since the last call."""

    def touch(self, origin: int, sessions: Sequence[tuple[int, int]]) -> None:
        """Leader: these sessions of the learner `origin` are alive."""

    def dial(self, kind: str, host: str, port: int) -> int:
        """Open a link of the kind `election` or `quorum`. Its id; `link_opened` or `link_closed` follows, later.

        Names are resolved anew at every call.
        """

    def send(self, link: int, data: bytes) -> int:
        """Queue bytes. Returns how many bytes of this link wait; `link_drained` follows once none do."""

    def close(self, link: int, why: str) -> None:
        """Close a link after what was sent on it. No event about it follows."""

    def log(self, level: str, text: str) -> None:
        """A line for people. Levels: debug, info, warning, error."""


@runtime_checkable
class Consensus(Protocol):
    """Puts entries into one order that survives failures. Pure: no I/O, time is an argument (milliseconds)."""

    @property
    def wake_at(self) -> int:
        """When `tick` has something to do next (milliseconds, same clock). It may move with every call."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        """Called once after recovery, before any other method."""

    def stop(self) -> None:
        """The server goes down in good order: leave the ensemble, close the links. Nothing follows."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Order these entries. Only called while serving as leader; zxids are consecutive.

        Persists them through the host, but never calls `committed`, `serve` or `suspend` before it returns.
        """

    def persisted(self, upto_zxid: int) -> None:
        """Everything handed to `ConsensusHost.persist` up to here is durable."""

    def tick(self, now_ms: int) -> None:
        """Time passes. Called first in every batch of events, and about every 50 ms or at `wake_at`."""

    def status(self) -> ConsensusStatus:
        """For people and monitoring."""


@runtime_checkable
class EnsembleConsensus(Consensus, Protocol):
    """A consensus among several servers: it also owns links to them. The listening sockets are the kernel's.

    Bytes are parsed here, cut as they come; a peer that breaks the protocol costs its link and nothing else.
    """

    def durable(self, token: int) -> None:
        """The answer to `ConsensusHost.mark`."""

    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None:
        """A dialled link is open, or somebody connected to the election or quorum port from the address `peer`."""

    def link_data(self, link: int, data: bytes) -> None:
        """Bytes arrived."""

    def link_drained(self, link: int) -> None:
        """All bytes queued on this link have been handed to the network."""

    def link_closed(self, link: int, why: str) -> None:
        """The other end closed the link, it broke, or it could not be dialled."""

    def forward(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        """Learner: hand a client's write to the leader. Lost without a word if the leader is lost (`suspend`)."""

    def sync(self, session_id: int, cxid: int, body: bytes) -> None:
        """`ConsensusHost.synced` follows, in the order of the calls, unless `suspend` does."""

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """Learner: ask the leader whether a session lives. `ConsensusHost.revalidated` follows."""


# ------------------------------------------------------------------------------------ client protocol
class GatewayConnection(Protocol):
    """A client connection inside the kernel: requests are fed to it as ZooKeeper frames, replies stand in `out`.

    Attributes:
        out: encoded reply and event frames, in order. Whoever sends them puts an empty list in its place.
        queued: `woken` was called; whoever takes `out` sets it to False.
        owed: bytes of large replies in `out`; whoever takes `out` sets it to 0. Above a bound requests wait.
        ready: requests are accepted: the session is established, or `Gateway.admit` was called.
        closing: why the connection is to be closed after `out` was sent, or None.
        session_id: 0 until the session is established.
    """

    out: list[bytes]
    queued: bool
    owed: int
    ready: bool
    closing: str | None
    session_id: int


class Gateway(Protocol):
    """What the kernel offers to client protocols: sessions and requests in ZooKeeper's own encoding."""

    @property
    def view(self) -> Any:
        """The server as four-letter words see it (`codec.four_letter.ServerView`)."""

    @property
    def frame_bytes_max(self) -> int:
        """Largest request body (jute.maxbuffer)."""

    def connect(self, peer: Peer, woken: Callable[[Any], None]) -> Any:
        """A new `GatewayConnection`; `woken(connection)` tells of output that no `feed` of its own caused."""

    def attach(self, connection: Any, request: bytes) -> None:
        """Open or reopen a session: `request` is the body of a ConnectRequest, the answer comes in `out`.

        Raises:
            ProtocolError: it is no ConnectRequest.
        """

    def admit(self, connection: Any) -> None:
        """Let a connection read and watch without a session, which costs a transaction; `attach` may follow.

        Until then writes (and `sync` in an ensemble) get SESSION_EXPIRED. Without a quorum `closing` is set instead.
        """

    def feed(self, connection: Any, data: bytes) -> int:
        """Handle the complete request frames at the start of `data`; how many bytes were used.

        Raises:
            ProtocolError: the connection must be closed.
        """

    def overloaded(self, connection: Any) -> bool:
        """Whether reading more requests from this client should wait."""

    def disconnect(self, connection: Any) -> None:
        """The client is gone; its session lives until it expires or comes back."""


class ClientSession(Protocol):
    """One client connection in the hands of a client protocol: bytes in, bytes out, no socket.

    Attributes:
        closing: why the connection is to be closed after what is in `take()` was sent, or None.
        established: an optional method; while it returns False, the handshake is not finished, and may not take long.
    """

    closing: str | None

    def received(self, data: bytes) -> None:
        """Bytes arrived. Called with b"" as well, when `paused` may have become False.

        Raises:
            ProtocolError: the connection is closed, the reason logged.
        """

    def end_of_input(self) -> None:
        """The client will send no more (it may still read)."""

    def take(self) -> list[bytes]:
        """What is to be sent now; the list is the caller's."""

    def paused(self) -> bool:
        """Whether reading from the client should wait."""

    def closed(self, why: str) -> None:
        """The connection is gone. Nothing follows."""


@runtime_checkable
class ClientProtocol(Protocol):
    """A language that clients speak, translated into ZooKeeper's requests, which are what the kernel understands.

    Attributes:
        name: for the log.
    """

    name: str

    def bind(self, gateway: Gateway) -> None:
        """Called once, before `listeners`."""

    def listeners(self) -> Sequence[tuple[str, int, Any | None]]:
        """(address, port, TLS context or None) of what it wants to listen on."""

    def open(self, peer: Peer, woken: Callable[[ClientSession], None]) -> ClientSession | None:
        """A client connected; None refuses it.

        Args:
            woken: to be called when there is something to `take` (or `closing` was set) outside of `received`.
        """


# ------------------------------------------------------------------------------------------ transport
@runtime_checkable
class Transport(Protocol):
    """Opens listeners for clients (and, for ensembles, links between servers).

    `listen` returns trio listeners; the kernel accepts and owns the connections. A transport whose streams are
    plain non-blocking sockets gets the fast selector path, any other trio stream works as well.
    """

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        """Listeners (trio `Listener`), already bound. `port` 0 picks a free one.

        Raises:
            UserError: the address cannot be bound; the message says why and what to do.
        """

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        """A trio stream to a peer."""

    def peer(self, stream: Any) -> Peer:
        """Who is at the other end of an accepted stream."""

    def describe(self, listener: Any) -> str:
        """Text for the log: where the listener listens, e.g. `0.0.0.0:2181`."""


# ------------------------------------------------------------------------------------------- observers
@dataclass(frozen=True, slots=True)
class Write:
    """A write of a client of this server, and what became of it.

    Attributes:
        session_id, peer, identities: the client, and what it had proved when it asked.
        op, body: the request as it came, without its header. It may be malformed when `code` is not 0.
        code: 0, or the error it was refused with; of a multi, that of the operation that failed.
        zxid, entry: the transaction that it became, which refusals do as well; 0 and b"" if it became none.
        before: the data version that each changed znode had before; a znode that did not exist is not in it.
    """

    session_id: int
    peer: Peer
    identities: Sequence[Identity]
    op: int
    body: bytes
    code: int
    zxid: int = 0
    entry: bytes = b""
    before: Mapping[bytes, int] = field(default_factory=dict)


class Observer:
    """Base class of observers: override what you want to see. Called on the event loop; must be quick.

    An observer that raises is logged and unbound; it never breaks a request. Methods not overridden cost nothing.
    """

    def session_opened(self, session_id: int, timeout_ms: int, peer: Peer) -> None:
        """A new session was committed."""

    def session_closed(self, session_id: int, why: str) -> None:
        """A session ended: `closed` by its client or `expired`."""

    def committed(self, zxid: int, entry: bytes) -> None:
        """A transaction was applied to the tree. `entry` is its ZooKeeper encoding."""

    def request_failed(self, session_id: int, op: int, code: int) -> None:
        """A write was refused with an error code."""

    def write_answered(self, write: Write) -> None:
        """A write of a client of this server was decided. If its leader or client was lost, only `committed` tells."""

    def connection_opened(self, peer: Peer) -> None:
        """A client connected."""

    def connection_closed(self, peer: Peer, why: str) -> None:
        """A client's connection ended."""
