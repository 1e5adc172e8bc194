"""What members are and say of themselves: words, logs, local sessions, read-only mode, one that becomes three."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.support.rawzk import EPHEMERAL, RawClient, RawError
from tests.support.servers import Server

ClusterFactory = Callable[..., Cluster]
NOT_READ_ONLY, EPHEMERAL_ON_LOCAL_SESSION = -119, -120


def session_on(member: Server, timeout_ms: int = 10_000, **more: object) -> RawClient:
    """A client with a new session on one member."""
    client = RawClient("127.0.0.1", member.port, timeout=10.0)
    assert client.handshake(timeout_ms, **more).timeout_ms > 0  # type: ignore[arg-type]
    return client


def mntr(member: Server) -> dict[str, str]:
    """What `mntr` says, without the prefix."""
    lines = (line.split("\t", 1) for line in member.four("mntr").splitlines() if "\t" in line)
    return {name.removeprefix("zk_"): value for name, value in lines}


def zxid_of(member: Server) -> int:
    """The zxid that `srvr` says; -1 while the member does not serve."""
    return int(member.four("srvr").partition("Zxid: ")[2].split("\n")[0] or "-1", 16)


def followers_of(cluster: Cluster) -> list[int]:
    """The members that follow, smallest first."""
    return [number for number, mode in cluster.modes().items() if mode == "follower"]


# ---------------------------------------------------------------------------------- what members say
def test_members_tell_role_epoch_quorum_and_lag(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 4, observers=[4])
    leader = cluster.leader_number()
    with session_on(cluster.member(4)) as client:
        assert client.create("/x").err == 0
        client.close_session()
    eventually(lambda: len({zxid_of(member) for member in cluster.members}) == 1, "all have everything")
    for number in cluster.numbers:
        member = cluster.member(number)
        role = "leader" if number == leader else "observer" if number == 4 else "follower"
        assert f"Mode: {role}\n" in member.four("stat")
        assert f"Mode: {role}\n" in member.four("srvr")
        values = mntr(member)
        assert values["server_state"] == role
        assert values["quorum_size"] == "3"
        assert values["accepted_epoch"] == "1"
        assert int(values["last_logged_zxid"], 16) == zxid_of(member)
        doing = {"leader": "leading", "follower": "following", "observer": "observing"}[role]
        assert values["peer_state"] == f"{doing} - broadcast"
        if number == leader:
            assert "leading in epoch 1, followed by [" in member.log()
        else:
            assert f"following server.{leader} in epoch 1" in member.log()
            assert "synced_followers" not in values
            eventually(lambda member=member: mntr(member)["lag"] == "0", "it has what the leader's last ping told of")
    values = mntr(cluster.member(leader))
    assert {name: values[name] for name in ("learners", "followers", "synced_followers", "synced_observers")} == {
        "learners": "3",
        "followers": "2",
        "synced_followers": "2",
        "synced_observers": "1",
    }
    assert int(values["last_proposed_zxid"], 16) == zxid_of(cluster.member(leader))

    # One that stands still is behind by what is written meanwhile, and counts no more once it is given up.
    slow = followers_of(cluster)[0]
    before = zxid_of(cluster.member(leader))
    cluster.pause(slow)
    with session_on(cluster.member(leader)) as client:
        for n in range(20):
            assert client.create(f"/y{n}").err == 0
        client.close_session()
    assert "lag" not in mntr(cluster.member(leader))
    assert zxid_of(cluster.member(leader)) == before + 22  # with the session's beginning and end
    eventually(lambda: mntr(cluster.member(leader))["synced_followers"] == "1", "the leader gives it up")
    cluster.resume(slow)
    eventually(lambda: mntr(cluster.member(leader))["synced_followers"] == "2", "it is back")
    eventually(lambda: zxid_of(cluster.member(slow)) == zxid_of(cluster.member(leader)), "it has everything")


def test_a_member_without_quorum_says_so(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3)
    for number in (2, 3):
        cluster.member(number).terminate()
    member = cluster.member(1)
    eventually(lambda: cluster.mode(member) == "", "server.1 gives up")
    assert "not currently serving requests" in member.four("srvr")
    assert "not currently serving requests" in member.four("mntr")
    assert member.four("ruok") == "imok"
    assert "not serving" in member.log()


# ------------------------------------------------------------------------------------ local sessions
LOCAL = {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}


def test_a_local_session_becomes_global_with_its_first_ephemeral(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, LOCAL)
    leader, home, other = cluster.leader_number(), *followers_of(cluster)
    with session_on(cluster.member(leader)) as client:
        assert client.create("/first").err == 0
        client.close_session()
    before = zxid_of(cluster.member(leader))
    before_here = int(mntr(cluster.member(home))["local_sessions"])
    client = session_on(cluster.member(home))
    session = client.session
    assert session is not None
    assert client.get("/zookeeper").err == 0
    assert zxid_of(cluster.member(leader)) == before, "a local session costs no transaction"
    assert mntr(cluster.member(home))["local_sessions"] == str(before_here + 1)
    assert f"0x{session.session_id:x}" in cluster.member(home).four("dump").partition("Global Sessions")[0]
    assert client.create("/lasting").err == 0
    assert zxid_of(cluster.member(leader)) == before + 1

    # Nobody else knows it.
    with RawClient("127.0.0.1", cluster.member(other).port) as elsewhere:
        assert elsewhere.handshake(10_000, session.session_id, session.password).timeout_ms == 0

    assert client.create("/mine", b"", EPHEMERAL).err == 0
    assert zxid_of(cluster.member(leader)) == before + 3, "its creation and that of the znode"
    assert mntr(cluster.member(home))["local_sessions"] == str(before_here)
    assert f"0x{session.session_id:x}" in cluster.member(home).four("dump").partition("Global Sessions")[2]
    client.close()
    with RawClient("127.0.0.1", cluster.member(other).port) as elsewhere:
        granted = elsewhere.handshake(10_000, session.session_id, session.password)
        assert granted.session_id == session.session_id
        assert elsewhere.get("/mine").reader().buffer() == b""
        assert elsewhere.close_session().err == 0
    for member in cluster.members:
        with session_on(member) as client:
            client.sync("/")
            assert client.exists("/mine").err == -101
            client.close_session()
    assert checks.differences(checks.dumps(cluster)) == []


def test_a_local_session_that_may_not_become_global(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, {"localSessionsEnabled": "true"})
    for member in cluster.members:
        with session_on(member) as client:
            assert client.create("/mine", b"", EPHEMERAL).err == EPHEMERAL_ON_LOCAL_SESSION
            assert client.create(f"/lasting-{member.port}").err == 0
            client.close_session()


def test_a_silent_local_session_ends(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, LOCAL)
    home = cluster.member(followers_of(cluster)[0])
    with session_on(home, 1000) as client:
        session = client.session
        assert session is not None
        assert f"0x{session.session_id:x}" in home.four("dump")
        assert client.is_closed_by_server()
    eventually(lambda: f"0x{session.session_id:x}" not in home.four("dump"), "it is forgotten")


# ------------------------------------------------------------------------------------ read-only mode
def test_a_member_that_is_cut_off_serves_reads(make_cluster: ClusterFactory) -> None:
    settings = {"readonlymode.enabled": "true", "localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}
    cluster = make_cluster(["corekit"] * 3, settings, network=True)
    network = cluster.network
    assert network is not None
    alone = followers_of(cluster)[0]
    rest = set(cluster.numbers) - {alone}
    member = cluster.member(alone)
    with session_on(cluster.member(next(iter(rest)))) as client:
        assert client.create("/kept", b"before").err == 0
        client.close_session()
    eventually(lambda: len({zxid_of(one) for one in cluster.members}) == 1, "all have it")
    network.partition({alone}, rest)
    eventually(lambda: cluster.mode(member) == "read-only", "server is read-only without its quorum", 20)
    assert member.four("isro") == "ro"
    with session_on(member, read_only=True) as reader:
        assert reader.get("/kept", watch=True).reader().buffer() == b"before"
        assert reader.set("/kept", b"no").err == NOT_READ_ONLY
        assert reader.create("/no").err == NOT_READ_ONLY
        with RawClient("127.0.0.1", member.port) as writer, pytest.raises((OSError, RawError, struct.error)):
            writer.handshake(10_000)  # one that wants to write looks elsewhere
        with session_on(cluster.member(next(iter(rest)))) as writer:
            assert writer.set("/kept", b"after").err == 0
            writer.close_session()
        network.heal()
        assert reader.is_closed_by_server(20.0), "whoever reads here finds out that the server has its quorum again"
    eventually(lambda: cluster.mode(member) == "follower", "it follows again", 20)
    assert member.four("isro") == "rw"
    with session_on(member) as client:
        client.sync("/")
        assert client.get("/kept").reader().buffer() == b"after"
        assert client.set("/kept", b"again").err == 0
        client.close_session()
    assert checks.differences(checks.dumps(cluster)) == []


# -------------------------------------------------------------------------------------- one and three
def alone_with_data(cluster: Cluster, work: Callable[[RawClient], object] = RawClient.close_session) -> Server:
    """server.1, which was a server of its own and has `/kept`; it is stopped, and a member from now on."""
    first = cluster.member(1)
    lines = {key: value for key, value in first.settings.items() if key.startswith("server.")}
    for key in lines:
        del first.settings[key]
    first.spawn()
    first.wait_ready()
    with session_on(first, 20_000) as client:
        assert client.create("/kept", b"alone").err == 0
        work(client)
    first.terminate()
    first.settings.update(lines)
    return first


def test_a_server_of_one_becomes_three_and_keeps_everything(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    sessions = []

    def work(client: RawClient) -> None:
        sessions.append(client.session)
        assert client.create("/mine", b"", EPHEMERAL).err == 0

    alone_with_data(cluster, work)
    (cluster.member(2).data_directory / "initialize").touch()  # one of two, so that no quorum is without server.1
    cluster.begin()
    for member in cluster.members:
        with session_on(member) as client:
            client.sync("/")
            assert client.get("/kept").reader().buffer() == b"alone"
            assert client.exists("/mine").err == 0
            client.close_session()
    session = sessions[0]
    assert session is not None
    with RawClient("127.0.0.1", cluster.member(3).port) as client:
        assert client.handshake(20_000, session.session_id, session.password).session_id == session.session_id
        assert client.set("/mine", b"moved").err == 0
        client.close_session()
    assert checks.differences(checks.dumps(cluster)) == []
    cluster.member(1).kill()
    eventually(lambda: cluster.mode(cluster.member(2)) in ("leader", "follower"), "the other two go on without it")


@pytest.mark.slow
def test_a_server_of_one_waits_until_somebody_says_that_the_empty_ones_are_new(make_cluster: ClusterFactory) -> None:
    cluster = make_cluster(["corekit"] * 3, start=False)
    first = alone_with_data(cluster)
    for number in cluster.numbers:
        cluster.up(number)
    said = "do not vote, as their data may be incomplete: server.2, server.3. A new ensemble begins"
    eventually(lambda: said in first.log(), "server.1 says why, and where the way out is", 20)
    assert set(cluster.modes().values()) == {""}
    cluster.member(2).terminate()
    (cluster.member(2).data_directory / "initialize").touch()
    cluster.up(2)
    cluster.wait_all()
    with session_on(cluster.member(3)) as client:
        client.sync("/")
        assert client.exists("/kept").err == 0
        client.close_session()


def test_what_is_decided_is_not_given_up_for_a_history_without_it(make_cluster: ClusterFactory) -> None:
    """Two empty servers that somebody called new began without server.1: its data is kept, and it says so."""
    cluster = make_cluster(["corekit"] * 3, start=False)
    first = alone_with_data(cluster)
    for number in (2, 3):
        (cluster.member(number).data_directory / "initialize").touch()
        cluster.up(number)
    eventually(lambda: "leader" in cluster.modes().values(), "the empty ones begin")
    cluster.up(1)
    eventually(lambda: "this server's data is of another ensemble. It stays outside" in first.log(), "it says so")
    assert cluster.mode(first) == ""
    for number in cluster.numbers:
        cluster.member(number).terminate()
    for number in (2, 3):
        cluster.wipe(number)
    (cluster.member(2).data_directory / "initialize").touch()
    cluster.begin()
    with session_on(cluster.member(3)) as client:
        client.sync("/")
        assert client.get("/kept").reader().buffer() == b"alone"
        client.close_session()


@pytest.mark.slow
def test_a_follower_that_takes_in_too_little_is_dropped_and_comes_back(make_cluster: ClusterFactory) -> None:
    """It stands still, and long before it counts as silent more waits for it than the leader keeps."""
    cluster = make_cluster(["corekit"] * 3, {"syncLimit": 300})
    leader = cluster.leader_number()
    follower = followers_of(cluster)[0]
    with session_on(cluster.member(leader)) as client:
        assert client.create("/big").err == 0
        cluster.pause(follower)
        for _ in range(100):
            assert client.set("/big", b"x" * 900_000).err == 0
        eventually(lambda: f"server.{follower} left: reads too slowly" in cluster.member(leader).log(), "it is dropped")
        cluster.resume(follower)
        cluster.member(follower).wait_ready()
        client.close_session()
    assert checks.differences(checks.dumps(cluster)) == []
