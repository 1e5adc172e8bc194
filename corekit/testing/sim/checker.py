"""What must hold in an ensemble, whatever happens to it. Written from the ZAB paper and ZooKeeper's specification.

The checker looks at what servers put on disk, send, apply and answer, never into the consensus. It keeps the one
history that was decided, and compares everything with it.

    I1  one leader an epoch, with a quorum of promises, its own epoch durable
    I2  I4  I5  I11  everybody applies the same entries in the same order, without a hole
    I3  only what was proposed is applied        I6  in the order in which its leader proposed it
    I7  zxids rise                               I8  I10  a new leader has everything that was decided
    I9  a learner that acknowledges NEWLEADER has a prefix of its leader's log
    I12 nothing decided is cut off or overwritten by a snapshot
    I13 what is decided is durable on a quorum   I14 what is acknowledged is durable
    I15 epochs: current <= accepted, log <= accepted, none falls (current to 0 only: "my data is incomplete"); a server
        that has entered an epoch on disk has the history that the epoch begins with, at every moment
    I16 counters rise by one in logs and on the wire
    I17 a vote speaks of the log                 I19 equal histories, equal digests
    I18 answers to clients (see `clients.py`)    I20 nobody breaks or takes a correct peer's bytes for wrong
    L3  servers do not answer each other's votes for ever
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol

from corekit.testing.sim.tap import Listener, QuorumTap
from corekit.testing.sim.world import SECOND, Violation, World

if TYPE_CHECKING:
    from corekit.codec.quorum import Notification
    from corekit.testing.sim.node import Node

STORM = 200  # notifications of one server within a second, for two seconds: what was held by a cut link comes at once


class Model(Protocol):
    """Follows the decided history."""

    def decide(self, zxid: int, entry: bytes) -> None:
        """The next entry; raises Violation if it cannot be the next."""


class Checker(Listener):
    """Watches one world.

    Attributes:
        model: what the decided history comes to.
        zxids, entries, digests: the history that was decided, in order.
        nodes: the servers, by sid.
        proposed_at: when each entry was proposed.
        largest_ok: the largest zxid that any client was told of.
    """

    def __init__(
        self, world: World, voters: Collection[int], has_quorum: Callable[[Collection[int]], bool], model: Model
    ) -> None:
        self.world = world
        self.model = model
        self.voters = frozenset(voters)
        self.has_quorum = has_quorum
        self.nodes: dict[int, Node] = {}
        self.zxids: list[int] = []
        self.entries: list[bytes] = []
        self.digests: list[int] = []
        self.largest_ok = 0
        self.proposed_at: dict[int, int] = {}
        self.established: dict[int, int] = {}
        self.newest_epoch = 0
        self.corrupting = False
        self.tap = QuorumTap(self)
        self._proposed: dict[int, list[tuple[int, bytes]]] = {}
        self._proposer: dict[int, int] = {}
        self._in_epoch: dict[int, int] = {}
        self._applied: dict[int, int] = {}  # sid -> entries of the history applied
        self._epochs: dict[int, tuple[int, int]] = {}
        self._promises: dict[tuple[int, int], set[int]] = {}
        self._informed: dict[tuple[int, int], int] = {}  # (leader, epoch) -> incarnation of the leader
        self._votes_sent: dict[int, tuple[int, int, int]] = {}  # sid -> (second, how many in it, in the one before)
        self._claims: set[tuple[int, int, int]] = set()
        self._histories: dict[int, int] = {}  # epoch -> last zxid of the history that it begins with

    def fail(self, rule: str, text: str) -> None:
        """Something does not hold."""
        raise Violation(rule, text)

    # ---------------------------------------------------------------------------------------- what is decided
    def booted(self, node: Node) -> None:
        """A process started with the state that its disk had."""
        self._applied[node.sid] = self._position(node, node.replica.applied, node.replica.digest)

    def installed(self, node: Node, zxid: int, digest: int) -> None:
        """A snapshot replaces the state of a server."""
        had = node.disk.volatile
        lost = [z for z in self.zxids[bisect_right(self.zxids, zxid) :] if z in had.index]
        if lost and had.current:
            self.fail("I12", f"server {node.sid} takes a snapshot of 0x{zxid:x} over 0x{lost[0]:x}, which was decided")
        self._applied[node.sid] = self._position(node, zxid, digest)

    def _position(self, node: Node, zxid: int, digest: int) -> int:
        at = bisect_right(self.zxids, zxid)
        if at and self.digests[at - 1] != digest:
            self.fail("I19", f"server {node.sid} has another state at 0x{zxid:x} than was decided")
        if not at and digest:
            self.fail("I3", f"server {node.sid} has a state at 0x{zxid:x}, but nothing was decided")
        return at

    def applied(self, node: Node, zxid: int, entry: bytes, digest: int) -> None:
        """A server applied an entry."""
        at = self._applied[node.sid]
        if at == len(self.zxids):
            self._decide(node, zxid, entry, digest)
        elif self.zxids[at] != zxid or self.entries[at] != entry:
            self.fail("I2", f"server {node.sid} applies 0x{zxid:x}, others applied 0x{self.zxids[at]:x} there")
        if self.digests[at] != digest:
            self.fail("I19", f"server {node.sid} has another digest at 0x{zxid:x}")
        self._applied[node.sid] = at + 1

    def _decide(self, node: Node, zxid: int, entry: bytes, digest: int) -> None:
        """The first server applies an entry: now it is part of the history."""
        if self.zxids and zxid <= self.zxids[-1]:
            self.fail("I7", f"server {node.sid} applies 0x{zxid:x} after 0x{self.zxids[-1]:x}")
        epoch = zxid >> 32
        proposed = self._proposed.get(epoch, [])
        nth = self._in_epoch.get(epoch, 0)
        if nth >= len(proposed) or proposed[nth] != (zxid, entry):
            rule = "I6" if (zxid, entry) in proposed else "I3"
            self.fail(rule, f"server {node.sid} applies 0x{zxid:x}, which its leader did not propose as number {nth}")
        # What a disk lost after it was acknowledged counts: that the others make up for it is shown by I10.
        holders = [sid for sid in self.voters if self.nodes[sid].disk.has_had(zxid)]
        if not self.has_quorum(holders):
            self.fail("I13", f"server {node.sid} applies 0x{zxid:x}, which is durable on {holders} only")
        if epoch < self.newest_epoch and zxid not in self._initial:
            self.fail("I8", f"0x{zxid:x} is decided though epoch {self.newest_epoch} has begun without it")
        self._in_epoch[epoch] = nth + 1
        self.zxids.append(zxid)
        self.entries.append(entry)
        self.digests.append(digest)
        self.model.decide(zxid, entry)

    # ------------------------------------------------------------------------------------------------ roles
    def serving(self, node: Node, mode: str, next_zxid: int) -> None:
        """A server begins to serve."""
        self.world.count("served." + mode)
        if mode != "leader":
            return
        epoch = next_zxid >> 32
        disk = node.disk
        if epoch in self.established:
            self.fail("I1", f"servers {self.established[epoch]} and {node.sid} both lead in epoch {epoch}")
        if disk.durable.current != epoch:
            self.fail("I1", f"server {node.sid} leads in epoch {epoch}, but has {disk.durable.current} on disk")
        promised = self._promises.get((node.sid, epoch), set()) | {node.sid}
        if not self.has_quorum(promised):
            self.fail("I1", f"server {node.sid} leads in epoch {epoch} with promises of {sorted(promised)} only")
        if self._applied[node.sid] < len(self.zxids):
            missing = self.zxids[self._applied[node.sid]]
            self.fail("I10", f"server {node.sid} leads in epoch {epoch} without 0x{missing:x}, which was decided")
        self.established[epoch] = node.sid
        if epoch > self.newest_epoch:
            self.newest_epoch = epoch
            self._initial = frozenset(disk.volatile.index)

    _initial: frozenset[int] = frozenset()

    def suspended(self, node: Node, why: str) -> None:
        """A server stops serving."""

    def proposed(self, node: Node, zxid: int, entry: bytes) -> None:
        """A leader made an entry."""
        epoch = zxid >> 32
        if self._proposer.setdefault(epoch, node.sid) != node.sid:
            self.fail("I1", f"servers {self._proposer[epoch]} and {node.sid} both propose in epoch {epoch}")
        entries = self._proposed.setdefault(epoch, [])
        if zxid & 0xFFFFFFFF != len(entries) + 1:
            self.fail("I16", f"server {node.sid} proposes 0x{zxid:x} as number {len(entries) + 1} of its epoch")
        entries.append((zxid, entry))
        self.proposed_at[zxid] = self.world.now

    # ------------------------------------------------------------------------------------------------- disk
    def appending(self, node: Node, first: int, entries: Any, last: int) -> None:
        """A server is about to put entries at the end of its log."""
        end = node.disk.volatile.last_zxid
        if first != end + 1 and not (first >> 32 > end >> 32 and first & 0xFFFFFFFF == 1):
            self.fail("I16", f"server {node.sid} logs 0x{first:x} behind 0x{end:x}")
        if first >> 32 != last >> 32:
            self.fail("I16", f"server {node.sid} logs 0x{first:x}..0x{last:x} as one epoch")

    def truncated(self, node: Node, zxid: int) -> None:
        """A server is about to cut its log.

        Its leader may decide an entry while it tells a returning server to drop and log it anew; the others have it.
        """
        had = node.disk.volatile.index
        for decided in self.zxids[bisect_right(self.zxids, zxid) :]:
            others = [sid for sid in self.voters if sid != node.sid and self.nodes[sid].disk.has_had(decided)]
            if decided in had and not self.has_quorum(others):
                self.fail("I12", f"server {node.sid} cuts its log to 0x{zxid:x}, but 0x{decided:x} was decided")

    def durable(self, node: Node) -> None:
        """The durable image of a server changed."""
        image = node.disk.durable
        old_accepted, old_current = self._epochs.get(node.sid, (0, 0))
        if image.current > image.accepted:
            self.fail("I15", f"server {node.sid} has the epoch {image.current}, but accepted {image.accepted}")
        if image.last_zxid >> 32 > image.accepted:
            self.fail("I15", f"server {node.sid} logged 0x{image.last_zxid:x}, but accepted epoch {image.accepted}")
        if not node.impaired and (image.accepted < old_accepted or (image.current < old_current and image.current)):
            now = (image.accepted, image.current)
            self.fail("I15", f"the epochs of server {node.sid} fell from {(old_accepted, old_current)} to {now}")
        self._epochs[node.sid] = (image.accepted, image.current)
        if image.current != old_current and image.current:
            # The first to enter an epoch is its leader, and its log is the history that the epoch begins with.
            history = self._histories.setdefault(image.current, node.disk.volatile.last_zxid)
            if not image.has(history):
                text = f"server {node.sid} has entered epoch {image.current} on disk, but 0x{history:x} is not there"
                self.fail("I15", text)

    # ------------------------------------------------------------------------------------------------- wire
    def closed(self, node: Node, why: str) -> None:
        """A server closes a link."""
        expected = "ahead of this leader" in why or "is older than the accepted epoch" in why
        if why.startswith("protocol error") and not self.corrupting and not expected:
            self.fail("I20", f"server {node.sid} takes a correct peer for a wrong one: {why}")

    def known(self, sid: int) -> bool:
        return sid in self.nodes

    def promised(self, source: int, leader: int, epoch: int) -> None:
        self._promises.setdefault((leader, epoch), set()).add(source)
        if self.nodes[source].disk.durable.accepted < epoch:
            self.fail("I14", f"server {source} promised epoch {epoch} before that was durable")

    def informed(self, leader: int, epoch: int) -> None:
        if self.nodes[leader].disk.durable.accepted < epoch:
            self.fail("I14", f"server {leader} proposed epoch {epoch} before that was durable")
        self._informed[leader, epoch] = self.nodes[leader].incarnation

    def acked_history(self, source: int, leader: int, epoch: int, history: int) -> None:
        node, disk = self.nodes[source], self.nodes[source].disk
        if source in self.voters and disk.durable.current != epoch:
            self.fail("I14", f"server {source} acks NEWLEADER of {epoch} with {disk.durable.current} on disk")
        if not disk.durable.has(history):
            self.fail("I14", f"server {source} acks NEWLEADER of {epoch}, but 0x{history:x} is not durable")
        if self.nodes[leader].up and self._informed[leader, epoch] == self.nodes[leader].incarnation:
            self._compare_logs(node, self.nodes[leader])
        node.impaired = False

    def _compare_logs(self, node: Node, leader: Node) -> None:
        mine, theirs = node.disk.volatile, leader.disk.volatile
        start = max(mine.purged, theirs.purged, mine.state_zxid if not mine.zxids else 0)
        end = mine.last_zxid
        have = mine.zxids[bisect_right(mine.zxids, start) :]
        should = theirs.zxids[bisect_right(theirs.zxids, start) : bisect_right(theirs.zxids, end)]
        if have != should or any(mine.index[zxid] != theirs.index[zxid] for zxid in have):
            odd = sorted(set(have) ^ set(should))[:3]
            self.fail("I9", f"server {node.sid} follows {leader.sid} with another log: {[hex(z) for z in odd]}")

    def acked(self, source: int, zxid: int) -> None:
        if not self.nodes[source].disk.durable.has(zxid):
            self.fail("I14", f"server {source} acknowledges 0x{zxid:x}, which is not durable there")

    def streamed(self, source: int, target: int, before: int, zxid: int) -> None:
        if zxid != before + 1 and not (zxid >> 32 > before >> 32 and zxid & 0xFFFFFFFF == 1):
            self.fail("I16", f"server {source} sends 0x{zxid:x} after 0x{before:x} to {target}")

    def voted(self, source: int, note: Notification) -> None:
        second = self.world.now // SECOND
        began, count, before = self._votes_sent.get(source, (second, 0, 0))
        if began != second:
            count, before = 0, count if began == second - 1 else 0
        self._votes_sent[source] = (second, count + 1, before)
        if min(count, before) > STORM:
            self.fail("L3", f"server {source} sends more than {STORM} notifications a second")
        if note.state == 0 and note.leader == source:
            image = self.nodes[source].disk.volatile
            claim = (source, note.zxid, note.peer_epoch)
            if note.zxid in (-1, image.last_zxid) and note.peer_epoch == image.current:
                self._claims.add(claim)
            elif claim not in self._claims:  # others may still vote for it with what it had before it crashed
                self.fail("I17", f"server {source} shows 0x{note.zxid:x}, but its log ends at 0x{image.last_zxid:x}")
