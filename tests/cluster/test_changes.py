"""Ensembles that change under people's hands: members with other addresses, more members, whole restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_membership import write_works
from tests.support.rawzk import EPHEMERAL, SEQUENTIAL, RawClient
from tests.support.strangers import install

ClusterFactory = Callable[..., Cluster]
C = "corekit"
# In the place of a name server: names and addresses in a file that is read for each question.
NAMES = """
    import os
    import socket

    import corekit_zab

    kind = "consensus"
    ask = socket.getaddrinfo

    def answer(host, *arguments, **more):
        with open(os.environ["NAMES"]) as lines:
            known = dict(line.split() for line in lines)
        name = host.decode() if isinstance(host, bytes) else host
        return ask(known.get(name, host), *arguments, **more)

    socket.getaddrinfo = answer

    @hookimpl
    def make_consensus(context):
        return corekit_zab.make_consensus(context)
"""


def test_a_member_comes_back_at_another_address(make_cluster: ClusterFactory, tmp_path: Path) -> None:
    """Names are resolved at every dial (ZOOKEEPER-1506, 2171): of an election port, and of a leader's quorum port."""
    cluster = make_cluster([C] * 3, start=False)
    install(tmp_path / "site", "names", NAMES)
    names, addresses = tmp_path / "names", dict.fromkeys(cluster.numbers, "127.0.0.1")

    def move(number: int, address: str) -> None:
        addresses[number] = address
        names.write_text("".join(f"member{n}.test {one}\n" for n, one in addresses.items()))

    move(1, "127.0.0.1")
    for member in cluster.members:
        member.env |= {"PYTHONPATH": str(tmp_path / "site"), "NAMES": str(names)}
        member.extra_args = ["--plugins", "names"]
        for n in cluster.numbers:
            value = str(member.settings[f"server.{n}"])
            member.settings[f"server.{n}"] = value.replace("127.0.0.1", f"member{n}.test")
    cluster.begin()
    for number in (1, 3):  # the others dial server.1; server.3 dials the others, but they have to find it as leader
        cluster.member(number).kill()
        move(number, f"127.0.0.{10 + number}")
        cluster.up(number)
        cluster.wait_all()
    cluster.make_leader(3)
    assert write_works(cluster.member(1), "/through-3")
    assert checks.differences(checks.dumps(cluster)) == []


def test_three_become_five(make_cluster: ClusterFactory) -> None:
    """As docs/ensembles.md tells it: lines into all files, the old ones restart one by one, the new ones join."""
    cluster = make_cluster([C] * 5, start=False)
    lines = {key: value for key, value in cluster.member(1).settings.items() if key in ("server.4", "server.5")}
    old, new = cluster.members[:3], cluster.members[3:]
    for member in old:
        for key in lines:
            del member.settings[key]
        member.spawn()
    for member in old:
        member.wait_ready()
    assert write_works(old[0], "/of-three")
    for member in old:
        member.terminate()
        member.settings.update(lines)
        member.spawn()
    for member in old:
        member.wait_ready()
    for member in new:
        member.spawn()
    cluster.wait_all()
    assert checks.differences(checks.dumps(cluster)) == []
    for number in (1, 2):
        cluster.member(number).kill()
    eventually(lambda: write_works(cluster.member(3), "/of-five"), "three of five are a quorum, two of them new")
    with RawClient("127.0.0.1", cluster.member(5).port) as client:
        client.handshake()
        client.sync("/")
        assert client.exists("/of-three").err == 0
        client.close_session()


@pytest.mark.parametrize(
    ("size", "hard"),
    [
        pytest.param(3, True, id="3-killed"),
        pytest.param(3, False, id="3-stopped", marks=pytest.mark.slow),
        pytest.param(5, True, id="5-killed", marks=pytest.mark.slow),
        pytest.param(5, False, id="5-stopped", marks=pytest.mark.slow),
    ],
)
def test_a_restart_of_all_keeps_data_sessions_and_counters(make_cluster: ClusterFactory, size: int, hard: bool) -> None:
    cluster = make_cluster([C] * size)
    clients = []
    for number in cluster.numbers:
        client = RawClient("127.0.0.1", cluster.member(number).port)
        client.handshake(20_000)
        assert client.create(f"/mine-{number}", b"", EPHEMERAL).err == 0
        clients.append(client)
    names = [clients[0].create("/n-", b"", SEQUENTIAL).reader().text() for _ in range(5)]
    for number in Random(size).sample(cluster.numbers, size):
        if hard:
            cluster.member(number).kill()
        else:
            cluster.member(number).terminate()
    for number in Random(size + 1).sample(cluster.numbers, size):
        cluster.up(number)
    cluster.wait_all()
    found = checks.dumps(cluster)
    assert checks.differences(found) == []
    assert set(names) <= found[1].nodes.keys()
    for number, client in zip(cluster.numbers, clients, strict=True):
        client.close()
        session = client.session
        assert session is not None
        assert found[1].nodes[f"/mine-{number}"][1].ephemeral_owner == session.session_id
        other = cluster.member(number % size + 1)
        with RawClient("127.0.0.1", other.port) as again:
            granted = again.handshake(20_000, session.session_id, session.password)
            assert granted.session_id == session.session_id
            assert again.create("/n-", b"", SEQUENTIAL).reader().text() == f"/n-{int(names[-1][3:]) + number:010}"
            again.close_session()
    with RawClient("127.0.0.1", cluster.member(1).port) as client:
        client.handshake()
        client.sync("/")
        assert not [name for name in client.children("/").reader().texts() if name.startswith("mine-")]
        client.close_session()
