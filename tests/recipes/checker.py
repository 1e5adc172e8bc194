"""Records who was inside when, and finds what must not be: two bodies at once, tokens that do not rise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Stay:
    """One body: from when to when it ran (monotonic seconds, the same for all processes of a machine)."""

    who: str
    token: int
    began: float
    ended: float = float("inf")
    reads: bool = False


@dataclass
class Record:
    """All stays of one recipe."""

    stays: list[Stay] = field(default_factory=list)

    @contextmanager
    def inside(self, who: object, token: int, reads: bool = False) -> Iterator[None]:
        stay = Stay(str(who), token, time.monotonic(), reads=reads)
        self.stays.append(stay)
        try:
            yield
        finally:
            stay.ended = time.monotonic()

    def most_at_once(self) -> int:
        """The greatest number of bodies that ran at one time."""
        changes = sorted(
            [(stay.began, 1) for stay in self.stays] + [(stay.ended, -1) for stay in self.stays],
        )
        most = now = 0
        for _, step in changes:
            now += step
            most = max(most, now)
        return most

    def check_exclusive(self) -> None:
        """No two at once, and tokens rise from one to the next."""
        stays = sorted(self.stays, key=lambda stay: stay.began)
        for before, after in pairwise(stays):
            assert before.ended <= after.began, f"two at once: {before} and {after}"
            assert before.token < after.token, f"token did not rise: {before}, then {after}"

    def check_read_write(self) -> None:
        """A writer is alone."""
        for writer in (stay for stay in self.stays if not stay.reads):
            for other in self.stays:
                if other is not writer:
                    apart = other.ended <= writer.began or writer.ended <= other.began
                    assert apart, f"not alone: {writer} and {other}"
