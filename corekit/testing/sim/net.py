"""Links between servers as TCP gives them: bytes in order, late, in pieces, or not at all.

Rules
- A link is two directed pipes. Each delivers in order; what is lost is lost from the end, when the link breaks.
- A cut direction stalls: its bytes arrive after it heals, unless the link is given up first (`GIVE_UP`).
- A process that is killed leaves bytes on the way and then an end; a machine that loses power leaves silence, and the
  peer learns of it when it sends to the machine after it is back, or by giving up.
- Segments are cut and joined at random: who reads must not care.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from corekit.testing.sim.world import MS, SECOND, World

if TYPE_CHECKING:
    from random import Random

DIAL_GIVE_UP = 5 * SECOND
GIVE_UP = 20 * SECOND  # unacknowledged bytes older than this break a link
SOCKET_BUFFER = 64 * 1024


class LinkUser(Protocol):
    """A server, as the network sees it."""

    sid: int

    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None:
        """A link is there."""

    def link_data(self, link: int, data: bytes) -> None:
        """Bytes arrived."""

    def link_drained(self, link: int) -> None:
        """All bytes have left."""

    def link_closed(self, link: int, why: str) -> None:
        """The link is gone."""

    def accepting(self) -> str:
        """`yes`, `refuse` (no process) or `silent` (no machine)."""


@dataclass(slots=True)
class Profile:
    """How the network behaves.

    Attributes:
        latency, jitter: microseconds.
        slow_share: share of segments that take ten times as long.
        split_share: share of segments that arrive in pieces.
        buffer: bytes a link takes before its sender is told that they wait.
        eager: the sender is told that a link has drained even if it was not told that bytes wait.
    """

    latency: int = 300
    jitter: int = 500
    slow_share: float = 0.01
    split_share: float = 0.1
    buffer: int = SOCKET_BUFFER
    eager: bool = False


@dataclass(slots=True)
class _Pipe:
    """One direction of a link."""

    source: int
    target: int
    target_link: int
    source_link: int
    connection: int  # the same for both directions
    last_at: int = 0
    waiting: int = 0
    told: bool = False  # the sender was told that bytes wait
    held: deque[bytes | None] = field(default_factory=deque)  # None is the end of the stream
    dead: bool = False
    torn: bool = False  # what is sent now is lost, the link is about to break


class _End:
    """One server's end of a link."""

    __slots__ = ("incoming", "link", "open", "outgoing", "peer", "user")

    def __init__(self, user: LinkUser, link: int) -> None:
        self.user = user
        self.link = link
        self.open = False
        self.outgoing: _Pipe
        self.incoming: _Pipe
        self.peer: _End


class Net:
    """All links.

    Attributes:
        cuts: directions (from sid, to sid) that let nothing through.
        taps: told what servers send.
        tears: asked at every send on a quorum link whether the link breaks in the middle of it.
        tear_next: (from sid, to sid) -> how many of the next bytes arrive before their link breaks.
    """

    def __init__(self, world: World, profile: Profile) -> None:
        self.world = world
        self.profile = profile
        self.cuts: set[tuple[int, int]] = set()
        self.taps: list[Tap] = []
        self.tears: Callable[[], bool] = lambda: False
        self.tear_next: dict[tuple[int, int], int] = {}
        self._random: Random = world.random("net")
        self._users: dict[int, LinkUser] = {}
        self._ends: dict[int, _End] = {}
        self._kinds: dict[int, str] = {}
        self._link = 0

    def add(self, user: LinkUser) -> None:
        """A server joins the network; its host name is `n<sid>`."""
        self._users[user.sid] = user

    def _delay(self) -> int:
        profile = self.profile
        delay = profile.latency + int(self._random.random() * profile.jitter)
        return delay * 10 if self._random.random() < profile.slow_share else delay

    # -------------------------------------------------------------------------------------------- dialling
    def dial(self, user: LinkUser, kind: str, host: str) -> int:
        """Open a link; its id."""
        target = self._users[int(host[1:])]
        self._link += 1
        end = _End(user, self._link)
        self._ends[end.link] = end
        self._kinds[end.link] = kind
        self.world.after(self._delay(), self._syn, end, target, kind, self.world.now)
        return end.link

    def _syn(self, end: _End, target: LinkUser, kind: str, since: int) -> None:
        if end.link not in self._ends:
            return
        source = end.user.sid
        cut = (source, target.sid) in self.cuts or (target.sid, source) in self.cuts
        answer = target.accepting()
        if cut or answer == "silent":
            if self.world.now - since >= DIAL_GIVE_UP:
                self._gone(end, "timed out")
            else:
                self.world.after(200 * MS, self._syn, end, target, kind, since)
        elif answer == "refuse":
            self.world.after(self._delay(), self._gone, end, "connection refused")
        else:
            self._link += 1
            other = _End(target, self._link)
            self._ends[other.link] = other
            self._kinds[other.link] = kind
            end.peer, other.peer = other, end
            end.outgoing = other.incoming = _Pipe(source, target.sid, other.link, end.link, end.link)
            other.outgoing = end.incoming = _Pipe(target.sid, source, end.link, other.link, end.link)
            other.open = True
            self.world.note("open", source, target.sid, kind, end.link, other.link)
            target.link_opened(other.link, kind, f"n{source}", False)
            self.world.after(self._delay(), self._established, end, kind, target.sid)

    def _established(self, end: _End, kind: str, target: int) -> None:
        if end.link in self._ends:
            end.open = True
            end.user.link_opened(end.link, kind, f"n{target}", True)
            self.world.after(1, self._release, end.incoming)

    def _gone(self, end: _End, why: str) -> None:
        if self._ends.pop(end.link, None) is not None:
            end.user.link_closed(end.link, why)

    # --------------------------------------------------------------------------------------------- sending
    def send(self, link: int, data: bytes) -> int:
        """Queue bytes; how many wait beyond what the network took."""
        end = self._ends.get(link)
        if end is None:
            return 0  # the link broke and the news is on its way
        assert end.open, "sent on a link that is not open"
        pipe = end.outgoing
        if pipe.torn:
            return 0
        for tap in self.taps:
            tap.sent(pipe.source, pipe.target, self._kinds[link], pipe.connection, data)
        pipe.waiting += len(data)
        torn = (pipe.source, pipe.target) in self.tear_next
        if self._kinds[link] == "quorum" and (torn or self.tears()):
            arrives = self.tear_next.pop((pipe.source, pipe.target), self._random.randrange(len(data)))
            self._put(pipe, data[:arrives])
            pipe.torn = True
            self.world.after(pipe.last_at - self.world.now + 1, self.reset, link)
            return 0
        self._put(pipe, data)
        over = pipe.waiting - self.profile.buffer
        if over > 0:
            pipe.told = True
            return over
        return 0

    def _put(self, pipe: _Pipe, data: bytes | None) -> None:
        if data is not None and len(data) > 1 and self._random.random() < self.profile.split_share:
            at = self._random.randrange(1, len(data))
            self._put_whole(pipe, data[:at])
            self._put_whole(pipe, data[at:])
        else:
            self._put_whole(pipe, data)

    def _put_whole(self, pipe: _Pipe, data: bytes | None) -> None:
        now = self.world.now
        at = now + self._delay()
        if at <= pipe.last_at:
            at = pipe.last_at + 1
        pipe.last_at = at
        self.world.after(at - now, self._arrive, pipe, data)

    def _arrive(self, pipe: _Pipe, data: bytes | None) -> None:
        target = self._ends.get(pipe.target_link)
        held = pipe.held
        if held or (target is not None and not target.open) or (pipe.source, pipe.target) in self.cuts:
            if not held:
                self.world.after(GIVE_UP, self._give_up, pipe)
            held.append(data)
            return
        self._deliver(pipe, data)

    def _deliver(self, pipe: _Pipe, data: bytes | None) -> None:
        if pipe.dead:
            return
        target = self._ends.get(pipe.target_link)
        source = self._ends.get(pipe.source_link)
        if target is None:
            if source is not None and self._users[pipe.target].accepting() != "silent":
                pipe.dead = True
                self.world.after(self._delay(), self._gone, source, "connection reset")
            return
        if data is None:
            self.world.note("end", pipe.source, pipe.target, pipe.target_link)
            self._gone(target, "closed by the peer")
            return
        pipe.waiting -= len(data)
        target.user.link_data(target.link, data)
        if pipe.waiting <= 0 and (pipe.told or self.profile.eager):
            pipe.told = False
            source = self._ends.get(pipe.source_link)
            if source is not None:
                source.user.link_drained(source.link)

    def _release(self, pipe: _Pipe) -> None:
        """What stalled arrives; what comes behind it meanwhile stays behind it."""
        while pipe.held and not pipe.dead and (pipe.source, pipe.target) not in self.cuts:
            self._deliver(pipe, pipe.held[0])
            if pipe.held:
                pipe.held.popleft()

    def _give_up(self, pipe: _Pipe) -> None:
        if pipe.held and not pipe.dead:
            pipe.dead = True
            source = self._ends.get(pipe.source_link)
            if source is not None:
                self._gone(source, "timed out")

    # --------------------------------------------------------------------------------------------- closing
    def close(self, link: int) -> None:
        """A server closes its end: what it sent still arrives, then the end."""
        end = self._ends.pop(link, None)
        if end is not None and end.open:
            self._put(end.outgoing, None)

    def process_died(self, sid: int, silently: bool) -> None:
        """All links of a server end; silently if its machine lost power."""
        for end in [end for end in self._ends.values() if end.user.sid == sid]:
            del self._ends[end.link]
            if end.open and not silently:
                self._put(end.outgoing, None)
            elif end.open:
                end.outgoing.dead = True

    def reset(self, link: int) -> None:
        """A link breaks for both ends; what was on its way is lost."""
        end = self._ends.get(link)
        if end is None or not end.open:
            return
        end.outgoing.dead = end.incoming.dead = True
        self.world.note("reset", end.outgoing.source, end.outgoing.target, link)
        peer = end.peer
        self._gone(end, "connection reset")
        if peer.open:
            self._gone(peer, "connection reset")

    def links(self, kind: str) -> list[int]:
        """Open links of a kind, by the id of the end that dialled."""
        return [link for link, end in self._ends.items() if end.open and self._kinds[link] == kind]

    def cut(self, source: int, target: int) -> None:
        """Nothing gets through from one server to another."""
        self.cuts.add((source, target))

    def heal(self, source: int, target: int) -> None:
        """The direction works again."""
        self.cuts.discard((source, target))
        for end in list(self._ends.values()):
            if end.open and end.incoming.held and (end.incoming.source, end.incoming.target) == (source, target):
                self.world.after(self._delay(), self._release, end.incoming)

    def heal_all(self) -> None:
        """No direction is cut any more."""
        for source, target in sorted(self.cuts):
            self.heal(source, target)


class Tap(Protocol):
    """Somebody who reads along."""

    def sent(self, source: int, target: int, kind: str, connection: int, data: bytes) -> None:
        """A server sent bytes. Both directions of a link have the same `connection`."""
