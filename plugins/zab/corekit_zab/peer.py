"""The leader's end of one learner's link: what the learner may send, and when.

Rules
- Membership comes first: nothing a stranger says reaches the leader (CVE-2018-8012, and the epoch that a stranger could
  spend in ZooKeeper's discovery phase).
- Between ACKEPOCH and the ack of NEWLEADER a learner sends acks only.
- A learner's requests are answered in the order in which it sent them, syncs and writes alike: ZooKeeper's
  `CommitProcessor` relies on that for all its clients together, and answers nobody any more after an exception. A sync
  may take longer than a write here (see `Rounds`), so writes wait until the syncs before them are answered.
- Acks of proposals count from the ack of NEWLEADER on. ZooKeeper before 3.9.3 may send some earlier: remembered.

Source: ZooKeeper `LearnerHandler`. Not here: what the leader decides (`leader.py`), history (`sync.py`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from corekit.codec import ops
from corekit.codec import quorum as wire
from corekit.codec.quorum import PacketReader, packet
from corekit.errors import ProtocolError
from corekit_zab.options import HELD_BYTES_MAX, NEVER
from corekit_zab.quorum import OBSERVER
from corekit_zab.sync import Feed

if TYPE_CHECKING:
    from corekit_zab.leader import Leader

GREETING: Final = 0
REGISTERED: Final = 1
INFORMED: Final = 2
AGREED: Final = 3
FEEDING: Final = 4
ACKING: Final = 5
ACTIVE: Final = 6
UPTODATE: Final = 7


class LearnerLink:
    """One learner, or somebody who has not said yet who he is.

    Attributes:
        state: GREETING (nobody yet), REGISTERED (waits for the epoch), INFORMED (LEADERINFO sent), AGREED (waits for
            the epoch to be entered), FEEDING (gets history), ACKING (NEWLEADER sent), ACTIVE (acked it), UPTODATE.
        sid, voter: who it is, from REGISTERED on.
        live: it gets the live stream (from the end of its history on).
        due, due_ms: a proposal that it shall acknowledge, looked at since then.
        heard_ms: when it was last heard.
        accepted: the epoch it had accepted when it came.
        acked: the last proposal it acknowledged.
        slow: too much waits to be sent.
    """

    __slots__ = (
        "_held", "_requests", "_syncs", "accepted", "acked", "due", "due_ms", "feed", "heard_ms", "id", "leader",
        "live", "peer", "peer_zxid", "pings", "pongs", "reader", "round", "sid", "slow", "state", "voter",
    )  # fmt: skip

    def __init__(self, leader: Leader, link: int, peer: str) -> None:
        self.leader = leader
        self.id = link
        self.peer = peer
        self.state = GREETING
        self.sid = -1
        self.voter = False
        self.live = False
        self.due = 0
        self.due_ms = NEVER
        self.slow = False
        self.heard_ms = leader.engine.now
        self.accepted = 0
        self.acked = 0
        self.peer_zxid = 0
        self.pings = 0  # sent
        self.pongs = 0  # answered
        self.round = 0  # the ping whose answer confirms the present round
        self.feed: Feed | None = None
        self.reader = PacketReader()
        self._requests: deque[tuple[int, int, int, bytes, wire.AuthInfo]] = deque()
        self._held = 0  # bytes of these
        self._syncs = 0  # asked and not answered

    # ---------------------------------------------------------------------------------------- endpoint
    def opened(self) -> None:
        raise AssertionError("learners dial")

    def closed(self, why: str) -> None:
        self.leader.gone(self, why)

    def drained(self) -> None:
        if self.feed is not None:  # a learner that takes history says nothing meanwhile, but it lives
            self.heard_ms = self.leader.engine.now
            self.pump()

    def data(self, data: bytes) -> None:
        self.heard_ms = self.leader.engine.now
        acked = 0
        for kind, zxid, body, authinfo in self.reader.feed(data):
            if kind == wire.ACK:
                acked = self._ack(zxid) or acked
            else:
                self._dispatch(kind, zxid, body, authinfo)
                if self.leader.over or self.id not in self.leader.links:
                    return
        if acked:
            self.leader.acked(self, acked)

    def send(self, data: bytes) -> None:
        """Queue bytes for this learner."""
        self.leader.engine.host.send(self.id, data)

    # ----------------------------------------------------------------------------------------- packets
    def _dispatch(self, kind: int, zxid: int, body: bytes | None, authinfo: wire.AuthInfo | None) -> None:
        leader = self.leader
        host = leader.engine.host
        if kind == wire.PING and self.state >= ACTIVE:
            touched = wire.parse_sessions(body)
            if touched:
                host.touch(self.sid, touched)
            leader.rounds.answered(self)
        elif kind == wire.REQUEST and self.state == UPTODATE:
            request = wire.parse_request(body)
            self._requests.append((*request, authinfo or ()))
            self._held += wire.REQUEST_HEAD_BYTES + len(request[3])
            self._take_requests()
            if self._held > HELD_BYTES_MAX:
                raise ProtocolError(f"server.{self.sid} has {self._held} bytes of requests behind its syncs")
        elif kind == wire.REVALIDATE and self.state == UPTODATE:
            for session_id, timeout_ms in wire.parse_sessions(body):
                valid = host.revalidate(self.sid, session_id, timeout_ms)
                self.send(packet(wire.REVALIDATE, -1, wire.revalidated(session_id, valid)))
        elif kind in (wire.FOLLOWERINFO, wire.OBSERVERINFO) and self.state == GREETING:
            self._register(kind, zxid, body)
        elif kind == wire.ACKEPOCH and self.state == INFORMED:
            self.peer_zxid = zxid
            self.state = AGREED
            leader.epoch_acked(self, wire.parse_int(body))
        else:
            raise ProtocolError(f"server.{self.sid} sent {wire.NAMES[kind]} in the wrong phase")

    def _take_requests(self) -> None:
        """Those whose turn it is: a write waits for the syncs before it, see the rules above."""
        leader, requests = self.leader, self._requests
        while requests and (requests[0][2] == ops.SYNC or not self._syncs):
            session_id, cxid, op, body, identities = requests.popleft()
            self._held -= wire.REQUEST_HEAD_BYTES + len(body)
            if op == ops.SYNC:
                self._syncs += 1
                leader.rounds.ask(self, session_id, cxid)
            else:
                leader.engine.host.forwarded(self.sid, session_id, cxid, op, body, identities)

    def synced(self) -> None:
        """Its oldest sync is done."""
        self.send(packet(wire.SYNC, 0))
        self._syncs -= 1
        self._take_requests()

    def _register(self, kind: int, zxid: int, body: bytes | None) -> None:
        engine = self.leader.engine
        sid, version, config_version = wire.parse_learner_info(body)
        member = engine.ensemble.members.get(sid)
        if member is None or sid == engine.sid:
            whose = "this server's own id" if sid == engine.sid else "no member of this ensemble"
            raise ProtocolError(f"{self.peer} wants to join as server.{sid}, which is {whose}")
        if (kind == wire.OBSERVERINFO) != (member.role == OBSERVER):
            raise ProtocolError(f"server.{sid} joins with another role than {member.role}, which is configured")
        if version < wire.PROTOCOL_VERSION:
            raise ProtocolError(f"server.{sid} speaks the protocol before ZAB 1.0 (ZooKeeper 3.3)")
        if config_version > engine.ensemble.version:
            raise ProtocolError(f"server.{sid} has the newer configuration 0x{config_version:x}")
        self.sid = sid
        self.voter = member.role != OBSERVER
        self.accepted = zxid >> 32
        self.leader.register(self)

    def _ack(self, zxid: int) -> int:
        """The acknowledged proposal if it counts now, else 0."""
        leader = self.leader
        if zxid & 0xFFFFFFFF == 0:
            if self.state == ACKING and zxid == leader.epoch << 32:
                self.state = ACTIVE
                leader.new_leader_acked(self)
                return self.acked
            if self.state < ACTIVE:
                raise ProtocolError(f"server.{self.sid} acknowledged 0x{zxid:x} instead of NEWLEADER")
            return 0
        if not self.live or self.state < FEEDING:
            raise ProtocolError(f"server.{self.sid} acknowledged 0x{zxid:x} before it was proposed to it")
        if zxid > leader.proposed or zxid <= self.acked:
            raise ProtocolError(f"server.{self.sid} acknowledged 0x{zxid:x} out of order")
        self.acked = zxid
        return zxid if self.state >= ACTIVE else 0

    # ----------------------------------------------------------------------------------------- history
    def inform(self) -> None:
        """The epoch is fixed and durable here."""
        self.state = INFORMED
        version = wire.PROTOCOL_VERSION.to_bytes(4, "big")
        self.send(packet(wire.LEADERINFO, self.leader.epoch << 32, version))

    def start_feed(self) -> None:
        """The epoch is agreed: bring the learner up to date."""
        leader = self.leader
        engine = leader.engine
        self.state = FEEDING
        snap_after = engine.options.snap_after
        self.feed = Feed(engine.host, self.id, self.peer_zxid, leader.committed, engine.committed, snap_after)
        kind = wire.NAMES[self.feed.kind]
        engine.log("info", f"server.{self.sid} has 0x{self.peer_zxid:x}: {kind} from 0x{self.feed.cursor:x}")
        if not leader.cut_first(self, self.feed):
            self.pump()

    def pump(self) -> None:
        """Send more history; at its end hand over to the live stream and send NEWLEADER."""
        if self.feed is None:
            return
        leader = self.leader
        try:
            if not self.feed.pump(leader.committed):
                return
        except LookupError as error:
            leader.engine.drop(self.id, f"cannot bring server.{self.sid} up to date: {error}")
            return
        self.feed = None
        self.live = True
        self.due = leader.committed  # what it is sent behind that, it has to acknowledge
        self.state = ACKING
        self.send(self.welcome())

    def welcome(self) -> bytes:
        """NEWLEADER, and what is not decided behind it.

        ZooKeeper's leaders send that before it. Its followers up to 3.9.2 break if the commit of a proposal from before
        NEWLEADER comes after it (ZOOKEEPER-4394).
        """
        leader = self.leader
        outstanding = leader.outstanding_packets() if self.voter else b""
        return packet(wire.NEWLEADER, leader.epoch << 32, leader.engine.ensemble.text()) + outstanding
