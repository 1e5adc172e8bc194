"""A live ensemble is moved from Apache ZooKeeper to corekit, one server after the other, and back, under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_mixed import C, J, assert_equal, assert_no_complaints, client_of
from tests.cluster.travellers import BASE, JavaTraveller, KazooTraveller, judge

pytestmark = [pytest.mark.interop, pytest.mark.slow]

WRITES_A_STEP = 100  # by each client, between two changes


@pytest.fixture
def travellers(
    tmp_path: Path, needs: Callable[..., object]
) -> Iterator[Callable[..., tuple[KazooTraveller, JavaTraveller]]]:
    """`travellers(hosts)`: both clients, at work."""
    started: list[KazooTraveller | JavaTraveller] = []

    def start(hosts: str) -> tuple[KazooTraveller, JavaTraveller]:
        java = needs(JavaTraveller, hosts, tmp_path / "traveller")
        assert isinstance(java, JavaTraveller)
        kazoo = KazooTraveller(hosts)
        started.extend((java, kazoo))
        kazoo.start()
        return kazoo, java

    yield start
    for one in started:
        if isinstance(one, JavaTraveller):
            one.close()
        else:
            one.stop.set()
            one.join(30)


@pytest.mark.parametrize("leader_first", [True, False], ids=["leader-first", "leader-last"])
def test_there_and_back(
    make_cluster: Callable[..., Cluster],
    travellers: Callable[..., tuple[KazooTraveller, JavaTraveller]],
    leader_first: bool,
) -> None:
    cluster = make_cluster((J, J, J))
    with client_of(cluster, 1) as client:
        for path in ("", "/seq", "/quiet"):
            assert client.create(f"{BASE}{path}").err == 0
        client.close_session()
    kazoo, java = travellers(cluster.hosts)
    journeys = {"kazoo": kazoo.journey, "java": java.journey}

    def gets_on() -> None:
        before = {who: len(journey.sequence) for who, journey in journeys.items()}
        eventually(
            lambda: all(
                journey.wrong or len(journey.sequence) >= before[who] + WRITES_A_STEP
                for who, journey in journeys.items()
            ),
            f"both clients get on: {[(len(j.sequence), j.unknown, j.wrong) for j in journeys.values()]}",
            60,
        )
        assert [journey.wrong for journey in journeys.values()] == [[], []]

    gets_on()
    for kind in (C, J):
        rest = set(cluster.numbers)
        while rest:
            leader = cluster.leader_number()
            followers = sorted(rest - {leader})
            number = leader if leader in rest and (leader_first or not followers) else followers[0]
            rest.remove(number)
            cluster.turn_into(number, kind)
            gets_on()
            assert_no_complaints(cluster, java_leads=True)
        assert {member.kind for member in cluster.members} == {kind}

    with client_of(cluster, 1) as client:
        assert client.set(f"{BASE}/quiet", b"changed").err == 0
        client.close_session()
    eventually(lambda: kazoo.journey.seen and java.journey.seen, "both clients are told of the change")
    kazoo.stop.set()
    kazoo.join(30)
    java.arrive()
    assert_equal(cluster, java_leads=True)
    nodes = checks.dumps(cluster)[1].nodes
    values = {path: (node[0] or b"").decode() for path, node in nodes.items() if path.startswith(f"{BASE}/seq/")}
    registers = {who: int(nodes[f"{BASE}/{who}-register"][0] or b"0") for who in journeys}
    assert judge(journeys, values, registers) == []
    assert kazoo.journey.seen == ["changed"]
    assert java.journey.seen == [f"{BASE}/quiet NodeDataChanged"]
    numbers = sorted(int(path.rpartition("-")[2]) for path in values)
    assert numbers == list(range(len(numbers))), "sequence numbers have neither gaps nor doubles"
    assert not [path for path in nodes if path.endswith("-mine")], "closed sessions leave nothing"
    for who, journey in journeys.items():
        print(
            f"{who}: {len(journey.sequence)} acknowledged, {journey.unknown} unknown, {journey.reconnects} reconnects"
        )
