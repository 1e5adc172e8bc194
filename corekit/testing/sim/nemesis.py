"""Faults. Every seed draws which kinds exist in its world, and how often they happen.

No fault destroys the last good copy: wiped and damaged disks stay a minority until they have synchronised again, so
that every violation is a mistake and not bad luck.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import TYPE_CHECKING, Any

from corekit.testing.sim.world import MS, SECOND, World

if TYPE_CHECKING:
    from corekit.testing.sim.net import Net
    from corekit.testing.sim.node import Node

FREQUENT = ("append", "send", "write_state")
RARE = (
    "save_epochs", "truncate", "commit_state", "purge", "dial", "serving", "suspended", "installed", "truncated",
    "begin_state", "stage_state", "clear_damage",
)  # fmt: skip
KINDS = (
    "kill", "kill leader", "power", "power all", "churn", "pause", "pause leader", "isolate", "isolate leader", "split",
    "one way", "flap", "reset", "slow disk", "disk error", "wipe", "damage",
)  # fmt: skip
LATER = ("clock", "drift", "client cut")  # with a generator of their own: seeds from before them stay what they were
TORN = "torn send"
ALL_KINDS = (*KINDS, *LATER, TORN, *(f"at {point}" for point in FREQUENT + RARE))  # as they are counted
DRIFT = 0.08  # of a clock at most


class Nemesis:
    """Makes faults until it is stopped.

    Attributes:
        resting: no new faults for now; those that were begun end.
        clients: of the ensemble; their links are cut, and their clocks drift.
        plan: kind of fault -> mean pause between two of them in seconds.
        points: name of a crash point -> chance that the process dies there.
        tear: chance that a quorum link breaks in the middle of what is sent on it.
    """

    def __init__(self, world: World, net: Net, nodes: list[Node], voters: frozenset[int]) -> None:
        self.world = world
        self.net = net
        self.nodes = nodes
        self.voters = voters
        self.clients: list[Any] = []
        self.random: Random = world.random("nemesis")
        self.later: Random = world.random("nemesis of clocks and clients")
        self.stopped = False
        self.resting = False
        self.plan: dict[str, float] = {}
        self.points: dict[str, float] = {}
        self.tear = 0.0
        self._kinds: dict[str, Callable[[], None]] = {
            kind: getattr(self, "_" + kind.replace(" ", "_")) for kind in KINDS + LATER
        }
        for node in nodes:
            node.strike = self._strike
        net.tears = self.tears

    def draw(self) -> None:
        """Draw this seed's faults (swarm testing: a world with few kinds finds what one with all kinds hides)."""
        draw = self.random
        for kind in self._kinds:
            if self._draws(kind).random() < 0.4:
                self.plan[kind] = self._draws(kind).choice((2.0, 5.0, 15.0, 40.0))
        for points, chances in ((FREQUENT, (0.00003, 0.0002, 0.001)), (RARE, (0.003, 0.02, 0.1))):
            if draw.random() < 0.5:
                chance = draw.choice(chances)
                self.points.update({point: chance for point in points if draw.random() < 0.5})
        if draw.random() < 0.3:
            self.tear = draw.choice((0.0005, 0.005, 0.03))

    def _draws(self, kind: str) -> Random:
        return self.later if kind in LATER else self.random

    def leave_out(self, kinds: Collection[str]) -> None:
        """Kinds of `ALL_KINDS` that shall not happen in this world."""
        self.plan = {kind: pause for kind, pause in self.plan.items() if kind not in kinds}
        self.points = {point: chance for point, chance in self.points.items() if f"at {point}" not in kinds}
        if TORN in kinds:
            self.tear = 0.0

    def hurry(self, times: float) -> None:
        """Shorten the pauses between faults."""
        self.plan = {kind: pause / times for kind, pause in self.plan.items()}

    def start(self) -> None:
        """Begin."""
        for kind in self.plan:
            self._schedule(kind)

    def stop(self) -> None:
        """No new faults."""
        self.stopped = True

    def _schedule(self, kind: str) -> None:
        self.world.after(int(self._draws(kind).expovariate(1 / self.plan[kind]) * SECOND), self._happen, kind)

    def _happen(self, kind: str) -> None:
        if not self.stopped:
            if not self.resting:
                self._kinds[kind]()
            self._schedule(kind)

    def _fault(self, kind: str) -> None:
        self.world.count("faults")
        self.world.count("fault." + kind)

    # ------------------------------------------------------------------------------------------- processes
    def _strike(self, node: Node, point: str) -> bool:
        chance = self.points.get(point)
        if chance is None or self.stopped or self.resting or self.random.random() >= chance:
            return False
        self._fault("at " + point)
        self._restart_later(node)
        return True

    def _restart_later(self, node: Node) -> None:
        delay = self.random.choice((10 * MS, 300 * MS, 2 * SECOND, 10 * SECOND))
        self.world.after(1 + int(self.random.random() * delay), self._restart, node)

    def _restart(self, node: Node) -> None:
        if not node.up and not self.stopped:
            node.boot()

    def _up(self) -> Node | None:
        nodes = [node for node in self.nodes if node.up]
        return self.random.choice(nodes) if nodes else None

    def _leader(self) -> Node | None:
        leaders = [node for node in self.nodes if node.serving == "leader"]
        return self.random.choice(leaders) if leaders else None

    def _crash(self, node: Node | None, kind: str, power: bool) -> None:
        if node is not None:
            self._fault(kind)
            node.crash(power=power)
            self._restart_later(node)

    def _kill(self) -> None:
        self._crash(self._up(), "kill", False)

    def _kill_leader(self) -> None:
        self._crash(self._leader(), "kill leader", self.random.random() < 0.3)

    def _power(self) -> None:
        self._crash(self._up(), "power", True)

    def _power_all(self) -> None:
        self._fault("power all")
        for node in self.nodes:
            if node.up:
                node.crash(power=True)
                self._restart_later(node)

    def _churn(self) -> None:
        """Servers come and go so quickly that many a synchronisation does not end."""
        self._fault("churn")
        end = self.world.now + self.random.randrange(1, 10) * SECOND
        self.world.after(0, self._churn_on, end, self.random.choice((50 * MS, 200 * MS, 600 * MS)))

    def _churn_on(self, end: int, pause: int) -> None:
        if self.stopped or self.world.now >= end:
            return
        node = self._up()
        if node is not None:
            self._fault("churned")
            node.crash(power=self.random.random() < 0.5)
            self.world.after(int(self.random.random() * 2 * pause), self._restart, node)
        self.world.after(int(self.random.random() * 2 * pause) + 1, self._churn_on, end, pause)

    def tears(self) -> bool:
        """Whether the link breaks in the middle of what is being sent."""
        if self.stopped or self.resting or self.random.random() >= self.tear:
            return False
        self._fault(TORN)
        return True

    def _pause_node(self, node: Node | None, kind: str) -> None:
        if node is not None and not node.paused:
            self._fault(kind)
            node.pause()
            delay = self.random.choice((50 * MS, 500 * MS, 3 * SECOND, 20 * SECOND))
            self.world.after(1 + int(self.random.random() * delay), node.resume)

    def _pause(self) -> None:
        self._pause_node(self._up(), "pause")

    def _pause_leader(self) -> None:
        self._pause_node(self._leader(), "pause leader")

    # --------------------------------------------------------------------------------------------- network
    def _cut(self, pairs: list[tuple[int, int]], kind: str) -> None:
        self._fault(kind)
        self.world.note("cut", kind, *pairs)
        for source, target in pairs:
            self.net.cut(source, target)
        delay = self.random.choice((100 * MS, SECOND, 5 * SECOND, 30 * SECOND))
        self.world.after(1 + int(self.random.random() * delay), self._heal, pairs)

    def _heal(self, pairs: list[tuple[int, int]]) -> None:
        self.world.note("heal", *pairs)
        for source, target in pairs:
            self.net.heal(source, target)

    def _between(self, some: list[int], others: list[int]) -> list[tuple[int, int]]:
        return [pair for one in some for other in others for pair in ((one, other), (other, one))]

    def _sids(self) -> list[int]:
        return [node.sid for node in self.nodes]

    def _isolate(self) -> None:
        sid = self.random.choice(self._sids())
        self._cut(self._between([sid], [other for other in self._sids() if other != sid]), "isolate")

    def _isolate_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            others = [sid for sid in self._sids() if sid != leader.sid]
            self._cut(self._between([leader.sid], others), "isolate leader")

    def _split(self) -> None:
        sids = self._sids()
        self.random.shuffle(sids)
        at = self.random.randrange(1, len(sids))
        self._cut(self._between(sids[:at], sids[at:]), "split")

    def _one_way(self) -> None:
        sids = self._sids()
        pairs = [(one, other) for one in sids for other in sids if one != other and self.random.random() < 0.3]
        self._cut(pairs, "one way")

    def _flap(self) -> None:
        one, other = self.random.sample(self._sids(), 2)
        self._fault("flap")
        pairs = self._between([one], [other])
        pause = self.random.choice((50 * MS, 300 * MS, 2 * SECOND))
        for turn in range(0, 10, 2):
            self.world.after(turn * pause, self._cut_now, pairs)
            self.world.after((turn + 1) * pause, self._heal, pairs)

    def _cut_now(self, pairs: list[tuple[int, int]]) -> None:
        if self.stopped:
            return
        for source, target in pairs:
            self.net.cut(source, target)

    def _reset(self) -> None:
        links = self.net.links(self.random.choice(("quorum", "election")))
        if links:
            self._fault("reset")
            self.net.reset(self.random.choice(links))

    def _client_cut(self) -> None:
        """Nothing from a client gets through, or nothing to it, or neither, whichever server it turns to."""
        client = self.later.choice(self.clients)
        self._fault("client cut")
        up, down = self.later.choice(((True, False), (False, True), (True, True)))
        self.world.note("client cut", client.number, up, down)
        client.cut(up, down)
        delay = self.later.choice((100 * MS, SECOND, 5 * SECOND, 30 * SECOND))
        self.world.after(1 + int(self.later.random() * delay), client.heal)

    # ----------------------------------------------------------------------------------------------- clocks
    def _clock(self) -> None:
        """Somebody sets the wall clock of a server, forward or back; of the leader more often than of others."""
        leaders = [node for node in self.nodes if node.serving == "leader"]
        node = self.later.choice(leaders if leaders and self.later.random() < 0.5 else self.nodes)
        self._fault("clock")
        jump_ms = int(self.later.choice((-1, 1)) * self.later.choice((1000, 60_000, 3_600_000)) * self.later.random())
        self.world.note("clock", node.sid, jump_ms)
        node.wall_offset_ms += jump_ms

    def _drift(self) -> None:
        """The clock of a server or client begins to run faster or slower."""
        self._fault("drift")
        rate = 1 + self.later.uniform(-DRIFT, DRIFT)
        at = self.later.randrange(len(self.nodes) + len(self.clients))
        if at < len(self.nodes):
            self.nodes[at].drift(rate)
        else:
            self.clients[at - len(self.nodes)].rate = rate

    # ------------------------------------------------------------------------------------------------ disks
    def _slow_disk(self) -> None:
        node = self.random.choice(self.nodes)
        self._fault("slow disk")
        normal = node.sync_us
        node.sync_us = self.random.choice((20 * MS, 300 * MS, 2 * SECOND))
        self.world.note("slow disk", node.sid, node.sync_us)
        self.world.after(int(self.random.random() * 20 * SECOND), lambda: setattr(node, "sync_us", min(normal, 5 * MS)))

    def _disk_error(self) -> None:
        node = self._up()
        if node is not None and node.disk.failing is None:
            self._fault("disk error")
            self.world.note("disk fails", node.sid)
            node.disk.failing = "no space left on device"
            self._restart_later(node)
            self.world.after(SECOND, self._still_failing, node)

    def _still_failing(self, node: Node) -> None:
        if node.up and node.disk.failing is not None:  # it wrote nothing meanwhile
            node.crash(power=False)
            self._restart_later(node)

    def _spare(self) -> Node | None:
        """A server whose data may be lost: the impaired stay a minority of the voters."""
        node = self.random.choice(self.nodes)
        impaired = {other.sid for other in self.nodes if other.impaired} | {node.sid}
        return node if 2 * len(impaired & self.voters) < len(self.voters) else None

    def _wipe(self) -> None:
        node = self._spare()
        if node is not None:
            self._fault("wipe")
            node.crash(power=False)
            self.world.note("wipe", node.sid)
            node.impaired = True
            node.disk.wipe()
            self._restart_later(node)

    def _damage(self) -> None:
        node = self._spare()
        if node is not None:
            self._fault("damage")
            node.crash(power=False)
            self.world.note("damage", node.sid)
            node.impaired = True
            node.disk.damage(1 + int(self.random.expovariate(0.1)))
            self._restart_later(node)
