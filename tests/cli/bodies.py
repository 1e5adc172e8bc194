"""Reading what `body.py` has written."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.cli.conftest import lines, until

SCRIPT = str(Path(__file__).with_name("body.py"))


class Sign(NamedTuple):
    """A sign of life."""

    what: str
    time: float
    token: str
    pid: int


class Body:
    """One file base of bodies, which may be shared by several."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def command(self, *more: str) -> list[str]:
        """What to run under the lock."""
        return ["--", sys.executable, SCRIPT, str(self.base), *more]

    def stop(self) -> None:
        """Let it end by itself."""
        self.base.with_suffix(".stop").touch()

    def signs(self) -> list[Sign]:
        found = []
        for line in lines(self.base.with_suffix(".alive")):
            words = line.split()
            if len(words) == 4:  # a killed process may leave half a line
                found.append(Sign(words[0], float(words[1]), words[2], int(words[3])))
        return found

    def wait_alive(self) -> Sign:
        """Wait until a body runs; its first sign."""
        return until(self.signs, "the command runs")[0]

    def last_sign(self) -> float:
        return max((sign.time for sign in self.signs()), default=0.0)

    def signals(self) -> list[str]:
        return list(lines(self.base.with_suffix(".signals")))

    def overlaps(self) -> list[str]:
        return list(lines(self.base.with_suffix(".overlaps")))

    def wait_silent(self, seconds: float = 0.5) -> None:
        """Wait until there was no sign of life for some time."""
        until(lambda: time.monotonic() - self.last_sign() > seconds, "the command has ended")
