"""Links of the election port: one to each peer, dialled by the larger sid.

Rules
- The side that dials sends the initial message. If its sid is the smaller one the link is closed again, and the peer
  dials back; so one link a pair survives, and a peer that lost its end without our noticing gets a new one.
- Only members may talk. A dial back goes to the configured address, never to one that a stranger claims.
- Messages are not queued: the last one counts, and it is made anew when a link comes up (`Election.greet`).
- A peer that stays silent while we look for a leader may have vanished without a word: its link is made anew.

Source: ZooKeeper `QuorumCnxManager`. Not here: what the messages mean (`election.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corekit.codec.quorum import ElectionReader, Notification, frame, hello, parse_notification
from corekit.errors import ProtocolError
from corekit_zab.options import ELECTION_BACKLOG_BYTES, NEVER

if TYPE_CHECKING:
    from corekit_zab.engine import Zab

DIAL_MS = 50  # first pause after a failed dial; it doubles
DIAL_MAX_MS = 1000
DIAL_BACK_MS = 1000  # how long the smaller sid waits for the larger one to dial back
HELLO_MS = 5000  # for the initial message
SILENCE_MS = 3000  # silence of a peer that makes us doubt its link while we look for a leader
YOUNG_MS = 200  # a link this young is not replaced because the peer asked for one before it came up


class ElectionLink:
    """One end of a link of the election port.

    Attributes:
        sid: of the peer; None until its initial message is read.
        backlog: bytes that wait to be sent.
    """

    __slots__ = ("backlog", "dialled", "heard_ms", "id", "links", "opened_ms", "reader", "sid")

    def __init__(self, links: ElectionLinks, link: int, sid: int | None, dialled: bool) -> None:
        self.links = links
        self.id = link
        self.sid = sid
        self.dialled = dialled
        self.reader = ElectionReader(expect_hello=not dialled)
        self.backlog = 0
        self.opened_ms = self.heard_ms = links.engine.now

    def opened(self) -> None:
        self.links.dialled_up(self)

    def drained(self) -> None:
        self.backlog = 0

    def closed(self, why: str) -> None:
        self.links.lost(self, why)

    def data(self, data: bytes) -> None:
        payloads = self.reader.feed(data)
        if self.sid is None:
            if self.reader.hello is None:
                return
            if not self.links.greeted(self, *self.reader.hello):
                return
        self.heard_ms = self.links.engine.now
        for payload in payloads:
            if self.links.current.get(self.sid) is not self:  # replaced, or we dialled and are the smaller one
                return
            try:
                note = parse_notification(payload)
            except ProtocolError as error:  # ZOOKEEPER-3769: a bad message costs itself, not the link
                self.links.engine.log("warning", f"dropped a notification of server.{self.sid}: {error}")
                continue
            assert self.sid is not None
            self.links.engine.election.receive(self.sid, note)


class ElectionLinks:
    """All links of the election port.

    Attributes:
        current: the link in use to each peer.
        wake_at: when `tick` has something to do.
    """

    def __init__(self, engine: Zab) -> None:
        self.engine = engine
        self.current: dict[int | None, ElectionLink] = {}
        self.wake_at = NEVER
        self._dialling: dict[int, ElectionLink] = {}
        self._not_before: dict[int, int] = {}
        self._pause: dict[int, int] = {}
        self._silence: dict[int, int] = {}
        self._strangers: set[ElectionLink] = set()
        self._attempts: dict[int, int] = {}
        self._told: dict[int, str] = {}
        self._asked: set[int] = set()  # who dialled us, and is to be dialled back
        self._no_way_back: dict[int, str] = {}  # why that failed last, as told to people

    # ------------------------------------------------------------------------------------------- sending
    def send(self, sid: int, note: Notification) -> None:
        """Send to a peer, or dial it: what counts then is sent when the link is up."""
        link = self.current.get(sid)
        if link is None:
            self._dial(sid)
        elif link.backlog < ELECTION_BACKLOG_BYTES:
            link.backlog = self.engine.host.send(link.id, frame(note.encode()))

    def reachable(self, sid: int) -> bool:
        """Whether a link is up, or being dialled and not refused yet."""
        return sid in self.current or sid in self._dialling

    def _dial(self, sid: int, at_once: bool = False) -> None:
        engine = self.engine
        if sid in self._dialling or sid not in engine.ensemble.members:
            return
        if not at_once and engine.now < self._not_before.get(sid, 0):
            self.wake_at = min(self.wake_at, self._not_before[sid])
            return
        attempt = self._attempts.get(sid, 0)
        self._attempts[sid] = attempt + 1
        addresses = engine.ensemble.members[sid].addresses
        host, _, port = addresses[attempt % len(addresses)]
        link = ElectionLink(self, engine.host.dial("election", host, port), sid, dialled=True)
        self._dialling[sid] = link
        engine.endpoints[link.id] = link

    # -------------------------------------------------------------------------------------------- events
    def accepted(self, link: int) -> None:
        """Somebody dialled us."""
        endpoint = ElectionLink(self, link, None, dialled=False)
        self.engine.endpoints[link] = endpoint
        self._strangers.add(endpoint)
        self.wake_at = min(self.wake_at, self.engine.now + HELLO_MS)

    def dialled_up(self, link: ElectionLink) -> None:
        """Our dial succeeded."""
        engine, sid = self.engine, link.sid
        assert sid is not None
        self._dialling.pop(sid, None)
        self._pause.pop(sid, None)
        self._asked.discard(sid)
        self._no_way_back.pop(sid, None)
        link.opened_ms = link.heard_ms = engine.now
        engine.host.send(link.id, hello(engine.sid, engine.ensemble.members[engine.sid].election_addresses()[0]))
        if sid > engine.sid:
            self._not_before[sid] = engine.now + DIAL_BACK_MS
            engine.forget(link.id, "the larger sid dials")
        else:
            self._adopt(link)

    def greeted(self, link: ElectionLink, sid: int, address: str) -> bool:
        """The initial message of somebody who dialled us. False: the link is gone."""
        engine = self.engine
        self._strangers.discard(link)
        if sid == engine.sid:
            engine.log("error", f"another server calls itself server.{sid}, as this one does: check the myid files")
            engine.forget(link.id, "our own sid")
            return False
        if sid not in engine.ensemble.members:
            engine.log("warning", f"refused an election link: server.{sid} is no member of this ensemble")
            engine.forget(link.id, "not a member")
            return False
        self._compare_address(sid, address)
        if sid < engine.sid:
            engine.forget(link.id, "the larger sid dials")
            old = self.current.get(sid)
            if old is not None and engine.now - old.opened_ms < YOUNG_MS:
                return False
            if old is not None:
                del self.current[sid]
                engine.forget(old.id, "the peer asks for a new link")
            self._asked.add(sid)
            self._dial(sid, at_once=True)
            return False
        link.sid = sid
        self._adopt(link)
        return True

    def _compare_address(self, sid: int, claimed: str) -> None:
        """Tell people once if a member says that it is elsewhere: perhaps two servers have the same sid."""
        engine = self.engine
        known = set(engine.ensemble.members[sid].election_addresses())
        theirs = {one for one in claimed.split("|") if one and not one.startswith(("0.0.0.0:", "[::]:"))}
        if theirs and not theirs & known and self._told.get(sid) != claimed:
            self._told[sid] = claimed
            where = ", ".join(sorted(known))
            engine.log("warning", f"a server calls itself server.{sid} at {claimed}, but server.{sid} is at {where}")

    def _adopt(self, link: ElectionLink) -> None:
        old = self.current.get(link.sid)
        if old is not None:
            self.engine.forget(old.id, "replaced by a newer link")
        self.current[link.sid] = link
        assert link.sid is not None
        self.engine.election.greet(link.sid)

    def lost(self, link: ElectionLink, why: str) -> None:
        """A link broke or could not be dialled."""
        self._strangers.discard(link)
        sid, now = link.sid, self.engine.now
        if sid is None:
            return
        if self._dialling.get(sid) is link:
            del self._dialling[sid]
            pause = self._pause.get(sid, DIAL_MS)
            self._pause[sid] = min(2 * pause, DIAL_MAX_MS)
            self._not_before[sid] = now + pause
            self._tell_no_way_back(sid, why)
            self.engine.election.unreachable()
        elif self.current.get(sid) is link:
            del self.current[sid]
            self._not_before[sid] = max(self._not_before.get(sid, 0), now + DIAL_MS)
            self.engine.election.unreachable()
        self.wake_at = min(self.wake_at, self._not_before.get(sid, NEVER))

    def _tell_no_way_back(self, sid: int, why: str) -> None:
        """Tell people once if we cannot dial a member that dialled us: it stays outside, and cannot know why."""
        if sid in self._asked and self._no_way_back.get(sid) != why:
            self._no_way_back[sid] = why
            where = ", ".join(self.engine.ensemble.members[sid].election_addresses())
            self.engine.log("warning", f"server.{sid} connects, but cannot be called back at {where}: {why}")
        self._asked.discard(sid)

    def tick(self, now: int) -> None:
        """Dial who is wanted, drop who does not say who he is, doubt who is silent."""
        self.wake_at = NEVER
        for stranger in list(self._strangers):
            if now - stranger.opened_ms >= HELLO_MS:
                self._strangers.discard(stranger)
                self.engine.forget(stranger.id, "no initial message")
            else:
                self.wake_at = min(self.wake_at, stranger.opened_ms + HELLO_MS)
        if not self.engine.election.looking:
            self._silence.clear()
            return
        for sid in self.engine.ensemble.voters:
            if sid == self.engine.sid:
                continue
            link = self.current.get(sid)
            if link is None:
                self._dial(sid)
                continue
            patience = self._silence.get(sid, SILENCE_MS)
            heard = max(link.heard_ms, self.engine.election.started_ms)
            if now - heard >= patience:
                self._silence[sid] = min(2 * patience, 10 * SILENCE_MS)
                del self.current[sid]
                self.engine.forget(link.id, "silent")
                self._dial(sid, at_once=True)
            else:
                self.wake_at = min(self.wake_at, heard + patience)
