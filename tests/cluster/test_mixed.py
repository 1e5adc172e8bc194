"""Ensembles of corekit servers and Apache ZooKeeper servers together, in every role."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests import ROOT
from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.java_log import complaints
from tests.support.rawzk import (
    CREATE,
    EPHEMERAL,
    EPHEMERAL_SEQUENTIAL,
    PING,
    SEQUENTIAL,
    SET_DATA,
    SET_WATCHES,
    XID_PING,
    Event,
    RawClient,
    RawError,
    Reply,
    buffer,
    create_body,
    int32,
    text,
)
from tests.support.strangers import install

pytestmark = [pytest.mark.interop, pytest.mark.slow]

C, J = "corekit", "java"
MIXES = {"1+2": (C, J, J), "2+1": (J, C, C), "2+3": (J, J, J, C, C), "3+2": (C, C, C, J, J)}


class PingingClient(RawClient):
    """Pings while it waits, as all but raw clients do.

    Apache ZooKeeper 3.8.0 can leave a commit unprocessed, and so a request unanswered, until another one wakes it
    (ZOOKEEPER-4537).
    """

    _pings = 0  # that nobody waits for

    def receive(self) -> Reply | Event:
        deadline = time.monotonic() + 15.0
        while time.monotonic() < deadline:
            if not self._received and not select.select([self.sock], [], [], 1.0)[0]:
                self.send(PING, b"", XID_PING)
                self._pings += 1
                continue
            got = super().receive()
            if not self._pings or not isinstance(got, Reply) or got.xid != XID_PING:
                return got
            self._pings -= 1
        raise TimeoutError("nothing but answers to pings")


def client_of(cluster: Cluster, number: int, timeout_ms: int = 10_000) -> RawClient:
    """A client with a new session on one member."""
    member = cluster.member(number)
    kind = PingingClient if member.kind == "java" else RawClient
    client = kind("127.0.0.1", member.port, timeout=15.0)
    client.handshake(timeout_ms)
    return client


def move(cluster: Cluster, client: RawClient, number: int, seen: int = 0) -> RawClient:
    """The same session on another member; patient while that one elects or catches up."""
    session = client.session
    assert session is not None
    client.close()
    moved: list[RawClient] = []

    def attempt() -> bool:
        one = RawClient("127.0.0.1", cluster.member(number).port, timeout=5.0)
        try:
            granted = one.handshake(session.timeout_ms, session.session_id, session.password, seen)
        except (OSError, RawError, struct.error):
            one.close()
            return False
        assert granted.timeout_ms, f"server.{number} does not know session 0x{session.session_id:x}"
        assert granted.session_id == session.session_id
        moved.append(one)
        return True

    eventually(attempt, f"server.{number} takes the session", 20)
    return moved[0]


def assert_equal(cluster: Cluster, java_leads: bool = False) -> None:
    """All members hold the same tree, and no Java member complains."""
    wrong, left_out = checks.compare(cluster, checks.dumps(cluster))
    assert wrong == []
    if left_out:
        print(f"left out, as ZOOKEEPER-4409 made a hole in their logs: {left_out}")
    assert_no_complaints(cluster, java_leads)


def assert_no_complaints(cluster: Cluster, java_leads: bool = False) -> None:
    """No member found a digest that differs from its own, and no Java member logged what nobody has explained."""
    for number in cluster.numbers:
        member = cluster.member(number)
        if member.kind == J:
            assert complaints(member.log(), java_leads) == []
        values = dict(line.split("\t", 1) for line in member.four("mntr").splitlines() if "\t" in line)
        assert values["zk_digest_mismatches_count"] == "0", f"server.{number}"


def every_kind_of_write(client: RawClient, base: str) -> None:
    """Transactions of every type below `base`."""
    assert client.create(base, b"base").err == 0
    assert client.create2(f"{base}/two", b"\x00\xff", 0, [(31, "world", "anyone"), (1, "ip", "10.0.0.1")]).err == 0
    for n in range(3):
        assert client.create(f"{base}/seq-", str(n).encode(), SEQUENTIAL).err == 0
    assert client.create2(f"{base}/container", b"", 4).err == 0
    assert client.set(f"{base}/two", b"changed").err == 0
    assert client.set(f"{base}/two", b"no", 7).err == -103
    assert client.set_acl(base, [(31, "world", "anyone"), (3, "digest", "a:b")]).err == 0
    assert client.delete(f"{base}/seq-0000000001").err == 0
    done = client.multi(
        [
            (CREATE, create_body(f"{base}/m", b"m")),
            (SET_DATA, text(f"{base}/m") + buffer(b"n") + int32(0)),
            (13, text(base) + int32(-1)),
        ]
    )
    assert done.err == 0
    failed = client.multi([(CREATE, create_body(f"{base}/x")), (13, text(f"{base}/nothing") + int32(-1))])
    assert failed.err in (0, -101)
    assert client.create(f"{base}/none", None).err == 0
    assert client.create(f"{base}/e", b"", EPHEMERAL).err == 0
    assert client.sync(base).err == 0


@pytest.mark.parametrize("kinds", MIXES.values(), ids=MIXES.keys())
def test_every_member_leads_and_every_write_reaches_all(
    make_cluster: Callable[..., Cluster], kinds: tuple[str]
) -> None:
    cluster = make_cluster(kinds)
    leaders = {kinds.index(C) + 1, kinds.index(J) + 1}
    for leader in sorted(leaders):
        cluster.make_leader(leader)
        for number in cluster.numbers:
            with client_of(cluster, number) as client:
                every_kind_of_write(client, f"/by{leader}at{number}")
                assert client.close_session().err == 0
        assert_equal(cluster)


@pytest.mark.parametrize("kinds", [(C, C, J), (J, J, C)], ids=["java", "corekit"])
def test_an_observer_of_the_other_kind(make_cluster: Callable[..., Cluster], kinds: tuple[str]) -> None:
    cluster = make_cluster(kinds, observers=[3])
    assert cluster.mode(cluster.member(3)) == "observer"
    with client_of(cluster, 3) as client:
        every_kind_of_write(client, "/through-the-observer")
    assert_equal(cluster)
    cluster.member(3).kill()
    with client_of(cluster, 1) as client:
        for n in range(50):
            client.create(f"/while-away-{n}")
    cluster.up(3)
    cluster.wait_all()
    leader = cluster.leader_number()
    cluster.member(leader).kill()
    cluster.up(leader)
    cluster.wait_all()
    assert cluster.mode(cluster.member(3)) == "observer"
    assert_equal(cluster)


@pytest.mark.parametrize("leader", [1, 2], ids=["corekit-leads", "java-leads"])
def test_sessions_move_between_the_kinds(make_cluster: Callable[..., Cluster], leader: int) -> None:
    cluster = make_cluster((C, J, C, J, J))
    cluster.make_leader(leader)
    client = client_of(cluster, 3)
    assert client.create("/mine", b"", EPHEMERAL).err == 0
    names = [client.create("/n-", b"", EPHEMERAL_SEQUENTIAL).reader().text()]
    for number in (4, 1, 2, 3, 5):
        client = move(cluster, client, number)
        names.append(client.create("/n-", b"", EPHEMERAL_SEQUENTIAL).reader().text())
        assert client.set("/mine", str(number).encode()).err == 0
    assert names == [f"/n-{int(names[0][3:]) + k:010}" for k in range(6)]
    found = checks.dumps(cluster)
    assert client.session is not None
    assert all(found[n].nodes["/mine"][1].ephemeral_owner == client.session.session_id for n in cluster.numbers)
    assert client.close_session().err == 0
    client.close()
    found = checks.dumps(cluster)
    assert not [path for dump in found.values() for path in dump.nodes if path == "/mine" or path.startswith("/n-")]
    assert_equal(cluster)


@pytest.mark.parametrize("leader", [1, 2], ids=["corekit-leads", "java-leads"])
def test_a_silent_session_ends_everywhere_and_a_living_one_does_not(
    make_cluster: Callable[..., Cluster], leader: int
) -> None:
    cluster = make_cluster((C, J, J, C, C))
    cluster.make_leader(leader)
    silent, living = [], []
    for number in cluster.numbers:
        one = client_of(cluster, number, 1000)
        assert one.create(f"/silent-{number}", b"", EPHEMERAL).err == 0
        silent.append(one)
        other = client_of(cluster, number, 1000)
        assert other.create(f"/living-{number}", b"", EPHEMERAL).err == 0
        living.append(other)

    def gone() -> bool:
        assert all(client.ping().err == 0 for client in living)
        names = living[0].children("/").reader().texts()
        return not [name for name in names if name.startswith("silent")]

    began = time.monotonic()
    eventually(gone, "the silent sessions end", 15)
    assert time.monotonic() - began > 0.8
    while time.monotonic() - began < 4.0:
        assert gone()
        time.sleep(0.2)
    for number, client in zip(cluster.numbers, living, strict=True):
        client.sync("/")
        names = client.children("/").reader().texts()
        assert sorted(name for name in names if "-" in name) == [f"living-{n}" for n in cluster.numbers], number
    for client in (*silent, *living):
        client.close()


@pytest.mark.parametrize("first", [1, 2], ids=["corekit-dies", "java-dies"])
def test_watches_survive_the_death_of_a_leader(make_cluster: Callable[..., Cluster], first: int) -> None:
    cluster = make_cluster((C, J, C, J, J))
    cluster.make_leader(first)
    with client_of(cluster, 5) as writer:
        for path in ("/data", "/gone", "/children", "/quiet"):
            assert writer.create(path, b"1").err == 0
        client = client_of(cluster, first, 20_000)
        seen = client.sync("/").zxid
        for path in ("/data", "/gone", "/quiet"):
            seen = max(seen, client.get(path, watch=True).zxid)
        assert client.exists("/new", watch=True).err == -101
        seen = max(seen, client.children("/children", watch=True).zxid)
        cluster.member(first).kill()
        other = 3 if first == 2 else 4
        writer = move(cluster, writer, 5)
        assert writer.set("/data", b"2").err == 0
        assert writer.delete("/gone").err == 0
        assert writer.create("/children/child").err == 0
        assert writer.create("/new").err == 0
        client = move(cluster, client, other, seen)
        client.sync("/")
        reply = client.set_watches(seen, ["/data", "/gone", "/quiet"], ["/new"], ["/children"], opcode=SET_WATCHES)
        assert reply.err == 0
        client.ping()
        assert sorted((event.path, event.type) for event in client.events) == [
            ("/children", 4),
            ("/data", 3),
            ("/gone", 2),
            ("/new", 1),
        ]
        client.events.clear()
        assert writer.set("/quiet", b"2").err == 0
        assert replace(client.wait_event(), zxid=0).path == "/quiet"
        client.close()
        writer.close()


def test_a_java_follower_answers_syncs_and_writes_of_many_clients(make_cluster: Callable[..., Cluster]) -> None:
    """It relies on one order of the answers to all its clients; syncs of a corekit leader take longer than writes."""
    cluster = make_cluster((J, C, C))
    cluster.make_leader(3)
    with client_of(cluster, 1) as client:
        assert client.create("/busy").err == 0

    def busy(rounds: int) -> int:
        answered = 0
        with client_of(cluster, 1) as client:
            for n in range(rounds):
                client.send(9, text("/busy"))
                client.send(SET_DATA, text("/busy") + buffer(b"%d" % n) + int32(-1))
                answered += [client.reply().err, client.reply().err].count(0)
        return answered

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(busy, [200] * 8)) == [400] * 8
    assert_equal(cluster)


def test_sequence_numbers_go_on_whoever_leads(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster((C, J, J))
    random = Random(1)
    expected = 0
    with client_of(cluster, 3) as client:
        assert client.create("/queue").err == 0
        client.close_session()
    for leader in (1, 2, 1, 3):
        cluster.make_leader(leader)
        for number in cluster.numbers:
            with client_of(cluster, number) as client:
                for _ in range(5):
                    name = client.create("/queue/n-", b"", SEQUENTIAL).reader().text()
                    assert name == f"/queue/n-{expected:010}"
                    expected += 1
                    if random.random() < 0.6:
                        assert client.delete(name).err == 0
                client.close_session()
    assert_equal(cluster)


WRONG = """
    from corekit.codec.txns import DIGEST
    from corekit.replica import prepare

    kind = "observer"

    class Wrong:
        @staticmethod
        def pack(version, digest):
            return DIGEST.pack(version, digest ^ 1)

    prepare.DIGEST = Wrong

    @hookimpl
    def register_observers(context):
        return []
"""


@pytest.mark.parametrize("wrong", [False, True])
def test_java_members_do_compare_digests(make_cluster: Callable[..., Cluster], tmp_path: Path, wrong: bool) -> None:
    """That they find no mismatch means something: they find one if the leader's digests are wrong."""
    cluster = make_cluster((J, C, C), start=False)
    if wrong:
        install(tmp_path / "site", "wrong", WRONG)
        (tmp_path / "site/sitecustomize.py").write_text("import tests  # what is replaced must not be compiled")
        for number in (2, 3):
            cluster.member(number).env["PYTHONPATH"] = f"{tmp_path / 'site'}{os.pathsep}{ROOT}"
            cluster.member(number).extra_args = ["--plugins", "wrong"]
    cluster.begin()
    cluster.make_leader(3)
    with client_of(cluster, 3) as client:
        assert client.create("/a").err == 0
        client.close_session()
    with client_of(cluster, 1) as client:
        assert client.sync("/").err == 0
        assert client.exists("/a").err == 0
        client.close_session()
    found = cluster.member(1).four("mntr").partition("zk_digest_mismatches_count\t")[2].split("\n")[0]
    assert (int(found) > 0) == wrong


def lose_one(cluster: Cluster, number: int) -> None:
    """Make a hole in the log of a Java member that is stopped: what a log thread that died leaves (ZOOKEEPER-4409)."""
    logs = cluster.member(number).data_directory.glob("version-2/log.*")
    path = max(logs, key=lambda path: int(path.suffix[1:], 16))
    data = path.read_bytes()
    entries = []
    at = 16  # after the header: checksum (8 bytes), length (4), entry, one byte
    while size := int.from_bytes(data[at + 8 : at + 12], "big"):
        entries.append((at, at + 13 + size))
        at += 13 + size
    start, end = entries[-2]
    path.write_bytes(data[:start] + data[end:])


def test_corekit_members_say_that_a_java_leader_has_lost_a_write(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster((J, C, C))
    cluster.make_leader(2)
    with client_of(cluster, 3) as client:
        for name in ("/a", "/b", "/c"):
            assert client.create(name).err == 0
        client.sync("/")
    cluster.member(1).terminate()
    lose_one(cluster, 1)
    cluster.up(1)
    cluster.make_leader(1)
    with client_of(cluster, 2) as client:
        assert client.create("/late").err == 0
        client.sync("/")
    said = "tree is not that of the leader, server.1, any more: one of the two has lost writes"
    for member in cluster.members[1:]:
        eventually(lambda log=member.log: said in log(), f"{member.directory.name} says so")
        assert member.log().count(said) == 1


def test_members_show_the_same_configuration(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster((C, J, C), observers=[3])
    texts = []
    for number in cluster.numbers:
        with client_of(cluster, number) as client:
            texts.append(sorted((client.get("/zookeeper/config").reader().buffer() or b"").split(b"\n")))
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == 4
