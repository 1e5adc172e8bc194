"""What `corekit plugin test zab` runs: one server on its own, and three in a simulated network with faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from corekit.api import Consensus, EnsembleConsensus
from corekit.testing.consensus import ConsensusSuite, EnsembleSuite
from corekit.testing.sim.campaign import Setup
from corekit_zab.engine import Zab
from corekit_zab.options import COUNTER_MAX, Options
from corekit_zab.quorum import OBSERVER, PARTICIPANT, Ensemble, Member

if TYPE_CHECKING:
    from random import Random


def ensemble(servers: int, observers: int = 0) -> Ensemble:
    """Servers `n1`, `n2` ... as the simulated network names them; the last ones observe."""
    return Ensemble(
        {
            sid: Member(sid, ((f"n{sid}", 2888, 3888),), PARTICIPANT if sid <= servers else OBSERVER)
            for sid in range(1, servers + observers + 1)
        }
    )


class TestAlone(ConsensusSuite):
    """An ensemble of one."""

    mode = "leader"

    def make_consensus(self) -> Consensus:
        return Zab(1, ensemble(1), Options(tick_ms=500, trust_empty=True))


class TestAmongThree(EnsembleSuite):
    """Three servers."""

    def maker(self, setup: Setup) -> Callable[[int, Random, bool], EnsembleConsensus]:
        members = ensemble(setup.servers, setup.observers)

        def make(sid: int, random: Random, first: bool) -> EnsembleConsensus:
            options = Options(
                tick_ms=setup.tick_ms,
                trust_empty=setup.trust_empty and first,
                rollover_at=setup.rollover_at or COUNTER_MAX - (1 << 20),
                discovery_ms=3 * setup.tick_ms,
            )
            return Zab(sid, members, options)

        return make
