"""Known mistakes, planted on purpose: each must be found by the simulator within a bounded number of seeds.

A mutant is a function that patches the code under test; `patch(owner, name, replacement)` replaces an attribute, and is
undone afterwards. The real ZooKeeper bugs bear their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from corekit_zab import election, leader, learner, peer, sync
from corekit_zab.broadcast import Rounds
from corekit_zab.cnx import ElectionLinks
from corekit_zab.election import Election, Vote
from corekit_zab.engine import Zab
from corekit_zab.leader import Leader
from corekit_zab.learner import Learner
from corekit_zab.peer import LearnerLink
from corekit_zab.quorum import Ensemble
from corekit_zab.sync import Feed

from corekit.codec import quorum as wire
from corekit.codec.quorum import DIFF, SNAP, TRUNC
from corekit.testing.sim.kv import Replica

Patch = Callable[[Any, str, Any], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted mistake.

    Attributes:
        seeds: within so many seeds it must be found (some times what it took).
        workload: what finds it, a name in `corekit.testing.sim.campaign.WORKLOADS`.
        script: the golden transcript that it changes, if there is one about it.
    """

    name: str
    plant: Callable[[Patch], None]
    seeds: int
    script: str = ""
    workload: str = "keys"


MUTANTS: dict[str, Mutant] = {}


def mutant(
    seeds: int, script: str = "", workload: str = "keys"
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[plant.__name__] = Mutant(plant.__name__, plant, seeds, script, workload)
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The mistake is in the code while this lasts."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, attribute: str, replacement: Any) -> None:
        undo.append((owner, attribute, owner.__dict__[attribute]))
        setattr(owner, attribute, replacement)

    try:
        MUTANTS[name].plant(patch)
        yield
    finally:
        for owner, attribute, original in reversed(undo):
            setattr(owner, attribute, original)


# ------------------------------------------------------------------------------------------ durability
@mutant(20, script="broadcast")
def ack_before_fsync(patch: Patch) -> None:
    """A follower acknowledges a proposal as soon as it is staged."""

    def persist(self: Zab, first: int, entries: Any, last: int) -> None:
        original(self, first, entries, last)
        if isinstance(self.role, Learner):
            self.role.persisted(last)

    original = Zab.persist
    patch(Zab, "persist", persist)


@mutant(20)
def leader_counts_itself_before_fsync(patch: Patch) -> None:
    """A leader takes its own log for durable when it is staged."""

    def propose(self: Leader, first: int, entries: Any, last: int) -> None:
        original(self, first, entries, last)
        self._acked[self.engine.sid] = last

    original = Leader.propose
    patch(Leader, "propose", propose)


@mutant(20, script="ZOOKEEPER-3911")
def zk3911_newleader_acked_before_the_log(patch: Patch) -> None:
    """NEWLEADER is acknowledged at once; the disk follows."""

    def new_leader(self: Learner, zxid: int) -> None:
        self.phase = learner.ACKING
        self._unacked.extend(self._pending)
        self.engine.enter_epoch(self.epoch)
        self._ack_new_leader(self.engine.last_zxid)

    patch(Learner, "_new_leader", new_leader)


@mutant(20, script="ZOOKEEPER-3911")
def zk4646_history_logged_behind_the_ack(patch: Patch) -> None:
    """The entries of a synchronisation are logged after the ack of NEWLEADER, the epoch before it."""

    def log_entries(self: Learner, entries: list[bytes], last: int) -> None:
        if entries and self.phase == learner.SYNCING:
            late = self.__dict__.setdefault("late", [])
            late.append((last - len(entries) + 1, list(entries), last))
            self.engine.last_zxid = last
        else:
            original(self, entries, last)

    def ack(self: Learner, upto: int) -> None:
        late = self.__dict__.pop("late", [])
        if late:
            self.engine.last_zxid = late[0][0] - 1
        send(self, upto)
        for first, entries, last in late:
            self.engine.persist(first, entries, last)

    original, send = Learner._log_entries, Learner._ack_new_leader
    patch(Learner, "_log_entries", log_entries)
    patch(Learner, "_ack_new_leader", ack)


@mutant(60, script="ZOOKEEPER-4643")
def zk4643_epoch_before_the_log(patch: Patch) -> None:
    """The epoch is written when synchronisation begins, its entries behind it."""

    def history(self: Learner, kind: int, zxid: int) -> None:
        original(self, kind, zxid)
        if self.phase == learner.SYNCING:
            self.engine.enter_epoch(self.epoch)

    original = Learner._history
    patch(Learner, "_history", history)


@mutant(60, script="ZOOKEEPER-3642")
def zk3642_snapshot_only_in_memory(patch: Patch) -> None:
    """A received snapshot is not written."""

    def end_snapshot(self: Replica) -> None:
        stage = self.machine.stage
        try:
            self.machine.stage = lambda call, *args: None  # type: ignore[method-assign]
            original(self)
        finally:
            del self.machine.stage
        assert self.machine.stage == stage

    original = Replica.end_snapshot
    patch(Replica, "end_snapshot", end_snapshot)


@mutant(20)
def epoch_not_persisted(patch: Patch) -> None:
    """The accepted epoch stays in memory."""

    def accept(self: Zab, epoch: int) -> None:
        self.accepted_epoch = epoch

    patch(Zab, "accept_epoch", accept)


@mutant(40)
def answers_of_the_disk_before_the_mark_count(patch: Patch) -> None:
    """A follower believes answers about entries that it staged before it cut its log."""

    def persisted(self: Learner, upto: int) -> None:
        self._durable = max(self._durable, upto)
        if self.phase >= learner.SYNCED:
            self._ack_entries()

    def ack(self: Learner, upto: int) -> None:
        durable = self._durable
        original(self, upto)
        self._durable = max(durable, upto)

    original = Learner._ack_new_leader
    patch(Learner, "persisted", persisted)
    patch(Learner, "_ack_new_leader", ack)
    patch(Zab, "persisted", lambda self, upto: Zab_last(self, upto))


def Zab_last(self: Zab, upto: int) -> None:
    if self.role is not None:
        self.role.persisted(max(upto, self.last_zxid))


# -------------------------------------------------------------------------------------------- quorums
@mutant(20, script="broadcast")
def commit_without_quorum(patch: Patch) -> None:
    """One ack too few is enough to commit."""

    def agreed(self: Ensemble, upto: Any) -> int:
        reached = sorted((zxid for sid, zxid in upto.items() if sid in self.voters), reverse=True)
        need = len(self.voters) // 2
        return reached[need - 1] if len(reached) >= need else 0

    patch(Ensemble, "agreed", agreed)


@mutant(20)
def half_is_a_quorum(patch: Patch) -> None:
    """One voter too few is a quorum everywhere."""
    patch(Ensemble, "has_quorum", lambda self, sids: len(self.voters.intersection(sids)) >= len(self.voters) // 2)


@mutant(200, script="ZOOKEEPER-769")
def zk769_observers_count(patch: Patch) -> None:
    """Observers count in quorums."""

    def has_quorum(self: Ensemble, sids: Any) -> bool:
        return len(set(sids)) > len(self.voters) // 2

    def register(self: Leader, learner_link: LearnerLink) -> None:
        learner_link.voter = True
        original(self, learner_link)

    original = Leader.register
    patch(Ensemble, "has_quorum", has_quorum)
    patch(Leader, "register", register)


@mutant(20)
def serves_before_newleader_is_acked(patch: Patch) -> None:
    """A leader serves as soon as its own epoch is durable."""
    patch(Leader, "_check_synced", _serve_now)


def _serve_now(self: Leader) -> None:
    if self.phase == leader.SYNCING:
        synced, self._synced = self._synced, set(self.engine.ensemble.voters)
        _check_synced(self)
        self._synced = synced


_check_synced = Leader._check_synced


@mutant(200)
def promises_not_awaited(patch: Patch) -> None:
    """A leader enters its epoch without a quorum of ACKEPOCH."""

    def check(self: Leader) -> None:
        self._promised |= {self.engine.sid, *self.engine.ensemble.voters}
        original(self)

    original = Leader._check_promises
    patch(Leader, "_check_promises", check)


@mutant(400)
def epoch_promised_twice(patch: Patch) -> None:
    """A leader does not look at the epochs that others report, and they promise an epoch to several leaders."""

    def register(self: Leader, learner_link: LearnerLink) -> None:
        learner_link.accepted = 0
        original(self, learner_link)

    def ack_epoch(self: Learner, current_epoch: int) -> None:
        original_ack(self, self.engine.current_epoch)

    original, original_ack = Leader.register, Learner._ack_epoch
    patch(Leader, "register", register)
    patch(Learner, "_ack_epoch", ack_epoch)


@mutant(400)
def acks_outlive_their_link(patch: Patch) -> None:
    """What a follower acknowledged counts although it left, came back and cut its log."""

    def gone(self: Leader, link: LearnerLink, why: str) -> None:
        acked = self._acked.get(link.sid)
        original(self, link, why)
        if acked is not None:
            self._acked[link.sid] = acked

    def new_leader_acked(self: Leader, link: LearnerLink) -> None:
        acked = self._acked.get(link.sid, 0)
        joined(self, link)
        self._acked[link.sid] = max(acked, self._acked.get(link.sid, 0))

    original, joined = Leader.gone, Leader.new_leader_acked
    patch(Leader, "gone", gone)
    patch(Leader, "new_leader_acked", new_leader_acked)


# ------------------------------------------------------------------------------------------- elections
@mutant(400)
def vote_compared_without_epoch(patch: Patch) -> None:
    """Votes are compared by zxid and sid."""
    patch(Election, "_better", lambda self, new, old: (new.zxid, new.leader) > (old.zxid, old.leader))
    patch(Leader, "epoch_acked", _no_comparison)


@mutant(300)
def vote_compared_without_zxid(patch: Patch) -> None:
    """Votes are compared by epoch and sid."""
    patch(Election, "_better", lambda self, new, old: (new.epoch, new.leader) > (old.epoch, old.leader))
    patch(Leader, "epoch_acked", _no_comparison)


def _no_comparison(self: Leader, link: LearnerLink, current_epoch: int) -> None:
    """The second line of defence is down as well: a leader does not look whether a learner is ahead of it."""
    if self.phase == leader.HISTORIES and link.voter and current_epoch != -1 and link.peer_zxid != -1:
        self._promised.add(link.sid)
        self._check_promises()
    if self.phase >= leader.SYNCING and link.state == peer.AGREED:
        link.start_feed()


@mutant(100, script="ZOOKEEPER-261")
def zk261_wiped_server_votes(patch: Patch) -> None:
    """A server without data votes like any other."""

    def start(self: Zab, host: Any, recovery: Any, now: int) -> None:
        self.election.start = lambda: None  # type: ignore[method-assign]
        original(self, host, recovery, now)
        del self.election.start
        self.trusted = True
        self.election.start()

    original = Zab.start
    patch(Zab, "start", start)


@mutant(400)
def follows_a_dead_leader(patch: Patch) -> None:
    """A looking server joins a quorum of followers without a word from their leader."""
    patch(Election, "_leads", lambda self, votes, vote: True)
    patch(Learner, "closed", _stubborn_closed)


def _stubborn_closed(self: Learner, why: str) -> None:
    self._link = None
    if self.phase == learner.DIALLING:
        self._redial_at = self.engine.now + 50
        self._schedule()
    else:
        self.engine.look(why)


@mutant(60)
def larger_sid_does_not_dial_back(patch: Patch) -> None:
    """ZOOKEEPER-2164: the larger sid closes the link of the smaller one, and that is all."""

    def greeted(self: ElectionLinks, link: Any, sid: int) -> bool:
        if sid < self.engine.sid:
            self._strangers.discard(link)
            self.engine.forget(link.id, "the larger sid dials")
            return False
        return original(self, link, sid)

    def dial(self: ElectionLinks, sid: int, at_once: bool = False) -> None:
        if sid > self.engine.sid:
            original_dial(self, sid, at_once)

    original, original_dial = ElectionLinks.greeted, ElectionLinks._dial
    patch(ElectionLinks, "greeted", greeted)
    patch(ElectionLinks, "_dial", dial)


# ------------------------------------------------------------------------------------ synchronisation
@mutant(100, script="ZOOKEEPER-1154")
def zk1154_history_chosen_by_range(patch: Patch) -> None:
    """DIFF or TRUNC is chosen by comparing zxids; whether both have the entry is not looked at."""

    def choose(host: Any, peer_zxid: int, committed: int, applied: int) -> tuple[int, int]:
        kind, cursor = original(host, peer_zxid, committed, applied)
        return (DIFF, peer_zxid) if kind == TRUNC and peer_zxid < committed else (kind, cursor)

    original = sync.choose
    patch(sync, "choose", choose)


@mutant(100, script="synchronization_trunc")
def truncation_skipped(patch: Patch) -> None:
    """A learner does not cut its log when told."""

    def truncate(self: Zab, zxid: int) -> None:
        pass

    patch(Zab, "truncate", truncate)


@mutant(300)
def zk1156_truncation_cuts_too_much(patch: Patch) -> None:
    """A learner cuts one entry more than told."""

    def truncate(self: Zab, zxid: int) -> None:
        original(self, max(zxid - 1, self.committed))

    original = Zab.truncate
    patch(Zab, "truncate", truncate)


@mutant(300, script="ZOOKEEPER-2355")
def zk2355_last_zxid_taken_from_the_diff(patch: Patch) -> None:
    """A learner believes to be where the leader is when the header of a DIFF arrives."""

    def history(self: Learner, kind: int, zxid: int) -> None:
        original(self, kind, zxid)
        if kind == DIFF and self.phase == learner.SYNCING:
            self.engine.claimed = zxid  # type: ignore[attr-defined]

    def ack_epoch(self: Learner, current_epoch: int) -> None:
        engine = self.engine
        claimed, last = getattr(engine, "claimed", 0), engine.last_zxid
        engine.last_zxid = max(last, claimed)
        original_ack(self, current_epoch)
        engine.last_zxid = last

    original, original_ack = Learner._history, Learner._ack_epoch
    patch(Learner, "_history", history)
    patch(Learner, "_ack_epoch", ack_epoch)


@mutant(100)
def zk2418_purged_history_is_not_missed(patch: Patch) -> None:
    """Where the log was purged, history is sent from what is left."""

    def pump(self: Feed, committed: int) -> bool:
        host = self._host

        class Lenient:
            send = staticmethod(host.send)

            @staticmethod
            def read_log(after: int, size: int) -> Any:
                return _lenient_read(host, after, size)

        self._host = Lenient  # type: ignore[assignment]
        try:
            return original(self, committed)
        finally:
            self._host = host

    def lenient_choose(host: Any, peer_zxid: int, committed: int, applied: int) -> tuple[int, int]:
        kind, cursor = choose(host, peer_zxid, committed, applied)
        return (DIFF, peer_zxid) if kind == SNAP and peer_zxid > 0 else (kind, cursor)

    original, choose = Feed.pump, sync.choose
    patch(Feed, "pump", pump)
    patch(sync, "choose", lenient_choose)


def _lenient_read(host: Any, after: int, size: int) -> Any:
    try:
        return host.read_log(after, size)
    except LookupError:
        return host.read_log(host.machine.disk.volatile.purged, size)


@mutant(40)
def zk3104_snapshot_named_too_high(patch: Patch) -> None:
    """A snapshot claims a zxid that its content has not reached."""

    def snapshot(self: Replica) -> Any:
        zxid, chunks = original(self)
        old, self.old_chunks = getattr(self, "old_chunks", None), list(chunks)  # type: ignore[attr-defined]
        return zxid, iter(old or self.old_chunks)  # type: ignore[attr-defined]

    original = Replica.snapshot
    patch(Replica, "snapshot", snapshot)


@mutant(100, script="ZOOKEEPER-4925")
def zk4925_hole_in_what_a_former_learner_sends(patch: Patch) -> None:
    """What a server received during its own synchronisation is missing in what it sends to others later."""
    sending: list[set[int]] = [set()]

    def log_entries(self: Learner, entries: list[bytes], last: int) -> None:
        original(self, entries, last)
        if self.phase == learner.SYNCING:
            self.engine.__dict__.setdefault("holes", set()).update(range(last - len(entries) + 1, last + 1))

    def pump(self: LearnerLink) -> None:
        sending[0] = getattr(self.leader.engine, "holes", set())
        original_pump(self)

    def committed_packets(entries: list[tuple[int, bytes]]) -> bytes:
        return wire.committed_packets([entry for entry in entries if entry[0] not in sending[0]])

    original, original_pump = Learner._log_entries, LearnerLink.pump
    patch(Learner, "_log_entries", log_entries)
    patch(LearnerLink, "pump", pump)
    patch(sync, "committed_packets", committed_packets)


@mutant(20)
def zk4394_outstanding_proposals_forgotten(patch: Patch) -> None:
    """Proposals without a COMMIT are forgotten when NEWLEADER comes behind them, as ZooKeeper's leaders send it."""

    def new_leader(self: Learner, zxid: int) -> None:
        original(self, zxid)
        self._pending.clear()

    def welcome(self: LearnerLink) -> bytes:
        both = ordered(self)
        outstanding = self.leader.outstanding_packets() if self.voter else b""
        return outstanding + both[: len(both) - len(outstanding)]

    original, ordered = Learner._new_leader, LearnerLink.welcome
    patch(Learner, "_new_leader", new_leader)
    patch(LearnerLink, "welcome", welcome)


@mutant(60, script="synchronization_diff")
def outstanding_proposals_not_sent_to_newcomers(patch: Patch) -> None:
    """A learner joins the live stream without the proposals that wait for a quorum."""
    patch(Leader, "outstanding_packets", lambda self: b"")


# --------------------------------------------------------------------------------------- what is decided
@mutant(20)
def applied_before_uptodate(patch: Patch) -> None:
    """A learner applies commits while it synchronises."""

    def apply(self: Learner) -> None:
        if self.phase >= learner.SYNCING and self._commit > self.engine.committed:
            self.engine.committed = self._commit
            self.engine.host.committed(self._commit)

    patch(Learner, "_apply_commits", apply)


@mutant(60, script="ZOOKEEPER-1549")
def zk2845_log_taken_for_decided_at_start(patch: Patch) -> None:
    """A server applies its whole log when it starts."""

    def start(self: Zab, host: Any, recovery: Any, now: int) -> None:
        original(self, host, recovery, now)
        if self.last_zxid > self.committed:
            host.committed(self.last_zxid)
            self.committed = self.last_zxid

    original = Zab.start
    patch(Zab, "start", start)


@mutant(40)
def leader_commits_what_is_outstanding_when_it_steps_down(patch: Patch) -> None:
    """A leader that loses its quorum applies what it proposed."""

    def stop(self: Leader, why: str) -> None:
        original(self, why)
        if self.served and self.proposed & 0xFFFFFFFF:
            self.engine.committed = self.proposed
            self.engine.host.committed(self.proposed)

    original = Leader.stop
    patch(Leader, "stop", stop)


@mutant(40, script="ZOOKEEPER-1675", workload="sessions")
def zk1675_sync_answered_by_a_deposed_leader(patch: Patch) -> None:
    """A sync is answered at once, without asking whether this server still leads."""

    def ask(self: Rounds, link: LearnerLink | None, session: int, cxid: int) -> None:
        self._after_commit.append((self._leader.proposed, [(link, session, cxid)]))
        self.committed(self._leader.committed)

    patch(Rounds, "ask", ask)


@mutant(60)
def leader_stays_without_a_quorum(patch: Patch) -> None:
    """A leader does not care whether anybody follows it."""

    def gone(self: Leader, link: LearnerLink, why: str) -> None:
        self.links.pop(link.id, None)
        self._claims.pop(link.sid, None)
        if self.learners.get(link.sid) is link:
            del self.learners[link.sid]
            self._acked.pop(link.sid, None)
            self._synced.discard(link.sid)

    patch(Leader, "gone", gone)


__all__ = ["MUTANTS", "Mutant", "Vote", "election", "planted"]
