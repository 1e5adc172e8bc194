"""Runs scenarios over seeds.

python -m tests.recipes.world.campaign lock 1-1000        # one scenario; all without a name
python -m tests.recipes.world.campaign lock 17 --servers 3
"""

from __future__ import annotations

import argparse
import logging

from corekit.testing.world import World, run
from tests.recipes.world import followers, more, queues, scenarios
from tests.recipes.world.checks import Violation
from tests.recipes.world.scenarios import TIMEOUT

SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        scenarios.lock, scenarios.rwlock, scenarios.semaphore, scenarios.election, scenarios.counter, scenarios.ids,
        queues.queue, queues.claim_queue, queues.master_worker,
        more.multilock, more.double_barrier, more.partitioner, more.priority_queue, more.delay_queue, more.barrier,
        followers.shared_value, followers.config_centre, followers.tree, followers.topic, followers.group,
        followers.services,
    )
}  # fmt: skip


def run_seed(name: str, seed: int, servers: int = 1) -> World:
    """One scenario in one world.

    Raises:
        AssertionError: a promise was broken; the text has the seed and the last of the trace.
    """
    try:
        return run(SCENARIOS[name], seed=f"{name}/{seed}", servers=servers, session_timeout=TIMEOUT)
    except BaseException as error:
        found = first_violation(error)
        if found is None:
            raise
        again = f"python -m tests.recipes.world.campaign {name} {seed} --servers {servers}"
        raise AssertionError("\n".join([f"{found}", *error.__notes__, f"again: {again}"])) from None


def first_violation(error: BaseException) -> BaseException | None:
    """The violation that ended a run; others may have followed it."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(first_violation, error.exceptions)), None)
    return error if isinstance(error, Violation | TimeoutError) else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*SCENARIOS, "all"], default="all")
    parser.add_argument("seeds", nargs="?", default="1-50", help="FIRST-LAST, or one")
    parser.add_argument("--servers", type=int, default=1)
    chosen = parser.parse_args()
    logging.disable()
    first, _, last = chosen.seeds.partition("-")
    failures = 0
    for name in SCENARIOS if chosen.name == "all" else [chosen.name]:
        counted: dict[str, int] = {}
        for seed in range(int(first), int(last or first) + 1):
            try:
                world = run_seed(name, seed, chosen.servers)
            except AssertionError as error:
                failures += 1
                print(f"{name} {seed}: {error}")
                continue
            for what, number in world.counters.items():
                counted[what] = counted.get(what, 0) + number
        print(name, ", ".join(f"{number} {what}" for what, number in sorted(counted.items())))
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
