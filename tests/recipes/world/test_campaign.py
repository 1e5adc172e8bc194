"""Recipes keep their promises in worlds full of faults, and the campaign finds recipes that do not."""

from __future__ import annotations

import logging

import pytest

from tests.recipes.world.campaign import SCENARIOS, run_seed
from tests.recipes.world.mutants import MUTANTS

QUICK_SEEDS = 6
QUICK = [name for name, mutant in MUTANTS.items() if mutant.seeds <= QUICK_SEEDS]
SLOW = [name for name, mutant in MUTANTS.items() if mutant.seeds > QUICK_SEEDS]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_are_kept(name: str) -> None:
    assert run_seed(name, 1).counters["bodies"] > 0


@pytest.mark.parametrize(("name", "seed", "servers"), [("ids", 113, 1), ("master_worker", 107, 3), ("topic", 121, 1)])
def test_seeds_that_have_found_mistakes(name: str, seed: int, servers: int) -> None:
    run_seed(name, seed, servers)


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_promises_are_kept_for_many_seeds(name: str, servers: int) -> None:
    worlds = [run_seed(name, seed, servers) for seed in range(100, 130 if servers == 1 else 110)]
    assert sum(world.counters["bodies"] for world in worlds) > 10 * len(worlds) / 2
    assert sum(world.counters.get("faults", 0) for world in worlds) > 5 * len(worlds)


def test_a_seed_gives_the_same_run_again() -> None:
    assert run_seed("rwlock", 2).trace_hash == run_seed("rwlock", 2).trace_hash


def found(name: str) -> bool:
    mutant = MUTANTS[name]
    for seed in range(mutant.first, mutant.first + mutant.seeds):
        with pytest.MonkeyPatch.context() as patch:
            mutant.plant(patch)
            try:
                run_seed(mutant.scenario, seed, mutant.servers)
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize("name", QUICK)
def test_found_quickly(name: str) -> None:
    assert found(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_found(name: str) -> None:
    assert found(name)
