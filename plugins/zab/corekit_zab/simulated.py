"""How the simulator makes servers of this consensus (`corekit sim`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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


def make(setup: Setup, kind: type[Zab] = Zab) -> Callable[[int, Random, bool], Zab]:
    """Makes the servers of one world, from (sid, generator, whether an empty disk is known to be new).

    Args:
        kind: another class for tests that plant a mistake.
    """
    members = ensemble(setup.servers, setup.observers)

    def server(sid: int, random: Random, vouched: bool) -> Zab:
        options = Options(
            tick_ms=setup.tick_ms,
            trust_empty=vouched,
            rollover_at=setup.rollover_at or COUNTER_MAX - (1 << 20),
            discovery_ms=3 * setup.tick_ms,
            apply_entries=(1, 5, 50)[sid % 3],
            snap_after=setup.snap_after or Options().snap_after,
        )
        return kind(sid, members, options)

    return server
