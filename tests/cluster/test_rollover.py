"""The counter of the zxids comes near its end: a new epoch begins, and no client loses its session (ZOOKEEPER-1277).

A corekit leader does that here after a few writes already, as a plugin tells it; a Java leader starts near the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.cluster import checks
from tests.cluster.clients import Book, Session, get_body
from tests.cluster.cluster import Cluster, eventually
from tests.support.rawzk import CREATE, EPHEMERAL, GET_DATA, SEQUENTIAL, create_body
from tests.support.strangers import install

ClusterFactory = Callable[..., Cluster]
C, J = "corekit", "java"
ENTRIES = 60  # of an epoch
SOON = f"""
    from dataclasses import replace

    import corekit_zab

    kind = "consensus"

    @hookimpl
    def make_consensus(context):
        zab = corekit_zab.make_consensus(context)
        zab.options = replace(zab.options, rollover_at={ENTRIES})
        return zab
"""


def epoch_of(cluster: Cluster) -> int:
    """The newest epoch that a member knows."""
    texts = [cluster.member(n).four("srvr").partition("Zxid: ")[2].split("\n")[0] for n in cluster.numbers]
    return max((int(text, 16) >> 32 for text in texts if text), default=0)


def write_through_epochs(cluster: Cluster, epochs: int, leader: int = 0) -> None:
    """Clients write until so many more epochs have begun; nothing acknowledged and no session may be lost.

    Args:
        leader: the only member whose counter is used up soon; it is made leader again if it loses an election.
    """
    book, stop = Book(), threading.Event()
    ports = [member.port for member in cluster.members]
    sessions = [Session([port], 20.0, Random(port), book, stop, str(port)) for port in ports]
    ids = []
    for session in sessions:
        assert [
            reply.err for reply in session.batch([(CREATE, create_body(f"/e-{session.name}", b"", EPHEMERAL))])
        ] == [0]
        ids.append(session.id)
    first = epoch_of(cluster)
    names: list[str] = []
    kept: set[str] = set()
    tries = 0

    def enough() -> bool:
        nonlocal tries
        if leader and any(mode == "leader" for number, mode in cluster.modes().items() if number != leader):
            cluster.make_leader(leader)  # it was late
        for session in sessions:
            tries += 1
            batch = [(CREATE, create_body(f"/w-{tries}-{n}")) for n in range(5)]
            replies = session.batch([*batch, (CREATE, create_body("/s-", b"", SEQUENTIAL))])
            kept.update(f"/w-{tries}-{n}" for n, reply in enumerate(replies[:5]) if reply.err == 0)
            names.extend(reply.reader().text() for reply in replies[5:] if reply.err == 0)
        return epoch_of(cluster) >= first + epochs

    eventually(enough, f"{epochs} epochs begin", 60)
    assert len(kept) > epochs * 5
    for session, was in zip(sessions, ids, strict=True):
        eventually(lambda session=session: session.batch([(GET_DATA, get_body("/"))]), "its session lives")
        assert session.id == was
    cluster.wait_all()
    found = checks.dumps(cluster)
    assert checks.differences(found) == []
    nodes = found[1].nodes
    assert kept <= nodes.keys()
    assert set(names) <= nodes.keys()
    assert len(set(names)) == len(names), "no sequence number is given twice"
    for session in sessions:
        assert nodes[f"/e-{session.name}"][1].ephemeral_owner == session.id
        session.drop()
    assert book.wrong == []


def with_soon(make_cluster: ClusterFactory, site: Path, kinds: tuple[str, ...]) -> Cluster:
    """An ensemble whose corekit leaders roll over soon."""
    cluster = make_cluster(kinds, start=False)
    install(site, "soon", SOON)
    for member in cluster.members:
        if member.kind == C:
            member.env["PYTHONPATH"] = str(site)
            member.extra_args = ["--plugins", "soon"]
    return cluster.begin()


def test_sessions_and_writes_survive_new_epochs(make_cluster: ClusterFactory, tmp_path: Path) -> None:
    cluster = with_soon(make_cluster, tmp_path / "site", (C, C, C))
    write_through_epochs(cluster, 4)
    assert "the zxid counter is used up: a new epoch begins" in "".join(member.log() for member in cluster.members)


@pytest.mark.slow
@pytest.mark.interop
def test_java_followers_go_along_with_a_corekit_leader(make_cluster: ClusterFactory, tmp_path: Path) -> None:
    """The largest number wins an election among equals, so server.3 leads again and again."""
    cluster = with_soon(make_cluster, tmp_path / "site", (J, J, C))
    cluster.make_leader(3)
    write_through_epochs(cluster, 3, leader=3)
    assert cluster.member(3).log().count("the zxid counter is used up") >= 2


@pytest.mark.slow
@pytest.mark.interop
def test_corekit_followers_go_along_with_a_java_leader(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster((C, C, J), start=False)
    cluster.member(3).extra_args = [f"-Dzookeeper.testingonly.initialZxid={0xFFFFFFFF - ENTRIES}"]
    cluster.begin()
    cluster.make_leader(3)
    write_through_epochs(cluster, 3, leader=3)
    assert "lower 32 bits have rolled over" in cluster.member(3).log()
