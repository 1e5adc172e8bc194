"""What a serving leader keeps in order: proposals that wait for a quorum, and rounds that prove that it still leads.

Rules
- Commits go strictly in zxid order, once a quorum has acknowledged. The leader's own ack is its durable log.
- An ack counts only while the learner's link lasts: a learner that comes back may have cut what it once acknowledged.
- A `sync` is answered after a quorum of voters answered a ping sent after the question: then no newer leader had been
  established when it was asked (ZooKeeper answers at once, ZOOKEEPER-1675). It also waits for the commit of what was
  proposed before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corekit.codec import quorum as wire
from corekit_zab.options import COUNTER_MAX
from corekit_zab.peer import ACTIVE, LearnerLink

if TYPE_CHECKING:
    from corekit_zab.leader import Leader


class Batch:
    """Entries proposed together, with consecutive zxids."""

    __slots__ = ("entries", "first", "last")

    def __init__(self, first: int, entries: Sequence[bytes], last: int) -> None:
        self.first = first
        self.last = last
        self.entries = entries


class Outstanding:
    """Proposals that are not committed, oldest first."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()

    def add(self, batch: Batch) -> None:
        """A new batch at the end."""
        self._batches.append(batch)

    def __len__(self) -> int:
        return sum(batch.last - batch.first + 1 for batch in self._batches)

    def packets(self) -> bytes:
        """All of them as PROPOSAL packets, for a learner that joins."""
        return b"".join([wire.entry_packets(wire.PROPOSAL, batch.first, batch.entries) for batch in self._batches])

    def commit(self, upto: int, want_entries: bool) -> list[bytes]:
        """Take everything up to `upto` out. The entries, if they are wanted."""
        taken: list[bytes] = []
        batches = self._batches
        while batches and batches[0].first <= upto:
            batch = batches[0]
            if batch.last <= upto:
                batches.popleft()
                if want_entries:
                    taken += batch.entries
            else:
                count = upto - batch.first + 1
                if want_entries:
                    taken += batch.entries[:count]
                batches[0] = Batch(upto + 1, batch.entries[count:], batch.last)
                break
        return taken


class Rounds:
    """Rounds of pings that prove to a leader that a quorum still follows it, and the syncs that wait for them."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._next: list[tuple[LearnerLink | None, int, int]] = []
        self._running: list[tuple[LearnerLink | None, int, int]] = []
        self._confirmed: set[int] = set()
        self._after_commit: deque[tuple[int, list[tuple[LearnerLink | None, int, int]]]] = deque()

    def __len__(self) -> int:
        return len(self._next) + len(self._running) + sum(len(asked) for _, asked in self._after_commit)

    def ask(self, learner: LearnerLink | None, session_id: int, cxid: int) -> None:
        """A sync of a client of `learner`, or of our own."""
        self._next.append((learner, session_id, cxid))
        if not self._running:
            self._begin()

    def _begin(self) -> None:
        leader = self._leader
        self._running, self._next = self._next, []
        self._confirmed = {leader.engine.sid}
        for learner in leader.learners.values():
            if learner.voter and learner.state >= ACTIVE:
                learner.round = leader.ping(learner)
        self._check()

    def pinged(self, learner: LearnerLink) -> None:
        """A ping outside of `_begin`: who has come since takes part in the round with it.

        Otherwise a round would never end whose learners have all connected anew, and with it every sync.
        """
        if self._running and not learner.round:
            learner.round = learner.pings

    def answered(self, learner: LearnerLink) -> None:
        """A learner answered one ping; pings are answered in order."""
        learner.pongs += 1
        if self._running and learner.voter and learner.round and learner.pongs >= learner.round:
            self._confirmed.add(learner.sid)
            self._check()

    def _check(self) -> None:
        leader = self._leader
        if leader.engine.ensemble.has_quorum(self._confirmed):
            done, self._running = self._running, []
            # Before the first proposal of an epoch there is nothing to wait for: its history was decided before it.
            self._after_commit.append((leader.proposed if leader.proposed & COUNTER_MAX else 0, done))
            self.committed(leader.committed)
            if self._next and not self._running:  # an answer may have made room for a sync that began one
                self._begin()

    def committed(self, upto: int) -> None:
        """Entries up to here are committed: answer what waited for it."""
        waiting = self._after_commit
        while waiting and waiting[0][0] <= upto:
            for learner, session_id, cxid in waiting.popleft()[1]:
                if learner is None:
                    self._leader.engine.host.synced(session_id, cxid)
                elif learner.id in self._leader.links:
                    learner.synced()
