"""One seed decides everything: the order of trio's tasks, `random`, `uuid4`, and time, which passes only when all wait.

Rules
- Time is virtual: `trio.current_time`, and every clock of the module `time`, show `START_WALL` (or `START_MONOTONIC`)
  plus the seconds of the run. It jumps to the next deadline when no task can run, so an hour of timeouts takes seconds.
- Every machine and every client of a world has clocks of its own (`Clock`): they drift, and their wall clocks are set.
  What asks the event loop for the time, as the client library does, gets the world's time.
- trio runs the tasks that are ready in an order drawn from the seed. The switch for that is trio's own, made for
  Hypothesis and private; `determined` says so clearly if a future trio has lost it.
- Code that holds on to `time.time` itself (`from time import time`) before the run, or takes randomness from
  `os.urandom`, `secrets` or threads, is outside of this.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from typing import Any

import trio
import trio.testing
from trio._core import _run as scheduler

START_WALL = 1_750_000_000.0
START_MONOTONIC = 10_000.0


class Clock:
    """The clocks of one machine.

    Attributes:
        wall_ahead: seconds that its wall clock is ahead of the world's, beside the drift.
    """

    def __init__(self) -> None:
        self.wall_ahead = 0.0
        self._rate = 1.0
        self._shown = 0.0
        self._since = 0.0

    def shown(self, elapsed: float) -> float:
        """What it shows when so many seconds of the run have passed."""
        return self._shown + (elapsed - self._since) * self._rate

    def drift(self, rate: float, elapsed: float) -> None:
        """From now on it runs so many times as fast as it should; it does not jump."""
        self._shown, self._since, self._rate = self.shown(elapsed), elapsed, rate


OWN: ContextVar[Clock | None] = ContextVar("OWN", default=None)  # of the machine that the running task belongs to


@contextmanager
def determined(seed: int | str, clock: trio.testing.MockClock) -> Iterator[None]:
    """While this lasts, a trio run with this clock is decided by the seed.

    Raises:
        RuntimeError: this trio cannot run tasks in a given order.
    """
    if not hasattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(scheduler, "_r"):
        raise RuntimeError(f"trio {trio.__version__} has no deterministic scheduling; corekit.testing.world needs it")
    ids = Random(f"{seed}/uuid")
    start = clock.current_time()

    def monotonic() -> float:
        own, elapsed = OWN.get(), clock.current_time() - start
        return START_MONOTONIC + (elapsed if own is None else own.shown(elapsed))

    def wall() -> float:
        own, elapsed = OWN.get(), clock.current_time() - start
        return START_WALL + (elapsed if own is None else own.shown(elapsed) + own.wall_ahead)

    def in_ns(read: Callable[[], float]) -> Callable[[], int]:
        return lambda: round(read() * 1_000_000) * 1000

    changes: list[tuple[Any, str, Any]] = [
        (time, "time", wall),
        (time, "time_ns", in_ns(wall)),
        (time, "monotonic", monotonic),
        (time, "monotonic_ns", in_ns(monotonic)),
        (time, "perf_counter", monotonic),
        (uuid, "uuid4", lambda: uuid.UUID(int=ids.getrandbits(128), version=4)),
        (scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    states = random.getstate(), scheduler._r.getstate()
    random.seed(f"{seed}/random")
    scheduler._r.seed(f"{seed}/scheduler")
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        random.setstate(states[0])
        scheduler._r.setstate(states[1])
