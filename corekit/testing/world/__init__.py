"""Whole worlds in one process: servers, clients, network and faults in virtual time, decided by one seed.

See `world.py` for how to use it, `docs/testing-recipes.md` for what is tested with it.
"""

from corekit.testing.world.faults import Swarm
from corekit.testing.world.machine import Machine
from corekit.testing.world.net import Net, Weather
from corekit.testing.world.world import World, run

__all__ = ["Machine", "Net", "Swarm", "Weather", "World", "run"]
