"""What one client watches, and what it must be told of it (W1), also when it comes back with its watches.

- an event comes before any answer of a state that has the change: a watch of one event for the first change, a
  persistent recursive one for every change beneath it, each once, in the order of the history;
- `setWatches` tells at once, and before its own answer, what changed since the client was here last, and nothing else;
  what it does not tell of is watched on. Persistent watches begin anew with it, as in ZooKeeper.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from corekit.codec import ops
from corekit.codec.records import SetWatches, SetWatches2, WatcherEvent
from corekit.model.watches import CHILDREN_CHANGED, CREATED, DATA_CHANGED, DELETED
from corekit.testing.sim.znodes import Change, Znodes

_REPLAYED = -1  # the zxid of events that setWatches tells


@dataclass(slots=True)
class _Always:
    """A persistent recursive watch.

    Attributes:
        place: in the list of changes, behind the last that was begun to be told.
        open: changes under the zxid that is being told, without those that were.
    """

    place: int
    open: Counter[tuple[int, bytes]] = field(default_factory=Counter)


@dataclass(slots=True)
class _Restoring:
    """A setWatches without an answer: the zxid that it names, and the events that came since it was sent."""

    seen: int
    told: Counter[tuple[int, bytes]] = field(default_factory=Counter)


class Watching:
    """The watches of one client.

    Args:
        fail: called with a text when something does not hold; it raises.
    """

    def __init__(self, model: Znodes, fail: Callable[[str], None]) -> None:
        self._model = model
        self._fail = fail
        self._once: dict[tuple[bool, bytes], int] = {}  # (children, path) -> zxid from which on it is watched
        self._always: dict[bytes, _Always | None] = {}  # None: the connection was lost meanwhile
        self._restoring: _Restoring | None = None

    def forget(self) -> None:
        """The session is over, or its client comes back without its watches."""
        self._once.clear()
        self._always.clear()
        self._restoring = None

    def lost(self) -> None:
        """The connection is gone."""
        self._always = dict.fromkeys(self._always)
        self._restoring = None

    def once(self, path: bytes, zxid: int, *, children: bool) -> None:
        """A read at `zxid` left a watch of one event."""
        self._once.setdefault((children, path), zxid)

    def always(self, path: bytes, zxid: int) -> None:
        """A persistent recursive watch was answered at `zxid`."""
        if self._always.get(path) is None:
            self._always[path] = _Always(self._place(path, zxid))

    def _place(self, path: bytes, zxid: int) -> int:
        return bisect_right(self._model.changes_beneath(path), zxid, key=attrgetter("zxid"))

    # ------------------------------------------------------------------------------------- coming back
    def restore(self, seen: int) -> tuple[int, bytes] | None:
        """The request that brings the watches along to a new connection: operation and body; None: there are none."""
        if not self._once and not self._always:
            return None
        data: list[bytes] = []
        exist: list[bytes] = []
        child: list[bytes] = []
        for (children, path), since in self._once.items():
            there = self._model.at(path, since) is not None
            (child if children else data if there else exist).append(path)
        self._restoring = _Restoring(seen)
        if self._always:
            return ops.SET_WATCHES2, SetWatches2(seen, data, exist, child, [], list(self._always)).encode()
        return ops.SET_WATCHES, SetWatches(seen, data, exist, child).encode()

    def restored(self, zxid: int) -> None:
        """It was answered, at `zxid`."""
        restoring, self._restoring = self._restoring, None
        assert restoring is not None
        wanted: Counter[tuple[int, bytes]] = Counter()
        for key, since in list(self._once.items()):
            kind = self._missed(key, since, restoring.seen, zxid)
            if kind:
                wanted[kind, key[1]] += 1
                del self._once[key]
            elif self._model.at(key[1], zxid) is None:
                self._once[key] = zxid  # whoever waits for a znode does not learn that it came and went
        if wanted != restoring.told:
            odd = sorted((wanted - restoring.told) + (restoring.told - wanted))[:3]
            self._fail(f"came back from 0x{restoring.seen:x} at 0x{zxid:x} and was told too much or too little: {odd}")
        for path in self._always:
            self._always[path] = _Always(self._place(path, zxid))

    def _missed(self, key: tuple[bool, bytes], since: int, seen: int, zxid: int) -> int:
        """The kind of event that tells what a watch missed, or 0."""
        children, path = key
        state = self._model.at(path, zxid)
        if self._model.at(path, since) is None:
            return CREATED if state is not None else 0
        if state is None:
            return DELETED
        if children:
            changed = self._model.changed_after(path, seen, children=True)
            return CHILDREN_CHANGED if changed is not None and changed <= zxid else 0
        return DATA_CHANGED if state.mzxid > seen else 0

    # ------------------------------------------------------------------------------------------- events
    def event(self, zxid: int, event: WatcherEvent) -> None:
        """An event came."""
        kind, path = event.type, event.path or b""
        if zxid == _REPLAYED:
            if self._restoring is None:
                self._fail(f"was told of {path!r} without a zxid, and has not just come back")
                return
            self._restoring.told[kind, path] += 1
            return
        followed = kind != CHILDREN_CHANGED and self._follow(zxid, kind, path)
        since = self._once.pop((kind == CHILDREN_CHANGED, path), None)
        if since is None:
            if not followed:
                self._fail(f"was told of {path!r} (kind {kind}) at 0x{zxid:x} without a watch")
            return
        first = self._first(path, since, children=kind == CHILDREN_CHANGED)
        if first is None or first[:2] != (zxid, kind):
            wanted = "nothing" if first is None else f"kind {first.kind} at 0x{first.zxid:x}"
            self._fail(f"was told that {path!r} changed (kind {kind}) at 0x{zxid:x}; the first change was {wanted}")

    def _first(self, path: bytes, since: int, *, children: bool) -> Change | None:
        if not children:
            return self._model.first_change(path, since)
        changed = self._model.changed_after(path, since, children=True)
        return None if changed is None else Change(changed, CHILDREN_CHANGED, path)

    def _follow(self, zxid: int, kind: int, path: bytes) -> bool:
        """Whether a persistent watch is to tell this, and takes it as told."""
        end = path.find(b"/", 1)
        top = path if end < 0 else path[:end]
        watch = self._always.get(top)
        if watch is None:
            return False
        if not watch.open:
            changes = self._model.changes_beneath(top)
            start = watch.place
            while watch.place < len(changes) and changes[watch.place].zxid == changes[start].zxid:
                watch.place += 1
            if start == watch.place or changes[start].zxid != zxid:
                wanted = "nothing" if start == watch.place else f"0x{changes[start].zxid:x}"
                self._fail(f"follows {top!r} and was told of 0x{zxid:x}; the next change is {wanted}")
            watch.open = Counter((change.kind, change.path) for change in changes[start : watch.place])
        if not watch.open[kind, path]:
            self._fail(f"follows {top!r} and was told of {path!r} (kind {kind}) at 0x{zxid:x}, which did not happen")
        watch.open[kind, path] -= 1
        watch.open += Counter()  # without zeros
        return True

    def answered(self, zxid: int) -> None:
        """An answer shows the state of `zxid`: everything up to it must have been told."""
        for (children, path), since in self._once.items():
            changed = self._model.changed_after(path, since, children=children)
            if changed is not None and changed <= zxid:
                self._fail(f"sees 0x{zxid:x}, but was not told that {path!r} changed at 0x{changed:x}")
        for path, watch in self._always.items():
            if watch is None:
                continue
            changes = self._model.changes_beneath(path)
            if watch.open or (watch.place < len(changes) and changes[watch.place].zxid <= zxid):
                self._fail(f"sees 0x{zxid:x}, but was not told of all that changed beneath {path!r}")
