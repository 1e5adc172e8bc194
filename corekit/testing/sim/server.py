"""The real server around a simulated consensus: kernel, replica, tree, sessions, watches and the client protocol.

All of `corekit.server.kernel`, `corekit.replica`, `corekit.model` and `corekit.builtin.zookeeper_session` runs as
it does in a process; this file gives it the simulated clock, disk, links and clients.

Not here: sockets and tasks (`corekit.testing.world` runs those).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from corekit.api import ClientSession, DiskUsage, EnsembleConsensus, Observer, Peer, Recovery
from corekit.builtin.zookeeper_session import ZooKeeperSession
from corekit.codec.txns import decode
from corekit.replica.options import ReplicaOptions
from corekit.server.kernel import Kernel
from corekit.testing.sim.world import MS

if TYPE_CHECKING:
    from corekit.testing.sim.node import Node
    from corekit.testing.sim.world import World

WALL_MS = 1_700_000_000_000  # where the wall clocks begin


class Link:
    """A client's connection, as TCP gives it: bytes in order, each way, until it ends.

    A direction that is cut holds its bytes; they arrive when it heals, also those of a client that has long left.

    Attributes:
        left: the client has given it up; what it sent may still arrive.
        ended: the server has, and the client knows.
        session: the server's side; None once the server has closed it.
    """

    def __init__(
        self, world: World, delay: Callable[[], int], got: Callable[[Link, bytes], None], lost: Callable[[Link], None]
    ) -> None:
        self.left = False
        self.ended = False
        self.session: ClientSession | None = None
        self._world = world
        self._delay = delay
        self._got = got
        self._lost = lost
        self._up_at = 0
        self._down_at = 0
        self._up_cut = self._down_cut = False
        self._up_held: deque[tuple[Callable[[Link, bytes], None], bytes]] = deque()
        self._down_held: deque[bytes | None] = deque()

    def cut(self, up: bool, down: bool) -> None:
        """Which directions hold their bytes from now on; what the others have held arrives."""
        self._up_cut, self._down_cut = up, down
        while self._up_held and not self._up_cut:
            self._up(*self._up_held.popleft())
        while self._down_held and not self._down_cut:
            self._down(self._down_held.popleft())

    def to_server(self, deliver: Callable[[Link, bytes], None], data: bytes) -> None:
        """Bytes from the client."""
        self._up_at = max(self._up_at + 1, self._world.now + self._delay())
        self._world.after(self._up_at - self._world.now, self._arrive, deliver, data)

    def to_client(self, data: bytes | None) -> None:
        """Bytes from the server; None is the end."""
        self._down_at = max(self._down_at + 1, self._world.now + self._delay())
        self._world.after(self._down_at - self._world.now, self._return, data)

    def _arrive(self, deliver: Callable[[Link, bytes], None], data: bytes) -> None:
        if self._up_cut or self._up_held:
            self._up_held.append((deliver, data))
        else:
            self._up(deliver, data)

    def _return(self, data: bytes | None) -> None:
        if self._down_cut or self._down_held:
            self._down_held.append(data)
        else:
            self._down(data)

    def _up(self, deliver: Callable[[Link, bytes], None], data: bytes) -> None:
        if not self.ended:
            deliver(self, data)

    def _down(self, data: bytes | None) -> None:
        if self.left or self.ended:
            return
        if data is None:
            self.ended = True
            self._lost(self)
        else:
            self._got(self, data)


class _Disk:
    """Storage, disk worker and links of the kernel, on a simulated machine."""

    def __init__(self, node: Node) -> None:
        self._node = node
        for name in ("append", "truncate", "save_epochs", "clear_damage", "read_log", "write_state", "begin_state",
                     "stage_state", "commit_state", "purge"):  # fmt: skip
            setattr(self, name, self._call(name))
        self.read_state = node.disk.read_state

    def _call(self, name: str) -> Callable[..., Any]:
        return lambda *args: self._node.stage(name, *args)

    def open(self, *, set_aside: bool = False) -> Recovery:
        return self._node.disk.open(set_aside=set_aside)

    def usage(self) -> DiskUsage:
        return self._node.disk.usage()

    def sync(self, durable: Callable[[], None]) -> None:
        """As `DiskWorker.sync`."""
        self._node.staged(("call", durable))

    def dial(self, kind: str, host: str, port: int) -> int:
        return self._node.wire("dial", kind, host)

    def send(self, link: int, data: bytes) -> int:
        return self._node.wire("send", link, data)

    def close(self, link: int, why: str) -> None:
        self._node.wire("close", link, why)


class _Committed(Observer):
    """Writes down what is committed, for the checker."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []

    def committed(self, zxid: int, entry: bytes) -> None:
        self.entries.append((zxid, entry))


class Server(Kernel):
    """One server.

    Args:
        tick_ms: of the ensemble; sessions are looked at once a tick.
    """

    def __init__(self, node: Node, consensus: EnsembleConsensus, tick_ms: int) -> None:
        self._node = node
        self._committed = _Committed()
        self._woken: list[ClientSession] = []
        self._links: dict[ClientSession, Link] = {}
        disk: Any = _Disk(node)
        options = ReplicaOptions(
            tick_time_ms=tick_ms,
            min_session_timeout_ms=2 * tick_ms,
            max_session_timeout_ms=100 * tick_ms,
            skip_acl=True,
        )
        super().__init__(options, disk, consensus, {}, [self._committed], server_id=node.sid, retain_entries=0)
        self.disk = self.links = disk
        self._tick_ms = tick_ms

    # ------------------------------------------------------------------------------- what the node wants
    @property
    def serving(self) -> str:
        """See `node.Replica`."""
        return self.replica.mode if self.replica.serving else ""

    @property
    def applied(self) -> int:
        """See `node.Replica`."""
        return self.replica.tree.zxid

    @property
    def digest(self) -> int:
        """See `node.Replica`."""
        return self.replica.tree.digest if self.replica.tree.zxid else 0

    def wall_ms(self) -> int:
        """Every machine's own: they differ, and are set forward and back."""
        return WALL_MS + self._node.sid * 700 + self._node.wall_offset_ms + self._node.world.now // MS

    def begin(self, now_ms: int) -> None:
        """A turn begins."""
        self.replica.set_time(now_ms, self.wall_ms())

    def set_time(self) -> None:
        """The node has set it."""

    def start(self, recovery: Recovery) -> None:
        """As in a process, without a thread for the disk."""
        self._proposed = self.consensus.propose
        self.consensus.propose = self._propose  # type: ignore[method-assign]
        self.replica.bind(self.consensus)
        self.rules.start(recovery)
        self._node.world.after(self._tick_ms * MS, self._tick, self._node.incarnation)
        self.consensus.start(self, recovery, self.replica.now_ms)
        self.write_state()

    def _tick(self, incarnation: int) -> None:
        node = self._node
        if node.up and node.incarnation == incarnation:
            node.turn(self.replica.tick)
            node.world.after(self._tick_ms * MS, self._tick, incarnation)

    def flush(self) -> None:
        """The end of a turn, as the client port does it."""
        self.end_turn()
        while self._woken:
            woken, self._woken = self._woken, []
            for session in woken:
                link = self._links.get(session)
                if link is not None:
                    self._deliver(link, session)

    # ------------------------------------------------------------------------------------------ clients
    def accept(self, link: Link) -> None:
        """A client connects."""
        link.session = session = ZooKeeperSession(self, Peer("127.0.0.1", 1), self._wake)
        self._links[session] = link

    def _wake(self, session: ClientSession) -> None:
        self._woken.append(session)

    def received(self, link: Link, data: bytes) -> None:
        """Bytes of a client."""
        session = link.session
        if session is not None and session in self._links:
            session.received(data)
            self._deliver(link, session)

    def hung_up(self, link: Link) -> None:
        """A client has closed its connection."""
        session = link.session
        if session is not None and self._links.pop(session, None) is not None:
            session.closed("client closed the connection")

    def _deliver(self, link: Link, session: ClientSession) -> None:
        data = b"".join(session.take())
        if data:
            link.to_client(data)
        if session.closing is not None:
            del self._links[session]
            session.closed(session.closing)
            link.to_client(None)

    def died(self) -> None:
        """The process is gone: what it sent still arrives."""
        for link in self._links.values():
            link.to_client(None)
        self._links.clear()

    # ------------------------------------------------------------------------------- ConsensusHost, seen
    def _propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Proposals are seen before consensus has them: it may send before it logs, and die between."""
        for zxid, entry in enumerate(entries, first_zxid):
            self._node.seen("proposed", zxid, entry)
        self._proposed(first_zxid, entries, last_zxid)

    def committed(self, upto_zxid: int) -> None:
        """Apply and answer; then the checker sees each entry, with the digest that it says, the last with ours."""
        committed = self._committed.entries
        digest = self.digest
        super().committed(upto_zxid)
        for zxid, entry in committed:
            found = decode(entry).digest
            digest = digest if found is None else found
            self._node.seen("applied", zxid, entry, self.digest if zxid == self.applied else digest)
        committed.clear()

    def serve(self, mode: str, next_zxid: int) -> None:
        """Serve clients."""
        super().serve(mode, next_zxid)
        self._node.seen("serving", mode, next_zxid)

    def suspend(self, why: str) -> None:
        """Stop serving."""
        super().suspend(why)
        self._node.seen("suspended", why)

    def truncate(self, zxid: int) -> None:
        """Cut the log."""
        self._node.seen("truncated", zxid)
        super().truncate(zxid)

    def end_snapshot(self) -> None:
        """A received state takes the place of everything."""
        super().end_snapshot()
        self._node.seen("installed", self.applied, self.digest)

    def log(self, level: str, text: str) -> None:
        """A line for people."""
        self._node.seen("log", level, text)
