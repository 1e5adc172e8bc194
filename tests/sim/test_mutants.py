"""The simulator finds planted mistakes: a check that cannot fail shows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from corekit_zab.simulated import make as zab

from corekit.testing.sim.campaign import run_seed
from tests.scripts.driver import play
from tests.sim import server_mutants
from tests.sim.mutants import MUTANTS, planted

SCRIPTS = Path(__file__).parents[1] / "scripts"
assert server_mutants.__doc__  # importing it registers its mutants
QUICK = [name for name, mutant in MUTANTS.items() if mutant.seeds <= 20]
SLOW = [name for name, mutant in MUTANTS.items() if mutant.seeds > 20]


def found_by_a_seed(name: str) -> bool:
    with planted(name):
        return any(
            not run_seed(seed, zab, seconds=20, workload=MUTANTS[name].workload).ok
            for seed in range(1, MUTANTS[name].seeds + 1)
        )


@pytest.mark.parametrize("name", QUICK)
def test_found_quickly(name: str) -> None:
    assert found_by_a_seed(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_found(name: str) -> None:
    assert found_by_a_seed(name)


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.script])
def test_found_by_its_script(name: str) -> None:
    """The transcript of a bug changes, or ends in a violation, when the bug is there."""
    path = SCRIPTS / f"{MUTANTS[name].script}.txt"
    with planted(name):
        assert play(path) != path.read_text()


def test_every_mutant_is_told_of() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
    assert [
        name for name, mutant in MUTANTS.items() if f"| `{name}` |" not in page or f"| {mutant.seeds} |" not in page
    ] == []
