"""The consensus under test, as the simulator wants it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from corekit_zab.engine import Zab
from corekit_zab.options import COUNTER_MAX, Options
from corekit_zab.quorum import OBSERVER, PARTICIPANT, Ensemble, Member

from corekit.api import EnsembleConsensus
from corekit.testing.sim.campaign import Setup


def ensemble(servers: int, observers: int = 0) -> Ensemble:
    """Servers `n1`, `n2` ... as the simulated network names them; the last ones observe."""
    return Ensemble(
        {
            sid: Member(sid, ((f"n{sid}", 2888, 3888),), PARTICIPANT if sid <= servers else OBSERVER)
            for sid in range(1, servers + observers + 1)
        }
    )


def zab(setup: Setup, make: type[Zab] = Zab) -> Callable[[int, Random, bool], EnsembleConsensus]:
    """Makes the servers of one world."""
    members = ensemble(setup.servers, setup.observers)

    def maker(sid: int, random: Random, vouched: bool) -> EnsembleConsensus:
        options = Options(
            tick_ms=setup.tick_ms,
            trust_empty=vouched,
            rollover_at=setup.rollover_at or COUNTER_MAX - (1 << 20),
            discovery_ms=3 * setup.tick_ms,
        )
        return make(sid, members, options)

    return maker
