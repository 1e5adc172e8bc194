"""Starts pairs of fresh servers, plays on them, and cuts a failing play down."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.differential.lockstep import Mismatch, Pair
from tests.differential.plan import LANES, Plan
from tests.differential.requests import SUPER_ID
from tests.differential.steps import Step
from tests.support.servers import Server

FLUSH_STEPS = 10
SETTINGS: dict[str, object] = {
    "tickTime": 500,
    "minSessionTimeout": 2000,
    "maxSessionTimeout": 1_000_000,
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.enforceQuota": "true",
    "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_ID,
    # The reaper of containers and TTL nodes would act at times of its own.
    "znode.container.checkIntervalMs": 100_000_000,
    "zookeeper.forceSync": "no",
}


@dataclass
class Figures:
    """What a run did, for its summary."""

    operations: int = 0
    events: int = 0
    skipped: int = 0
    games: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.operations / self.seconds if self.seconds else 0
        return (
            f"{self.operations} operations and {self.events} events compared, {self.skipped} left out, "
            f"{self.games} games, {self.seconds:.0f} s, {rate:.0f} operations/s"
        )


@contextlib.contextmanager
def fresh(kinds: Sequence[str], directory: Path, jars: Sequence[str | None] = (None, None)) -> Iterator[Pair]:
    """Two empty servers and a `Pair` on them."""
    with contextlib.ExitStack() as stack:
        ports = []
        for number, (kind, jar) in enumerate(zip(kinds, jars, strict=True)):
            with _jar(jar):
                server = stack.enter_context(Server.start(kind, directory / f"{number}-{kind}", SETTINGS))
            ports.append(server.port)
        pair = Pair(ports[0], ports[1], LANES, kinds)
        stack.callback(pair.close)
        yield pair


@contextlib.contextmanager
def _jar(jar: str | None) -> Iterator[None]:
    before = os.environ.get("ZOOKEEPER_JAR")
    if jar:
        os.environ["ZOOKEEPER_JAR"] = jar
    try:
        yield
    finally:
        if jar:
            os.environ.pop("ZOOKEEPER_JAR")
            if before is not None:
                os.environ["ZOOKEEPER_JAR"] = before


def compare(
    kinds: Sequence[str],
    directory: Path,
    seed: int,
    operations: int,
    figures: Figures,
    jars: Sequence[str | None] = (None, None),
    expire: bool = True,
) -> None:
    """One game: fresh servers, `operations` random operations. Raises `Mismatch`."""
    with fresh(kinds, directory, jars) as pair:
        started = time.monotonic()
        try:
            play(pair, Plan(seed, pair), operations, expire)
        finally:
            figures.operations += pair.operations
            figures.events += pair.events
            figures.skipped += pair.skipped
            figures.games += 1
            figures.seconds += time.monotonic() - started


def play(pair: Pair, plan: Plan, operations: int, expire: bool = True) -> None:
    """Play steps of a plan until so many operations were compared; sessions expire in the middle and at the end."""
    count = 0
    expiries = [operations // 2, operations] if expire else []
    while pair.operations < operations or expiries:
        pair.play(plan.step())
        count += 1
        if count % FLUSH_STEPS == 0:
            pair.flush()
        if expiries and pair.operations >= expiries[0]:
            expiries.pop(0)
            for step in plan.expiring(count % LANES):
                pair.play(step)
    pair.finish()


def replay(kinds: Sequence[str], directory: Path, steps: Sequence[Step], jars: Sequence[str | None]) -> Mismatch | None:
    """Play recorded steps on fresh servers; the difference, if there is one."""
    with fresh(kinds, directory, jars) as pair:
        try:
            for step in steps:
                pair.play(step)
                pair.flush()
            pair.finish()
        except Mismatch as mismatch:
            return mismatch
    return None


def shrink(
    kinds: Sequence[str],
    directory: Path,
    steps: list[Step],
    jars: Sequence[str | None] = (None, None),
    tries: int = 120,
) -> str:
    """Leave out steps, then requests, while a difference remains; a report of what is left."""
    best = replay(kinds, directory / "0", steps, jars)
    if best is None:
        return "the difference does not come back when the same steps are played again"
    attempt = 0
    chunk = len(best.steps) // 2
    while chunk >= 1 and attempt < tries:
        at, shorter = 0, False
        while at < len(best.steps) and attempt < tries:
            attempt += 1
            fewer = best.steps[:at] + best.steps[at + chunk :]
            found = replay(kinds, directory / str(attempt), fewer, jars)
            if found is None:
                at += chunk
            else:
                best, shorter = found, True
        if chunk > 1 or not shorter:
            chunk //= 2
    lines = [f"{len(best.steps)} steps are enough (after {attempt} replays):"]
    return "\n".join([*lines, *(f"  {step}" for step in best.steps), str(best)])
