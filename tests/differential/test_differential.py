"""corekit against Apache ZooKeeper 3.8 (Debian's package): no difference over many random operations.

`COREKIT_DIFFERENTIAL_OPERATIONS` sets how many (50,000 in a full run), `COREKIT_DIFFERENTIAL_SEED` the first seed.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.differential.lockstep import Mismatch, Pair
from tests.differential.plan import LANES, Plan
from tests.differential.planted import Plants, Proxy
from tests.differential.run import SETTINGS, Figures, compare, play
from tests.support.servers import Server, zookeeper_jar

OPERATIONS = int(os.environ.get("COREKIT_DIFFERENTIAL_OPERATIONS", "5000"))
GAME = 10_000
PLANTED_OPERATIONS = 3000


@pytest.mark.interop
def test_no_difference_to_apache_zookeeper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs(zookeeper_jar)
    seed = int(os.environ.get("COREKIT_DIFFERENTIAL_SEED", random.randrange(1 << 30)))
    figures = Figures()
    while figures.operations < OPERATIONS:
        with capsys.disabled():
            print(f"\n  differential: seed {seed} ", end="", flush=True)
        try:
            compare(("java", "corekit"), tmp_path / str(seed), seed, min(GAME, OPERATIONS), figures)
        except Mismatch as mismatch:
            pytest.fail(f"seed {seed}: {mismatch}", pytrace=False)
        seed += 1
    with capsys.disabled():
        print(f"\n  differential: {figures} ", end="", flush=True)
    assert figures.events > figures.operations / 100, "hardly any watch fired: the generator has gone astray"


@pytest.mark.parametrize(
    "plant", ["wrong_code", "wrong_zxid", "wrong_byte", "lost_event", "doubled_event", "late_event", None]
)
def test_the_comparison_sees_planted_differences(tmp_path: Path, plant: str | None) -> None:
    """corekit against itself through a proxy; None plants nothing and must pass."""
    plants = Plants()
    with (
        Server.start("corekit", tmp_path / "a", SETTINGS) as first,
        Server.start("corekit", tmp_path / "b", SETTINGS) as second,
    ):
        spoil = getattr(plants, plant) if plant else lambda count, frame: [frame]
        proxy = Proxy(second.port, spoil)
        pair = Pair(first.port, proxy.port, LANES, ("corekit", "corekit"))
        started = time.monotonic()
        try:
            if plant is None:
                play(pair, Plan(1, pair), PLANTED_OPERATIONS // 2)
                return
            with pytest.raises(Mismatch) as caught:
                play(pair, Plan(1, pair), PLANTED_OPERATIONS)
            assert "  ! corekit 2: " in str(caught.value), f"no readable difference: {caught.value}"
        finally:
            pair.close()
            proxy.close()
            assert time.monotonic() - started < 120
