"""Leading: discovery, synchronisation and broadcast from the leader's side.

    DISCOVERY  a quorum reports its accepted epochs; the new epoch is one above all of them
    PROMISING  the new epoch becomes durable here, then LEADERINFO goes out
    HISTORIES  a quorum promises it (ACKEPOCH); nobody in it may know more than we do
    ENTERING   our own current epoch becomes durable: our log is the history with which the epoch begins
    SYNCING    learners get that history; a quorum acknowledges NEWLEADER
    SERVING    the history is decided; proposals go out, acks come in, commits follow

Rules
- The epoch is proposed only after a quorum of voters has reported, this server among them. Observers and strangers
  count for nothing, and nobody can push the epoch by more than `EPOCH_JUMP_MAX`.
- Our log counts as committed history from SYNCING on in what learners are sent, but the host is told, and clients
  are served, in SERVING only.
- A leader that is not followed by a quorum stops at once; one that was held up looks at the time before anything else.
- A voter that promised a newer epoch than ours can never follow us: for its sake we make room for the next epoch.
- The counter of the zxids does not run out: well before, the leader makes room for a new epoch (ZOOKEEPER-1277).

Sources: the ZAB paper, ZooKeeper `Leader`. Not here: one learner's link (`peer.py`), order of commits (`broadcast.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from corekit.api import Identity
from corekit.codec import quorum as wire
from corekit.codec.quorum import LOOKING, TRUNC, Notification, packet
from corekit.errors import ProtocolError
from corekit_zab.broadcast import Batch, Outstanding, Rounds
from corekit_zab.options import COUNTER_MAX, EPOCH_JUMP_MAX, EPOCH_MAX, LIVE_BACKLOG_BYTES, NEVER, WAITING_MS
from corekit_zab.peer import ACTIVE, AGREED, FEEDING, GREETING, REGISTERED, UPTODATE, LearnerLink

if TYPE_CHECKING:
    from corekit_zab.engine import Zab
    from corekit_zab.sync import Feed

DISCOVERY: Final = 0
PROMISING: Final = 1
HISTORIES: Final = 2
ENTERING: Final = 3
SYNCING: Final = 4
SERVING: Final = 5
ROLLOVER_POLL_MS: Final = 10
PHASES: Final = ("discovery", "discovery", "discovery", "synchronization", "synchronization", "broadcast")


class Leader:
    """A server that was elected.

    Attributes:
        phase: see above.
        epoch: the new epoch, 0 while it is not known.
        committed: how far the history goes that every learner shall have.
        proposed: the last zxid proposed.
        links: every quorum link, by link id.
        learners: the links of those who said who they are, by sid.
        over: the role has ended.
        served: it came to serve clients.
        refused: never; learners can be.
        wake_at: when `tick` has something to do.
    """

    def __init__(self, engine: Zab) -> None:
        self.engine = engine
        self.phase = DISCOVERY
        self.epoch = 0
        self.committed = self.proposed = engine.last_zxid
        self.links: dict[int, LearnerLink] = {}
        self.learners: dict[int, LearnerLink] = {}
        self.over = False
        self.served = False
        self.refused = False
        self.rounds = Rounds(self)
        self._outstanding = Outstanding()
        self._promised: set[int] = set()
        self._synced: set[int] = set()
        self._acked: dict[int, int] = {}
        self._left: set[int] = set()
        self._cut: set[int] = set()  # who was told to cut its log, and nothing else
        self._claims: dict[int, tuple[LearnerLink, int]] = {}  # links that claim the sid of a live learner
        now = engine.now
        self._deadline = now + min(engine.options.discovery_ms, engine.options.init_ms)
        self._next_ping = now + engine.options.tick_ms // 2
        self._retire_at = NEVER
        self._rollover_by = NEVER
        self._since = now
        self.wake_at = min(self._deadline, self._next_ping)

    def begin(self) -> None:
        """Start; an ensemble of one goes on by itself."""
        self._reported()

    def stop(self, why: str) -> None:
        """The role ends: all learners are sent away."""
        self.over = True
        for link in list(self.links):
            self.engine.forget(link, why)

    # ----------------------------------------------------------------------------------------- learners
    def accept(self, link: int, peer: str) -> None:
        """Somebody connected to the quorum port."""
        learner = LearnerLink(self, link, peer)
        self.links[link] = learner
        self.engine.endpoints[link] = learner

    def register(self, learner: LearnerLink) -> None:
        """A member said who it is."""
        engine = self.engine
        now = engine.now
        if learner.accepted > engine.accepted_epoch + EPOCH_JUMP_MAX or learner.accepted < 0:
            engine.log("error", f"server.{learner.sid} claims the epoch {learner.accepted}: refused, check that server")
            raise ProtocolError(f"epoch {learner.accepted} is out of bounds")
        old = self.learners.get(learner.sid)
        if old is not None:
            # It came back before we noticed that it had gone, or another server has the same sid: ask the old link.
            self.ping(old)
            self._claims[learner.sid] = (learner, now)
            self.wake_at = min(self.wake_at, now + engine.options.tick_ms // 2)
            return
        self._admit(learner)

    def _admit(self, learner: LearnerLink) -> None:
        engine = self.engine
        learner.state = REGISTERED
        learner.reader.limit = wire.PACKET_BYTES_MAX
        self.learners[learner.sid] = learner
        if learner.voter:
            engine.epoch_floor = max(engine.epoch_floor, learner.accepted)
        if self.phase == DISCOVERY:
            self._reported()
        elif self.phase >= HISTORIES:
            self._inform(learner)

    def _inform(self, learner: LearnerLink) -> None:
        if not learner.voter or learner.accepted <= self.epoch:
            learner.inform()
            return
        # It promised a newer epoch and can never follow this one; it will follow the next.
        tenure = self._since + 2 * self.engine.options.tick_ms
        self._retire_at = max(self.engine.now, tenure)
        self.wake_at = min(self.wake_at, self._retire_at)

    def gone(self, learner: LearnerLink, why: str) -> None:
        """A link closed."""
        del self.links[learner.id]
        claim = self._claims.get(learner.sid)
        if claim is not None and claim[0] is learner:
            del self._claims[learner.sid]
        if self.learners.get(learner.sid) is not learner:
            return
        engine = self.engine
        del self.learners[learner.sid]
        self._acked.pop(learner.sid, None)
        self._synced.discard(learner.sid)
        engine.log("info", f"server.{learner.sid} left: {why}")
        if claim is not None and claim[0] is not learner:
            del self._claims[learner.sid]
            self._admit(claim[0])
        with_us = self._synced if self.phase == SERVING else {engine.sid, *self.learners}
        if self.phase > DISCOVERY and not engine.ensemble.has_quorum(with_us):
            engine.look("a quorum no longer follows this leader")

    def peer_state(self, sid: int, note: Notification) -> None:
        """A voter that looks in a later round, or for a better leader in ours, does not come (ZOOKEEPER-3109)."""
        engine = self.engine
        ours = engine.election.vote
        better = (note.peer_epoch, note.zxid, note.leader) > (ours.epoch, ours.zxid, ours.leader)
        moved_on = note.round > ours.round or (note.round == ours.round and better)
        if self.phase == SERVING or note.state != LOOKING or not moved_on or sid in self.learners:
            return
        self._left.add(sid)
        reachable = engine.election_links.reachable
        coming = {sid for sid in engine.ensemble.voters - self._left if reachable(sid)}
        if not engine.ensemble.has_quorum({engine.sid, *self.learners} | coming):
            engine.look("a quorum looks for another leader")

    # ---------------------------------------------------------------------------------------- discovery
    def _reported(self) -> None:
        engine = self.engine
        voters = [learner for learner in self.learners.values() if learner.voter]
        if not engine.ensemble.has_quorum([engine.sid, *(learner.sid for learner in voters)]):
            return
        accepted = [learner.accepted for learner in voters]
        epoch = max(engine.accepted_epoch, engine.epoch_floor, *accepted, 0) + 1
        if epoch > EPOCH_MAX:
            engine.log("error", "there is no epoch left for a new leader")
            return
        self.epoch = epoch
        self.phase = PROMISING
        engine.accept_epoch(epoch)
        engine.when_durable(self, self._epoch_durable)

    def _epoch_durable(self) -> None:
        self.phase = HISTORIES
        for learner in list(self.learners.values()):
            self._inform(learner)
        self._promised.add(self.engine.sid)
        self._check_promises()

    def epoch_acked(self, learner: LearnerLink, current_epoch: int) -> None:
        """A learner promised our epoch and told what it has."""
        engine = self.engine
        if self.phase == HISTORIES and learner.voter and current_epoch != -1:
            if (current_epoch, learner.peer_zxid) > (engine.current_epoch, engine.last_zxid):
                raise ProtocolError(
                    f"server.{learner.sid} is ahead of this leader: epoch {current_epoch}, 0x{learner.peer_zxid:x}"
                )
            if learner.peer_zxid != -1:
                self._promised.add(learner.sid)
                self._check_promises()
        if self.phase >= SYNCING and learner.state == AGREED:
            learner.start_feed()

    def cut_first(self, learner: LearnerLink, feed: Feed) -> bool:
        """Send a learner away to cut its log and come back for the rest, once, if that can be; whether it was.

        What ZooKeeper's followers receive in the same synchronisation as TRUNC goes into their tree and a snapshot,
        never into their log, and is missing in what they send to others when they lead (`snapshotNeeded` in
        `Learner.syncWithLeader`). While the quorum needs this learner, it has to be so all the same: with a link that
        ends, a ZooKeeper follower begins a round of election that nobody else is in.
        """
        if feed.kind != TRUNC or feed.cursor == self.committed or self.phase != SERVING or learner.sid in self._cut:
            return False
        self._cut.add(learner.sid)
        feed.send_head()
        self.engine.drop(learner.id, f"server.{learner.sid} cuts its log first, and comes back for the rest")
        return True

    def _check_promises(self) -> None:
        engine = self.engine
        if engine.ensemble.has_quorum(self._promised):
            self.phase = ENTERING
            self._deadline = engine.now + engine.options.init_ms
            engine.enter_epoch(self.epoch)
            engine.when_durable(self, self._epoch_entered)

    # --------------------------------------------------------------------------------- synchronisation
    def _epoch_entered(self) -> None:
        """Our log and then our epoch are durable: that is our own ack of NEWLEADER."""
        engine = self.engine
        assert engine.current_epoch == self.epoch
        assert engine.last_zxid == self.committed
        self.phase = SYNCING
        self._acked[engine.sid] = engine.last_zxid
        self._synced.add(engine.sid)
        for learner in list(self.learners.values()):
            if learner.state == AGREED:
                learner.start_feed()
        self._check_synced()

    def outstanding_packets(self) -> bytes:
        """Proposals that a voter must have before it joins the live stream."""
        return self._outstanding.packets()

    def new_leader_acked(self, learner: LearnerLink) -> None:
        """A learner has our history, durably."""
        if learner.voter:
            self._synced.add(learner.sid)
            self._acked[learner.sid] = learner.acked
        if self.phase == SERVING:
            self._up_to_date(learner)
        else:
            self._check_synced()

    def _check_synced(self) -> None:
        engine = self.engine
        if not engine.ensemble.has_quorum(self._synced):
            return
        self.phase = SERVING
        self.served = True
        self._since = engine.now
        engine.failures = 0
        engine.log("info", f"leading in epoch {self.epoch}, followed by {sorted(self._synced - {engine.sid})}")
        engine.election.established(self.epoch)
        if self.committed > engine.committed:
            engine.committed = self.committed
            engine.host.committed(self.committed)
        self.proposed = self.epoch << 32
        for learner in list(self.learners.values()):
            if learner.state == ACTIVE:
                self._up_to_date(learner)
        engine.host.serve("leader", self.proposed + 1)

    def _up_to_date(self, learner: LearnerLink) -> None:
        learner.state = UPTODATE
        learner.send(packet(wire.UPTODATE, -1))

    # --------------------------------------------------------------------------------------- broadcast
    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Log these entries and send them to the followers."""
        assert self.phase == SERVING
        assert first_zxid == self.proposed + 1
        assert last_zxid & 0xFFFFFFFF < COUNTER_MAX
        engine = self.engine
        self.proposed = last_zxid
        self._outstanding.add(Batch(first_zxid, entries, last_zxid))
        self._stream(wire.entry_packets(wire.PROPOSAL, first_zxid, entries), voters=True)
        engine.persist(first_zxid, entries, last_zxid)
        if last_zxid & 0xFFFFFFFF >= engine.options.rollover_at:
            self.wake_at = engine.now

    def _stream(self, data: bytes, voters: bool) -> None:
        send = self.engine.host.send
        for link, learner in self.links.items():
            if learner.live and learner.voter == voters and send(link, data) > LIVE_BACKLOG_BYTES:
                learner.slow = True  # dropped by the next tick: it will get history in portions
                self.wake_at = self.engine.now

    def persisted(self, upto_zxid: int) -> None:
        """Our own log is durable up to here. What was staged before SYNCING is answered by its mark."""
        if self.phase == SERVING and upto_zxid > self._acked[self.engine.sid]:
            self._acked[self.engine.sid] = upto_zxid
            self._commit()

    def acked(self, learner: LearnerLink, zxid: int) -> None:
        """A follower has this proposal and all before it, durably."""
        if learner.voter and learner.sid in self._synced:
            self._acked[learner.sid] = zxid
            self._commit()

    def _commit(self) -> None:
        upto = self.engine.ensemble.agreed(self._acked)
        if self.phase != SERVING or upto <= self.committed or upto >> 32 != self.epoch:
            return
        engine = self.engine
        first = max(self.committed, self.epoch << 32) + 1
        self.committed = engine.committed = upto
        observers = any(learner.live and not learner.voter for learner in self.links.values())
        entries = self._outstanding.commit(upto, want_entries=observers)
        self._stream(wire.bare_packets(wire.COMMIT, range(first, upto + 1)), voters=True)
        if observers:
            self._stream(wire.entry_packets(wire.INFORM, first, entries), voters=False)
        engine.host.committed(upto)
        self.rounds.committed(upto)

    def sync(self, session_id: int, cxid: int, body: bytes) -> None:
        """A sync of one of our own clients."""
        self.rounds.ask(None, session_id, cxid)

    # --------------------------------------------------------------------------------------------- time
    def ping(self, learner: LearnerLink) -> int:
        """Send a ping; its number."""
        if learner.state >= ACTIVE:
            learner.pings += 1
            learner.send(packet(wire.PING, self.proposed))
        return learner.pings

    def tick(self, now: int) -> None:
        """Pings, deadlines, and reasons to make room for another epoch."""
        engine = self.engine
        options = engine.options
        if self.phase < SERVING and now >= self._deadline:
            engine.look(f"no quorum within {now - self._since} ms in the phase {PHASES[self.phase]}")
            return
        self._drop_silent(now)
        if self.over:
            return
        if self.phase == SERVING:
            if self.proposed & 0xFFFFFFFF >= options.rollover_at:
                self._rollover_by = min(self._rollover_by, now + options.tick_ms)
                if not len(self._outstanding) or now >= self._rollover_by:  # best between two writes
                    engine.look("the zxid counter is used up: a new epoch begins")
                    return
            if now >= self._retire_at:
                self._retire_at = NEVER
                if any(learner.accepted > self.epoch for learner in self.learners.values() if learner.voter):
                    engine.look("a voter has promised a newer epoch: a new epoch begins")
                    return
        if now >= self._next_ping:
            self._next_ping = now + options.tick_ms // 2
            for learner in self.learners.values():
                self.ping(learner)
                self.rounds.pinged(learner)
        self.wake_at = min(self._next_ping, self._retire_at)
        if self._rollover_by != NEVER:
            self.wake_at = now + ROLLOVER_POLL_MS
        if self.phase < SERVING:
            self.wake_at = min(self.wake_at, self._deadline)

    def _drop_silent(self, now: int) -> None:
        """Links that are silent, too slow, or decided about: who holds a sid that two claim."""
        engine = self.engine
        options = engine.options
        for learner in list(self.links.values()):
            if learner.state == GREETING:
                patience = WAITING_MS
            else:
                patience = options.sync_ms if learner.state >= ACTIVE else options.init_ms
            if now - learner.heard_ms > patience:
                engine.drop(learner.id, "silent")
            elif learner.slow:
                engine.drop(learner.id, "reads too slowly")
            elif learner.voter and learner.state >= ACTIVE and self._overdue(learner, now):
                engine.drop(learner.id, "does not acknowledge proposals")
        for sid, (claimant, since) in list(self._claims.items()):
            old = self.learners.get(sid)
            if old is None or self.over:
                continue
            if old.state >= FEEDING and old.heard_ms > since:
                engine.log("error", f"{claimant.peer} claims to be server.{sid}, which is connected from {old.peer}")
                engine.drop(claimant.id, f"server.{sid} is here already")
            elif now - since >= options.tick_ms // 2:
                engine.drop(old.id, "came back on another link")

    def _overdue(self, learner: LearnerLink, now: int) -> bool:
        """Whether one proposal, chosen now and then, was not acknowledged in time (ZooKeeper's `SyncLimitCheck`).

        Others may have made the quorum: a follower that answers pings but logs nothing is none (ZOOKEEPER-4409).
        """
        if learner.due_ms != NEVER and learner.acked < learner.due:
            return now - learner.due_ms > self.engine.options.sync_ms
        learner.due_ms = NEVER
        if self.proposed > learner.due and self.proposed & COUNTER_MAX:
            learner.due, learner.due_ms = self.proposed, now
        return False

    # --------------------------------------------------------------------------------------- requests
    def forward(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        """Never: a leader prepares requests itself."""
        raise AssertionError("a leader does not forward")

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """Never: a leader knows its sessions."""
        raise AssertionError("a leader knows its sessions")

    def status(self) -> tuple[str, int, dict[str, int | float | str]]:
        """Mode, leader and details."""
        links = self.learners.values()
        return (
            "leader" if self.phase == SERVING else "looking",
            self.engine.sid,
            {
                "peer_state": f"leading - {PHASES[self.phase]}",
                "learners": len(links),
                "synced_followers": sum(1 for learner in links if learner.voter and learner.state == UPTODATE),
                "synced_observers": sum(1 for learner in links if not learner.voter and learner.state == UPTODATE),
                "synced_non_voting_followers": 0,
                "pending_syncs": len(self.rounds),
                "outstanding_proposals": len(self._outstanding),
                "leader_uptime": self.engine.now - self._since,
                "last_proposed_zxid": f"0x{self.proposed:x}",
            },
        )
