"""Clients of the real server: they speak ZooKeeper's protocol on simulated connections, and keep score.

What every answer must fulfil, beside the rules of the history (`znodes.py`):

    I18 a write's answer is what the history says under its zxid, and what the request comes to on the state before it;
        its zxid is larger than all that was acknowledged to anybody before it was sent; a read shows exactly the state
        of its zxid; a read behind a `sync` shows everything that was acknowledged before the sync was sent
    F1  answers come in the order of the requests, and a session never goes back in zxid, also across servers
    M1  a multi is carried out as a whole or not at all (`multis.py`)
    W1  a watch's event comes before any answer of a state that has the change (`watching.py`)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from struct import Struct
from typing import Any

from corekit import errors
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import (
    AddWatchRequest,
    GetChildrenResponse,
    MultiRequest,
    MultiResponse,
    PathRequest,
    PathWatchRequest,
    WatcherEvent,
)
from corekit.model import stat
from corekit.testing.linear import Operation
from corekit.testing.sim.connected import Connected, Shared
from corekit.testing.sim.multis import Write, outcome, wrong
from corekit.testing.sim.watching import Watching
from corekit.testing.sim.world import MS, SECOND
from corekit.testing.sim.znodes import Decision, State

KEYS, EPHEMERALS, QUEUE = TOPS = b"/k", b"/e", b"/q"
OPERATIONS_CHECKED_MAX = 4000  # of one run, for linearizability

_HEAD = Struct(">iqi")
_REST_US = 5 * SECOND
_CODES = {0: "ok", errors.NO_NODE: "no-node", errors.NODE_EXISTS: "node-exists", errors.BAD_VERSION: "bad-version"}
_KINDS = {ops.SET_DATA: "set", ops.DELETE: "delete", ops.CREATE: "create"}
_SET_WATCHES = frozenset((ops.SET_WATCHES, ops.SET_WATCHES2))


@dataclass(slots=True)
class Asked:
    """A request that has no answer yet.

    Attributes:
        floor: the answer's zxid must be this at least (above it for writes).
        sent_at: in us.
        writes: what it shall change; several are a multi.
        recorded: for the check of linearizability.
    """

    xid: int
    op: int
    path: bytes
    floor: int
    sent_at: int
    watch: bool = False
    writes: tuple[Write, ...] = ()
    recorded: tuple[Operation, ...] = ()


class SessionClient(Connected):
    """One client, with one session after the other. See `clients.Client` for pace, depth, stopped, resting."""

    def __init__(self, shared: Shared, number: int, keys: int) -> None:
        super().__init__(shared, number)
        self.keys = [KEYS + b"/%d" % key for key in range(keys)]
        self.pace = 50 * MS
        self.depth = 1
        self.resting = False
        self._xid = 0
        self._asked: deque[Asked] = deque()
        self._watching = Watching(shared.model, lambda text: self._fail("W1", text))
        self._versions: dict[bytes, int] = {}

    def ready(self, *, new: bool) -> None:
        """The session is there: bring the watches along, or sometimes not, and begin to ask."""
        self._versions.clear()
        if new:
            self._xid = 0
        if new or self.random.random() < 0.1:
            self._watching.forget()
        brought = self._watching.restore(self._seen)
        if brought is not None:
            op, body = brought
            self._asked.append(Asked(ops.XID_SET_WATCHES, op, b"", 0, self.world.now))
            self.send(ops.XID_SET_WATCHES, op, body)
        for path in TOPS:
            if self.shared.model.at(path, self._seen) is None:
                self._write(Write(ops.CREATE, path))
        self._next(self._link)

    def disconnected(self) -> None:
        """The connection is gone. A client that has asked for the end of its session does not go on with it."""
        if any(asked.op == ops.CLOSE_SESSION for asked in self._asked):
            self.forget_session()
        self.finish()
        self._watching.lost()

    def finish(self) -> None:
        """What has no answer yet will have none."""
        for asked in self._asked:
            for one in asked.recorded:
                self._record(one, "unknown", float("inf"))
        self._asked.clear()

    # ---------------------------------------------------------------------------------------- requests
    def _next(self, link: Any) -> None:
        if link is not self._link or self.stopped:
            return
        while self._link is link and len(self._asked) < self.depth:
            self._request()
        delay = int(self.random.expovariate(1) * (_REST_US if self.resting else self.pace)) + 1
        self.world.after(delay, self._next, link)

    def _request(self) -> None:
        random = self.random
        choice = random.random()
        key = random.choice(self.keys)
        if choice < 0.62:
            self._write(self._some_write(choice / 0.62, key))
        elif choice < 0.7:
            self._multi()
        elif choice < 0.82:
            self._read(ops.GET_DATA, key)
        elif choice < 0.87:
            self._read(ops.GET_DATA, self._ephemeral())
        elif choice < 0.91:
            self._read(ops.EXISTS, random.choice((key, self._ephemeral())))
        elif choice < 0.98:
            self._read(ops.GET_CHILDREN, random.choice((EPHEMERALS, QUEUE)))
        elif choice < 0.985:
            path = random.choice(TOPS)
            self._ask(ops.ADD_WATCH, path, AddWatchRequest(path, ops.WATCH_PERSISTENT_RECURSIVE).encode(), 0)
        elif choice < 0.997:
            self.hang_up(silently=random.random() < 0.5)
        else:
            self._ask(ops.CLOSE_SESSION, b"", b"", self.shared.largest_ok)

    def _ephemeral(self) -> bytes:
        return EPHEMERALS + b"/%d" % self.random.randrange(5)

    def _some_write(self, choice: float, key: bytes) -> Write:
        random = self.random
        value = b"%d/%d" % (self.number, self._xid)
        if choice < 0.49:
            version = self._versions.get(key, -1) if random.random() < 0.3 else -1
            return Write(ops.SET_DATA, key, value, version)
        if choice < 0.63:
            return Write(ops.CREATE, key, value)
        if choice < 0.7:
            return Write(ops.DELETE, key)
        if choice < 0.81:
            return Write(ops.CREATE, self._ephemeral(), value, flags=ops.EPHEMERAL)
        if choice < 0.92:
            flags = random.choice((ops.PERSISTENT_SEQUENTIAL, ops.EPHEMERAL_SEQUENTIAL))
            return Write(ops.CREATE, QUEUE + b"/n-", value, flags=flags)
        children = sorted(self.shared.model.children_at(QUEUE, self._seen))
        return Write(ops.DELETE, QUEUE + b"/" + (children[0] if children else b"none"))

    def _multi(self) -> None:
        """Some writes as one; where a value is asked for that a part may change, a check may find it changed."""
        writes = []
        for _ in range(self.random.randrange(1, 5)):
            key = self.random.choice(self.keys)
            if self.random.random() < 0.2:
                writes.append(Write(ops.CHECK, key, version=self._versions.get(key, -1)))
            else:
                writes.append(self._some_write(self.random.random(), key))
        self._write(*writes, multi=True)

    def _write(self, *writes: Write, multi: bool = False) -> None:
        number, recorded = self._xid + 1, []
        for part, write in enumerate(writes):
            if write.path in self.keys and write.op in _KINDS:
                text = write.value.decode() if write.op != ops.DELETE else None
                who = f"{self.number}.{number}.{part}"
                recorded.append(
                    Operation(number, who, _KINDS[write.op], write.path.decode(), self._seconds(), 0, "", text,
                              write.version)
                )  # fmt: skip
        op, body = writes[0].op, writes[0].record().encode()
        if multi:
            op, body = ops.MULTI, MultiRequest([(write.op, write.record()) for write in writes]).encode()
        self._ask(op, writes[0].path, body, self.shared.largest_ok, writes=writes, recorded=tuple(recorded))

    def _read(self, op: int, path: bytes) -> None:
        floor = 0
        recorded: tuple[Operation, ...] = ()
        if self.random.random() < 0.5:
            floor = self.shared.largest_ok
            if path in self.keys and op == ops.GET_DATA:
                number = self._xid + 2
                one = Operation(number, f"{self.number}.{number}", "get", path.decode(), self._seconds(), 0, "")
                recorded = (one,)
            self._ask(ops.SYNC, path, PathRequest(path).encode(), floor)
        watch = self.random.random() < 0.4
        body = PathWatchRequest(path, watch).encode()
        self._ask(op, path, body, floor, watch=watch, recorded=recorded)

    def _ask(
        self, op: int, path: bytes, body: bytes, floor: int, *, watch: bool = False, writes: tuple[Write, ...] = (),
        recorded: tuple[Operation, ...] = (),
    ) -> None:  # fmt: skip
        self._xid += 1
        self._asked.append(Asked(self._xid, op, path, floor, self.world.now, watch, writes, recorded))
        self.send(self._xid, op, body)

    def _seconds(self) -> float:
        return self.world.now / SECOND

    # ----------------------------------------------------------------------------------------- answers
    def answered(self, frame: bytes) -> None:
        """An answer or an event."""
        xid, zxid, code = _HEAD.unpack_from(frame)
        body = Reader(frame, 16)
        if xid == ops.XID_NOTIFICATION:
            self.world.count("events")
            self._watching.event(zxid, WatcherEvent.decode(body))
            return
        if not self._asked or self._asked[0].xid != xid:
            self._fail("F1", f"the answer to {xid} came before that to {[asked.xid for asked in self._asked][:1]}")
        asked = self._asked.popleft()
        self.world.count("operations")
        self.heard(asked.sent_at)
        if zxid < self._seen:
            self._fail("F1", f"went back from 0x{self._seen:x} to 0x{zxid:x}")
        self._seen = zxid
        if asked.op in _SET_WATCHES:
            self.world.count("watches.restored")
            self._watching.restored(zxid)
        self._watching.answered(zxid)
        if asked.writes or asked.op == ops.CLOSE_SESSION:
            self._wrote(asked, zxid, code, body)
        elif asked.op == ops.ADD_WATCH:
            self._watching.always(asked.path, zxid)
        elif asked.op != ops.SYNC and asked.op not in _SET_WATCHES:
            self._looked(asked, zxid, code, body)

    def _wrote(self, asked: Asked, zxid: int, code: int, body: Reader) -> None:
        self.world.count("writes")
        decision = self.shared.model.decided(self._session, asked.xid)
        if decision is None or decision.zxid != zxid or decision.error != code:
            self._fail("I18", f"was told 0x{zxid:x} and {code} for request {asked.xid}, the history says {decision}")
            return
        if zxid <= asked.floor:
            self._fail("I18", f"wrote 0x{zxid:x}, but 0x{asked.floor:x} was acknowledged before it began")
        self.shared.largest_ok = max(self.shared.largest_ok, zxid)
        if asked.op == ops.CLOSE_SESSION:
            self.forget_session()
            self.hang_up(silently=False)
        elif asked.op == ops.MULTI:
            self._wrote_many(asked, zxid, code, body, decision)
        else:
            self._wrote_one(asked, zxid, code, body, decision)

    def _before(self, zxid: int) -> Any:
        return lambda path: self.shared.model.at(path, zxid - 1)

    def _wrote_one(self, asked: Asked, zxid: int, code: int, body: Reader, decision: Decision) -> None:
        _, wanted, versions = outcome(asked.writes, self._before(zxid))
        if code in _CODES and code != wanted:
            self._fail("I18", f"was told {code} for {asked.writes[0]} at 0x{zxid:x}, it comes to {wanted}")
        version = None
        if code == 0 and asked.op == ops.CREATE and body.buffer() != decision.path:
            self._fail("I18", f"was told another name than {decision.path!r}")
        if code == 0 and asked.op == ops.SET_DATA:
            version = int.from_bytes(body.rest()[stat.VERSION :][:4], "big", signed=True)
            if versions[asked.path] != version:
                text = f"was told version {version} of {asked.path!r} at 0x{zxid:x}, it is {versions[asked.path]}"
                self._fail("I18", text)
        for one in asked.recorded:
            self._record(one, _CODES.get(code, ""), self._seconds(), version=version)

    def _wrote_many(self, asked: Asked, zxid: int, code: int, body: Reader, decision: Decision) -> None:
        if code:  # the session was over, or has moved
            return
        self.world.count("multis")
        answer = MultiResponse.decode(body)
        text = wrong(asked.writes, answer, decision.paths, self._before(zxid))
        if text:
            self._fail("M1", f"{text}, for {asked.writes} at 0x{zxid:x}")
        if answer.results[0][0] != ops.ERROR:
            self.world.count("multis.carried.out")
            for one in asked.recorded:
                self._record(one, "ok", self._seconds())

    def _looked(self, asked: Asked, zxid: int, code: int, body: Reader) -> None:
        model = self.shared.model
        if zxid < asked.floor:
            self._fail("I18", f"synced and read at 0x{zxid:x}, but 0x{asked.floor:x} was acknowledged before the sync")
        state = model.at(asked.path, zxid)
        found: Any = None
        wanted: Any = state
        if asked.op == ops.GET_CHILDREN:
            wanted = model.children_at(asked.path, zxid) if state is not None else None
            if code == 0:
                found = frozenset(GetChildrenResponse.decode(body).children or ())
        elif asked.op == ops.EXISTS:
            if code == 0:
                found = state_of(b"", stat.Stat._make(stat.STAT.unpack(body.rest())))
            wanted = None if state is None else state._replace(data=b"")
        elif code == 0:
            record = body.rest()
            found = state_of(stat.data_of(record) or b"", stat.stat_of(record))
            self._versions[asked.path] = found.version
            for one in asked.recorded:
                self._record(one, "ok", self._seconds(), text=found.data.decode(), version=found.version)
        else:
            for one in asked.recorded:
                self._record(one, "no-node", self._seconds())
        if found != wanted:
            self._fail("I18", f"read {found} for {asked.path!r} at 0x{zxid:x}, it is {wanted}")
        if asked.watch and (code == 0 or asked.op == ops.EXISTS):
            self._watching.once(asked.path, zxid, children=asked.op == ops.GET_CHILDREN)

    def _record(
        self, one: Operation, result: str, end: float, *, text: str | None = None, version: int | None = None
    ) -> None:
        if result and len(self.shared.history) < OPERATIONS_CHECKED_MAX:
            one = replace(one, result=result, end=end, version=version)
            if text is not None:
                one = replace(one, value=text)
            if one.known or one.changes:
                self.shared.history.append(one)


def state_of(data: bytes, seen: stat.Stat) -> State:
    """A znode as a server tells it."""
    owner = seen.ephemeral_owner
    return State(data, seen.version, seen.czxid, seen.mzxid, owner, seen.ctime, seen.mtime)
