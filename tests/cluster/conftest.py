"""Fixtures: clusters that end with their test, and the rule for software that is not Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from corekit.testing import disk_faults
from tests.cluster.cluster import Cluster
from tests.support.proxy import Network
from tests.support.servers import find_program, zookeeper_jar

ClusterFactory = Callable[..., Cluster]


@pytest.fixture
def make_cluster(tmp_path: Path, needs: Callable[..., object]) -> Iterator[ClusterFactory]:
    """`make_cluster(kinds, settings=None, network=False, disks=False, observers=(), start=True)`."""
    networks: list[Network] = []
    clusters: list[Cluster] = []

    def make(
        kinds: Sequence[str],
        settings: dict[str, object] | None = None,
        *,
        network: bool = False,
        disks: bool = False,
        observers: Sequence[int] = (),
        start: bool = True,
    ) -> Cluster:
        if "java" in kinds:
            needs(find_program, "java", "default-jre-headless")
            needs(zookeeper_jar)
        if network:
            networks.append(Network())
        cluster = Cluster(
            kinds,
            tmp_path / f"cluster{len(clusters)}",
            settings,
            network=networks[-1] if network else None,
            disk_library=disk_faults.build(tmp_path) if disks else None,
            observers=observers,
        )
        clusters.append(cluster)
        return cluster.begin() if start else cluster

    yield make
    for cluster in clusters:
        cluster.kill()
    for one in networks:
        one.close()
