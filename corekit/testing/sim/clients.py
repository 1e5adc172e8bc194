"""Clients of the simulated ensemble: they write, read and sync, move when their server is lost, and keep score.

What every answer must fulfil (I18):
- a write that was acknowledged is part of the history, under the zxid that was told, once;
- a write's zxid is larger than every zxid acknowledged to anybody before it was sent (real time order);
- a read shows exactly the history up to its zxid, and a session never goes back in zxid, also across servers;
- a read after `sync` shows everything that was acknowledged to anybody before the sync was sent;
- answers come in the order of the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from corekit.testing.sim.kv import Keys, Replica
from corekit.testing.sim.world import MS, Violation, World

if TYPE_CHECKING:
    from corekit.api import EnsembleConsensus
    from corekit.testing.sim.campaign import Cluster
    from corekit.testing.sim.checker import Checker
    from corekit.testing.sim.node import Node

_kv: Any = attrgetter("replica")
_REQUEST_TIMEOUT = 20_000 * MS
_REST = 5_000 * MS


class Client:
    """One session.

    Attributes:
        session, number: its number.
        done, lost: operations answered, and those whose connection broke.
        pace: mean pause between operations in microseconds; 0 is as fast as it goes.
        depth: writes in flight.
        stopped: it sends nothing new.
        resting: it pauses for long.
        rate: of its clock, which nothing of it reads.
    """

    def __init__(self, world: World, checker: Checker, model: Keys, nodes: list[Node], session: int, keys: int) -> None:
        self.world = world
        self.checker = checker
        self.model = model
        self.nodes = nodes
        self.session = self.number = session
        self.random = world.random(f"client{session}")
        self.keys = [b"k%d" % number for number in range(keys)]
        self.pace = 50 * MS
        self.depth = 1
        self.done = 0
        self.lost = 0
        self.stopped = False
        self.resting = False
        self.rate = 1.0
        self._cut = False
        self._cxid = 0
        self._seen = 0
        self._node: Node | None = None
        self._connection = 0
        self._waiting: deque[int] = deque()  # either writes or one other operation
        self._kind = ""
        world.after(self.random.randrange(100 * MS), self._connect)

    # ---------------------------------------------------------------------------------------- connection
    def _connect(self) -> None:
        node = self.random.choice(self.nodes)
        self.world.after(self.random.randrange(1, 3) * MS, self._arrive, node)

    def _arrive(self, node: Node) -> None:
        if self._cut or node.paused or not node.serving or _kv(node).applied < self._seen:
            self.world.after(self.random.randrange(20, 200) * MS, self._connect)
            return
        self._node = node
        self._connection += 1
        node.clients[self.session] = lambda: self._lose(connection)
        connection = self._connection
        node.turn(_kv(node).ask, self.session, lambda zxid, valid: None)
        self._next(connection)

    def _lose(self, connection: int) -> None:
        if connection == self._connection and self._node is not None:
            self._node.clients.pop(self.session, None)
            self._node = None
            self.lost += len(self._waiting)
            self._waiting.clear()
            self.world.after(self.random.randrange(10, 100) * MS, self._connect)

    def cut(self, up: bool, down: bool) -> None:
        """Its connection breaks, and no other comes about until `heal`."""
        self._cut = up or down
        if self._cut:
            self._lose(self._connection)

    def heal(self) -> None:
        """Its network works again."""
        self.cut(False, False)

    # ---------------------------------------------------------------------------------------- operations
    def _next(self, connection: int) -> None:
        node = self._node
        if connection != self._connection or node is None or self.stopped:
            return
        if not self._waiting:
            choice = self.random.random()
            self._kind = "write" if choice < 0.7 else "read" if choice < 0.85 else "sync"
            for _ in range(self.depth if self._kind == "write" else 1):
                self._send(node, self._kind)
        elif self._kind == "write":
            for _ in range(self.depth - len(self._waiting)):
                self._send(node, "write")
        if self.pace:
            delay = int(self.random.expovariate(1) * (_REST if self.resting else self.pace)) + 1
            self.world.after(delay, self._next, connection)

    def _send(self, node: Node, kind: str) -> None:
        self._cxid += 1
        cxid = self._cxid
        self._waiting.append(cxid)
        self.world.after(int(self.random.random() * MS) if self.depth == 1 else 100, self._perform, node, kind, cxid,
                         self._connection, self.checker.largest_ok)  # fmt: skip
        self.world.after(_REQUEST_TIMEOUT, self._timeout, cxid, self._connection)

    def _timeout(self, cxid: int, connection: int) -> None:
        if connection == self._connection and cxid in self._waiting:
            self._lose(connection)

    def _perform(self, node: Node, kind: str, cxid: int, connection: int, floor: int) -> None:
        if connection != self._connection or not node.serving:
            self._lose(connection)
            return
        key = self.random.choice(self.keys)
        replica = _kv(node)
        if kind == "write":
            value = b"%d/%d" % (self.session, cxid)
            node.turn(
                replica.write, self.session, cxid, key, value,
                lambda zxid, version: self._reply(connection, cxid, self._wrote, cxid, key, zxid, version, floor),
            )  # fmt: skip
        elif kind == "read":
            node.turn(self._read, node, connection, cxid, key, 0)
        else:
            node.turn(
                replica.sync, self.session, cxid,
                lambda zxid, _: self._read(node, connection, cxid, key, floor),
            )  # fmt: skip

    def _read(self, node: Node, connection: int, cxid: int, key: bytes, floor: int) -> None:
        if node.serving:
            zxid, found = _kv(node).read(key)
            self._reply(connection, cxid, self._got, key, zxid, found, floor)

    def _reply(self, connection: int, cxid: int, action: object, *args: object) -> None:
        self.world.after(int(self.random.random() * MS) if self.depth == 1 else 100, self._replied, connection, cxid,
                         action, args)  # fmt: skip

    def _replied(self, connection: int, cxid: int, action: Callable[..., None], args: tuple[object, ...]) -> None:
        if connection != self._connection or self._node is None:
            return
        if not self._waiting or self._waiting[0] != cxid:
            self._fail(f"the answer to request {cxid} came before that to {list(self._waiting)[:1]}")
        self._waiting.popleft()
        self.done += 1
        self.world.count("operations")
        action(*args)
        if not self.pace:
            self._next(connection)

    def _fail(self, text: str) -> None:
        raise Violation("I18", f"client {self.session}: {text}")

    # ------------------------------------------------------------------------------------------- answers
    def _advance(self, zxid: int) -> None:
        if zxid < self._seen:
            self._fail(f"went back from 0x{self._seen:x} to 0x{zxid:x}")
        self._seen = zxid

    def _wrote(self, cxid: int, key: bytes, zxid: int, version: int, floor: int) -> None:
        self.world.count("writes")
        if self.model.decided(self.session, cxid) != zxid:
            self._fail(f"was told 0x{zxid:x} for request {cxid}, which was not decided so")
        if zxid <= floor:
            self._fail(f"wrote 0x{zxid:x}, but 0x{floor:x} was acknowledged before it began")
        value = self.model.value_at(key, zxid)
        if value is None or value[1] != version:
            self._fail(f"was told version {version} of {key!r} at 0x{zxid:x}, it is {value}")
        self._advance(zxid)
        self.checker.largest_ok = max(self.checker.largest_ok, zxid)

    def _got(self, key: bytes, zxid: int, found: tuple[bytes, int, int] | None, floor: int) -> None:
        if zxid < floor:
            self._fail(f"synced and read at 0x{zxid:x}, but 0x{floor:x} was acknowledged before the sync")
        if found != self.model.value_at(key, zxid):
            self._fail(f"read {found} for {key!r} at 0x{zxid:x}, it is {self.model.value_at(key, zxid)}")
        self._advance(zxid)


class KeysWorkload:
    """Small replicas with keys, and clients that write and read them."""

    def __init__(self) -> None:
        self.model = Keys()

    def replica(self, node: Node, consensus: EnsembleConsensus, tick_ms: int) -> Replica:
        """What stands around the consensus of a server."""
        return Replica(node, consensus)

    def client(self, cluster: Cluster, number: int, keys: int) -> Client:
        """A client with the session `number`."""
        return Client(cluster.world, cluster.checker, self.model, cluster.nodes, number, keys)

    def ended(self, cluster: Cluster) -> None:
        """Everybody is healthy and equal."""
