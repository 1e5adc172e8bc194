"""A server's heart without its shell: `Replica`, `SoloConsensus` and a disk that is durable when the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from corekit.api import AuthScheme, Observer, Peer, Recovery
from corekit.builtin.solo import SoloConsensus
from corekit.codec import ops
from corekit.codec.records import ACL, CreateRequest, Id, PathWatchRequest, SetDataRequest
from corekit.replica.attach import attach
from corekit.replica.connection import Connection
from corekit.replica.options import ReplicaOptions
from corekit.replica.replica import Replica

_HELLO = Struct(">iqiqi")
_HEAD = Struct(">iqi")
OPEN = [ACL(31, Id(b"world", b"anyone"))]


class Reply:
    """One frame that came out: a reply, or an event if `xid` is -1."""

    def __init__(self, frame: bytes) -> None:
        self.xid, self.zxid, self.code = _HEAD.unpack_from(frame)
        self.body = frame[16:]

    def __repr__(self) -> str:
        return f"Reply(xid={self.xid}, zxid={self.zxid:#x}, code={self.code}, {len(self.body)} bytes)"


class Client:
    """A connection to the heart."""

    def __init__(self, heart: Heart, peer: Peer) -> None:
        self.heart = heart
        self.connection: Connection = heart.replica.connect(peer, lambda _: None)
        self.xid = 0
        self._seen = b""

    def hello(self, session: int = 0, password: bytes = bytes(16), timeout_ms: int = 10_000, seen: int = 0) -> None:
        """Send a ConnectRequest."""
        attach(self.heart.replica, self.connection, _HELLO.pack(0, seen, timeout_ms, session, 16) + password + b"\0")

    def send(self, op: int, body: bytes = b"") -> int:
        """Send a request without waiting; its xid."""
        self.xid += 1
        frame = self.xid.to_bytes(4, "big") + op.to_bytes(4, "big", signed=True) + body
        data = len(frame).to_bytes(4, "big") + frame
        assert self.heart.replica.feed(self.connection, data) == len(data)
        return self.xid

    def frames(self) -> list[bytes]:
        """What came out since the last call, without lengths."""
        data = b"".join(self.connection.out)
        self.connection.out = []
        self.connection.queued = False
        found = []
        while data:
            size = int.from_bytes(data[:4], "big")
            found.append(data[4 : 4 + size])
            data = data[4 + size :]
        return found

    def replies(self) -> list[Reply]:
        """The same, parsed."""
        return [Reply(frame) for frame in self.frames()]

    def call(self, op: int, body: bytes = b"") -> Reply:
        """Send a request, make everything durable, return the last frame (the reply)."""
        self.send(op, body)
        self.heart.settle()
        return self.replies()[-1]

    def create(self, path: bytes, data: bytes | None = b"", flags: int = 0, acl: list[ACL] | None = None) -> Reply:
        return self.call(ops.CREATE, CreateRequest(path, data, acl or OPEN, flags).encode())

    def set(self, path: bytes, data: bytes | None, version: int = -1) -> Reply:
        return self.call(ops.SET_DATA, SetDataRequest(path, data, version).encode())

    def get(self, path: bytes, watch: bool = False) -> Reply:
        return self.call(ops.GET_DATA, PathWatchRequest(path, watch).encode())


class Heart:
    """A standalone server in memory.

    Attributes:
        entries: the log, in order.
        durable: how many of them the disk has.
    """

    def __init__(
        self,
        options: ReplicaOptions | None = None,
        schemes: dict[str, AuthScheme] | None = None,
        observers: Sequence[Observer] = (),
        *,
        digest: bool = False,
    ) -> None:
        self.replica = Replica(options or ReplicaOptions(), schemes or {}, 0x100000000000000, observers)
        self.consensus = SoloConsensus()
        self.entries: list[tuple[int, bytes]] = []
        self.durable = 0
        self.now_ms = 1_000
        self.wall_ms = 1_700_000_000_000
        self.replica.set_time(self.now_ms, self.wall_ms)
        self.replica.bind(self.consensus)
        self.replica.tree.bootstrap()
        if digest:
            self.replica.tree.start_digest()
        self.consensus.start(self, Recovery(), self.now_ms)  # type: ignore[arg-type]

    def client(self, address: str = "127.0.0.1", *, timeout_ms: int = 10_000) -> Client:
        """A client with a session."""
        client = Client(self, Peer(address, 1))
        client.hello(timeout_ms=timeout_ms)
        self.settle()
        client.frames()
        assert client.connection.ready
        return client

    def flush(self) -> None:
        """End the turn: what was prepared is logged, and not durable yet."""
        self.replica.flush()

    def sync(self) -> None:
        """The disk has everything that was logged."""
        if self.durable < len(self.entries):
            self.durable = len(self.entries)
            self.consensus.persisted(self.entries[-1][0])

    def settle(self) -> None:
        """End the turn and sync, until nothing is left to do."""
        while True:
            self.flush()
            if self.durable == len(self.entries):
                return
            self.sync()

    def later(self, ms: int, step_ms: int = 100) -> None:
        """Let time pass, tick by tick."""
        end = self.now_ms + ms
        while self.now_ms < end:
            step = min(step_ms, end - self.now_ms)
            self.now_ms += step
            self.wall_ms += step
            self.replica.set_time(self.now_ms, self.wall_ms)
            self.replica.tick()
            self.settle()

    # The part of `ConsensusHost` that a server of one needs.
    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self.entries += enumerate(entries, first_zxid)
        self.replica.logged(first_zxid, entries)

    def committed(self, upto_zxid: int) -> None:
        self.replica.committed(upto_zxid)

    def serve(self, mode: str, next_zxid: int) -> None:
        self.replica.serve(mode, next_zxid)

    def save_epochs(self, accepted: int, current: int) -> None:
        self.epochs = (accepted, current)

    def renumber(self, next_zxid: int) -> None:
        self.replica.renumber(next_zxid)
