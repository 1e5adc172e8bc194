"""Who belongs to an ensemble and who counts in it: weights, ids, configurations that do not fit, new ensembles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.support.rawzk import RawClient, RawError
from tests.support.servers import Server, free_port

ClusterFactory = Callable[..., Cluster]


def write_works(member: Server, path: str) -> bool:
    """Whether a new session on a member can create a znode."""
    try:
        with RawClient("127.0.0.1", member.port, timeout=5.0) as client:
            if client.handshake().timeout_ms == 0:
                return False
            done = client.create(path).err == 0
            client.close_session()
            return done
    except (OSError, RawError):
        return False


def last_line(member: Server) -> str:
    """The last line of a process that has stopped."""
    return member.log().strip().splitlines()[-1]


def exit_of(member: Server) -> int:
    """The exit code of a process that should stop by itself."""
    assert member.process is not None
    return member.process.wait(20)


def test_votes_have_weights(make_cluster: ClusterFactory) -> None:
    settings = {"group.1": "1:2:3", "weight.1": 2, "weight.2": 1, "weight.3": 1}
    cluster = make_cluster(["corekit"] * 3, settings)
    cluster.member(3).kill()
    eventually(lambda: write_works(cluster.member(2), "/without-3"), "2 + 1 of 4 votes are a quorum")
    cluster.up(3)
    cluster.wait_all()
    cluster.member(1).kill()
    eventually(lambda: not write_works(cluster.member(2), "/never"), "1 + 1 of 4 votes are none")
    time.sleep(1.5)
    assert set(cluster.modes().values()) == {""}
    cluster.up(1)
    cluster.wait_all()
    assert checks.differences(checks.dumps(cluster)) == []


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("heavy", [1, 2], ids=["corekit", "java"])
def test_votes_have_weights_among_both_kinds(make_cluster: ClusterFactory, heavy: int) -> None:
    """Who has two of four votes is needed, and with it any other is enough."""
    weights = {f"weight.{n}": 2 if n == heavy else 1 for n in (1, 2, 3)}
    cluster = make_cluster(["corekit", "java", "corekit"], {"group.1": "1:2:3", **weights})
    light = 3 - heavy
    for absent in (3, light):
        cluster.member(absent).kill()
        eventually(lambda absent=absent: write_works(cluster.member(heavy), f"/without-{absent}"), "3 of 4 will do")
        cluster.up(absent)
        cluster.wait_all()
    cluster.member(heavy).kill()
    eventually(lambda: not write_works(cluster.member(3), "/never"), "2 of 4 are none")
    eventually(lambda: set(cluster.modes().values()) == {""}, "nobody leads")
    cluster.up(heavy)
    cluster.wait_all()
    assert checks.differences(checks.dumps(cluster)) == []


def test_a_server_without_weight_neither_leads_nor_counts(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, {"group.1": "1:2:3", "weight.3": 0})
    assert cluster.leader_number() != 3
    cluster.member(cluster.leader_number()).kill()
    time.sleep(1.0)
    assert set(cluster.modes().values()) == {""}


def test_most_groups_decide(make_cluster: ClusterFactory) -> None:
    settings = {"group.1": "1:2", "group.2": "3", "group.3": "4:5"}
    cluster = make_cluster(["corekit"] * 5, settings)
    for number in (4, 5):  # groups 1 and 2 stay
        cluster.member(number).kill()
    eventually(lambda: write_works(cluster.member(1), "/two-groups"), "two groups of three are a quorum")
    cluster.member(3).kill()
    cluster.up(4)
    time.sleep(1.5)
    assert not write_works(cluster.member(1), "/one-group"), "server.4 alone is half of its group, which is not won"
    cluster.up(5)
    eventually(lambda: write_works(cluster.member(1), "/groups-1-and-3"), "groups 1 and 3 are a quorum")


def test_a_leader_may_serve_no_clients(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, {"leaderServes": "no"}, start=False)
    for number in cluster.numbers:
        cluster.up(number)
    leader = cluster.leader_number()
    others = [n for n in cluster.numbers if n != leader]
    for number in others:
        cluster.member(number).wait_ready()
        assert write_works(cluster.member(number), f"/through-{number}")
    assert not write_works(cluster.member(leader), "/through-the-leader")
    assert "leaderServes=no" in cluster.member(leader).log() or cluster.mode(cluster.member(leader)) == "leader"


@pytest.mark.parametrize(
    ("content", "text"),
    [("7\n", "this is server 7, but"), ("many\n", "myid"), (None, "myid does not exist"), ("\n", "myid")],
    ids=["not-a-member", "not-a-number", "missing", "empty"],
)
def test_a_wrong_id_is_said_clearly(make_cluster: ClusterFactory, content: str | None, text: str) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    member = cluster.member(2)
    myid = member.data_directory / "myid"
    if content is None:
        myid.unlink()
    else:
        myid.write_text(content)
    member.spawn()
    assert exit_of(member) == 2
    assert last_line(member).startswith("corekit: ")
    assert text in last_line(member)
    assert "Traceback" not in member.log()


def test_an_id_that_runs_already_is_said_clearly(make_cluster: ClusterFactory, tmp_path: Path) -> None:
    cluster = make_cluster(["corekit"] * 3)
    twin = Server("corekit", tmp_path / "twin", cluster.member(2).settings)
    twin.data_directory.mkdir(parents=True)
    (twin.data_directory / "myid").write_text("2\n")
    twin.spawn()
    assert exit_of(twin) == 14
    assert "port of server.2" in last_line(twin)
    assert "myid" in last_line(twin)


@pytest.mark.parametrize("number", [1, 3], ids=["smallest", "largest"])
def test_a_second_server_with_the_same_id_elsewhere_stays_outside(
    make_cluster: ClusterFactory, tmp_path: Path, number: int
) -> None:
    cluster = make_cluster(["corekit"] * 3)
    leader = cluster.leader_number()
    epoch = cluster.member(leader).four("srvr").partition("Zxid: ")[2].split("\n")[0][:-8]
    settings = {**cluster.member(number).settings, f"server.{number}": f"127.0.0.1:{free_port()}:{free_port()}"}
    twin = Server("corekit", tmp_path / "twin", settings)
    twin.data_directory.mkdir(parents=True)
    (twin.data_directory / "myid").write_text(f"{number}\n")
    with RawClient("127.0.0.1", cluster.member(2).port) as client:
        client.handshake()
        with twin:
            twin.spawn()
            until = time.monotonic() + 6.0
            count = 0
            while time.monotonic() < until:
                assert client.create(f"/twin-{count}").err == 0
                count += 1
                time.sleep(0.02)
            assert not twin.grants_session()
        assert cluster.leader_number() == leader
        assert client.sync("/").err == 0
        assert cluster.member(leader).four("srvr").partition("Zxid: ")[2].split("\n")[0][:-8] == epoch
        client.close_session()
    told = "".join(cluster.member(n).log() for n in cluster.numbers)
    assert f"calls itself server.{number}" in told
    assert checks.differences(checks.dumps(cluster)) == []


def test_configurations_that_disagree_are_told_on_both_sides(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    odd = f"127.0.0.1:{free_port()}:{free_port()}"
    cluster.member(3).settings["server.4"] = odd
    for number in cluster.numbers:
        cluster.up(number)
    for number in (1, 2):
        cluster.member(number).wait_ready()
    eventually(lambda: f"only there: server.4={odd}" in cluster.member(1).log(), "server.1 tells what server.3 has")
    eventually(lambda: f"only here: server.4={odd}" in cluster.member(3).log(), "server.3 tells what it alone has")


def test_a_member_that_cannot_be_called_back_is_told_of(make_cluster: ClusterFactory) -> None:
    """The larger number dials: where it cannot, the smaller one stays outside, and only the larger one can know why."""
    cluster = make_cluster(["corekit"] * 3, start=False)
    nobody = free_port()
    cluster.member(3).settings["server.2"] = f"127.0.0.1:{free_port()}:{nobody}"
    for number in (1, 3):
        (cluster.member(number).data_directory / "initialize").touch()
        cluster.up(number)
    cluster.member(3).wait_ready()
    cluster.up(2)
    said = f"server.2 connects, but cannot be called back at 127.0.0.1:{nobody}: "
    eventually(lambda: said in cluster.member(3).log(), "server.3 says that it cannot reach server.2")
    assert cluster.member(3).log().count(said) == 1


def test_a_new_ensemble_waits_for_all_its_voters(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    cluster.up(1)
    cluster.up(2)
    eventually(lambda: "not reached: server.3" in cluster.member(1).log(), "server.1 says whom it waits for", 15)
    assert "new ensemble" in cluster.member(1).log()
    assert set(cluster.modes().values()) == {""}
    cluster.up(3)
    cluster.wait_all()


def test_a_new_ensemble_begins_with_a_majority_if_people_say_so(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    for number in (1, 2):
        (cluster.member(number).data_directory / "initialize").touch()
        cluster.up(number)
    for number in (1, 2):
        cluster.member(number).wait_ready()
        assert not (cluster.member(number).data_directory / "initialize").exists()
    assert write_works(cluster.member(1), "/begun")
    cluster.up(3)
    cluster.wait_all()
    assert checks.differences(checks.dumps(cluster)) == []


def test_a_wiped_server_cannot_take_the_others_data_along(make_cluster: ClusterFactory) -> None:
    """ZOOKEEPER-261: server.1 is behind, server.2 has everything and is wiped; the two of them are a quorum."""
    cluster = make_cluster(["corekit"] * 3)
    cluster.member(1).kill()
    eventually(lambda: write_works(cluster.member(2), "/kept"), "two of three write")
    cluster.member(2).kill()
    cluster.member(3).kill()
    cluster.wipe(2)
    cluster.up(1)
    cluster.up(2)
    time.sleep(4.0)
    assert set(cluster.modes().values()) == {""}, "nothing may be served without server.3"
    cluster.up(3)
    cluster.wait_all()
    with RawClient("127.0.0.1", cluster.member(2).port) as client:
        client.handshake()
        assert client.sync("/").err == 0
        assert client.exists("/kept").err == 0
        client.close_session()


def test_clients_learn_the_members(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, observers=[3])
    for member in cluster.members:
        with RawClient("127.0.0.1", member.port) as client:
            client.handshake()
            reader = client.get("/zookeeper/config").reader()
            lines = (reader.buffer() or b"").decode().split("\n")
            assert reader.stat().version == -1
            client.close_session()
        assert lines[-1] == "version=0"
        assert [line.rpartition(":")[2] for line in lines[:-1]] == ["participant", "participant", "observer"]
        assert {line.partition("=")[0] for line in lines[:-1]} == {"server.1", "server.2", "server.3"}
