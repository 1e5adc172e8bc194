"""What the decided history comes to, in znodes: a tree of its own, written from ZooKeeper's documentation.

It remembers every state of every znode, so that each read can be compared with the state at the zxid that its reply
names. Rules that hold for the history itself are checked as it grows:

    Z1  a znode is created where there is none, changed and deleted where there is one; its version rises by one
    Z2  an ephemeral znode is created by a session that lives, and is gone with it
    Z3  sequence names rise, so they are unique and in the order of their creation
    Z4  a session is opened once
    I18 a request is decided once
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from corekit.codec import ops
from corekit.codec.txns import Txn, decode
from corekit.testing.sim.world import Violation


class State(NamedTuple):
    """A znode at some zxid."""

    data: bytes
    version: int
    czxid: int
    mzxid: int
    owner: int


class Decision(NamedTuple):
    """What a request came to."""

    zxid: int
    kind: int
    error: int
    path: bytes


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

    # ------------------------------------------------------------------------------------------ history
    def decide(self, zxid: int, entry: bytes) -> None:
        """The next entry."""
        txn = decode(entry)
        if txn.cxid:
            if (txn.session, txn.cxid) in self._requests:
                raise Violation("I18", f"the request {txn.session:x}/{txn.cxid} was decided twice")
            error = txn.error if txn.type == ops.ERROR else 0
            self._requests[txn.session, txn.cxid] = Decision(zxid, txn.type, error, txn.path)
        self._apply(txn, zxid)

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
            self._put(txn.path, zxid, State(txn.data[4:], txn.version, old.czxid, zxid, old.owner))
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
        self._put(path, zxid, State(txn.data[4:], 0, zxid, zxid, txn.session if txn.ephemeral else 0))

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
                rule = "Z2" if (mine or other or State(b"", 0, 0, 0, 0)).owner else "I19"
                raise Violation(rule, f"server {sid} has {other} for {path!r} at 0x{zxid:x}, it is {mine}")
