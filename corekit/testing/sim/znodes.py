"""What the decided history comes to, in znodes: a tree of its own, written from ZooKeeper's documentation.

It remembers every state of every znode, so that each read can be compared with the state at the zxid that its reply
names. Rules that hold for the history itself are checked as it grows:

    Z1  a znode is created where there is none, changed and deleted where there is one; its version rises by one
    Z2  an ephemeral znode is created by a session that lives, and is gone with it
    Z3  sequence names rise, so they are unique and in the order of their creation
    Z4  a session is opened once
    F1  the requests of a session are decided in the order in which they were sent, across all its connections
    I18 a request is decided once
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from corekit.codec import ops
from corekit.codec.txns import Txn, decode
from corekit.model.watches import CREATED, DATA_CHANGED, DELETED
from corekit.testing.sim.world import Violation


class State(NamedTuple):
    """A znode at some zxid."""

    data: bytes
    version: int
    czxid: int
    mzxid: int
    owner: int
    ctime: int
    mtime: int


class Change(NamedTuple):
    """One change of a znode; `kind` is that of the event that tells it."""

    zxid: int
    kind: int
    path: bytes


class Decision(NamedTuple):
    """What a request came to; `paths` are those of the parts of a multi."""

    zxid: int
    kind: int
    error: int
    path: bytes
    paths: tuple[bytes, ...] = ()


_NOBODY = State(b"", 0, 0, 0, 0, 0, 0)


class _Past:
    """Everything that one thing ever was."""

    __slots__ = ("values", "zxids")

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.values: list[State | None] = []


class Znodes:
    """Follows the history.

    Attributes:
        sessions: open ones, with the time of their session in ms.
        ended: zxid of the end of each session that is over.
        expired: called with session id and zxid when a session ends that no client has closed.
        now: the znodes that there are.
    """

    def __init__(self) -> None:
        self.sessions: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.expired: Callable[[int, int], None] = lambda session, zxid: None
        self.now: dict[bytes, State] = {}
        self._past: dict[bytes, _Past] = {}
        self._children: dict[bytes, tuple[list[int], list[frozenset[bytes]]]] = {}
        self._requests: dict[tuple[int, int], Decision] = {}
        self._sequences: dict[bytes, int] = {}
        self._beneath: dict[bytes, list[Change]] = {}
        self._newest: dict[int, int] = {}

    # ------------------------------------------------------------------------------------------ history
    def decide(self, zxid: int, entry: bytes) -> None:
        """The next entry."""
        txn = decode(entry)
        if txn.cxid:
            if (txn.session, txn.cxid) in self._requests:
                raise Violation("I18", f"the request {txn.session:x}/{txn.cxid} was decided twice")
            error = txn.error if txn.type == ops.ERROR else 0
            paths = tuple(sub.path for sub in txn.subs)
            self._requests[txn.session, txn.cxid] = Decision(zxid, txn.type, error, txn.path, paths)
            if txn.type != ops.ERROR:
                self._in_order(txn, zxid)
        self._apply(txn, zxid)

    def _in_order(self, txn: Txn, zxid: int) -> None:
        newest = self._newest.get(txn.session, 0)
        if txn.cxid < newest:
            text = f"0x{zxid:x} carries out the request {txn.cxid} of the session {txn.session:x}"
            raise Violation("F1", f"{text} after its request {newest}")
        self._newest[txn.session] = txn.cxid

    def _apply(self, txn: Txn, zxid: int) -> None:
        kind = txn.type
        if kind == ops.MULTI:
            if not any(sub.type == ops.ERROR for sub in txn.subs):
                for sub in txn.subs:
                    self._apply(sub, zxid)
        elif kind in (ops.CREATE, ops.CREATE2):
            self._create(txn, zxid)
        elif kind == ops.SET_DATA:
            old = self._must(txn.path, zxid)
            if txn.version != old.version + 1:
                raise Violation("Z1", f"0x{zxid:x} makes version {txn.version} of {txn.path!r} out of {old.version}")
            self._put(
                txn.path, zxid, old._replace(data=txn.data[4:], version=txn.version, mzxid=zxid, mtime=txn.time_ms)
            )
        elif kind == ops.DELETE:
            self._must(txn.path, zxid)
            self._put(txn.path, zxid, None)
        elif kind == ops.CREATE_SESSION:
            if txn.session in self.sessions or txn.session in self.ended:
                raise Violation("Z4", f"0x{zxid:x} opens the session {txn.session:x} a second time")
            self.sessions[txn.session] = txn.timeout_ms
        elif kind == ops.CLOSE_SESSION and self.sessions.pop(txn.session, None) is not None:
            self.ended[txn.session] = zxid
            if not txn.cxid:
                self.expired(txn.session, zxid)
            for path in [path for path, state in self.now.items() if state.owner == txn.session]:
                self._put(path, zxid, None)

    def _create(self, txn: Txn, zxid: int) -> None:
        path = txn.path
        if path in self.now:
            raise Violation("Z1", f"0x{zxid:x} creates {path!r}, which exists")
        if txn.ephemeral and txn.session not in self.sessions:
            raise Violation("Z2", f"0x{zxid:x} creates {path!r} for the session {txn.session:x}, which is not open")
        parent, _, name = path.rpartition(b"/")
        if len(name) > 10 and name[-10:].isdigit():
            number = int(name[-10:])
            if number <= self._sequences.get(parent, -1):
                raise Violation("Z3", f"0x{zxid:x} creates {path!r} behind number {self._sequences[parent]}")
            self._sequences[parent] = number
        owner = txn.session if txn.ephemeral else 0
        self._put(path, zxid, State(txn.data[4:], 0, zxid, zxid, owner, txn.time_ms, txn.time_ms))

    def _must(self, path: bytes, zxid: int) -> State:
        state = self.now.get(path)
        if state is None:
            raise Violation("Z1", f"0x{zxid:x} changes {path!r}, which does not exist")
        return state

    def _put(self, path: bytes, zxid: int, state: State | None) -> None:
        was = path in self.now
        if state is None:
            del self.now[path]
        else:
            self.now[path] = state
        past = self._past.setdefault(path, _Past())
        past.zxids.append(zxid)
        past.values.append(state)
        if was != (state is not None):
            parent, _, name = path.rpartition(b"/")
            zxids, names = self._children.setdefault(parent, ([], []))
            before = names[-1] if names else frozenset()
            zxids.append(zxid)
            names.append(before - {name} if state is None else before | {name})
        kind = DELETED if state is None else DATA_CHANGED if was else CREATED
        top = path[: path.find(b"/", 1)] if path.count(b"/") > 1 else path
        self._beneath.setdefault(top, []).append(Change(zxid, kind, path))

    # -------------------------------------------------------------------------------------------- asked
    def decided(self, session: int, cxid: int) -> Decision | None:
        """What a request came to."""
        return self._requests.get((session, cxid))

    def at(self, path: bytes, zxid: int) -> State | None:
        """A znode in the state of `zxid`; None: there is none."""
        past = self._past.get(path)
        place = bisect_right(past.zxids, zxid) if past is not None else 0
        return past.values[place - 1] if past is not None and place else None

    def children_at(self, path: bytes, zxid: int) -> frozenset[bytes]:
        """The names of the children of a znode in the state of `zxid`."""
        zxids, names = self._children.get(path, ([], []))
        place = bisect_right(zxids, zxid)
        return names[place - 1] if place else frozenset()

    def changes_beneath(self, path: bytes) -> list[Change]:
        """Every change of a znode below the root and of all beneath it, in order; the list grows."""
        return self._beneath.setdefault(path, [])

    def first_change(self, path: bytes, zxid: int) -> Change | None:
        """The first change of a znode after `zxid`."""
        past = self._past.get(path)
        place = bisect_right(past.zxids, zxid) if past is not None else 0
        if past is None or place == len(past.zxids):
            return None
        before = past.values[place - 1] if place else None
        kind = DELETED if past.values[place] is None else CREATED if before is None else DATA_CHANGED
        return Change(past.zxids[place], kind, path)

    def changed_after(self, path: bytes, zxid: int, *, children: bool) -> int | None:
        """The zxid of the first change of a znode, or of the list of its children, after `zxid`."""
        past = self._past.get(path)
        zxids = self._children.get(path, ([], []))[0] if children else past.zxids if past is not None else []
        place = bisect_right(zxids, zxid)
        return zxids[place] if place < len(zxids) else None

    def compare(self, sid: int, zxid: int, found: Iterable[tuple[bytes, State]]) -> None:
        """Whether a server that has applied everything has these znodes, and no others."""
        theirs = dict(found)
        if theirs == self.now:
            return
        for path in sorted(set(theirs) | set(self.now)):
            mine, other = self.now.get(path), theirs.get(path)
            if mine != other:
                rule = "Z2" if (mine or other or _NOBODY).owner else "I19"
                raise Violation(rule, f"server {sid} has {other} for {path!r} at 0x{zxid:x}, it is {mine}")
