"""The workload `sessions`: real servers, and clients with sessions, watches, multis, ephemeral and sequence znodes.

What holds for one answer is checked where it arrives (`session_client.py`), what holds for the history where it grows
(`znodes.py`); here is what holds for sessions and in the end:

    S1  no session expires whose client is heard
    S2  sessions whose clients are gone end, and their ephemeral znodes with them
    K1  the history of each znode of `/k` is linearizable (`corekit.testing.linear`)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from corekit.model import stat
from corekit.testing.linear import check
from corekit.testing.sim.connected import Shared, server_of
from corekit.testing.sim.server import Server
from corekit.testing.sim.session_client import TOPS, SessionClient, state_of
from corekit.testing.sim.world import MS, SECOND, Violation
from corekit.testing.sim.znodes import Znodes

if TYPE_CHECKING:
    from corekit.api import EnsembleConsensus
    from corekit.testing.sim.campaign import Cluster
    from corekit.testing.sim.node import Node

EFFORT = 200_000
SWEEP_US = 2 * SECOND  # so often trees are compared with the history
CLOCKS = 0.9  # a leader's clock may be fast
LAG_TICKS = 8  # a follower tells what it heard twice a tick, and may be out of touch for five


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
                nodes = server_of(node).replica.tree.nodes
                found = (
                    (path, state_of(stat.data_of(record) or b"", stat.stat_of(record)))
                    for path, record in nodes.items()
                    if path[:2] in TOPS
                )
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
