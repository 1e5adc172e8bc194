"""What must hold while faults happen: who may be inside with whom, and that tokens rise. Said at the moment it breaks.

A `Violation` is no `Exception`, so that nothing between the body of a recipe and the test can take it for a failed
body and try again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from corekit.client import LeaseLost, OutcomeUnknown
from corekit.errors import ConnectionLossError, SessionExpiredError
from corekit.testing.world import World

TROUBLE = (LeaseLost, OutcomeUnknown, ConnectionLossError, SessionExpiredError)  # what bodies may meet


class Violation(BaseException):
    """A recipe has broken a promise."""


class Bodies:
    """The bodies that run now, of one recipe or of many of a kind (told apart by `key`).

    Args:
        most: how many may run at once for one key.
        rising: whether each body must have a higher token than all before it (otherwise: than none of them).
    """

    def __init__(self, world: World, *, most: int = 1, rising: bool = True) -> None:
        self.world = world
        self.most = most
        self.rising = rising
        self.inside: dict[str, list[str]] = {}
        self._highest: dict[str, int] = {}
        self._tokens: set[tuple[str, int]] = set()

    @contextmanager
    def body(self, who: str, token: int, key: str = "") -> Iterator[None]:
        """A body runs."""
        self.world.note("in", who, key, token)
        self.world.count("bodies")
        inside = self.inside.setdefault(key, [])
        if len(inside) >= self.most:
            raise Violation(f"{who} is inside {key} with {', '.join(inside)}")
        if (key, token) in self._tokens:
            raise Violation(f"token {token} of {key} was given twice")
        if self.rising and token <= self._highest.get(key, 0):
            raise Violation(f"{who} has token {token} of {key} after {self._highest[key]}")
        self._tokens.add((key, token))
        self._highest[key] = max(token, self._highest.get(key, 0))
        inside.append(who)
        try:
            yield
        finally:
            inside.remove(who)
            self.world.note("out", who, key, token)


class Readers:
    """Bodies that may run together, and those that must be alone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.readers: list[str] = []
        self.writers: list[str] = []

    @contextmanager
    def body(self, who: str, reads: bool) -> Iterator[None]:
        """A body runs."""
        self.world.note("in", who, "reads" if reads else "writes")
        self.world.count("bodies")
        if self.writers or (self.readers and not reads):
            raise Violation(f"{who} is not alone: {self.writers} write, {self.readers} read")
        side = self.readers if reads else self.writers
        side.append(who)
        try:
            yield
        finally:
            side.remove(who)
            self.world.note("out", who)


async def pause(world: World, most: float) -> None:
    """Some time, drawn by the seed."""
    await trio.sleep(world.random(f"pause {world.now}").uniform(0, most))


async def work_a_while(world: World) -> None:
    """What a body does: mostly it is short, sometimes it takes longer than a session lives without heartbeats."""
    await pause(world, world.random(f"work {world.now}").choice((0.1, 0.5, 1.0, 3 * world.session_timeout)))
