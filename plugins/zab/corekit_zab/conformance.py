"""What `corekit plugin test zab` runs: one server on its own, and three in a simulated network with faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from corekit.api import Consensus, EnsembleConsensus
from corekit.testing.consensus import ConsensusSuite, EnsembleSuite
from corekit.testing.sim.campaign import Setup
from corekit_zab.engine import Zab
from corekit_zab.options import Options
from corekit_zab.simulated import ensemble, make

if TYPE_CHECKING:
    from random import Random


class TestAlone(ConsensusSuite):
    """An ensemble of one."""

    mode = "leader"

    def make_consensus(self) -> Consensus:
        return Zab(1, ensemble(1), Options(tick_ms=500, trust_empty=True))


class TestAmongThree(EnsembleSuite):
    """Three servers."""

    def maker(self, setup: Setup) -> Callable[[int, Random, bool], EnsembleConsensus]:
        return make(setup)
