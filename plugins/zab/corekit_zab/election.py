"""Fast leader election: who should lead, by votes on (current epoch, last zxid, sid).

Rules
- A vote is compared by epoch first, then zxid, then sid; a server of weight 0 never wins.
- A server whose data may be incomplete (wiped, damaged, never synchronised) shows the zxid -1: nobody counts its votes,
  and it counts none; it can only join a leader that others have. If every voter of the ensemble says that it
  has nothing at all, nothing can be lost, and they trust each other.
- A server that looks while others follow joins them if a quorum of them names a leader that says it leads.

Source: ZooKeeper `FastLeaderElection`, `Vote`. Not here: the links (`cnx.py`), what the winner does (`leader.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corekit.codec.quorum import FOLLOWING, LEADING, LOOKING, OBSERVING, STATE_NAMES, Notification
from corekit_zab.options import NEVER

if TYPE_CHECKING:
    from corekit_zab.engine import Zab

NOTHING = -(1 << 63)  # leader, zxid and epoch of the vote of a server that may not vote
TELL_FIRST_MS, TELL_MS = 5_000, 30_000  # people are told after this that there is no leader, and how often then


@dataclass(frozen=True, slots=True)
class Vote:
    """For whom somebody votes.

    Attributes:
        leader, zxid, epoch: the candidate, its last zxid and its current epoch.
        round: the election round of the voter.
        state: of the voter.
        version: of the message it came in; 0 in the tally of the present round, as ZooKeeper has it.
    """

    leader: int
    zxid: int
    epoch: int
    round: int
    state: int = LOOKING
    version: int = 0

    def agrees(self, other: Vote) -> bool:
        """ZooKeeper's equality of votes: strict while looking, else by leader and (if both know it) epoch."""
        if self.state == LOOKING or other.state == LOOKING:
            return (
                self.leader == other.leader
                and self.zxid == other.zxid
                and self.round == other.round
                and self.epoch == other.epoch
            )
        if (self.version > 0) != (other.version > 0):
            return self.leader == other.leader
        return self.leader == other.leader and self.epoch == other.epoch


class Election:
    """Fast leader election of one server.

    Attributes:
        looking: an election is under way.
        vote: the present proposal while looking, else the vote that ended the election.
        started_ms: when this server began to look.
        wake_at: when `tick` has something to do.
    """

    def __init__(self, engine: Zab) -> None:
        self.engine = engine
        self.looking = False
        self.vote = Vote(NOTHING, NOTHING, NOTHING, 0)
        self.started_ms = 0
        self.took_ms = 0
        self.wake_at = NEVER
        self._round = 0
        self._votes: dict[int, Vote] = {}  # of this round
        self._outside: dict[int, Vote] = {}  # of servers that follow or lead
        self._empty: set[int] = set()  # voters that have no data
        self._incomplete: set[int] = set()  # voters that do not vote, for want of complete data
        self._resend_ms = 0
        self._resend_at = NEVER
        self._finalize_at = NEVER
        self._told: dict[int, bytes] = {}
        self._tell_at = 0

    # ------------------------------------------------------------------------------------------- the round
    def start(self) -> None:
        """Look for a leader in a new round."""
        self.looking = True
        self.started_ms = self.engine.now
        self._round += 1
        self._outside.clear()
        self._empty.clear()
        self._incomplete.clear()
        self._resend_ms = self.engine.options.notify_ms
        self._tell_at = self.started_ms + TELL_FIRST_MS
        self._new_round(self._own_vote())

    def established(self, epoch: int) -> None:
        """The new epoch is known: all members must report the same vote to newcomers (ZOOKEEPER-1732).

        Observers are told without being asked: they may have asked in vain, and ZooKeeper's ask again after twice the
        time each time, at last after a minute.
        """
        vote = self.vote
        self.vote = Vote(vote.leader, vote.zxid, epoch, vote.round, vote.state)
        ensemble = self.engine.ensemble
        if self.engine.sid in ensemble.voters:
            for sid in sorted(ensemble.members.keys() - ensemble.voters):
                self.engine.election_links.send(sid, self._note(answer_stranger=True))

    def _own_vote(self) -> Vote:
        engine = self.engine
        if engine.sid not in engine.ensemble.voters:
            return Vote(NOTHING, NOTHING, NOTHING, self._round)
        zxid = engine.last_zxid if engine.trusted else -1
        return Vote(engine.sid, zxid, engine.current_epoch, self._round)

    def _new_round(self, vote: Vote) -> None:
        self._votes.clear()
        self._propose(vote)

    def _propose(self, vote: Vote) -> None:
        self.vote = vote
        self._finalize_at = NEVER
        if self.engine.trusted and self.engine.sid in self.engine.ensemble.voters:
            self._votes[self.engine.sid] = vote
        self._broadcast()
        self._tally()

    def _better(self, new: Vote, old: Vote) -> bool:
        if self.engine.ensemble.weight(new.leader) == 0:
            return False
        return (new.epoch, new.zxid, new.leader) > (old.epoch, old.zxid, old.leader)

    # ------------------------------------------------------------------------------------------- sending
    def _note(self, *, answer_stranger: bool = False) -> Notification:
        vote = self.vote
        state = LOOKING if self.looking else self.engine.state()
        election_round = self._round if self.looking or answer_stranger else vote.round
        return Notification(
            state, vote.leader, vote.zxid, election_round, vote.epoch, config=self.engine.ensemble.text()
        )

    def _broadcast(self) -> None:
        self._resend_at = self.engine.now + self._resend_ms
        self.wake_at = min(self._resend_at, self._finalize_at)
        note = self._note()
        for sid in self.engine.ensemble.voters:
            if sid != self.engine.sid:
                self.engine.election_links.send(sid, note)

    def greet(self, sid: int) -> None:
        """A link came up: tell the peer what was lost while there was none."""
        if self.looking and sid in self.engine.ensemble.voters:
            self.engine.election_links.send(sid, self._note())

    # ----------------------------------------------------------------------------------------- receiving
    def receive(self, sid: int, note: Notification) -> None:
        """A message of the member `sid`."""
        self._compare_config(sid, note.config)
        engine = self.engine
        voters = engine.ensemble.voters
        if sid not in voters:
            if note.state == LOOKING:  # an answer to an answer would never end
                engine.election_links.send(sid, self._note(answer_stranger=True))
            return
        if not self.looking:
            if note.state == LOOKING:
                engine.election_links.send(sid, self._note())
            engine.peer_state(sid, note)
            return
        if note.state == LOOKING and note.round < self._round and engine.sid in voters:
            # An observer says nothing: it is always answered, and the two would never end.
            engine.election_links.send(sid, self._note())
        if note.state == LOOKING:
            (self._incomplete.add if note.zxid == -1 else self._incomplete.discard)(sid)
            self._heard_of_data(sid, note)
        if not self.looking or note.leader not in voters:
            return
        if note.state == LOOKING:
            self._receive_looking(sid, note)
        elif note.state in (FOLLOWING, LEADING):
            self._receive_settled(sid, note)

    def _receive_looking(self, sid: int, note: Notification) -> None:
        if note.zxid == -1 or (not self.engine.trusted and self.engine.sid in self.engine.ensemble.voters):
            return
        theirs = Vote(note.leader, note.zxid, note.peer_epoch, note.round)
        if note.round > self._round:
            self._round = note.round
            own = self._own_vote()
            self._resend_ms = self.engine.options.notify_ms
            self._votes.clear()
            self._votes[sid] = theirs
            self._propose(theirs if self._better(theirs, own) else own)
        elif note.round == self._round:
            self._votes[sid] = theirs
            if self._better(theirs, self.vote):
                self._propose(theirs)
                return
            if self._better(self.vote, theirs) and self.engine.sid in self.engine.ensemble.voters:
                # It may have followed the lost leader still when we told it; ZooKeeper waits for the next repetition.
                # Observers say nothing here either.
                self.engine.election_links.send(sid, self._note())
            self._tally()

    def _receive_settled(self, sid: int, note: Notification) -> None:
        plain = Vote(note.leader, note.zxid, note.peer_epoch, note.round, note.state)
        full = Vote(note.leader, note.zxid, note.peer_epoch, note.round, note.state, note.version)
        if note.round == self._round:
            self._votes[sid] = plain
            if self._quorum_for(self._votes, full) and self._leads(self._votes, full):
                self._finish(full, self._round)
                return
        self._outside[sid] = full
        if self._quorum_for(self._outside, full) and self._leads(self._outside, full):
            self._finish(full, note.round)

    def _quorum_for(self, votes: dict[int, Vote], vote: Vote) -> bool:
        return self.engine.ensemble.has_quorum([sid for sid, other in votes.items() if other.agrees(vote)])

    def _leads(self, votes: dict[int, Vote], vote: Vote) -> bool:
        """A quorum that follows a dead leader must not be joined: the leader itself must say that it leads."""
        if vote.leader == self.engine.sid:
            return vote.round == self._round and self.engine.trusted
        leader = votes.get(vote.leader)
        return leader is not None and leader.state == LEADING

    # ------------------------------------------------------------------------------------- empty servers
    def _heard_of_data(self, sid: int, note: Notification) -> None:
        """Voters that are all empty may trust each other; any voter that has data forbids it."""
        engine = self.engine
        if engine.trusted or not engine.empty or engine.sid not in engine.ensemble.voters:
            return
        if note.zxid > 0 or note.peer_epoch > 0:
            self._empty.discard(sid)
            return
        self._empty.add(sid)
        if self._empty | {engine.sid} >= engine.ensemble.voters:
            engine.log("info", "no voter of the ensemble has any data: a new ensemble begins")
            engine.trusted = True
            self._new_round(self._own_vote())

    # -------------------------------------------------------------------------------------------- the end
    def _tally(self) -> None:
        if not self.looking or not self._quorum_for(self._votes, self.vote):
            self._finalize_at = NEVER
        else:
            links = self.engine.election_links
            undecided = [
                sid
                for sid in self.engine.ensemble.voters
                if sid != self.engine.sid
                and links.reachable(sid)
                and not ((vote := self._votes.get(sid)) is not None and vote.agrees(self.vote))
            ]
            if not undecided:
                self._finish(self.vote, self._round)
                return
            self._finalize_at = min(self._finalize_at, self.engine.now + self.engine.options.finalize_ms)
        self.wake_at = min(self._resend_at, self._finalize_at) if self.looking else NEVER

    def unreachable(self) -> None:
        """A peer went away: it may be the one that a won election waits for."""
        if self.looking and self._finalize_at != NEVER:
            self._tally()

    def _finish(self, vote: Vote, election_round: int) -> None:
        self.looking = False
        self.wake_at = self._resend_at = self._finalize_at = NEVER
        self.took_ms = self.engine.now - self.started_ms
        self._round = election_round
        self.vote = Vote(vote.leader, vote.zxid, vote.epoch, vote.round)
        self._votes.clear()
        self.engine.elected(vote.leader)

    def tick(self, now: int) -> None:
        """Repeat what was said, or end an election that is won."""
        if not self.looking:
            self.wake_at = NEVER
            return
        if now >= self._finalize_at:
            self._finish(self.vote, self._round)
        elif now >= self._resend_at:
            self._resend_ms = min(2 * self._resend_ms, self.engine.options.notify_max_ms)
            self._broadcast()
            if now >= self._tell_at:
                self._tell_at = now + TELL_MS
                self._tell(now)
        else:
            self.wake_at = min(self._resend_at, self._finalize_at)

    # --------------------------------------------------------------------------------------- for people
    def _tell(self, now: int) -> None:
        """There is no leader, for seconds now: say what is missing."""
        engine = self.engine
        links = engine.election_links.current
        absent = [f"server.{sid}" for sid in sorted(engine.ensemble.voters) if sid != engine.sid and sid not in links]
        text = f"no leader for {(now - self.started_ms) // 1000} s"
        text += f"; not reached: {', '.join(absent)}" if absent else "; every voter is reached"
        own = {engine.sid} if not engine.trusted and engine.sid in engine.ensemble.voters else set()
        incomplete = [f"server.{sid}" for sid in sorted(self._incomplete | own)]
        if incomplete:
            text += f"; do not vote, as their data may be incomplete: {', '.join(incomplete)}"
            if engine.empty or not (own or absent):
                text += ". A new ensemble begins when all its voters are there, see `initialize` in docs/ensembles.md"
        engine.log("warning", text)

    def _compare_config(self, sid: int, text: bytes) -> None:
        if not text or self._told.get(sid) == text:
            return
        self._told[sid] = text
        difference = self.engine.ensemble.disagreement(text)
        if difference is not None:
            self.engine.log("warning", f"server.{sid} has another configuration of the ensemble: {difference}")

    def state_name(self) -> str:
        """`looking`, `leading` ... for status and log."""
        return STATE_NAMES[LOOKING if self.looking else self.engine.state()]


__all__ = ["FOLLOWING", "LEADING", "LOOKING", "OBSERVING", "Election", "Vote"]
