"""Plays steps on two servers in step and stops at the first difference.

One step runs at a time, on one connection of each server, until it is answered; so every event of a step is in the
streams of all connections before the next step, and its position relative to the replies is certain. Other
connections are read when they are used next, or when all are flushed with a ping.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.differential.known import Acls, align, leaks, may_read, without_event_zxid
from tests.differential.requests import DIGEST_AUTH, SUPER_ID, Picture, digest_id
from tests.differential.sides import CLOSED, Connection, Item, Side, Silent
from tests.differential.steps import Request, Step
from tests.support import rawzk
from tests.support.rawzk import buffer, int32, text

CONTEXT_LINES = 30
EXPIRE_SECONDS = 30.0
CREATES = frozenset({rawzk.CREATE, rawzk.CREATE2, rawzk.CREATE_CONTAINER, rawzk.CREATE_TTL})
FLUSH = Request(rawzk.PING, b"", "(flush)", xid=rawzk.XID_PING)


class Mismatch(AssertionError):
    """The two servers differ. `steps` holds everything played so far, for replaying."""

    def __init__(self, message: str, steps: list[Step]) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass(slots=True)
class Lane:
    """One client: a connection to each server."""

    number: int
    ends: tuple[Connection, Connection]
    identities: set[tuple[str, str]] = field(default_factory=set)
    ephemerals: set[str] = field(default_factory=set)
    sessions: int = 0
    xid: int = 0

    @property
    def live(self) -> bool:
        return self.ends[0].open

    @property
    def owner(self) -> str:
        return f"lane{self.number}.{self.sessions}"


class Pair:
    """Two fresh servers and the clients connected to both."""

    def __init__(self, port_a: int, port_b: int, lanes: int, kinds: Sequence[str]) -> None:
        names = [f"{kind} {number}" if kinds[0] == kinds[1] else kind for number, kind in enumerate(kinds, 1)]
        self.sides = (Side(names[0], port_a, kinds[0] != "java"), Side(names[1], port_b, kinds[1] != "java"))
        for side in self.sides:
            side.learn()
        self.modest = self.sides[0].old or self.sides[1].old
        self.mixed = self.sides[0].old != self.sides[1].old
        self.acls = Acls()
        self.picture = Picture()
        self.played: list[Step] = []
        self.operations = 0
        self.events = 0
        self.skipped = 0
        self.zxid = 0
        self._unordered = False
        self._told: list[tuple[Item, frozenset[tuple[str, str]]]] = []
        self._log: collections.deque[tuple[Step, list[Item], list[Item]]] = collections.deque(maxlen=3000)
        self.inspector = self._lane(-1)
        for side, end in zip(self.sides, self.inspector.ends, strict=True):
            end.handshake("inspector", 1_000_000, 0, bytes(16), 0, False)
            end.send([(rawzk.AUTH, int32(0) + text("digest") + buffer(b"super:admin"), rawzk.XID_AUTH)])
            end.send([(rawzk.PING, b"", rawzk.XID_PING)])
            side.base = end.until_answered()[-1][2]
        self.inspector.identities.add(("super", ""))
        self.lanes = [self._lane(number) for number in range(lanes)]

    def _lane(self, number: int) -> Lane:
        return Lane(number, (Connection(self.sides[0]), Connection(self.sides[1])))

    def close(self) -> None:
        for lane in [self.inspector, *self.lanes]:
            for end in lane.ends:
                end.drop()

    # Playing

    def play(self, step: Step) -> None:
        """Play one step on both servers; raises `Mismatch`."""
        self.played.append(step)
        self.acls.begin()
        lane = self.lanes[step.lane]
        try:
            if step.kind in ("open", "reattach"):
                self._connect(lane, step)
            elif not lane.live:
                return
            elif step.kind == "expire":
                self._expire(lane, step)
            else:
                self._call(lane, step)
        except Silent as silent:
            raise Mismatch(self._report(step, lane, str(silent), [], []), self.played) from None
        if self.acls.now or self.acls.before:
            self.flush()
        leaked = [item for item, identities in self._told if leaks(item, self.acls, identities)]
        self._told.clear()
        if leaked:
            raise Mismatch(self._report(step, lane, f"event without READ: {leaked}", leaked, []), self.played)

    def flush(self) -> None:
        """Read what has come on every connection: a ping on each, compared like any step."""
        for lane in self.lanes:
            if lane.live:
                for end in lane.ends:
                    end.send([(rawzk.PING, b"", rawzk.XID_PING)])
        for lane in self.lanes:
            if lane.live:
                got = tuple(end.until_answered() for end in lane.ends)
                self._compare(lane, Step("call", lane.number, [FLUSH]), got[0], got[1])
        self._unordered = False

    def finish(self) -> None:
        """Read everything, and check that the servers' times were times."""
        self.flush()
        for side in self.sides:
            fall = side.times_fall()
            if fall is not None:
                raise Mismatch(f"{side.name}: the time of zxid {fall[1]:x} is before that of {fall[0]:x}", self.played)

    def _connect(self, lane: Lane, step: Step) -> None:
        old = list(lane.ends)
        keep_open = step.variant == "steal" and lane.live
        if lane.live and not keep_open:
            for end in lane.ends:
                end.drop()
        lane.ends = (Connection(self.sides[0]), Connection(self.sides[1]))
        lane.xid = 0
        if step.kind == "open":
            lane.sessions += 1
            lane.ephemerals.clear()
        got = tuple(_handshake(end, before, lane.owner, step) for end, before in zip(lane.ends, old, strict=True))
        self._compare(lane, step, [got[0]], [got[1]])
        if keep_open:
            rest = tuple(end.until_closed() for end in old)
            self._compare(lane, step, rest[0], rest[1])
        lane.identities.clear()
        if got[0][0] != "session" or got[0][2] == 0:
            for end, before in zip(lane.ends, old, strict=True):
                end.drop()
                end.session_id, end.password = before.session_id, before.password
        self.operations += 1

    def _expire(self, lane: Lane, step: Step) -> None:
        for end in lane.ends:
            end.drop()
        waiting = sorted(lane.ephemerals)
        deadline = time.monotonic() + EXPIRE_SECONDS
        for end in self.inspector.ends:
            for path in waiting:
                while time.monotonic() < deadline:
                    end.send([(rawzk.EXISTS, text(path) + b"\0", 1)])
                    item = end.until_answered()[-1]
                    if item[3] != 0 or item[4][7] != lane.owner:
                        break
                    time.sleep(0.05)
                else:
                    raise Mismatch(
                        self._report(step, lane, f"{end.side.name}: {path} outlives its session", [], []), self.played
                    )
        self._forget_ephemerals(lane)
        self._unordered = True
        self.flush()

    def _call(self, lane: Lane, step: Step) -> None:
        requests = step.requests
        groups = [requests]
        if self.mixed and self._doubtful(lane, requests):
            groups = [[request] for request in requests]
        for group in groups:
            self._exchange(lane, step, group)
            if not lane.live:
                return
        if step.kind == "close":
            self._close(lane, step)

    def _exchange(self, lane: Lane, step: Step, requests: list[Request]) -> None:
        if self.mixed and self._doubtful(lane, requests):
            paths = [request.path.encode("utf-8", "surrogatepass") for request in requests]
            self._look_at_acls([path for path in paths if path in self.acls.now])
        got = self._ask(lane, requests)
        self.operations += len(requests)
        items = self._compare(lane, step, got[0], got[1])
        errors = {item[3] for item in items if item[0] == "reply"}
        if -6 in errors and requests[0].checked:
            got = tuple(end.until_closed() for end in lane.ends)
            self._compare(lane, step, got[0], got[1])
        elif requests[0].checked and items[-1] != CLOSED:
            ping = Request(rawzk.PING, b"", "(still there?)", xid=rawzk.XID_PING)
            got = self._ask(lane, [ping])
            self._compare(lane, step, got[0], got[1])
        if -115 in errors or CLOSED in items or CLOSED in got[0]:
            for end in lane.ends:
                end.drop()
        self._learn(lane, requests, items)

    def _ask(self, lane: Lane, requests: list[Request]) -> tuple[list[Item], list[Item]]:
        """Send requests to both servers, then read the answers of both."""
        xids = []
        for request in requests:
            lane.xid += request.xid is None
            xids.append(lane.xid if request.xid is None else request.xid)
        hidden = [r for r in requests if self.mixed and r.opcode == rawzk.EXISTS and self._hidden(lane, r)]
        for end in lane.ends:
            end.send(
                [
                    (request.opcode, request.encode(end.side.own_zxid), xid)
                    for request, xid in zip(requests, xids, strict=True)
                    if not (request in hidden and end.side.old)
                ]
            )
        left, right = (end.until_answered() for end in lane.ends)
        if hidden:
            self.skipped += len(hidden)
            self._check_hidden(right if self.sides[0].old else left, requests, hidden)
        return left, right

    def _check_hidden(self, items: list[Item], requests: list[Request], hidden: list[Request]) -> None:
        """Take the answers that only the newer server was asked for out of its items; they must refuse."""
        replies = [item for item in items if item[0] == "reply"]
        for request, reply in zip(requests, replies, strict=False):
            if request in hidden:
                if reply[3] != -102:
                    raise Mismatch(f"{request} on an unreadable node: {reply}", self.played)
                items.remove(reply)

    def _doubtful(self, lane: Lane, requests: list[Request]) -> bool:
        """Whether an `exists` among them is, or could become, one that only the newer server refuses."""
        asked = [request for request in requests if request.opcode == rawzk.EXISTS]
        return bool(asked) and (any(r.locks for r in requests) or any(self._hidden(lane, r) for r in asked))

    def _hidden(self, lane: Lane, request: Request) -> bool:
        path = request.path.encode("utf-8", "surrogatepass")
        return path in self.acls.now and not may_read(self.acls.now[path], lane.identities)

    def _close(self, lane: Lane, step: Step) -> None:
        lane.xid += 1
        for end in lane.ends:
            end.send([(rawzk.CLOSE_SESSION, b"", lane.xid)])
        got = tuple(end.until_closed() for end in lane.ends)
        self._unordered = True
        self._compare(lane, step, got[0], got[1])
        self._forget_ephemerals(lane)
        self.flush()
        self.operations += 1

    # Learning

    def _learn(self, lane: Lane, requests: list[Request], items: list[Item]) -> None:
        replies = [item for item in items if item[0] == "reply"]
        if len(replies) != len(requests):
            return
        touched: list[bytes] = []
        for request, reply in zip(requests, replies, strict=True):
            if reply[3] != 0:
                if reply[3] == -101 and request.opcode not in CREATES:
                    self.picture.lost(request.path)
                continue
            self.picture.feed(request, reply[4])
            self._note_identity(lane, request)
            self._note_ephemeral(lane, request, reply[4])
            touched += _paths_of(request, reply[4])
        if touched and any(request.locks or path in self.acls.now for request in requests for path in touched):
            self._look_at_acls(list(dict.fromkeys(touched)))

    def _note_identity(self, lane: Lane, request: Request) -> None:
        body = request.body
        if request.opcode == rawzk.AUTH and isinstance(body, bytes) and body.startswith(DIGEST_AUTH):
            identity = digest_id(body[len(DIGEST_AUTH) + 4 :])
            lane.identities.add(("digest", identity))
            if identity == SUPER_ID:
                lane.identities.add(("super", ""))

    def _note_ephemeral(self, lane: Lane, request: Request, value: object) -> None:
        if request.opcode in (rawzk.CREATE, rawzk.CREATE2) and "flags=1 " in request.label:
            path = value[0] if isinstance(value, tuple) else value
            if isinstance(path, bytes):
                lane.ephemerals.add(path.decode())

    def _forget_ephemerals(self, lane: Lane) -> None:
        for path in lane.ephemerals:
            self.picture.lost(path)
        lane.ephemerals.clear()

    def _look_at_acls(self, paths: list[bytes]) -> None:
        requests = [Request(rawzk.GET_ACL, buffer(path), f"(look) {path!r}", path.decode()) for path in paths]
        got = self._ask(self.inspector, requests)
        self._compare(self.inspector, Step("call", -1, requests), got[0], got[1])
        for path, item in zip(paths, got[0], strict=True):
            self.acls.set(path, item[4][0] if item[3] == 0 else None)

    # Comparing

    def _compare(self, lane: Lane, step: Step, a: list[Item], b: list[Item]) -> list[Item]:
        """Compare what both servers sent on one connection; returns side a's items."""
        if len(a) > 1 or step.requests[:1] != [FLUSH]:
            self._log.append((step, a, b))
        left, right = a, b
        newer = b if self.sides[0].old else a
        if not (self.sides[0].old and self.sides[1].old):
            identities = frozenset(lane.identities)
            self._told += [(item, identities) for item in newer if item[0] == "event"]
        if self.mixed:
            left, right = without_event_zxid(a), without_event_zxid(b)
            if self.sides[0].old:
                left, right = align(left, right, self.acls, lane.identities)
            else:
                right, left = align(right, left, self.acls, lane.identities)
        if self._unordered:
            left, right = _settle(left), _settle(right)
        self.events += sum(item[0] == "event" for item in left)
        for item in left:
            if item[0] == "reply" and item[2] > self.zxid:
                self.zxid = item[2]
        if left != right:
            raise Mismatch(self._report(step, lane, "different", left, right), self.played)
        return a

    def _report(self, step: Step, lane: Lane, what: str, a: list[Item], b: list[Item]) -> str:
        """The difference, and the last steps about the same znodes."""
        lines = [f"{what} in step {len(self.played)}, {step}", f"  identities: {sorted(lane.identities)}"]
        lines += list(_difference(self.sides[0].name, a, self.sides[1].name, b))
        paths = _suspects(step, a, b)
        related = paths | {path.rsplit("/", 1)[0] or "/" for path in paths}
        lines.append(f"  the last requests about {sorted(related)}:")
        context: list[str] = []
        for before, items, _ in reversed(list(self._log)[:-1]):
            context += reversed(list(_story(before, items, related)))
            if len(context) >= CONTEXT_LINES:
                break
        return "\n".join([*lines, *reversed(context[:CONTEXT_LINES])])


def _handshake(end: Connection, before: Connection, owner: str, step: Step) -> Item:
    session, password, last = 0, bytes(16), 0
    if step.kind == "reattach":
        session, password = before.session_id, before.password
    if step.variant == "wrong password":
        password = bytes(range(16))
    elif step.variant == "null password":
        password = None
    elif step.variant == "short password":
        password = b"x"
    elif step.variant == "unknown session":
        session ^= 0x5555
    elif step.variant == "from the future":
        last = 1 << 60
    return end.handshake(owner, step.timeout_ms, session, password, last, step.read_only)


def _settle(items: list[Item]) -> list[Item]:
    """Sort each run of events: the ephemerals of a session go in hash order in Java."""
    settled: list[Item] = []
    run: list[Item] = []
    for item in [*items, None]:
        if item is not None and item[0] == "event":
            run.append(item)
            continue
        settled += sorted(run, key=repr)
        run = []
        if item is not None:
            settled.append(item)
    return settled


def _paths_of(request: Request, value: object) -> list[bytes]:
    if request.opcode in CREATES:
        path = value[0] if isinstance(value, tuple) else value
        return [path] if isinstance(path, bytes) else []
    if request.opcode in (rawzk.SET_ACL, rawzk.DELETE):
        return [request.path.encode()]
    if request.opcode == rawzk.MULTI and isinstance(value, tuple):
        results = [result[2] for result in value[:-1] if result[0] in (rawzk.CREATE, rawzk.CREATE2)]
        return [result[0] if isinstance(result, tuple) else result for result in results]
    return []


def _difference(name_a: str, a: list[Item], name_b: str, b: list[Item]) -> Iterable[str]:
    for at in range(max(len(a), len(b))):
        left = a[at] if at < len(a) else None
        right = b[at] if at < len(b) else None
        if left == right:
            yield f"    both {_brief(left)}"
        else:
            yield f"  ! {name_a}: {_brief(left)}"
            yield f"  ! {name_b}: {_brief(right)}"


def _suspects(step: Step, a: list[Item], b: list[Item]) -> set[str]:
    """The znodes of the first request and the first event that differ, or all of the step's when none does."""
    paths: set[str] = set()
    replies = [[item for item in items if item[0] == "reply"] for items in (a, b)]
    for request, left, right in zip(step.requests, *replies, strict=False):
        if left != right:
            paths.add(request.path)
            break
    for left, right in itertools.zip_longest(a, b):
        if left != right:
            paths |= {item[3].decode("utf-8", "replace") for item in (left, right) if item and item[0] == "event"}
            break
    return (paths - {""}) or {request.path for request in step.requests if request.path}


def _story(step: Step, items: list[Item], paths: set[str]) -> Iterable[str]:
    """What a step did about some znodes: its requests with their replies, and events, in order."""
    requests = list(step.requests) if step.kind in ("call", "close") else []
    if not requests:
        yield f"    {step}"
    names = {path.encode("utf-8", "surrogatepass") for path in paths}
    for item in items:
        if item[0] == "reply" and requests:
            request = requests.pop(0)
            if request.path in paths or (not request.path and any(f"'{path}'" in request.label for path in paths)):
                yield f"    lane {step.lane} {request}\n        {_brief(item)}"
        elif item[0] == "event" and item[3] in names:
            yield f"    lane {step.lane} {item}"
        elif item == CLOSED:
            yield f"    lane {step.lane} closed"


def _brief(value: object) -> str:
    """repr with long bytes cut."""
    if isinstance(value, bytes) and len(value) > 60:
        return f"<{len(value)} bytes {value[:24]!r}...>"
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    return repr(value)
