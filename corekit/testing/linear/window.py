"""The smallest part of a refuted history that is impossible by itself, so that a person can see why. Pure.

What is left out is forgotten in a way that only ever makes more possible, so that a window which is impossible proves
that the whole is: a read is dropped, of a write it is forgotten whether and when it happened (after its call), and
before the window the znode may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from corekit.testing.linear.history import DELETE, GET, OK, UNKNOWN, Operation
from corekit.testing.linear.search import Failure, Search, Undecided

TRY_EFFORT = 100_000  # steps for one try
ALL_EFFORT = 4_000_000  # and for all of them


@dataclass(frozen=True, slots=True)
class Violation:
    """Answers that no correct server gives.

    Attributes:
        key: the znode.
        rule: what does not hold, one sentence.
        operations: the window, in the order of their calls. Each of them is needed.
        failed: the one of them whose answer cannot be.
        states: what the znode could be instead, as text.
        context: writes outside of the window whose values are read in it.
    """

    key: str
    rule: str
    operations: tuple[Operation, ...]
    failed: Operation
    states: tuple[str, ...] = ()
    context: tuple[Operation, ...] = ()


class Shrinker:
    """Finds the window of one failure.

    Args:
        operations: all of the znode.
    """

    def __init__(self, operations: Sequence[Operation], failure: Failure) -> None:
        self._failed = failure.operation
        self._failure = failure
        self._left = ALL_EFFORT
        ends = self._failed.end
        # What returned later is still on its way here: what it returned counts, when it did does not.
        self._whole = {
            one if one.end <= ends else replace(one, end=math.inf): one for one in operations if one.call <= ends
        }
        self._all = list(self._whole)
        known = [one for one in self._all if one.known and one is not self._failed]
        known.sort(key=lambda one: (min(one.end, ends), one.call, one.number))
        self._candidates = [*known, self._failed]

    def window(self) -> Violation:
        """The window; as small as the effort allows."""
        core = self._newest()
        size = max(1, len(core) // 2)
        while True:
            at = 0
            while at < len(core):
                fewer = core[:at] + core[at + size :]
                if self._impossible(fewer):
                    core = fewer
                else:
                    at += size
            if size == 1:
                break
            size = max(1, size // 2)
        failure = self._last_words(core)
        shown = set(core)
        read = {one.value for one in core if one.kind == GET and one.result == OK}
        wrote = [one for one in self._all if one.changes and one.kind != DELETE and one not in shown]
        context = [one for one in wrote if one.value in read]
        return Violation(
            key=self._failed.key,
            rule="no order of these operations gives these answers",
            operations=self._shown(core),
            failed=self._whole[failure.operation],
            states=failure.states,
            context=self._shown(context),
        )

    def _newest(self) -> list[Operation]:
        """The shortest run of newest operations that is impossible."""
        count = 1
        while count < len(self._candidates) and not self._impossible(self._candidates[-count:]):
            count *= 2
        low, high = count // 2, min(count, len(self._candidates))
        while low + 1 < high:
            middle = (low + high) // 2
            if self._impossible(self._candidates[-middle:]):
                high = middle
            else:
                low = middle
        return self._candidates[-high:]

    def _impossible(self, core: Sequence[Operation]) -> bool:
        try:
            return bool(core) and self._search(core) is not None
        except Undecided:
            return False

    def _last_words(self, core: Sequence[Operation]) -> Failure:
        """How the window fails, with the values themselves if that is not too much."""
        for merge in (False, True):
            self._left = TRY_EFFORT
            try:
                return self._search(core, merge) or self._failure
            except Undecided:
                continue
        return self._failure

    def _search(self, core: Sequence[Operation], merge: bool = True) -> Failure | None:
        kept = set(core)
        begins = min(one.call for one in core)
        forgotten = [
            replace(one, result=UNKNOWN, end=math.inf, version=None)
            for one in self._all
            if one.changes and one not in kept and one.end >= begins
        ]
        if self._left <= 0:
            raise Undecided
        effort = min(TRY_EFFORT, self._left) if len(core) < len(self._candidates) else self._left
        search = Search([*core, *forgotten], effort, merge=merge)
        try:
            return search.run()
        finally:
            self._left -= search.steps

    def _shown(self, operations: Sequence[Operation]) -> tuple[Operation, ...]:
        whole = [self._whole[one] for one in operations]
        return tuple(sorted(whole, key=lambda one: (one.call, one.end, one.number)))
