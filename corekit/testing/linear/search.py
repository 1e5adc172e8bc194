"""Is there an order of a znode's operations that explains all answers? Wing and Gong's search, as Lowe improved it.

Operations are looked at in the order of their calls and returns. What may have happened so far is a set of
configurations: the znode's state, and which of the operations on their way have taken effect. When an operation
returns, each configuration in which it has not taken effect yet is extended by every sequence of others on their way
that lets it take effect with the answer that it got (just-in-time linearization). If no configuration is left, there
is no such order, and this operation is where that shows.

What keeps the set small, without changing the verdict:
- equal configurations are one (Lowe's memory of what was tried);
- a read that fits takes effect at once: that forbids nothing later;
- of operations that do the same, who returns first comes first; an unknown outcome returns never, so comes last;
- values that no read returned are one value;
- of two configurations that differ only in the unknown outcomes that they used, the one that used fewer of them counts.

Sources: Wing and Gong, Testing and Verifying Concurrent Objects (1993); Lowe, Testing for Linearizability (2017).
Pure and deterministic.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from corekit.testing.linear.history import CREATE, DELETE, GET, OK, READS, SET, Operation
from corekit.testing.linear.znode import (
    ANYTHING,
    IMPOSSIBLE,
    OTHER,
    State,
    state_text,
    step,
    version_after,
    version_before,
)

EFFORT = 5_000_000  # steps for one znode: about half a minute

Config = tuple[State, int]  # the state, and a bit for each operation on its way that took effect


class Undecided(Exception):
    """More steps would be needed than were allowed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No order explains the answers.

    Attributes:
        operation: the one whose answer cannot be explained any more.
        states: what the znode could be before it returned, as text.
    """

    operation: Operation
    states: tuple[str, ...]


@dataclass(slots=True)
class _Pending:
    """An operation on its way."""

    operation: Operation
    written: Any
    same: Any  # equal for operations that do the same
    bit: int


class Search:
    """One search.

    Args:
        operations: of one znode.
        effort: how many steps may be taken.
        merge: take values that no read returned for one; without, states are told more exactly, with more effort.
    """

    def __init__(self, operations: Sequence[Operation], effort: int = EFFORT, *, merge: bool = True) -> None:
        self._left = effort
        self._read = {one.value for one in operations if not merge or (one.kind == GET and one.result == OK)}
        self._pending: list[_Pending] = []  # in the order of their ends
        self._reading: list[_Pending] = []  # those of them that change nothing
        self._free: list[int] = []
        self._bits = 0
        self._forever = 0  # bits of unknown outcomes
        self._operations = [one for one in operations if one.known or one.kind not in READS]
        self.steps = 0

    def run(self, progress: Callable[[], None] = lambda: None) -> Failure | None:
        """Search; None if there is an order.

        Args:
            progress: called for each operation that has returned.

        Raises:
            Undecided: see `effort`.
        """
        events: list[tuple[float, int, int, Operation]] = []
        for number, one in enumerate(self._operations):
            events.append((one.call, 0, number, one))
            if one.known and one.end < math.inf:
                events.append((one.end, 1, number, one))
        events.sort(key=lambda event: event[:3])
        configs: set[Config] = {(ANYTHING, 0)}
        here: dict[int, _Pending] = {}
        for _, is_return, number, one in events:
            if not is_return:
                here[number] = self._called(one)
                if one.kind in READS:
                    configs = {self._absorb(config) for config in configs}
                continue
            pending = here.pop(number)
            self._pending.remove(pending)
            if not one.changes:
                self._reading.remove(pending)
            after = self._returned(pending, configs)
            if not after:
                return Failure(one, tuple(sorted({state_text(state) for state, _ in configs})))
            configs = after
            self._free.append(pending.bit)
            progress()
        return None

    def _called(self, one: Operation) -> _Pending:
        written = one.value if one.value in self._read else OTHER
        bit = self._free.pop() if self._free else 1 << self._bits
        self._bits = max(self._bits, bit.bit_length())
        if not one.known:
            self._forever |= bit
        outcome = OK if not one.known else one.result
        same = (one.kind, outcome, one.expect, one.version, written)
        pending = _Pending(one, written, same, bit)
        at = len(self._pending)
        while at and self._pending[at - 1].operation.end > one.end:
            at -= 1
        self._pending.insert(at, pending)
        if not one.changes:
            self._reading.append(pending)
        return pending

    def _step(self, state: State, pending: _Pending) -> State:
        self.steps += 1
        if self.steps > self._left:
            raise Undecided
        return step(state, pending.operation, pending.written)

    def _absorb(self, config: Config) -> Config:
        """Let all reads on their way take effect that say what the state is."""
        state, mask = config
        for pending in self._reading:
            if not mask & pending.bit and self._step(state, pending) == state:
                mask |= pending.bit
        return state, mask

    def _returned(self, pending: _Pending, configs: set[Config]) -> set[Config]:
        """All configurations that explain this return."""
        after: set[Config] = set()
        open_: list[Config] = []
        for state, mask in configs:
            if mask & pending.bit:
                after.add((state, mask ^ pending.bit))
            else:
                open_.append((state, mask))
        seen: dict[Config, list[int]] = {}
        todo = deque(
            config
            for config in sorted(open_, key=lambda config: (config[1] & self._forever).bit_count())
            if self._is_new(config, seen)
        )
        needs = version_before(pending.operation)
        while todo:
            state, mask = todo.popleft()
            now = self._step(state, pending)
            if now is not IMPOSSIBLE:
                after.add(self._absorb((now, mask)))
            tried = {pending.same}
            ceiling = None if needs is None else self._ceiling(needs, state, mask)
            for other in self._pending:
                if mask & other.bit or other.same in tried:
                    continue
                tried.add(other.same)
                then = self._step(state, other)
                if then is IMPOSSIBLE or (ceiling is not None and _above(then, ceiling)):
                    continue
                config = self._absorb((then, mask | other.bit))
                if self._is_new(config, seen):
                    todo.append(config)
        return self._needed(after) if self._forever else after

    def _is_new(self, config: Config, seen: dict[Config, list[int]]) -> bool:
        """Whether nothing as good was seen: the same, having used no other unknown outcomes than this one."""
        state, mask = config
        used = seen.setdefault((state, mask & ~self._forever), [])
        mine = mask & self._forever
        if any(mine & other == other for other in used):
            return False
        used.append(mine)
        return True

    def _ceiling(self, needs: int, state: State, mask: int) -> int:
        """The highest version that is of use on the way from `state` to version `needs`.

        Versions only fall when the znode is removed and made again. If operations on their way can do that, versions
        are of use that others of them need; and sets that fit any version (parts of a multi are not told theirs) may
        have to come before that, on top of what the version is by then.
        """
        left = [one.operation for one in self._pending if not mask & one.bit]
        kinds = {one.kind for one in left}
        if CREATE not in kinds or DELETE not in kinds:
            return needs
        highest = max(needs, *(version_after(one) for one in left if one.known or one.kind == DELETE))
        anywhere = sum(one.kind == SET and one.result == OK and one.version is None for one in left)
        if not anywhere:
            return highest
        now = state[1] if isinstance(state, tuple) and isinstance(state[1], int) else 0
        return max(highest, now) + anywhere

    def _needed(self, configs: set[Config]) -> set[Config]:
        """Without those that only used more of the unknown outcomes than others."""
        groups: dict[Config, list[int]] = {}
        for state, mask in configs:
            groups.setdefault((state, mask & ~self._forever), []).append(mask & self._forever)
        kept: set[Config] = set()
        for (state, known), used in groups.items():
            least: list[int] = []
            for mask in sorted(used, key=lambda mask: (mask.bit_count(), mask)):
                if not any(mask & other == other for other in least):
                    least.append(mask)
                    kept.add((state, known | mask))
        return kept


def _above(state: State, version: Any) -> bool:
    return isinstance(state, tuple) and isinstance(state[1], int) and state[1] > version
