"""Clients of the real server: they speak ZooKeeper's protocol on simulated connections, and keep score.

What every answer must fulfil, beside the rules of the history (`znodes.py`):

    I18 a write's answer is what the history says under its zxid; its zxid is larger than all that was acknowledged to
        anybody before it was sent; a read shows exactly the state of its zxid; a read behind a `sync` shows everything
        that was acknowledged before the sync was sent
    F1  answers come in the order of the requests, and a session never goes back in zxid, also across servers
    W1  a watch's event comes before any answer of a state that has the change, once, for the first change
    S1  no session expires whose client is heard
    S2  sessions whose clients are gone end, and their ephemeral znodes with them
    K1  the history of each znode of `/k` is linearizable (`corekit.testing.linear`)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import TYPE_CHECKING, Any

from corekit import errors
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import (
    ACL,
    CreateRequest,
    DeleteRequest,
    GetChildrenResponse,
    Id,
    PathRequest,
    PathWatchRequest,
    SetDataRequest,
    WatcherEvent,
)
from corekit.model import stat
from corekit.model.watches import CHILDREN_CHANGED
from corekit.testing.linear import Operation, check
from corekit.testing.sim.server import Link, Server
from corekit.testing.sim.world import MS, SECOND, Violation
from corekit.testing.sim.znodes import State, Znodes

if TYPE_CHECKING:
    from corekit.api import EnsembleConsensus
    from corekit.testing.sim.campaign import Cluster
    from corekit.testing.sim.node import Node

KEYS, EPHEMERALS, QUEUE = b"/k", b"/e", b"/q"
OPEN = [ACL(31, Id(b"world", b"anyone"))]
OPERATIONS_CHECKED_MAX = 4000  # of one run, for linearizability
EFFORT = 200_000
SWEEP_US = 2 * SECOND  # so often trees are compared with the history
CLOCKS = 0.9  # a leader's clock may be fast
LAG_TICKS = 8  # a follower tells what it heard twice a tick, and may be out of touch for five

_HELLO = Struct(">iqiqi")
_HEAD = Struct(">iqi")
_REST_US = 5 * SECOND
_CODES = {0: "ok", errors.NO_NODE: "no-node", errors.NODE_EXISTS: "node-exists", errors.BAD_VERSION: "bad-version"}
_WRITES = frozenset((ops.CREATE, ops.SET_DATA, ops.DELETE, ops.CLOSE_SESSION))


@dataclass(slots=True)
class Asked:
    """A request that has no answer yet.

    Attributes:
        floor: the answer's zxid must be this at least (above it for writes).
        sent_at: in us.
        recorded: for the check of linearizability.
    """

    xid: int
    op: int
    path: bytes
    floor: int
    sent_at: int
    watch: bool = False
    synced: bool = False
    recorded: Operation | None = None


@dataclass(slots=True)
class Shared:
    """What the clients of one world know together."""

    model: Znodes
    cluster: Cluster
    largest_ok: int = 0
    history: list[Operation] = field(default_factory=list)
    heard: dict[int, tuple[int, int]] = field(default_factory=dict)  # session -> (last heard in us, timeout in us)


class SessionClient:
    """One client, with one session after the other. See `clients.Client` for pace, depth, stopped, resting."""

    def __init__(self, shared: Shared, number: int, keys: int) -> None:
        self.shared = shared
        self.world = shared.cluster.world
        self.number = number
        self.random = self.world.random(f"client{number}")
        self.keys = [KEYS + b"/%d" % key for key in range(keys)]
        self.pace = 50 * MS
        self.depth = 1
        self.stopped = False
        self.resting = False
        tick = shared.cluster.setup.tick_ms
        self.timeout_ms = self.random.choice((10, 20, 40)) * tick
        self._session = 0
        self._password = bytes(16)
        self._seen = 0
        self._xid = 0
        self._link: Link | None = None
        self._node: Node
        self._established = False
        self._buffer = b""
        self._asked: deque[Asked] = deque()
        self._watches: dict[tuple[bool, bytes], int] = {}
        self._versions: dict[bytes, int] = {}
        self._heard_at = 0
        self.world.after(self.random.randrange(100 * MS), self._connect)
        self.world.after(self.timeout_ms * MS // 3, self._keep_alive)

    def _fail(self, rule: str, text: str) -> None:
        raise Violation(rule, f"client {self.number}, session {self._session:x}: {text}")

    # --------------------------------------------------------------------------------------- connection
    def _connect(self) -> None:
        if self._link is not None or self.stopped:
            return
        node = self.random.choice(self.shared.cluster.nodes)
        if not node.up:
            self.world.after(self.random.randrange(20, 200) * MS, self._connect)
            return
        self._node = node
        self._established = False
        self._buffer = b""
        self._heard_at = self.world.now
        self._link = link = Link(self.world, self._delay, self._got, self._lost)
        incarnation = node.incarnation
        hello = _HELLO.pack(0, self._seen, self.timeout_ms, self._session, 16) + self._password + b"\0"

        def begin(link: Link, data: bytes) -> None:
            if node.incarnation == incarnation and node.up:
                node.turn(_server(node).accept, link)
                node.turn(_server(node).received, link, data)
            else:
                link.to_client(None)

        link.to_server(begin, len(hello).to_bytes(4, "big") + hello)

    def _delay(self) -> int:
        return 100 + int(self.random.random() * MS)

    def _send(self, xid: int, op: int, body: bytes) -> None:
        link, node = self._link, self._node
        assert link is not None
        incarnation = node.incarnation

        def deliver(link: Link, data: bytes) -> None:
            if node.incarnation == incarnation and node.up:
                node.turn(_server(node).received, link, data)

        frame = xid.to_bytes(4, "big", signed=True) + op.to_bytes(4, "big", signed=True) + body
        link.to_server(deliver, len(frame).to_bytes(4, "big") + frame)

    def _lost(self, link: Link) -> None:
        if link is not self._link:
            return
        self._link = None
        self.finish()
        self._watches.clear()
        self.world.after(self.random.choice((0, 5, 300)) * MS + 1, self._connect)

    def hang_up(self, *, silently: bool) -> None:
        """Give the connection up; silently: the server does not learn of it."""
        link = self._link
        if link is None:
            return
        link.broken = True
        node, incarnation = self._node, self._node.incarnation
        if not silently and node.up:
            self.world.after(self._delay(), lambda: self._gone(node, incarnation, link))
        self._lost(link)

    def _gone(self, node: Node, incarnation: int, link: Link) -> None:
        if node.up and node.incarnation == incarnation:
            node.turn(_server(node).hung_up, link)

    def finish(self) -> None:
        """What has no answer yet will have none."""
        for asked in self._asked:
            self._record(asked, "unknown", float("inf"))
        self._asked.clear()

    def _keep_alive(self) -> None:
        if self.stopped:
            return
        if self._link is not None:
            if self.world.now - self._heard_at > 2 * self.timeout_ms * MS // 3:
                self.hang_up(silently=self.random.random() < 0.5)
            elif self._established:
                self._ping_sent_at = self.world.now
                self._send(ops.XID_PING, ops.PING, b"")
        self.world.after(self.timeout_ms * MS // 3, self._keep_alive)

    _ping_sent_at = 0

    # ---------------------------------------------------------------------------------------- requests
    def _next(self, link: Link) -> None:
        if link is not self._link or self.stopped:
            return
        while self._link is link and len(self._asked) < self.depth:
            self._request()
        delay = int(self.random.expovariate(1) * (_REST_US if self.resting else self.pace)) + 1
        self.world.after(delay, self._next, link)

    def _request(self) -> None:
        random = self.random
        choice = random.random()
        key = random.choice(self.keys)
        value = b"%d/%d" % (self.number, self._xid)
        if choice < 0.35:
            self._write(ops.SET_DATA, key, value, self._versions.get(key, -1) if random.random() < 0.3 else -1)
        elif choice < 0.45:
            self._write(ops.CREATE, key, value)
        elif choice < 0.5:
            self._write(ops.DELETE, key)
        elif choice < 0.58:
            self._write(ops.CREATE, EPHEMERALS + b"/%d" % random.randrange(5), value, ops.EPHEMERAL)
        elif choice < 0.66:
            flags = random.choice((ops.PERSISTENT_SEQUENTIAL, ops.EPHEMERAL_SEQUENTIAL))
            self._write(ops.CREATE, QUEUE + b"/n-", value, flags)
        elif choice < 0.72:
            children = sorted(self.shared.model.children_at(QUEUE, self._seen))
            self._write(ops.DELETE, QUEUE + b"/" + (children[0] if children else b"none"))
        elif choice < 0.84:
            self._read(ops.GET_DATA, key, synced=random.random() < 0.5)
        elif choice < 0.9:
            self._read(ops.GET_DATA, EPHEMERALS + b"/%d" % random.randrange(5), synced=random.random() < 0.5)
        elif choice < 0.985:
            self._read(ops.GET_CHILDREN, random.choice((EPHEMERALS, QUEUE)), synced=random.random() < 0.5)
        elif choice < 0.997:
            self.hang_up(silently=random.random() < 0.5)
        else:
            self._ask(ops.CLOSE_SESSION, b"", b"", self.shared.largest_ok)

    def _write(self, op: int, path: bytes, value: bytes = b"", extra: int = -1) -> None:
        kind, number = "", self._xid + 1
        if op == ops.SET_DATA:
            kind, body = "set", SetDataRequest(path, value, extra).encode()
        elif op == ops.DELETE:
            kind, body = "delete", DeleteRequest(path, -1).encode()
        else:
            kind, body = "create", CreateRequest(path, value, OPEN, max(extra, 0)).encode()
        recorded = None
        if path in self.keys:
            text = value.decode() if op != ops.DELETE else None
            recorded = Operation(
                number, f"{self.number}.{number}", kind, path.decode(), self._seconds(), 0, "", text,
                extra if op == ops.SET_DATA else -1,
            )  # fmt: skip
        self._ask(op, path, body, self.shared.largest_ok, recorded=recorded)

    def _read(self, op: int, path: bytes, *, synced: bool) -> None:
        floor, recorded = 0, None
        if synced:
            floor = self.shared.largest_ok
            if path in self.keys:
                number = self._xid + 2
                recorded = Operation(number, f"{self.number}.{number}", "get", path.decode(), self._seconds(), 0, "")
            self._ask(ops.SYNC, path, PathRequest(path).encode(), floor)
        watch = self.random.random() < 0.4
        body = PathWatchRequest(path, watch).encode()
        self._ask(op, path, body, floor, watch=watch, synced=synced, recorded=recorded)

    def _ask(
        self, op: int, path: bytes, body: bytes, floor: int, *, watch: bool = False, synced: bool = False,
        recorded: Operation | None = None,
    ) -> None:  # fmt: skip
        self._xid += 1
        self._asked.append(Asked(self._xid, op, path, floor, self.world.now, watch, synced, recorded))
        self._send(self._xid, op, body)

    def _seconds(self) -> float:
        return self.world.now / SECOND

    # ----------------------------------------------------------------------------------------- answers
    def _got(self, link: Link, data: bytes) -> None:
        self._buffer += data
        while link is self._link and len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            frame, self._buffer = self._buffer[4:end], self._buffer[end:]
            self._heard_at = self.world.now
            if self._established:
                self._frame(frame)
            else:
                self._welcomed(frame)

    def _welcomed(self, frame: bytes) -> None:
        reader = Reader(frame)
        reader.int()
        timeout, session = reader.int(), reader.long()
        model = self.shared.model
        if not timeout:
            self._session, self._password = 0, bytes(16)  # it is over, or about to be
            self.hang_up(silently=False)
            return
        if self._session and session != self._session:
            self._fail("S2", f"asked to go on, got the session {session:x}")
        if session in model.ended:
            self._fail("S2", f"goes on with a session that ended at 0x{model.ended[session]:x}")
        if not self._session and session not in model.sessions:
            self._fail("I18", f"was told of the session {session:x}, which was not decided")
        if not self._session:
            self._session, self._password = session, reader.buffer() or b""
            self._xid = 0
        self._established = True
        self._versions.clear()
        self.shared.heard[session] = (self.world.now, timeout * MS)
        for path in (KEYS, EPHEMERALS, QUEUE):
            if model.at(path, self._seen) is None:
                self._write(ops.CREATE, path)
        assert self._link is not None
        self._next(self._link)

    def _frame(self, frame: bytes) -> None:
        xid, zxid, code = _HEAD.unpack_from(frame)
        body = Reader(frame, 16)
        if xid == ops.XID_NOTIFICATION:
            self._event(zxid, WatcherEvent.decode(body))
            return
        if xid == ops.XID_PING:
            self.shared.heard[self._session] = (self._ping_sent_at, self.timeout_ms * MS)
            return
        if not self._asked or self._asked[0].xid != xid:
            self._fail("F1", f"the answer to {xid} came before that to {[asked.xid for asked in self._asked][:1]}")
        asked = self._asked.popleft()
        self.world.count("operations")
        self.shared.heard[self._session] = (asked.sent_at, self.timeout_ms * MS)
        if zxid < self._seen:
            self._fail("F1", f"went back from 0x{self._seen:x} to 0x{zxid:x}")
        self._seen = zxid
        for (children, path), since in self._watches.items():
            changed = self.shared.model.changed_after(path, since, children=children)
            if changed is not None and changed <= zxid:
                self._fail("W1", f"sees 0x{zxid:x}, but was not told that {path!r} changed at 0x{changed:x}")
        if asked.op in _WRITES:
            self._wrote(asked, zxid, code, body)
        elif asked.op != ops.SYNC:
            self._looked(asked, zxid, code, body)

    def _event(self, zxid: int, event: WatcherEvent) -> None:
        path = event.path or b""
        key = (event.type == CHILDREN_CHANGED, path)
        since = self._watches.pop(key, None)
        if since is None:
            self._fail("W1", f"was told of {path!r} at 0x{zxid:x} without a watch")
            return
        first = self.shared.model.changed_after(path, since, children=key[0])
        if first != zxid:
            wanted = "nothing" if first is None else f"0x{first:x}"
            self._fail("W1", f"was told that {path!r} changed at 0x{zxid:x}; the first change was {wanted}")
        self.world.count("events")

    def _wrote(self, asked: Asked, zxid: int, code: int, body: Reader) -> None:
        self.world.count("writes")
        decision = self.shared.model.decided(self._session, asked.xid)
        if decision is None or decision.zxid != zxid or decision.error != code:
            self._fail("I18", f"was told 0x{zxid:x} and {code} for request {asked.xid}, the history says {decision}")
            return
        if zxid <= asked.floor:
            self._fail("I18", f"wrote 0x{zxid:x}, but 0x{asked.floor:x} was acknowledged before it began")
        self.shared.largest_ok = max(self.shared.largest_ok, zxid)
        version = None
        if code == 0 and asked.op == ops.CREATE and body.buffer() != decision.path:
            self._fail("I18", f"was told another name than {decision.path!r}")
        if code == 0 and asked.op == ops.SET_DATA:
            version = int.from_bytes(body.rest()[stat.VERSION :][:4], "big", signed=True)
            state = self.shared.model.at(asked.path, zxid)
            if state is None or state.version != version:
                self._fail("I18", f"was told version {version} of {asked.path!r} at 0x{zxid:x}, it is {state}")
        self._record(asked, _CODES.get(code, ""), self._seconds(), version=version)
        if asked.op == ops.CLOSE_SESSION:
            self._session, self._password = 0, bytes(16)
            self.hang_up(silently=False)

    def _looked(self, asked: Asked, zxid: int, code: int, body: Reader) -> None:
        model = self.shared.model
        if zxid < asked.floor:
            self._fail("I18", f"synced and read at 0x{zxid:x}, but 0x{asked.floor:x} was acknowledged before the sync")
        state = model.at(asked.path, zxid)
        found: Any = None
        if asked.op == ops.GET_CHILDREN:
            wanted: Any = model.children_at(asked.path, zxid) if state is not None else None
            if code == 0:
                found = frozenset(GetChildrenResponse.decode(body).children or ())
        else:
            wanted = state
            if code == 0:
                record = body.rest()
                found = state_of(record)
                self._versions[asked.path] = found.version
                text, version = found.data.decode(), found.version
                self._record(asked, "ok", self._seconds(), text=text, version=version)
            else:
                self._record(asked, "no-node", self._seconds())
        if found != wanted:
            self._fail("I18", f"read {found} for {asked.path!r} at 0x{zxid:x}, it is {wanted}")
        if asked.watch and code == 0:
            self._watches.setdefault((asked.op == ops.GET_CHILDREN, asked.path), zxid)

    def _record(
        self, asked: Asked, result: str, end: float, *, text: str | None = None, version: int | None = None
    ) -> None:
        if asked.recorded is not None and result and len(self.shared.history) < OPERATIONS_CHECKED_MAX:
            one = replace(asked.recorded, result=result, end=end, version=version)
            if text is not None:
                one = replace(one, value=text)
            if one.known or one.changes:
                self.shared.history.append(one)


def state_of(record: bytes) -> State:
    """A znode as a server tells it."""
    seen = stat.stat_of(record)
    return State(stat.data_of(record) or b"", seen.version, seen.czxid, seen.mzxid, seen.ephemeral_owner)


def _server(node: Node) -> Server:
    assert isinstance(node.replica, Server)
    return node.replica


class SessionsWorkload:
    """Real servers, and clients with sessions, watches, ephemeral and sequence znodes."""

    def __init__(self) -> None:
        self.model = Znodes()
        self._shared: Shared | None = None

    def shared(self, cluster: Cluster) -> Shared:
        """What the clients of a world know together."""
        if self._shared is None:
            self._shared = Shared(self.model, cluster)
            self.model.expired = self._expired
            cluster.world.after(SWEEP_US, self._sweep, cluster)
        return self._shared

    def replica(self, node: Node, consensus: EnsembleConsensus, tick_ms: int) -> Server:
        """The real server."""
        return Server(node, consensus, tick_ms)

    def client(self, cluster: Cluster, number: int, keys: int) -> SessionClient:
        """A client."""
        return SessionClient(self.shared(cluster), number, keys)

    def _expired(self, session: int, zxid: int) -> None:
        assert self._shared is not None
        cluster = self._shared.cluster
        heard, timeout = self._shared.heard.get(session, (0, 0))
        at = cluster.checker.proposed_at.get(zxid, 0)
        lag = LAG_TICKS * cluster.setup.tick_ms * MS
        if 0 < heard < at and at - heard < int(timeout * CLOCKS) - lag:
            text = f"the session {session:x} expires {(at - heard) // MS} ms after its client was heard"
            raise Violation("S1", f"{text}, not {timeout // MS}")

    def _sweep(self, cluster: Cluster) -> None:
        self.check_trees(cluster)
        cluster.world.after(SWEEP_US, self._sweep, cluster)

    def check_trees(self, cluster: Cluster) -> None:
        """Every server that has applied everything has the znodes of the history, and no others."""
        for node in cluster.nodes:
            if node.up and node.replica.applied == (cluster.checker.zxids or [0])[-1]:
                nodes = _server(node).replica.tree.nodes
                found = ((path, state_of(record)) for path, record in nodes.items() if path[:2] in _OURS)
                self.model.compare(node.sid, node.replica.applied, found)

    def ended(self, cluster: Cluster) -> None:
        """Clients are gone: their sessions end, and nothing ephemeral is left; then histories are judged."""
        world = cluster.world
        deadline = world.now + 10 * SECOND + 100 * cluster.setup.tick_ms * MS
        while self.model.sessions and world.now < deadline:
            world.run(world.now + 500 * MS)
        if self.model.sessions:
            raise Violation("S2", f"sessions without clients do not end: {[f'{s:x}' for s in self.model.sessions]}")
        world.run(world.now + 2 * SECOND)
        self.check_trees(cluster)
        for client in cluster.clients:
            client.finish()
        history = [replace(one, number=number) for number, one in enumerate(self.shared(cluster).history, 1)]
        verdict = check(history, effort=EFFORT)
        world.count("linearized", verdict.operations)
        if verdict.violations:
            raise Violation("K1", f"not linearizable: {verdict.violations[0]}")


_OURS = frozenset((KEYS, EPHEMERALS, QUEUE))
