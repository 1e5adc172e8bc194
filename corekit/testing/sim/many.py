"""Many seeds, on all cores: what `corekit sim` does without its command line.

A seed needs nothing but its number and the options, so the order in which seeds end does not matter, and each can
be run again alone.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace

from corekit.errors import PluginError
from corekit.plugins.discover import find, installed
from corekit.plugins.discover import load as load_plugin
from corekit.testing.sim.campaign import Maker, Result, run_seed
from corekit.testing.sim.nemesis import ALL_KINDS

SECONDS_MIN = 4  # of a run
_AHEAD = 4  # seeds handed out to each process before the first is done


@dataclass(frozen=True, slots=True)
class Campaign:
    """What to run.

    Attributes:
        first, runs: the seeds are first, first + 1 ...
        seconds: simulated time with faults of each run; recovery comes on top.
        servers: voters, or None: every seed chooses 3 or 5.
        consensus: the plugin under test.
        without: kinds of faults that shall not happen (`nemesis.ALL_KINDS`).
    """

    first: int
    runs: int
    seconds: int
    servers: int | None = None
    consensus: str = "zab"
    without: tuple[str, ...] = ()

    def run(self, make: Maker, seed: int) -> Result:
        """Run one seed."""
        return run_seed(seed, make, seconds=self.seconds, servers=self.servers, without=self.without)


@dataclass(slots=True)
class Totals:
    """What became of many seeds.

    Attributes:
        seconds: simulated, recovery included.
        counters: faults, operations and so on, of all seeds together.
        failed: results with a violation, in the order of seeds.
    """

    runs: int = 0
    seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """One more seed is done."""
        self.runs += 1
        self.seconds += result.seconds
        for name, value in result.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value
        if not result.ok:
            self.failed.append(result)
            self.failed.sort(key=lambda failed: failed.seed)


def maker_of(name: str) -> Maker:
    """How the servers of a consensus plugin are made in a simulated world.

    A plugin says `simulator = "package.module"` beside its `kind`; the module has a function `make` (see
    `campaign.Maker`).

    Raises:
        PluginError: there is no such plugin, or it cannot be simulated.
    """
    one = find(name, installed())
    load_plugin(one)
    module = getattr(one.plugin, "simulator", None)
    if one.kind != "consensus" or module is None:
        raise PluginError(
            f"{one} cannot be simulated: only a plugin of kind consensus that names the module with its function "
            'make(setup): simulator = "package.module"'
        )
    try:
        make: Maker = importlib.import_module(module).make
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{one}: {module}.make cannot be used: {error}") from error
    return make


def run(campaign: Campaign, processes: int | None = None) -> Iterator[Result]:
    """Run the seeds; results come as they are ready.

    Args:
        processes: how many at a time; None is one a core.

    Raises:
        PluginError: see `maker_of`.
    """
    make = maker_of(campaign.consensus)
    seeds = iter(range(campaign.first, campaign.first + campaign.runs))
    processes = min(processes or len(os.sched_getaffinity(0)), campaign.runs)
    if processes == 1:
        yield from (campaign.run(make, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        pending: set[Future[Result]] = set()
        try:
            while True:
                while len(pending) < processes * _AHEAD and (seed := next(seeds, None)) is not None:
                    pending.add(pool.submit(_one, campaign, seed))
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from sorted((future.result() for future in done), key=lambda result: result.seed)
        finally:
            pool.shutdown(cancel_futures=True)


def _one(campaign: Campaign, seed: int) -> Result:
    return campaign.run(maker_of(campaign.consensus), seed)


def shrink(campaign: Campaign, result: Result, tries: int = 60) -> tuple[Campaign, Result]:
    """Look for less that violates the same rule: a shorter time, fewer kinds of faults.

    Leaving a kind out changes all that is drawn afterwards, so this is a search, and may find nothing.

    Args:
        result: what the campaign came to with the seed of the violation.
        tries: runs at most.

    Returns:
        A campaign of that one seed, and its violation.
    """
    make = maker_of(campaign.consensus)
    best = replace(campaign, first=result.seed, runs=1), result
    while True:
        smaller, seen = best
        candidates = [replace(smaller, without=(*smaller.without, kind)) for kind in _happened(seen)]
        shorter = max(SECONDS_MIN, int(seen.seconds) + 1)
        if shorter < smaller.seconds:
            candidates.insert(0, replace(smaller, seconds=shorter))
        for candidate in candidates[:tries]:
            tries -= 1
            again = candidate.run(make, result.seed)
            if again.rule == result.rule:
                best = candidate, again
                break
        else:
            return best


def _happened(result: Result) -> list[str]:
    """Kinds of faults, the rare ones first: they are likely not to matter."""
    counted = {kind: result.counters.get(f"fault.{kind}", 0) for kind in ALL_KINDS}
    return sorted((kind for kind, count in counted.items() if count), key=lambda kind: counted[kind])
