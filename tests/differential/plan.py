"""Random steps: which client does what next, and when clients come, go and come back."""

from __future__ import annotations

import random

from tests.differential.lockstep import Pair
from tests.differential.requests import Requests
from tests.differential.steps import Request, Step
from tests.support import rawzk
from tests.support.rawzk import create_body

LANES = 5
REATTACH = (
    "ok", "ok", "ok", "steal", "steal", "wrong password", "null password", "short password", "unknown session",
    "from the future",
)  # fmt: skip
# Abandoned sessions must not expire within a game: that would be a transaction at a time of its own.
TIMEOUTS = (300_000, 400_000, 1_000_000, 1_000_001, 10**9, 2**31 - 1)


class Plan:
    """An endless, seeded stream of steps that looks at the pair to see which clients are connected."""

    def __init__(self, seed: int, pair: Pair) -> None:
        self.rng = random.Random(seed)
        self.pair = pair
        self.requests = Requests(self.rng, pair.picture, pair.modest)

    def step(self) -> Step:
        rng = self.rng
        self.requests.zxid = self.pair.zxid
        number = rng.randrange(LANES)
        lane = self.pair.lanes[number]
        if not lane.live:
            if lane.sessions and rng.random() < 0.6:
                return self._connect("reattach", number, "ok")
            return self._connect("open", number, "new")
        roll = rng.random()
        if roll < 0.003:
            return self._connect("open", number, "new")
        if roll < 0.010:
            return self._connect("reattach", number, rng.choice(REATTACH))
        if roll < 0.014:
            return Step("close", number, self._burst(number))
        return Step("call", number, self._burst(number))

    def expiring(self, number: int) -> list[Step]:
        """Steps that open a short session with ephemerals and let it expire."""
        paths = [f"/gone{self.rng.randrange(1000)}" for _ in range(3)]
        creates = [Request(rawzk.CREATE, create_body(path, b"", 1), f"{path!r} flags=1 ", path) for path in paths]
        opening = Step("open", number, variant="short", timeout_ms=10)
        return [opening, Step("call", number, creates), Step("expire", number)]

    def _connect(self, kind: str, number: int, variant: str) -> Step:
        timeout_ms = self.rng.choice(TIMEOUTS)
        read_only = self.rng.choice((False, False, False, True, None))
        return Step(kind, number, variant=variant, timeout_ms=timeout_ms, read_only=read_only)

    def _burst(self, lane: int) -> list[Request]:
        wanted = self.rng.choice((1, 1, 1, 2, 3, 5, 9, 14))
        made: list[Request] = []
        while len(made) < wanted:
            request = self.requests.request(lane)
            if request.alone:
                return made or [request]
            made.append(request)
        return made
