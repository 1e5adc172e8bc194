"""Time, the event heap, randomness and the trace of one simulated world.

Time is in microseconds. Every part draws from a generator of its own, so a change in one does not reshuffle the others.
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

MS = 1000  # microseconds
SECOND = 1_000_000
KEPT = 400  # events of the trace that a report shows at most


class Violation(AssertionError):
    """Something that must hold does not. `rule` is its name in the catalogue (I1 ... I20, L1 ...)."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Event:
    """Something that will happen; `cancel` prevents it."""

    __slots__ = ("action", "args")

    def __init__(self, action: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
        self.action = action
        self.args = args

    def cancel(self) -> None:
        """It will not happen."""
        self.action = None
        self.args = ()


class World:
    """One simulated world.

    Attributes:
        seed: all randomness comes from it.
        now: microseconds since the beginning.
        events: how many events have happened.
        trace: the newest trace records, (time, words ...).
        counters: how often things happened, by name: faults, operations, crash points.
    """

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.now = 0
        self.events = 0
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self.counters: dict[str, int] = {}
        self._heap: list[tuple[int, int, Event]] = []
        self._sequence = 0
        self._hash = 0

    def random(self, name: str) -> Random:
        """A generator for one purpose."""
        return Random(f"{self.seed}/{name}")

    def after(self, delay: int, action: Callable[..., None], *args: Any) -> Event:
        """Let something happen in `delay` microseconds. Events of the same time happen in the order of the calls."""
        event = Event(action, args)
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, event))
        return event

    def run(self, until: int, stop: Callable[[], bool] | None = None) -> bool:
        """Let things happen until a time, or until `stop` holds (looked at after every event). Whether it held."""
        heap = self._heap
        pop = heapq.heappop
        while heap and heap[0][0] <= until:
            time, _, event = pop(heap)
            action = event.action
            if action is None:
                continue
            self.now = time
            self.events += 1
            action(*event.args)
            if stop is not None and stop():
                return True
        self.now = max(self.now, until)
        return False

    def note(self, *words: Any) -> None:
        """A record of the trace: numbers, text and bytes only, so that every process makes the same of it."""
        record = (self.now, *words)
        self.trace.append(record)
        self._hash = zlib.crc32(repr(record).encode(), self._hash)

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        self.counters[name] = self.counters.get(name, 0) + by

    @property
    def trace_hash(self) -> str:
        """Stands for everything that happened so far."""
        return f"{self._hash:08x}-{self.events}"


def show(record: tuple[Any, ...]) -> str:
    """A trace record as a line for people."""
    time, *words = record
    return f"{time / SECOND:12.6f}  " + " ".join(str(word) for word in words)
