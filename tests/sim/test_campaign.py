"""Ensembles under faults: nothing that must hold is violated, and the same seed is the same run in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from corekit_zab.simulated import make as zab

from corekit.testing.sim.campaign import run_seed
from corekit.testing.sim.nemesis import LATER
from corekit.testing.sim.server import Server

ROOT = Path(__file__).parents[2]
# Seeds that once found something, with what it was; they run for ever, without the kinds of faults that came later.
FOUND = {
    25: "an observer and a voter of an earlier round answered each other without end",
    19: "a server whose pauses between dials grew never caught a leader of short reign",
    1049: "(the checker) a disk that is lost right after its ack is not an ack without a disk",
    1113: "(the checker) a leader that was restarted is not the leader whose history was acknowledged",
    2014: "a follower waited longer between dials than its leader waited for followers",
    2146: "(the campaign) a majority without data cannot go on without the operator's word",
}


@pytest.mark.parametrize("workload", ["keys", "sessions"])
@pytest.mark.parametrize("first", range(1, 41, 10))
def test_seeds(first: int, workload: str) -> None:
    for seed in range(first, first + (10 if workload == "keys" else 4)):
        result = run_seed(seed, zab, seconds=5, workload=workload)
        assert result.ok, result.report()


def test_flapping_ends_with_the_other_faults() -> None:
    """(The nemesis) It went on while a healthy ensemble was demanded."""
    result = run_seed(284, zab, seconds=20, workload="keys", without=LATER)
    assert result.ok, result.report()


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_found_something(seed: int) -> None:
    result = run_seed(seed, zab, seconds=30, workload="keys", without=LATER)
    assert result.ok, result.report()


@pytest.mark.slow  # its short form is in tests/unit/test_remote.py
def test_what_an_older_connection_holds_back_does_not_come_late() -> None:
    result = run_seed(421727066, zab, seconds=360)
    assert result.ok, result.report()


@pytest.mark.parametrize(
    ("workload", "least"),
    [
        ("keys", {"faults": 100, "operations": 1500, "served.leader": 15}),
        (
            "sessions",
            {"faults": 100, "operations": 500, "served.leader": 15, "events": 50, "linearized": 200, "multis": 50,
             "multis.carried.out": 10, "watches.restored": 10, "fault.clock": 1, "fault.client cut": 5},
        ),
    ],
)  # fmt: skip
def test_faults_do_happen(workload: str, least: dict[str, int]) -> None:
    """A campaign in which nothing goes wrong, or nothing is done, shows nothing."""
    counters: dict[str, int] = {}
    for seed in range(200, 208):
        for name, value in run_seed(seed, zab, seconds=8, workload=workload).counters.items():
            counters[name] = counters.get(name, 0) + value
    assert {name: value for name, value in least.items() if counters.get(name, 0) < value} == {}, counters


def test_a_leader_that_dies_between_sending_and_logging_has_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """(The checker) A proposal counts from the moment at which consensus has it; with this seed that matters."""

    def seen_too_late(self: Server, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self._proposed(first_zxid, entries, last_zxid)
        for zxid, entry in enumerate(entries, first_zxid):
            self._node.seen("proposed", zxid, entry)

    result = run_seed(20, zab, seconds=10, workload="sessions")
    assert result.ok, result.report()
    monkeypatch.setattr(Server, "_propose", seen_too_late)
    assert run_seed(20, zab, seconds=10, workload="sessions").rule == "I3"


def traces() -> list[str]:
    """Of a run of each workload."""
    return [run_seed(3, zab, seconds=5, workload=workload).trace_hash for workload in ("keys", "sessions")]


def test_same_seed_same_run_in_another_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", "from tests.sim.test_campaign import traces; print(traces())"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert runs[0].strip() == str(traces())
