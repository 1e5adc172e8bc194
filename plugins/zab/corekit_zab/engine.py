"""ZAB as one pure state machine: what a server of an ensemble does with events, bytes and time.

    looking --elected--> Leader (discovery, synchronisation, broadcast)
       ^                 Learner (the same from the other side; followers and observers)
       +------ `look` whenever a role cannot go on ------+

Rules
- No I/O, no clock, no randomness: everything comes in through `EnsembleConsensus` and goes out through `ConsensusHost`.
- The log holds what was proposed, the host applies only what is decided. So memory never has to be rolled back, and a
  vote speaks of the log (ZOOKEEPER-2845, 4882, 5094 cannot be written down here).
- `current_epoch` is 0 exactly as long as this server's data may be incomplete: it has never finished a
  synchronisation, or its disk lost something. Such a server neither votes nor counts in the discovery phase.
- Epochs never fall, except `current_epoch` to 0 for that reason.

Not here: elections (`election.py`), the roles (`leader.py`, `learner.py`), the links of the election port (`cnx.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from corekit.api import ConsensusHost, ConsensusStatus, EnsembleConsensus, Identity, Recovery
from corekit.codec.quorum import FOLLOWING, LEADING, LOOKING, OBSERVING, Notification
from corekit.errors import ConfigError, ProtocolError
from corekit_zab.cnx import ElectionLinks
from corekit_zab.election import Election
from corekit_zab.leader import Leader
from corekit_zab.learner import Learner
from corekit_zab.options import NEVER, WAITING_LINKS_MAX, WAITING_MS, Options
from corekit_zab.quorum import Ensemble


class Endpoint(Protocol):
    """Our end of a link."""

    def opened(self) -> None:
        """The dial succeeded."""

    def data(self, data: bytes) -> None:
        """Bytes arrived. `ProtocolError` costs the link."""

    def drained(self) -> None:
        """Nothing waits to be sent."""

    def closed(self, why: str) -> None:
        """The link is gone."""


class _Waiting:
    """A quorum link from somebody who takes us for the leader before we know it ourselves."""

    def __init__(self, engine: Zab, link: int, peer: str) -> None:
        self.engine = engine
        self.link = link
        self.peer = peer
        self.since_ms = engine.now
        self.bytes = bytearray()

    def opened(self) -> None:
        raise AssertionError("we did not dial this link")

    def data(self, data: bytes) -> None:
        self.bytes += data
        if len(self.bytes) > 2048:
            raise ProtocolError("too much from a peer that nobody answered")

    def drained(self) -> None:
        pass

    def closed(self, why: str) -> None:
        self.engine.waiting.remove(self)


class Zab(EnsembleConsensus):
    """The consensus of one member of an ensemble.

    Attributes:
        sid: this server's number.
        ensemble: its members.
        trusted: this server's data is known to be complete up to what it ever acknowledged.
        damaged: its disk lost something, and it has not synchronised since.
        empty: it has no data at all.
        last_zxid: of the last entry staged in the log, or of the state if the log holds none above it.
        committed: how far the host was told that entries are decided (or that a received state contains them).
        resync: the log and the leader's have nothing in common that is known: ask for a snapshot.
        epoch_floor: the highest epoch that a voter said it accepted.
        failures: how often in a row the same leader of the same epoch answered and then did not take us.
    """

    def __init__(self, sid: int, ensemble: Ensemble, options: Options | None = None) -> None:
        if sid not in ensemble.members:
            known = ", ".join(map(str, sorted(ensemble.members)))
            raise ConfigError(f"this server's id is {sid} (myid file), but the ensemble has only {known}")
        self.sid = sid
        self.ensemble = ensemble
        self.options = options or Options()
        self.now = 0
        self.accepted_epoch = 0
        self.current_epoch = 0
        self.last_zxid = 0
        self.committed = 0
        self.trusted = False
        self.damaged = False
        self.empty = False
        self.resync = False
        self.epoch_floor = 0
        self.failures = 0
        self.role: Leader | Learner | None = None
        self.endpoints: dict[int, Endpoint] = {}
        self.waiting: list[_Waiting] = []
        self._marks: dict[int, tuple[Leader | Learner, Callable[[], None]]] = {}
        self._token = 0
        self._followed = (-1, -1)
        self._wake_at = NEVER
        self._stopped = False
        self.host: ConsensusHost
        self.election_links = ElectionLinks(self)
        self.election = Election(self)

    # --------------------------------------------------------------------------------------------- life
    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        self.host = host
        self.now = now_ms
        self.accepted_epoch = recovery.accepted_epoch
        self.current_epoch = recovery.current_epoch
        self.last_zxid = recovery.last_zxid
        self.committed = recovery.state_zxid
        self.empty = recovery.last_zxid == 0 and recovery.current_epoch == 0 and recovery.damage is None
        if recovery.damage is not None:
            self.log(
                "error", f"this server's data is damaged ({recovery.damage}): it will not vote before it has synced"
            )
            self.damaged = True
            self.distrust()
        alone = self.ensemble.voters == {self.sid}  # then nobody can know more
        self.trusted = self.current_epoch > 0 or (self.empty and (self.options.trust_empty or alone))
        if not self.trusted and self.sid in self.ensemble.voters:
            self.log("info", "this server's data is not known to be complete: it joins a leader, but does not vote")
        self.election.start()

    def stop(self) -> None:
        self._stopped = True
        if self.role is not None:
            self.role.stop("shutting down")
            self.role = None
        for link in list(self.endpoints):
            self.forget(link, "shutting down")
        self.election.looking = False

    def look(self, why: str) -> None:
        """Give up the present role and look for a leader."""
        role, self.role = self.role, None
        assert role is not None
        self.log("info" if role.served else "warning", f"looking for a leader: {why}")
        self.failures = 0 if role.served else self.failures + role.refused
        role.stop(why)
        self.host.suspend(why)
        self.election.start()

    def elected(self, leader: int) -> None:
        """The election is over."""
        waiting, self.waiting = self.waiting, []
        if leader == self.sid:
            assert self.trusted
            self.log("info", f"elected; last zxid 0x{self.last_zxid:x}, epoch {self.current_epoch}")
            self.role = role = Leader(self)
            role.begin()
            for early in waiting:
                if early.link in self.endpoints:
                    role.accept(early.link, early.peer)
                    self.link_data(early.link, bytes(early.bytes))
        else:
            for early in waiting:
                self.forget(early.link, "not the leader")
            self.log("info", f"server.{leader} is elected")
            vote = self.election.vote
            if (leader, vote.epoch) != self._followed:
                self._followed = (leader, vote.epoch)
                self.failures = 0
            self.role = Learner(self, leader)
            self.role.begin()

    def state(self) -> int:
        """What notifications say of this server."""
        if isinstance(self.role, Leader):
            return LEADING
        if self.role is not None:
            return FOLLOWING if self.sid in self.ensemble.voters else OBSERVING
        return LOOKING

    def peer_state(self, sid: int, note: Notification) -> None:
        """A notification that came while we were not looking."""
        if self.role is not None:
            self.role.peer_state(sid, note)

    # --------------------------------------------------------------------------------------------- disk
    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Put entries at the end of the log."""
        assert self.last_zxid < first_zxid <= last_zxid
        assert last_zxid - first_zxid == len(entries) - 1
        self.last_zxid = last_zxid
        self.empty = False
        self.host.persist(first_zxid, entries, last_zxid)

    def truncate(self, zxid: int) -> None:
        """Cut what is not decided from the end of the log."""
        assert self.committed <= zxid <= self.last_zxid
        self.last_zxid = zxid
        self.host.truncate(zxid)

    def accept_epoch(self, epoch: int) -> None:
        """Promise to follow no leader of an older epoch."""
        assert epoch > self.accepted_epoch
        self.accepted_epoch = epoch
        self.host.save_epochs(epoch, self.current_epoch)

    def enter_epoch(self, epoch: int) -> None:
        """The log is the history with which `epoch` begins. Staged behind the log, so never durable before it."""
        assert self.current_epoch <= epoch <= self.accepted_epoch
        self.current_epoch = epoch
        self.host.save_epochs(self.accepted_epoch, epoch)
        if self.damaged:
            self.damaged = False
            self.host.clear_damage()

    def distrust(self) -> None:
        """This server's data may miss what it acknowledged; durable until it has synchronised."""
        self.trusted = False
        self.current_epoch = 0
        self.host.save_epochs(self.accepted_epoch, 0)

    def when_durable(self, role: Leader | Learner, then: Callable[[], None]) -> None:
        """Call `then` when everything staged so far is durable, if the role still lasts."""
        self._token += 1
        self._marks[self._token] = (role, then)
        self.host.mark(self._token)

    def durable(self, token: int) -> None:
        role, then = self._marks.pop(token)
        if role is self.role:
            then()

    def persisted(self, upto_zxid: int) -> None:
        if self.role is not None:
            self.role.persisted(upto_zxid)

    # -------------------------------------------------------------------------------------------- links
    def forget(self, link: int, why: str) -> None:
        """Close a link without telling its endpoint."""
        if self.endpoints.pop(link, None) is not None:
            self.host.close(link, why)

    def drop(self, link: int, why: str) -> None:
        """Close a link and tell its endpoint."""
        endpoint = self.endpoints.pop(link, None)
        if endpoint is not None:
            self.host.close(link, why)
            endpoint.closed(why)

    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None:
        if outgoing:
            if link in self.endpoints:
                self.endpoints[link].opened()
            else:
                self.host.close(link, "not wanted any more")
        elif self._stopped:
            self.host.close(link, "shutting down")
        elif kind == "election":
            self.election_links.accepted(link)
        elif isinstance(self.role, Leader):
            self.role.accept(link, peer)
        elif self.role is None and len(self.waiting) < WAITING_LINKS_MAX:
            waiting = _Waiting(self, link, peer)
            self.waiting.append(waiting)
            self.endpoints[link] = waiting
            self._wake_at = min(self._wake_at, self.now + WAITING_MS)
        else:
            self.host.close(link, "not the leader")

    def link_data(self, link: int, data: bytes) -> None:
        endpoint = self.endpoints.get(link)
        if endpoint is not None:
            try:
                endpoint.data(data)
            except ProtocolError as error:
                self.log("warning", f"closed a link: {error}")
                self.drop(link, f"protocol error: {error}")

    def link_drained(self, link: int) -> None:
        endpoint = self.endpoints.get(link)
        if endpoint is not None:
            endpoint.drained()

    def link_closed(self, link: int, why: str) -> None:
        endpoint = self.endpoints.pop(link, None)
        if endpoint is not None:
            endpoint.closed(why)

    # --------------------------------------------------------------------------------------------- time
    @property
    def wake_at(self) -> int:
        role = self.role
        return min(
            self._wake_at, self.election.wake_at, self.election_links.wake_at, NEVER if role is None else role.wake_at
        )

    def tick(self, now_ms: int) -> None:
        self.now = now_ms
        if self._stopped:
            return
        if now_ms >= self._wake_at:
            self._wake_at = NEVER
            for waiting in list(self.waiting):
                if now_ms - waiting.since_ms >= WAITING_MS:
                    self.drop(waiting.link, "waited too long")
            if self.waiting:
                self._wake_at = self.waiting[0].since_ms + WAITING_MS
        if now_ms >= self.election_links.wake_at:
            self.election_links.tick(now_ms)
        if now_ms >= self.election.wake_at:
            self.election.tick(now_ms)
        if self.role is not None and now_ms >= self.role.wake_at:
            self.role.tick(now_ms)

    # ----------------------------------------------------------------------------------------- requests
    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        assert isinstance(self.role, Leader)
        self.role.propose(first_zxid, entries, last_zxid)

    def forward(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        assert isinstance(self.role, Learner)
        self.role.forward(session_id, cxid, op, body, identities)

    def sync(self, session_id: int, cxid: int, body: bytes) -> None:
        assert self.role is not None
        self.role.sync(session_id, cxid, body)

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        assert isinstance(self.role, Learner)
        self.role.revalidate(session_id, timeout_ms)

    # --------------------------------------------------------------------------------------- for people
    def log(self, level: str, text: str) -> None:
        """A line in the server's log."""
        self.host.log(level, text)

    def status(self) -> ConsensusStatus:
        details: dict[str, int | float | str] = {
            "quorum_size": len(self.ensemble.voters),
            "election_time": self.election.took_ms,
            "accepted_epoch": self.accepted_epoch,
            "last_logged_zxid": f"0x{self.last_zxid:x}",
        }
        role = self.role
        if role is None:
            return ConsensusStatus("looking", self.current_epoch, None, {"peer_state": "looking", **details})
        mode, leader, more = role.status()
        return ConsensusStatus(mode, self.current_epoch, leader, {**more, **details})
