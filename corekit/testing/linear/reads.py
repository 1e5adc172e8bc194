"""Plain reads (without `sync`): they may be answered from the past, but not from nowhere, nor out of order. Pure.

Rules, from ZooKeeper's guarantees (writes have one order, each client sees a prefix of it that only grows):
- what was read was written by somebody, and not later;
- the same change of a znode (its zxid) is the same value and version for everybody;
- a client that has seen a change, of whatever znode, sees no older state of any znode afterwards: neither one that it
  saw itself nor one that is known from others. Its own writes are changes that it has seen.

Zxids come from the answers; without them only the first rule can be checked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from corekit.testing.linear.history import CREATE, DELETE, GET, NO_NODE, OK, Operation
from corekit.testing.linear.window import Violation


def check_plain_reads(operations: Sequence[Operation]) -> Iterator[Violation]:
    """What is wrong with the plain reads of a history; at most one violation for each of them."""
    histories: dict[str, list[Operation]] = {}
    for one in operations:
        histories.setdefault(one.key, []).append(one)
    changes = {key: _Changes(history) for key, history in histories.items()}
    for one in operations:
        other = changes[one.key].disagrees(one)
        if other is not None:
            rule = f"change 0x{one.zxid:x} is told of in two ways"
            yield Violation(one.key, rule, (other, one), one)
    seen: dict[str, _Seen] = {}
    for one in sorted(operations, key=lambda one: one.end):
        if one.known:
            seen.setdefault(one.client, _Seen()).add(one)
    for one in operations:
        if one.plain and one.known:
            violation = changes[one.key].impossible(one) or changes[one.key].too_old(one, seen[one.client])
            if violation is not None:
                yield violation


class _Seen:
    """The newest change that a client has seen at each moment."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._newest: list[Operation] = []

    def add(self, one: Operation) -> None:
        if one.zxid is not None and (not self._newest or one.zxid > (self._newest[-1].zxid or 0)):
            self._ends.append(one.end)
            self._newest.append(one)

    def before(self, one: Operation) -> Operation | None:
        """What showed it the newest change before it asked."""
        at = bisect_right(self._ends, one.call)
        return self._newest[at - 1] if at else None


class _Changes:
    """What is known of the changes of one znode."""

    def __init__(self, history: Sequence[Operation]) -> None:
        self._history = history
        told: dict[int, Operation] = {}
        for one in sorted(history, key=lambda one: one.number):
            if one.zxid is not None and (one.zxid not in told or one.changes):
                told[one.zxid] = one
        self._told = told
        self._zxids = sorted(told)
        first = min(history, key=lambda one: (one.end, one.number))
        self._was_new = first.result == NO_NODE or (first.kind == CREATE and first.result == OK)

    def disagrees(self, one: Operation) -> Operation | None:
        """Who told of the same change in another way."""
        other = self._told.get(one.zxid) if one.zxid is not None else None
        if other is None or other is one:
            return None
        version, expected = _version(one), _version(other)
        if version is not None and expected is not None and version != expected:
            return other
        have_values = one.kind == GET and other.kind in (GET, "set", CREATE)
        return other if have_values and one.value != other.value else None

    def impossible(self, read: Operation) -> Violation | None:
        """It returned what nobody wrote, or wrote later."""
        if read.kind != GET or read.result != OK:
            return None
        writers = [one for one in self._history if one.changes and one.kind != DELETE and one.value == read.value]
        if not writers and self._was_new:
            return Violation(read.key, "nobody wrote what was read", (read,), read)
        if writers and all(one.call > read.end for one in writers):
            return Violation(read.key, "it was read before it was written", (read, writers[0]), read)
        return None

    def too_old(self, read: Operation, seen: _Seen) -> Violation | None:
        """It shows a state older than what its client had seen."""
        newest = seen.before(read)
        if newest is None or newest.zxid is None:
            return None
        at = bisect_right(self._zxids, newest.zxid)
        if not at:
            return None
        change = self._told[self._zxids[at - 1]]
        assert change.zxid is not None
        if read.result == NO_NODE:
            removed = any(
                one.kind == DELETE and one.changes and one.end >= change.call and one.call <= read.end
                for one in self._history
            )
            if removed:
                return None
        elif read.zxid is None or read.zxid >= change.zxid:
            return None
        rule = f"{read.client} had seen change 0x{newest.zxid:x}, and then an older state than that"
        evidence = dict.fromkeys((change, newest, read))
        return Violation(read.key, rule, tuple(sorted(evidence, key=lambda one: one.call)), read)


def _version(one: Operation) -> int | None:
    return 0 if one.kind == CREATE else one.version
