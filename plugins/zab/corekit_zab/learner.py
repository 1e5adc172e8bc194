"""Following a leader: discovery, synchronisation and broadcast from the learner's side.

Rules
- What arrives is logged as it arrives; the log is a prefix of the leader's history at every moment.
- Nothing is applied before UPTODATE: until then the leader has no quorum behind it, and may never get one. A long
  history is then applied in steps, so that the leader's pings are answered meanwhile.
- `_new_leader` is the rule that took ZooKeeper ten years: log synced, then epoch durable, then the ack
  (ZOOKEEPER-2678, 3911, 4643, 4646, 4785, 4925). Nothing is sent between ACKEPOCH and that ack.
- Acks are sent for entries that are durable, in order, and only after the ack of NEWLEADER (ZOOKEEPER-4685).
- A learner whose data may be incomplete reports the zxid -1: it does not count, and it gets a snapshot.
- What is decided here is in the leader's history too, or somebody has lost acknowledged writes. A learner with
  complete data keeps them and stays outside, whether it is told to cut its log (TRUNC) or to replace its state (SNAP).

Sources: ZooKeeper `Learner`, `Follower`, `Observer`. Not here: the leader's side (`leader.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from corekit.api import Identity
from corekit.codec import quorum as wire
from corekit.codec.quorum import LOOKING, Notification, PacketReader, packet
from corekit.errors import ProtocolError
from corekit_zab.options import COUNTER_MAX, NEVER
from corekit_zab.sync import SIGNATURE

if TYPE_CHECKING:
    from corekit_zab.engine import Zab

DIALLING: Final = 0
DISCOVERY: Final = 1
HISTORY: Final = 2
SNAPSHOT: Final = 3
SYNCING: Final = 4
ACKING: Final = 5
SYNCED: Final = 6
ACTIVE: Final = 7
PHASES: Final = (
    "dialling", "discovery", "synchronization", "synchronization", "synchronization", "synchronization",
    "synchronization", "broadcast",
)  # fmt: skip


class Learner:
    """A follower or observer of one leader.

    Attributes:
        leader: sid of the leader.
        phase: DIALLING (no answer yet), DISCOVERY (registered), HISTORY (epoch accepted; DIFF, TRUNC or SNAP comes),
            SNAPSHOT, SYNCING, ACKING (NEWLEADER came, the disk is at work), SYNCED (acknowledged), ACTIVE.
        served: it came to serve clients.
        wake_at: when `tick` has something to do.
    """

    def __init__(self, engine: Zab, leader: int) -> None:
        self.engine = engine
        self.leader = leader
        self.phase = DIALLING
        self.served = False
        self.voter = engine.sid in engine.ensemble.voters
        self.epoch = 0
        self.wake_at = NEVER
        self._since = engine.now
        self._heard = engine.now
        self._link: int | None = None
        self._open = False
        self._redial_at = NEVER
        self._attempts = 0
        self._reader = PacketReader(wire.PACKET_BYTES_MAX)
        self._signature: bytearray | None = None  # of a snapshot whose state is complete
        self._base = 0  # up to here our log is known to be the leader's
        self._decided = 0  # what was when synchronisation began
        self._commit = 0  # the leader said that this is committed
        self._proposed = 0  # by the leader, as its last ping said
        self._steps: deque[int] = deque()  # and on the way there; what is applied in one turn after UPTODATE
        self._pending: deque[int] = deque()  # logged in this synchronisation, no COMMIT yet
        self._unacked: deque[int] = deque()
        self._durable = 0
        self._syncs: deque[tuple[int, int]] = deque()

    def begin(self) -> None:
        """Dial the leader, the later the more often it failed."""
        failures = self.engine.failures
        options = self.engine.options
        pause = 0 if failures < 2 else min(options.retry_ms << min(failures - 2, 6), options.discovery_ms // 2)
        self._since = self.engine.now + pause
        self._redial_at = self._since
        if not pause:
            self._dial()
        self._schedule()

    @property
    def refused(self) -> bool:
        """The leader answered and then did not take this server."""
        return self.phase > DIALLING and not self.served

    def stop(self, why: str) -> None:
        """The role ends."""
        if self.phase == SNAPSHOT:
            self.engine.host.abort_snapshot()
        if self._link is not None:
            self.engine.forget(self._link, why)
            self._link = None

    # --------------------------------------------------------------------------------------------- link
    def _dial(self) -> None:
        self._redial_at = NEVER
        addresses = self.engine.ensemble.members[self.leader].addresses
        host, port, _ = addresses[self._attempts % len(addresses)]
        self._attempts += 1
        self._open = False
        self._reader = PacketReader(wire.PACKET_BYTES_MAX)
        self._link = self.engine.host.dial("quorum", host, port)
        self.engine.endpoints[self._link] = self

    def _send(self, data: bytes) -> None:
        assert self._link is not None
        self.engine.host.send(self._link, data)

    def opened(self) -> None:
        self._open = True
        self._heard = self.engine.now
        kind = wire.FOLLOWERINFO if self.voter else wire.OBSERVERINFO
        info = wire.learner_info(self.engine.sid, self.engine.ensemble.version)
        self._send(packet(kind, self.engine.accepted_epoch << 32, info))
        self._schedule()

    def drained(self) -> None:
        pass

    def closed(self, why: str) -> None:
        self._link = None
        engine = self.engine
        waited = engine.now - self._since
        if self.phase == DIALLING and waited + engine.options.retry_ms < engine.options.retry_for_ms:
            self._redial_at = engine.now + engine.options.retry_ms  # the leader may not know yet that it leads
            self._schedule()
        else:
            engine.look(f"lost the leader, server.{self.leader}: {why}")

    def peer_state(self, sid: int, note: Notification) -> None:
        """Word from the election port: the server that we take for the leader may have other ideas."""
        if self.phase == DIALLING and sid == self.leader:
            if note.state == LOOKING and note.round > self.engine.election.vote.round:
                self.engine.look(f"server.{sid} calls another election")
            elif note.state != LOOKING and note.leader != sid:
                self.engine.look(f"server.{sid} does not lead")

    def _schedule(self) -> None:
        options = self.engine.options
        if self._redial_at != NEVER:
            self.wake_at = self._redial_at
        elif self._steps and self.phase == ACTIVE:
            self.wake_at = self.engine.now
        elif self.phase == DIALLING and not self._open:
            self.wake_at = self._since + options.retry_for_ms
        else:
            self.wake_at = self._heard + (options.sync_ms if self.phase >= SYNCED else options.init_ms)

    def tick(self, now: int) -> None:
        """Dial again, or give up a leader that is silent."""
        if now >= self._redial_at:
            self._dial()
        if self._steps and self.phase == ACTIVE:
            self._catch_up()
            return
        self._schedule()
        if now >= self.wake_at:
            self.engine.look(f"no word from the leader, server.{self.leader}, for too long")

    # ------------------------------------------------------------------------------------------ packets
    def data(self, data: bytes) -> None:
        self._heard = self.engine.now
        if self.phase == SNAPSHOT:
            rest = self._snapshot_data(data)
            if rest is None:
                self._schedule()
                return
            data = rest
        while True:
            packets = self._reader.feed(data)
            if packets:
                self._handle(packets)
            if self.phase != SNAPSHOT or self._link is None:
                break
            rest = self._snapshot_data(self._reader.rest())
            if rest is None:
                break
            data = rest
        self._schedule()

    def _handle(self, packets: list[wire.Packet]) -> None:
        """Packets in order; entries that follow each other are logged together, commits given on together."""
        entries: list[bytes] = []
        last = self.engine.last_zxid
        for kind, zxid, body, _authinfo in packets:
            if kind == wire.PROPOSAL or kind == wire.INFORM or kind == wire.INFORMANDACTIVATE:
                if self.phase < SYNCING or body is None:
                    raise ProtocolError(f"{wire.NAMES[kind]} in the phase {PHASES[self.phase]}")
                if zxid != last + 1:
                    self._log_entries(entries, last)
                    entries = []
                    newer = last >> 32 < zxid >> 32 <= self.epoch
                    counter = zxid & COUNTER_MAX  # an epoch begins with 1, or late with testingonly.initialZxid
                    if not newer or (counter != 1 and counter < 1 << 31):
                        # ZooKeeper's leaders may lack in the log what they have in the tree (ZOOKEEPER-4925).
                        self.engine.resync = self.engine.resync or newer
                        raise ProtocolError(f"entry 0x{zxid:x} follows 0x{last:x}: the leader's history has a gap")
                last = zxid
                if kind == wire.PROPOSAL:
                    entries.append(body)
                    self._pending.append(zxid)
                    if self.phase >= ACKING:
                        self._unacked.append(zxid)
                else:
                    entries.append(body if kind == wire.INFORM else body[8:])
                    self._commit = zxid
            elif kind == wire.COMMIT or kind == wire.COMMITANDACTIVATE:
                if not self._pending or self._pending[0] != zxid:
                    expected = f"0x{self._pending[0]:x}" if self._pending else "none"
                    raise ProtocolError(f"COMMIT of 0x{zxid:x}, but the oldest proposal is {expected}")
                self._commit = self._pending.popleft()
            else:
                self._log_entries(entries, last)
                entries = []
                self._apply_commits()
                self._dispatch(kind, zxid, body)
                if self._link is None:
                    return
                last = self.engine.last_zxid
        self._log_entries(entries, last)
        self._apply_commits()

    def _log_entries(self, entries: list[bytes], last_zxid: int) -> None:
        if entries:
            self.engine.persist(last_zxid - len(entries) + 1, entries, last_zxid)

    def _apply_commits(self) -> None:
        if self.phase != ACTIVE:
            done = max(self._steps[-1] if self._steps else self._base, self._commit >> 32 << 32)
            if self._commit - done >= self.engine.options.apply_entries:
                self._steps.append(self._commit)
        elif self._commit > self.engine.committed and not self._steps:
            self.engine.committed = self._commit
            self.engine.host.committed(self._commit)

    def _dispatch(self, kind: int, zxid: int, body: bytes | None) -> None:
        phase = self.phase
        if kind == wire.PING:
            self._proposed = zxid
            if phase >= SYNCED:  # nothing may be sent before the ack of NEWLEADER
                self._send(packet(wire.PING, zxid, wire.sessions(self.engine.host.touched())))
        elif kind == wire.SYNC and phase == ACTIVE:
            if self._syncs:
                self.engine.host.synced(*self._syncs.popleft())
        elif kind == wire.REVALIDATE and phase == ACTIVE:
            self.engine.host.revalidated(*wire.parse_revalidated(body))
        elif kind == wire.LEADERINFO and phase == DIALLING:
            self._leader_info(zxid, body)
        elif kind in (wire.DIFF, wire.TRUNC, wire.SNAP) and phase == HISTORY:
            self._history(kind, zxid)
        elif kind == wire.NEWLEADER and phase == SYNCING:
            self._new_leader(zxid)
        elif kind == wire.UPTODATE and phase == SYNCED:
            self._up_to_date()
        else:
            raise ProtocolError(f"{wire.NAMES[kind]} in the phase {PHASES[phase]}")

    # ---------------------------------------------------------------------------------------- discovery
    def _leader_info(self, zxid: int, body: bytes | None) -> None:
        engine = self.engine
        epoch = zxid >> 32
        if wire.parse_int(body) < wire.PROTOCOL_VERSION:
            raise ProtocolError("the leader speaks the protocol before ZAB 1.0")
        if epoch < (engine.accepted_epoch if self.voter else engine.current_epoch):
            self.phase = DISCOVERY
            raise ProtocolError(f"the leader's epoch {epoch} is older than the accepted epoch {engine.accepted_epoch}")
        self.phase = DISCOVERY
        self.epoch = epoch
        if epoch > engine.accepted_epoch:
            engine.accept_epoch(epoch)
            engine.when_durable(self, lambda: self._ack_epoch(engine.current_epoch))
        else:  # this server acknowledged the epoch already and cannot do so twice
            self._ack_epoch(-1)

    def _ack_epoch(self, current_epoch: int) -> None:
        engine = self.engine
        complete = engine.trusted and not engine.resync
        self.phase = HISTORY
        self._base = engine.last_zxid if complete else -1
        # A marker (counter 0) says that an epoch began, and not with what.
        self._decided = engine.committed if engine.committed & COUNTER_MAX else 0
        data = (current_epoch if complete else -1).to_bytes(4, "big", signed=True)
        self._send(packet(wire.ACKEPOCH, self._base, data))

    # --------------------------------------------------------------------------------- synchronisation
    def _history(self, kind: int, zxid: int) -> None:
        engine = self.engine
        if kind == wire.SNAP:
            # In its own epoch a leader's snapshot may be a little behind; what it lacks follows as entries.
            if self._base != -1 and zxid < self._decided and self._decided >> 32 < self.epoch:
                self._stay_outside(zxid)
            engine.log("info", f"receiving a snapshot of 0x{zxid:x} from server.{self.leader}")
            engine.host.begin_snapshot(zxid)
            self._base = zxid
            self._signature = None
            self.phase = SNAPSHOT
            return
        if self._base == -1:
            raise ProtocolError(f"{wire.NAMES[kind]} for a server that needs a snapshot")
        if kind == wire.TRUNC and zxid != engine.last_zxid:
            if zxid < engine.committed:
                self._stay_outside(zxid)
            if not self._has(zxid):
                engine.resync = True
                engine.log("warning", f"told to cut the log to 0x{zxid:x}, which is not in it: asking for a snapshot")
                engine.look("cannot cut the log where the leader wants it")
                return
            engine.log("info", f"cutting the log from 0x{engine.last_zxid:x} to 0x{zxid:x}, as the leader says")
            engine.truncate(zxid)
            self._base = zxid
        self.phase = SYNCING

    def _stay_outside(self, zxid: int) -> None:
        """The leader's history ends before what is decided: raises, after it said so."""
        engine = self.engine
        engine.log(
            "error",
            f"the history of server.{self.leader} ends at 0x{zxid:x}, but 0x{engine.committed:x} is decided: "
            "the others have lost data, or this server's data is of another ensemble. It stays outside; "
            "see docs/ensembles.md, `When histories contradict each other`",
        )
        raise ProtocolError(f"told to go back to 0x{zxid:x}, below what is decided")

    def _has(self, zxid: int) -> bool:
        """Whether exactly this entry is in the log, or is the last one in the state."""
        engine = self.engine
        if not engine.committed <= zxid <= engine.last_zxid:
            return False
        if zxid == engine.committed:
            return True
        found = engine.host.read_log(zxid - 1, 1)
        return bool(found) and found[0][0] == zxid

    def _snapshot_data(self, data: bytes) -> bytes | None:
        """The next bytes of a SNAP; what comes after it, or None if it is not complete."""
        if self._signature is None:
            rest = self.engine.host.snapshot_chunk(data)
            if rest is None:
                return None
            data = rest
            self._signature = bytearray()
        missing = len(SIGNATURE) - len(self._signature)
        self._signature += data[:missing]
        if not SIGNATURE.startswith(self._signature):
            raise ProtocolError("the snapshot does not end with its signature")
        if len(self._signature) < len(SIGNATURE):
            return None
        self._install_snapshot()
        return data[missing:]

    def _install_snapshot(self) -> None:
        engine = self.engine
        if self._base < engine.last_zxid and engine.current_epoch:
            engine.distrust()  # entries that we acknowledged may be gone until the rest has come
        engine.host.end_snapshot()
        engine.last_zxid = engine.committed = self._base
        engine.empty = False
        self.phase = SYNCING

    def _new_leader(self, zxid: int) -> None:
        """Log, then epoch, then ack: what came before is staged, the epoch goes behind it, the ack waits for both."""
        if zxid != self.epoch << 32:
            raise ProtocolError(f"NEWLEADER of 0x{zxid:x} in epoch {self.epoch}")
        if self.engine.last_zxid < self._decided:
            self.engine.log(
                "error",
                f"the history of server.{self.leader} ends at 0x{self.engine.last_zxid:x}, but 0x{self._decided:x} was "
                "decided: acknowledged writes are lost. This server's own data was incomplete and is replaced",
            )
        self.phase = ACKING
        self._unacked.extend(self._pending)
        self.engine.enter_epoch(self.epoch)
        upto = self.engine.last_zxid
        self.engine.when_durable(self, lambda: self._ack_new_leader(upto))

    def _ack_new_leader(self, upto: int) -> None:
        engine = self.engine
        assert self.phase == ACKING
        assert engine.current_epoch == engine.accepted_epoch == self.epoch or not self.voter
        engine.trusted = True
        engine.resync = False
        self.phase = SYNCED
        self._durable = upto
        self._send(packet(wire.ACK, self.epoch << 32))
        self._ack_entries()
        self._schedule()

    def _up_to_date(self) -> None:
        engine = self.engine
        engine.log("info", f"following server.{self.leader} in epoch {self.epoch}")
        self.phase = ACTIVE
        self.served = True
        engine.failures = 0
        self._commit = max(self._commit, self._base)
        self._send(packet(wire.ACK, self.epoch << 32))
        engine.election.established(self.epoch)
        self._catch_up()

    def _catch_up(self) -> None:
        """Apply the next part of what was received before UPTODATE; with the last one begin to serve."""
        engine = self.engine
        if self._steps:
            engine.committed = self._steps.popleft()
            engine.host.committed(engine.committed)
        if not self._steps:
            self._apply_commits()
            engine.host.serve("follower" if self.voter else "observer", 0)
        self._schedule()

    # --------------------------------------------------------------------------------------- broadcast
    def persisted(self, upto_zxid: int) -> None:
        """Entries are durable. What was staged before NEWLEADER is answered by its mark, not here."""
        if self.phase >= SYNCED:
            self._durable = upto_zxid
            self._ack_entries()

    def _ack_entries(self) -> None:
        unacked, durable = self._unacked, self._durable
        if not self.voter:
            unacked.clear()
            return
        zxids: list[int] = []
        while unacked and unacked[0] <= durable:
            zxids.append(unacked.popleft())
        if zxids and self._link is not None:
            self._send(wire.bare_packets(wire.ACK, zxids))

    def forward(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        """A client's write goes to the leader."""
        assert self.phase == ACTIVE
        self._send(packet(wire.REQUEST, -1, wire.request(session_id, cxid, op, body), identities))

    def sync(self, session_id: int, cxid: int, body: bytes) -> None:
        """A client's sync goes to the leader; the answers come in the order of the questions."""
        self._syncs.append((session_id, cxid))
        self.forward(session_id, cxid, 9, body, ())

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """A client came back: does its session live?"""
        assert self.phase == ACTIVE
        self._send(packet(wire.REVALIDATE, -1, wire.sessions([(session_id, timeout_ms)])))

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Never: a learner forwards."""
        raise AssertionError("only a leader proposes")

    def status(self) -> tuple[str, int, dict[str, int | float | str]]:
        """Mode, leader and details."""
        mode = ("follower" if self.voter else "observer") if self.phase == ACTIVE else "looking"
        state = "following" if self.voter else "observing"
        return (
            mode,
            self.leader,
            {"peer_state": f"{state} - {PHASES[self.phase]}", "pending_syncs": len(self._syncs), "lag": self._lag()},
        )

    def _lag(self) -> int:
        """Transactions that the leader had proposed at its last ping and that are not applied here."""
        applied = self.engine.committed
        if applied >> 32 == self._proposed >> 32:
            return max(0, self._proposed - applied)
        return self._proposed & COUNTER_MAX if applied < self._proposed else 0
