"""Every way in which a leader brings a follower up to date, with leaders and followers of both kinds.

Each test makes the situation, then asserts from the leader's own log that it chose the way in question, and that all
members hold the same tree. Those that differ in nothing but what is written while server.3 is away share an ensemble.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_mixed import C, J, assert_equal, assert_no_complaints, client_of, every_kind_of_write
from tests.support.rawzk import CREATE, SET_DATA, buffer, create_body, int32, text
from tests.support.servers import find_program, zookeeper_jar

pytestmark = pytest.mark.interop

ClusterFactory = Callable[..., Cluster]
TELLS = "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"
# How a leader of each kind says which way it takes for server.3.
CHOICES = {C: r"server\.3 has 0x[-0-9a-f]+: (DIFF|TRUNC|SNAP)", J: r"Sending (DIFF|TRUNC|snapshot|SNAP)"}

# What a follower says of it.
RECEIVED = {
    "TRUNC": "cutting the log from",
    "SNAP": "receiving a snapshot",
    "TRUNC in Java": "Truncating log to get in sync",
    "SNAP in Java": "Getting a snapshot from leader",
}
# Leader's kind, its companion's, the follower's: leader is server.1 or 2, the follower that goes away is server.3.
PAIRS = [(C, J, J), (J, C, C), (C, C, C)]
IDS = ["corekit-leads-java", "java-leads-corekit", "corekit-leads-corekit"]


def begin(cluster: Cluster, leader: int, *java: str) -> Cluster:
    """Start an ensemble with talkative Java members, led by one of them."""
    for member in cluster.members:
        if member.kind == J:
            member.extra_args = [TELLS, *java]
    cluster.begin()
    cluster.make_leader(leader)
    with client_of(cluster, 2) as client:
        every_kind_of_write(client, "/first")
        client.close_session()
    return cluster


@pytest.fixture(scope="module", params=PAIRS, ids=IDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An ensemble of these kinds. Its Java leader may send its log, whatever the log's size."""
    if J in request.param:
        request.getfixturevalue("needs")(find_program, "java", "default-jre-headless")
        request.getfixturevalue("needs")(zookeeper_jar)
    cluster = Cluster(request.param, tmp_path_factory.mktemp("cluster"))
    try:
        yield begin(cluster, 1, "-Dzookeeper.snapshotSizeFactor=0")
    finally:
        cluster.kill()


@pytest.fixture
def cluster(pair: Cluster) -> Cluster:
    """The shared ensemble, whole and led by server.1 even if the test before failed."""
    pair.heal()
    pair.make_leader(1)
    return pair


def write_many(cluster: Cluster, number: int, base: str, count: int, data: bytes = b"x") -> None:
    """Pipelined creates through one member."""
    with client_of(cluster, number) as client:
        for begin in range(0, count, 100):
            for n in range(begin, min(begin + 100, count)):
                client.send(CREATE, create_body(f"{base}-{n}", data))
            for _ in range(begin, min(begin + 100, count)):
                assert client.reply().err == 0
        client.close_session()


def way_taken(cluster: Cluster, since: int) -> str:
    """The last choice in the log of server.1 behind position `since`."""
    member = cluster.member(1)
    found = re.findall(CHOICES[member.kind], member.log()[since:])
    assert found, member.log()[since:]
    return "SNAP" if found[-1] == "snapshot" else str(found[-1])


def come_back(cluster: Cluster, expected: str) -> None:
    """Start server.3 again and see how it is brought up to date."""
    since = len(cluster.member(1).log())
    cluster.up(3)
    cluster.wait_all()
    assert way_taken(cluster, since) == expected
    assert_equal(cluster)
    with client_of(cluster, 3) as client:
        every_kind_of_write(client, f"/afterwards-{since}")
        client.close_session()
    assert_no_complaints(cluster)
    # What was received is on disk: the follower starts from it again, with the log alone.
    cluster.member(3).kill()
    cluster.up(3)
    cluster.wait_all()
    assert_equal(cluster)


def test_diff_of_nothing(cluster: Cluster) -> None:
    assert_equal(cluster)
    cluster.member(3).kill()
    come_back(cluster, "DIFF")


def test_diff_from_memory(cluster: Cluster) -> None:
    cluster.member(3).kill()
    with client_of(cluster, 2) as client:
        every_kind_of_write(client, "/meanwhile")
        client.close_session()
    write_many(cluster, 1, "/few", 60)
    come_back(cluster, "DIFF")


def test_diff_from_the_log(cluster: Cluster) -> None:
    """More than the 500 transactions that a Java leader remembers."""
    cluster.member(3).kill()
    write_many(cluster, 2, "/many", 800)
    come_back(cluster, "DIFF")


def test_snap_of_a_wiped_server(cluster: Cluster) -> None:
    write_many(cluster, 2, "/large", 250, b"y" * 9000)  # several chunks
    cluster.member(3).kill()
    cluster.wipe(3)
    write_many(cluster, 1, "/more", 20)
    come_back(cluster, "SNAP")


def test_snap_because_a_java_leader_keeps_too_little(make_cluster: ClusterFactory) -> None:
    cluster = begin(make_cluster((J, J, C), start=False), 1, "-Dzookeeper.snapshotSizeFactor=-1")
    cluster.member(3).kill()
    write_many(cluster, 2, "/m", 1500)
    come_back(cluster, "SNAP")


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [(C, J, J), (C, C, C)], ids=["java", "corekit"])
def test_snap_because_it_is_cheaper(make_cluster: ClusterFactory, kinds: tuple[str, ...]) -> None:
    """The follower has all that the leader's log begins with, and missed many more writes than there are znodes."""
    cluster = begin(make_cluster(kinds, start=False), 1)
    cluster.member(3).kill()
    missed, flight = 52_000, 500
    with client_of(cluster, 1) as client:
        for n in range(missed + flight):
            if n < missed:
                client.send(SET_DATA, text("/first") + buffer(b"%d" % n) + int32(-1))
            if n >= flight:
                assert client.reply().err == 0
        client.close_session()
    come_back(cluster, "SNAP")


def test_snap_while_clients_write(cluster: Cluster) -> None:
    """What is written while a snapshot is sent arrives exactly once (ZOOKEEPER-3104)."""
    write_many(cluster, 2, "/larger", 400, b"z" * 10_000)
    cluster.member(3).kill()
    cluster.wipe(3)
    count = 0
    with client_of(cluster, 2) as client:
        client.create("/counter", b"0")
        cluster.up(3)

        def ready_after_writes() -> bool:
            nonlocal count
            for _ in range(50):
                count += 1
                assert client.set("/counter", str(count).encode()).err == 0
            return cluster.member(3).grants_session()

        eventually(ready_after_writes, "server.3 is back", 30)
        client.close_session()
    assert_equal(cluster)


@pytest.mark.parametrize("kinds", [(J, J, C), (C, C, J), (C, J, C), (C, C, C)], ids="-".join)
def test_trunc(make_cluster: ClusterFactory, kinds: tuple[str, ...]) -> None:
    """server.3 led and logged what nobody else has; it must forget it (ZOOKEEPER-1154)."""
    cluster = begin(make_cluster(kinds, network=True, start=False), 3)
    make_it_forget(cluster, 0)
    cluster.make_leader(3)
    make_it_forget(cluster, 30)


def make_it_forget(cluster: Cluster, more: int) -> None:
    """server.3, the leader, is left with what nobody else has; the others write `more` znodes; it comes back."""
    network = cluster.network
    assert network is not None
    assert_equal(cluster)
    with client_of(cluster, 3) as client:
        before = proposals(cluster)
        network.partition({3}, {1, 2})
        for n in range(5):
            client.send(CREATE, create_body(f"/ghost-{n}"))
        eventually(lambda: proposals(cluster) >= before + 5, "the leader proposes what nobody acknowledges", 10)
        eventually(lambda: on_disk(cluster.member(3).data_directory, b"/ghost-4"), "its log has them, too", 10)
        cluster.member(3).kill()
    for number in (1, 2):
        network.reset(number, 3)  # what was on the way is lost
    network.heal()
    eventually(lambda: "leader" in cluster.modes().values(), "the others elect")
    first = cluster.leader_number()
    if more:
        write_many(cluster, first, "/real", more)
    cluster.up(3)
    # Without a new session: a transaction of the new epoch would change the case.
    eventually(lambda: cluster.mode(cluster.member(3)) == "follower", "server.3 follows")
    # A Java leader does not look for the last common transaction across epochs.
    way = "SNAP" if cluster.member(first).kind == J and more else "TRUNC"
    assert RECEIVED[way] in cluster.member(3).log() or RECEIVED[f"{way} in Java"] in cluster.member(3).log()
    assert_equal(cluster)
    if more and way == "TRUNC":  # what came behind the cut is in its log, too, for those that will follow it
        assert all(on_disk(cluster.member(3).data_directory, b"/real-%d" % n) for n in range(more))
    for restart in (False, True):
        if restart:
            cluster.member(3).kill()
            cluster.up(3)
            cluster.wait_all()
        with client_of(cluster, 3) as client:
            names = client.children("/").reader().texts()
            assert not [name for name in names if name.startswith("ghost")]
            client.close_session()
    assert_equal(cluster)


def on_disk(folder: Path, what: bytes) -> bool:
    """Whether a file of a server's log holds this: a transaction log of ZooKeeper's, a segment of corekit's."""
    return any(what in file.read_bytes() for name in ("log.*", "*.journal") for file in folder.rglob(name))


def proposals(cluster: Cluster) -> int:
    """How many proposals server.3 made since it leads."""
    values = dict(line.split("\t", 1) for line in cluster.member(3).four("mntr").splitlines() if "\t" in line)
    return int(values["zk_proposal_count"])
