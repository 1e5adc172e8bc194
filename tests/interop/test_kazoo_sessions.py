"""kazoo through restarts and crashes of its server, session limits and passwords, and read-only handshakes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import AuthFailedError, NoNodeError
from kazoo.protocol.states import WatchedEvent
from kazoo.security import CREATOR_ALL_ACL

from tests.conftest import ServerFactory
from tests.interop.conftest import KazooFactory, wait_for
from tests.support.rawzk import Closed, RawClient
from tests.support.servers import Server


def state_log(client: KazooClient) -> list[str]:
    states: list[str] = []
    client.add_listener(states.append)
    return states


@pytest.mark.parametrize("hard", [False, True], ids=["terminated", "killed"])
def test_a_session_survives_a_restart_of_the_server(
    server_factory: ServerFactory, kazoo_factory: KazooFactory, hard: bool
) -> None:
    server = server_factory()
    client = kazoo_factory(hosts=server.hosts, timeout=20)
    states = state_log(client)
    session = client.client_id
    client.create("/a", b"before")
    client.create("/a/mine", ephemeral=True)
    data: list[bytes] = []
    children: list[list[str]] = []
    client.DataWatch("/a", lambda value, stat: data.append(value))
    client.ChildrenWatch("/a", lambda names: children.append(sorted(names)))
    dropped: list[WatchedEvent] = []
    client.exists("/a/later", watch=dropped.append)
    server.restart(hard=hard)
    wait_for(lambda: states[-1:] == [KazooState.CONNECTED], "kazoo to be connected again", 40)
    assert client.client_id == session
    assert KazooState.LOST not in states
    # kazoo forgets plain watches when the connection breaks and says so; its recipes set theirs again.
    wait_for(lambda: [event.type for event in dropped] == ["NONE"], "the plain watch to be told of its end")
    assert client.get("/a")[0] == b"before"
    assert client.exists("/a/mine").ephemeralOwner == session[0]
    client.create("/a/later")
    client.set("/a", b"after")
    wait_for(lambda: data[-1] == b"after", "the data watch to go on")
    wait_for(lambda: children[-1] == ["later", "mine"], "the children watch to go on")
    assert client.create("/a/seq-", sequence=True) == "/a/seq-0000000002"


def test_a_session_that_nobody_keeps_alive_expires(server_factory: ServerFactory, kazoo_factory: KazooFactory) -> None:
    server = server_factory({"tickTime": 200})
    watcher = kazoo_factory(hosts=server.hosts, timeout=4)
    with RawClient("127.0.0.1", server.port) as silent:
        session = silent.handshake(timeout_ms=400)
        assert session.timeout_ms == 400
        assert silent.create("/silent", flags=1).err == 0
        gone = threading.Event()
        watcher.exists("/silent", watch=lambda event: gone.set())
        assert gone.wait(10)
        with pytest.raises(NoNodeError):
            watcher.get("/silent")
        assert silent.is_closed_by_server()
    with RawClient("127.0.0.1", server.port) as again:
        refused = again.handshake(session_id=session.session_id, password=session.password)
        assert (refused.timeout_ms, refused.session_id, refused.password) == (0, 0, bytes(16))
        assert again.is_closed_by_server()


def test_kazoo_hears_of_its_expired_session(server_factory: ServerFactory, kazoo_factory: KazooFactory) -> None:
    server = server_factory({"tickTime": 200})
    client = kazoo_factory(hosts=server.hosts, timeout=4)
    states = state_log(client)
    client.create("/mine", ephemeral=True)
    identity, password = client.client_id
    with RawClient("127.0.0.1", server.port) as thief:
        assert thief.handshake(timeout_ms=4000, session_id=identity, password=password).session_id == identity
        thief.close_session()
    wait_for(lambda: KazooState.LOST in states and states[-1] == KazooState.CONNECTED, "a new session", 20)
    assert client.client_id[0] != identity
    assert client.exists("/mine") is None


def test_negotiated_timeouts_have_bounds(server_factory: ServerFactory) -> None:
    server = server_factory({"tickTime": 1000, "minSessionTimeout": 3000, "maxSessionTimeout": 9000})
    for asked, granted in ((1, 3000), (5000, 5000), (60_000, 9000)):
        with RawClient("127.0.0.1", server.port) as client:
            assert client.handshake(timeout_ms=asked).timeout_ms == granted
            client.close_session()


def test_a_wrong_password_is_refused(corekit_server: Server, zk: KazooClient) -> None:
    with RawClient("127.0.0.1", corekit_server.port) as client:
        refused = client.handshake(session_id=zk.client_id[0], password=b"x" * 16)
        assert (refused.timeout_ms, refused.session_id) == (0, 0)
        assert client.is_closed_by_server()
    assert zk.exists("/") is not None


def test_a_client_from_the_future_is_sent_away(corekit_server: Server) -> None:
    with RawClient("127.0.0.1", corekit_server.port) as client, pytest.raises(Closed):
        client.handshake(last_zxid=1 << 40)


def test_a_read_only_client_of_a_server_that_writes(corekit_server: Server, kazoo_factory: KazooFactory) -> None:
    client = kazoo_factory(read_only=True)
    assert client.client_state == "CONNECTED"
    path = client.create("/read-only-", sequence=True)
    assert client.exists(path)
    for byte, mirrored in ((True, False), (False, False), (None, None)):
        with RawClient("127.0.0.1", corekit_server.port) as raw:
            assert raw.handshake(read_only=byte).read_only is mirrored
            raw.close_session()


def test_a_wrong_auth_scheme_is_refused(kazoo_factory: KazooFactory) -> None:
    client = kazoo_factory()
    with pytest.raises(AuthFailedError):
        client.add_auth("no-such-scheme", "x:y")


def test_auth_is_given_again_after_a_reconnect(server_factory: ServerFactory, kazoo_factory: KazooFactory) -> None:
    server = server_factory()
    client = kazoo_factory(hosts=server.hosts, timeout=20, auth_data=[("digest", "ann:secret")])
    states = state_log(client)
    client.create("/mine", b"x", acl=CREATOR_ALL_ACL)
    server.restart(hard=True)
    wait_for(lambda: states[-1:] == [KazooState.CONNECTED], "kazoo to be connected again", 40)
    assert client.get("/mine")[0] == b"x"


def test_the_super_user_passes_every_acl(server_factory: ServerFactory, kazoo_factory: KazooFactory) -> None:
    digest = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
    server = server_factory({"DigestAuthenticationProvider.superDigest": digest})
    owner = kazoo_factory(hosts=server.hosts, auth_data=[("digest", "ann:secret")])
    owner.create("/mine", b"x", acl=CREATOR_ALL_ACL)
    root = kazoo_factory(hosts=server.hosts, auth_data=[("digest", "super:admin")])
    assert root.get("/mine")[0] == b"x"
    assert root.set("/mine", b"y").version == 1


def test_connections_from_one_address_are_limited(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory({"maxClientCnxns": 2})
    held = [RawClient("127.0.0.1", server.port) for _ in range(2)]
    for client in held:
        client.handshake()
    with RawClient("127.0.0.1", server.port) as third:
        assert third.is_closed_by_server()
    for client in held:
        assert client.ping().err == 0
        client.close()
