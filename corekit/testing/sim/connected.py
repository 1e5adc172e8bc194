"""The connection of a simulated client to the real server, with its session: it comes, is cut, breaks, and comes back.

Not here: what a client asks and what its answers must be (`session_client.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING

from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.testing.linear import Operation
from corekit.testing.sim.server import Link, Server
from corekit.testing.sim.world import MS, Violation
from corekit.testing.sim.znodes import Znodes

if TYPE_CHECKING:
    from corekit.testing.sim.campaign import Cluster
    from corekit.testing.sim.node import Node

_HELLO = Struct(">iqiqi")


@dataclass(slots=True)
class Shared:
    """What the clients of one world know together.

    Attributes:
        largest_ok: the largest zxid that any of them was told of.
        history: for the check of linearizability.
        heard: session -> (when its client was last heard in us, its timeout in us).
    """

    model: Znodes
    cluster: Cluster
    largest_ok: int = 0
    history: list[Operation] = field(default_factory=list)
    heard: dict[int, tuple[int, int]] = field(default_factory=dict)


class Connected:
    """A client as far as its connection goes.

    Attributes:
        stopped: it sends nothing new.
        rate: of its clock.
    """

    def __init__(self, shared: Shared, number: int) -> None:
        self.shared = shared
        self.world = shared.cluster.world
        self.number = number
        self.random = self.world.random(f"client{number}")
        self.stopped = False
        self.rate = 1.0
        self.timeout_ms = self.random.choice((10, 20, 40)) * shared.cluster.setup.tick_ms
        self._session = 0
        self._password = bytes(16)
        self._seen = 0
        self._link: Link | None = None
        self._cut = (False, False)
        self._node: Node
        self._established = False
        self._buffer = b""
        self._heard_at = 0
        self._ping_sent_at = 0
        self.world.after(self.random.randrange(100 * MS), self._connect)
        self.world.after(self.timeout_ms * MS // 3, self._keep_alive)

    def _fail(self, rule: str, text: str) -> None:
        raise Violation(rule, f"client {self.number}, session {self._session:x}: {text}")

    # ------------------------------------------------------------------------------ for `session_client.py`
    def ready(self, *, new: bool) -> None:
        """The session is there; `new`: a first time."""
        raise NotImplementedError

    def answered(self, frame: bytes) -> None:
        """A frame came that is no answer to a ping."""
        raise NotImplementedError

    def disconnected(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ connection
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
        link.cut(*self._cut)
        incarnation = node.incarnation
        hello = _HELLO.pack(0, self._seen, self.timeout_ms, self._session, 16) + self._password + b"\0"

        def begin(link: Link, data: bytes) -> None:
            if node.incarnation == incarnation and node.up:
                node.turn(server_of(node).accept, link)
                node.turn(server_of(node).received, link, data)
            else:
                link.to_client(None)

        link.to_server(begin, len(hello).to_bytes(4, "big") + hello)

    def _delay(self) -> int:
        return 100 + int(self.random.random() * MS)

    def send(self, xid: int, op: int, body: bytes) -> None:
        """Send a request."""
        link, node = self._link, self._node
        assert link is not None
        incarnation = node.incarnation

        def deliver(link: Link, data: bytes) -> None:
            if node.incarnation == incarnation and node.up:
                node.turn(server_of(node).received, link, data)

        frame = xid.to_bytes(4, "big", signed=True) + op.to_bytes(4, "big", signed=True) + body
        link.to_server(deliver, len(frame).to_bytes(4, "big") + frame)

    def _lost(self, link: Link) -> None:
        if link is not self._link:
            return
        self._link = None
        self.disconnected()
        self.world.after(self.random.choice((0, 5, 300)) * MS + 1, self._connect)

    def hang_up(self, *, silently: bool) -> None:
        """Give the connection up; silently: the server does not learn of it. What was sent may arrive, however late."""
        link = self._link
        if link is None:
            return
        link.left = True
        if not silently:
            node, incarnation = self._node, self._node.incarnation

            def close(link: Link, data: bytes) -> None:
                if node.up and node.incarnation == incarnation:
                    node.turn(server_of(node).hung_up, link)

            link.to_server(close, b"")
        self._lost(link)

    def cut(self, up: bool, down: bool) -> None:
        """Nothing gets through from the client, or to it, until `heal`."""
        self._cut = (up, down)
        if self._link is not None:
            self._link.cut(up, down)

    def heal(self) -> None:
        """The network of the client works again: what was held arrives now."""
        self.cut(False, False)

    def _keep_alive(self) -> None:
        if self.stopped:
            return
        third = int(self.timeout_ms * MS / (3 * self.rate))
        if self._link is not None:
            if self.world.now - self._heard_at > 2 * third:
                self.hang_up(silently=self.random.random() < 0.5)
            elif self._established:
                self._ping_sent_at = self.world.now
                self.send(ops.XID_PING, ops.PING, b"")
        self.world.after(third, self._keep_alive)

    # --------------------------------------------------------------------------------------------- frames
    def _got(self, link: Link, data: bytes) -> None:
        self._buffer += data
        while link is self._link and len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            frame, self._buffer = self._buffer[4:end], self._buffer[end:]
            self._heard_at = self.world.now
            if not self._established:
                self._welcomed(frame)
            elif int.from_bytes(frame[:4], "big", signed=True) == ops.XID_PING:
                self.heard(self._ping_sent_at)
            else:
                self.answered(frame)

    def heard(self, sent_at: int) -> None:
        """A server has got what was sent then."""
        self.shared.heard[self._session] = (sent_at, self.timeout_ms * MS)

    def _welcomed(self, frame: bytes) -> None:
        reader = Reader(frame)
        reader.int()
        timeout, session = reader.int(), reader.long()
        model = self.shared.model
        if not timeout:
            self.forget_session()  # it is over, or about to be
            self.hang_up(silently=False)
            return
        if self._session and session != self._session:
            self._fail("S2", f"asked to go on, got the session {session:x}")
        if session in model.ended:
            self._fail("S2", f"goes on with a session that ended at 0x{model.ended[session]:x}")
        if not self._session and session not in model.sessions:
            self._fail("I18", f"was told of the session {session:x}, which was not decided")
        new = not self._session
        if new:
            self._session, self._password = session, reader.buffer() or b""
        self._established = True
        self.shared.heard[session] = (self.world.now, timeout * MS)
        self.ready(new=new)

    def forget_session(self) -> None:
        """The next connection opens a new session."""
        self._session, self._password = 0, bytes(16)


def server_of(node: Node) -> Server:
    """The server on a node."""
    assert isinstance(node.replica, Server)
    return node.replica
