"""One seed from beginning to end: draw a world, let faults happen, heal it, and demand that it recovers.

Safety phase: anything may happen, nothing may be violated. Liveness phase: faults end, a random majority (sometimes
everybody) is healthy; it must elect, serve and finish writes within a bound, and then stay as it is. At last everybody
comes back.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol

from corekit.api import EnsembleConsensus
from corekit.testing.sim.checker import Checker, Model
from corekit.testing.sim.clients import KeysWorkload
from corekit.testing.sim.nemesis import Nemesis
from corekit.testing.sim.net import Net, Profile
from corekit.testing.sim.node import Node, Replica
from corekit.testing.sim.sessions import SessionsWorkload
from corekit.testing.sim.world import MS, SECOND, Violation, World, show

STORM = 40 * SECOND  # a longer safety phase alternates between storm and calm
HASTE = 1.5  # so many times more faults come in storms than in a phase that is all storm


@dataclass(frozen=True, slots=True)
class Setup:
    """What a seed draws for the consensus under test; the maker turns it into settings.

    Attributes:
        servers, observers: sids 1 .. servers vote, those behind them observe.
        tick_ms: the ensemble's tick.
        rollover_at: counter of the zxid at which a leader makes room for a new epoch; 0 is the normal one.
        trust_empty: servers are told that an empty disk is new, until it was wiped.
        snap_after: entries missed from which on a learner is rather sent a snapshot, if that is cheaper; 0 is the
            normal number.
    """

    servers: int
    observers: int
    tick_ms: int
    rollover_at: int
    trust_empty: bool
    snap_after: int = 0


Maker = Callable[[Setup], Callable[[int, Random, bool], EnsembleConsensus]]


class Workload(Protocol):
    """What is around the consensus of each server, and what clients do with it."""

    @property
    def model(self) -> Model:
        """Follows the decided history."""

    def replica(self, node: Node, consensus: EnsembleConsensus, tick_ms: int) -> Replica:
        """What stands around the consensus of a server."""

    def client(self, cluster: Cluster, number: int, keys: int) -> Any:
        """A client; its attributes are those of `clients.Client`."""

    def ended(self, cluster: Cluster) -> None:
        """Everybody is healthy and equal: what must hold now?"""


@dataclass(slots=True)
class Result:
    """What became of a seed.

    Attributes:
        rule, text: what was violated, or "" and "".
        trace: the newest events, readable.
        counters: faults, operations and so on.
    """

    seed: int
    servers: int
    seconds: float
    rule: str = ""
    text: str = ""
    trace: list[str] = field(default_factory=list)
    trace_hash: str = ""
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing was violated."""
        return not self.rule

    def report(self, events: int = 200) -> str:
        """For people: what was violated, and what happened before."""
        lines = [f"seed {self.seed}, {self.servers} servers: violation of {self.rule}", self.text, ""]
        return "\n".join([*lines, *self.trace[-events:]])


WORKLOADS: dict[str, Callable[[], Workload]] = {"keys": KeysWorkload, "sessions": SessionsWorkload}


class Cluster:
    """A world with servers, clients and faults.

    Args:
        make: makes the consensus of a server from (sid, generator, whether an empty disk is known to be new).
        workload: what is around the consensus, and what its clients do; the small replica with keys by default.
    """

    def __init__(
        self,
        world: World,
        setup: Setup,
        make: Callable[[int, Random, bool], EnsembleConsensus],
        *,
        has_quorum: Callable[[Collection[int]], bool] | None = None,
        profile: Profile | None = None,
        workload: Workload | None = None,
    ) -> None:
        self.world = world
        self.workload: Workload = workload or KeysWorkload()
        self.setup = setup
        voters = frozenset(range(1, setup.servers + 1))
        self.voters = voters
        quorum = has_quorum or (lambda sids: 2 * len(voters.intersection(sids)) > len(voters))
        self.net = Net(world, profile or Profile())
        self.checker = Checker(world, voters, quorum, self.workload.model)
        self.net.taps.append(self.checker.tap)

        def maker(sid: int, random: Random) -> EnsembleConsensus:
            node = self.nodes[sid - 1]
            return make(sid, random, node.vouched or (setup.trust_empty and not node.impaired))

        def replica(node: Node, consensus: EnsembleConsensus) -> Replica:
            return self.workload.replica(node, consensus, setup.tick_ms)

        self.nodes = [
            Node(world, self.net, self.checker, sid, maker, replica)
            for sid in range(1, setup.servers + setup.observers + 1)
        ]
        self.checker.nodes = {node.sid: node for node in self.nodes}
        self.nemesis = Nemesis(world, self.net, self.nodes, voters)
        self.clients: list[Any] = []
        self.nemesis.clients = self.clients

    def add_clients(self, count: int, keys: int) -> None:
        """Clients with sessions 1 .. count."""
        self.clients += [self.workload.client(self, session, keys) for session in range(1, count + 1)]

    def boot(self) -> None:
        """Start every server that is down."""
        for node in self.nodes:
            if not node.up:
                node.boot()

    def calm(self, calm: bool) -> None:
        """Whether nemesis and clients rest."""
        self.world.note("calm" if calm else "storm")
        self.nemesis.resting = calm
        for client in self.clients:
            client.resting = calm

    def leader(self) -> Node | None:
        """The server that leads and is not paused."""
        leading = [node for node in self.nodes if node.serving == "leader" and not node.paused]
        return max(leading, key=lambda node: node.disk.volatile.current) if leading else None

    def settled(self, sids: Collection[int]) -> bool:
        """Whether exactly one of these servers leads, the others follow or observe, and all have applied the same."""
        nodes = [node for node in self.nodes if node.sid in sids]
        modes = [node.serving for node in nodes]
        if modes.count("leader") != 1 or not all(modes) or any(node.paused for node in nodes):
            return False
        return len({node.replica.applied for node in nodes}) == 1

    def quiet(self) -> bool:
        """Whether no client waits for anything."""
        return all(client.stopped for client in self.clients)


def draw(seed: int, servers: int | None = None) -> tuple[World, Setup, Profile]:
    """The world of a seed; all else stays the same if the number of servers is given."""
    world = World(seed)
    random = world.random("setup")
    setup = Setup(
        servers=random.choice((3, 3, 3, 5, 5)),
        observers=random.choice((0, 0, 0, 1, 2)),
        tick_ms=random.choice((200, 500, 1000)),
        rollover_at=random.choice((0, 0, 0, 40, 200)),
        trust_empty=random.random() < 0.5,
        snap_after=world.random("snapshots").choice((0, 0, 3, 30)),
    )
    if servers is not None:
        setup = replace(setup, servers=servers)
    profile = Profile(
        latency=random.choice((100, 500, 3 * MS)),
        jitter=random.choice((100, 2 * MS, 20 * MS)),
        slow_share=random.choice((0.0, 0.01, 0.05)),
        split_share=random.choice((0.0, 0.1, 0.5)),
        buffer=random.choice((100, 2000, 64 * 1024)),
        eager=random.random() < 0.3,
    )
    return world, setup, profile


def run_seed(
    seed: int,
    maker: Maker,
    *,
    seconds: float = 30,
    servers: int | None = None,
    workload: str = "",
    without: Collection[str] = (),
) -> Result:
    """Run one seed.

    Args:
        seconds: simulated time with faults, before recovery; more than `STORM` of it alternates with calm.
        servers: voters, if the seed shall not choose.
        workload: a name in `WORKLOADS`, if the seed shall not choose.
        without: kinds of faults (`nemesis.ALL_KINDS`) that shall not happen although the seed has them.
    """
    world, setup, profile = draw(seed, servers)
    kind = WORKLOADS[workload or world.random("workload").choice(sorted(WORKLOADS))]
    cluster = Cluster(world, setup, maker(setup), profile=profile, workload=kind())
    result = Result(seed, setup.servers, seconds)
    try:
        _safety(cluster, int(seconds * SECOND), without)
        _liveness(cluster)
    except Violation as violation:
        result.rule, result.text = violation.rule, str(violation)
        if violation.__cause__ is not None:
            result.text += "\n" + "".join(traceback.format_exception(violation.__cause__))
        result.trace = [show(record) for record in world.trace]
    result.seconds = world.now / SECOND
    result.trace_hash = world.trace_hash
    result.counters = world.counters
    return result


def _safety(cluster: Cluster, duration: int, without: Collection[str]) -> None:
    world = cluster.world
    random = world.random("load")
    for node in cluster.nodes:
        node.rate = 1 + random.uniform(-0.05, 0.05)
        node.sync_us = random.choice((MS // 2, 2 * MS, 10 * MS))
        node.keep_log = random.choice((20, 100, 500))
    cluster.add_clients(random.choice((1, 3, 6)), keys=random.choice((1, 5, 20)))
    for client in cluster.clients:
        client.pace = random.choice((50 * MS, 300 * MS, 1000 * MS))
        client.depth = random.choice((1, 1, 1, 8))
    cluster.nemesis.draw()
    cluster.nemesis.leave_out(without)
    cluster.boot()
    if duration > STORM:
        cluster.nemesis.hurry(HASTE)
    cluster.nemesis.start()
    if duration > STORM:
        _weather(cluster, duration)
    world.run(duration)
    cluster.nemesis.stop()
    cluster.calm(False)


def _weather(cluster: Cluster, duration: int) -> None:
    """Storms of faults and requests, each followed by a calm in which long timers end and the ensemble settles."""
    world = cluster.world
    random = world.random("weather")
    while True:
        world.run(min(duration, world.now + int(random.uniform(4, 12) * SECOND)))
        if world.now >= duration:
            return
        cluster.calm(True)
        world.run(min(duration, world.now + int(random.uniform(40, 240) * SECOND)))
        cluster.calm(False)


def _liveness(cluster: Cluster) -> None:
    """Faults end; a core of servers must recover, then everybody.

    A majority whose data may be incomplete cannot recover by itself, and must not. Then the operator vouches for
    servers that never had any data.
    """
    world = cluster.world
    random = world.random("liveness")
    tick = cluster.setup.tick_ms * MS
    world.note("healing")
    cluster.net.heal_all()
    for client in cluster.clients:
        client.heal()
    for node in cluster.nodes:
        node.sync_us = 2 * MS
        if node.disk.failing is not None:
            node.crash(power=False)
    whole = [node.sid for node in cluster.nodes if node.sid in cluster.voters and not node.impaired]
    core = set(whole)
    size = len(cluster.voters) // 2 + 1
    complete = [sid for sid in whole if cluster.nodes[sid - 1].disk.durable.current]
    if len(complete) < size:
        world.count("vouched")
        for sid in set(whole) - set(complete):
            cluster.nodes[sid - 1].crash(power=False)
            cluster.nodes[sid - 1].disk.wipe(keep_epochs=True)
            cluster.nodes[sid - 1].vouched = True
    elif random.random() < 0.5:
        core = set(random.sample(complete, size))
    for node in cluster.nodes:
        if node.sid in core:
            node.resume()
            if not node.up:
                node.boot()
        else:
            node.crash(power=False)
    bound = 30 * tick + 40 * SECOND  # silence on dead links is noticed by giving up, then comes the election
    _demand(cluster, core, bound, "L1", "does not recover")
    world.note("core recovered", *sorted(core))
    before = {node.sid: node.disk.volatile.current for node in cluster.nodes}
    cluster.boot()
    everybody = {node.sid for node in cluster.nodes}
    _demand(cluster, everybody, bound, "L1", "does not come together")
    world.run(world.now + 10 * tick)
    cluster.calm(True)  # with all those requests there is nothing to be seen that a storm does not show
    world.run(world.now + 10 * tick)
    epochs = {node.disk.volatile.current for node in cluster.nodes if node.sid in core}
    world.run(world.now + 20 * tick)
    if not cluster.setup.rollover_at and epochs != {
        node.disk.volatile.current for node in cluster.nodes if node.sid in core
    }:
        raise Violation("L2", f"the leader changes in a healthy ensemble: {before}, {epochs}")
    for client in cluster.clients:
        client.stopped = True
    _demand(cluster, everybody, bound, "L1", "does not become equal")
    digests = {(node.replica.applied, node.replica.digest) for node in cluster.nodes}
    if len(digests) != 1:
        raise Violation("I19", f"the servers end with different states: {digests}")
    cluster.workload.ended(cluster)


def _demand(cluster: Cluster, sids: Collection[int], bound: int, rule: str, text: str) -> None:
    world = cluster.world
    deadline = world.now + bound
    while world.now < deadline:
        world.run(world.now + 100 * MS)
        if cluster.settled(sids):
            return
    states = {
        node.sid: (node.serving, node.consensus.status().details.get("peer_state"), hex(node.replica.applied))
        for node in cluster.nodes
        if node.up
    }
    raise Violation(rule, f"after {bound / SECOND:.0f} s the ensemble of {sorted(sids)} {text}: {states}")
