"""Ensembles of corekit servers under faults. Every failure prints its seed.

`COREKIT_CLUSTER_SEED` sets the first seed; `COREKIT_CLUSTER_ROUNDS` the rounds of the slow tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corekit.testing import disk_faults
from tests.cluster.cluster import Cluster
from tests.cluster.nemesis import DISK, NETWORK, PROCESSES
from tests.cluster.run import Run
from tests.support.proxy import Network

ROUNDS = int(os.environ.get("COREKIT_CLUSTER_ROUNDS", "40"))


def first_seed() -> int:
    """The seed of this run."""
    return int(os.environ.get("COREKIT_CLUSTER_SEED", "0")) or time.time_ns() % 1_000_000_000


@pytest.fixture
def run_faults(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`run_faults(size, faults, rounds)`: the whole of a test here."""
    network = Network()
    clusters: list[Cluster] = []

    def run(size: int, faults: tuple[str, ...], rounds: int) -> None:
        library = disk_faults.build(tmp_path) if set(faults) & set(DISK) else None
        if library is None:
            faults = tuple(fault for fault in faults if fault not in DISK or fault == "wipe_one")
        cluster = Cluster(["corekit"] * size, tmp_path / "cluster", network=network, disk_library=library)
        clusters.append(cluster)
        cluster.begin()
        seed = first_seed()
        print(f"seed {seed}")
        print(Run(cluster, seed, faults).go(rounds))

    yield run
    for cluster in clusters:
        cluster.kill()
    network.close()


@pytest.mark.parametrize(
    ("size", "faults"),
    [(3, PROCESSES), (3, NETWORK), (5, PROCESSES + NETWORK + DISK)],
    ids=["3-processes", "3-network", "5-all"],
)
def test_a_few_faults(run_faults: Callable[..., None], size: int, faults: tuple[str, ...]) -> None:
    run_faults(size, faults, 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(
    "faults", [PROCESSES, NETWORK, DISK, PROCESSES + NETWORK + DISK], ids=["processes", "network", "disk", "all"]
)
def test_many_faults(run_faults: Callable[..., None], size: int, faults: tuple[str, ...]) -> None:
    run_faults(size, faults, ROUNDS)
