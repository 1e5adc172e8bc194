"""The wire itself, byte by byte, through a client that shares no code with the project.

What stock clients cannot show: replayed watches of setWatches, persistent watches of a raw session, malformed input,
error replies with their headers, and the order of events and replies.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ServerFactory
from tests.support import rawzk
from tests.support.rawzk import Event, RawClient, Reader, Reply, buffer, int32, int64, multi_results, text
from tests.support.servers import Server

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
Opener = Callable[..., RawClient]


@pytest.fixture
def opened(corekit_server: Server) -> Iterator[Opener]:
    """Raw sessions on the shared server, closed at the end of the test."""
    clients: list[RawClient] = []

    def make(server: Server = corekit_server, **handshake: object) -> RawClient:
        client = RawClient("127.0.0.1", server.port)
        clients.append(client)
        assert client.handshake(**handshake).timeout_ms > 0
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def raw(opened: Opener) -> RawClient:
    return opened()


def kinds(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.type, event.path) for event in events]


def test_the_handshake_is_byte_exact(corekit_server: Server) -> None:
    request = bytes.fromhex("0000002d000000000000000000000000000075300000000000000000000000 10" + "00" * 17)
    with socket.create_connection(("127.0.0.1", corekit_server.port), timeout=10) as sock:
        sock.sendall(request)
        answer = sock.recv(4096)
        assert len(answer) == 41
        length, protocol, timeout, session, secret_length = struct.unpack(">iiiqi", answer[:24])
        assert (length, protocol, timeout, secret_length) == (37, 0, 30_000, 16)
        assert session != 0
        assert answer[24:40] == session_password(session)
        assert answer[40] == 0
        sock.sendall(bytes.fromhex("00000008 fffffffe 0000000b"))
        pong = sock.recv(4096)
        assert pong[:8] == bytes.fromhex("00000010 fffffffe")
        assert pong[16:] == bytes(4)


def session_password(session_id: int) -> bytes:
    """java.util.Random seeded with the session id, as every ZooKeeper server computes it."""
    state = ((session_id & (1 << 64) - 1) ^ 0xB3415C00 ^ 0x5DEECE66D) & ((1 << 48) - 1)
    password = b""
    for _ in range(4):
        state = (state * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        password += struct.pack("<I", state >> 16)
    return password


def test_the_password_generator_of_this_test_is_right() -> None:
    assert session_password(0x0001000000000000).hex() == "f22acd4a97e69d6d20a49bb638eadb38"
    assert session_password(0x0100000001A20000).hex() == "ac86b0c7c9104dba6a8731ffba2c1a7f"


@pytest.mark.parametrize("length", [-2, 1, 1 << 30])
def test_a_handshake_whose_password_has_an_impossible_length_closes(corekit_server: Server, length: int) -> None:
    with RawClient("127.0.0.1", corekit_server.port) as client:
        client.send_bytes(rawzk.frame(int32(0) + int64(0) + int32(10_000) + int64(0) + int32(length)))
        assert client.is_closed_by_server()


def test_every_reply_has_its_exact_layout(raw: RawClient, namespace: str) -> None:
    assert raw.create(namespace, b"a").reader().rest() == text(namespace)
    reader = raw.create2(f"{namespace}/two", b"bc").reader()
    assert reader.text() == f"{namespace}/two"
    stat = reader.stat()
    reader.end()
    reader = raw.get(f"{namespace}/two").reader()
    assert (reader.buffer(), reader.stat()) == (b"bc", stat)
    reader.end()
    for reply in (raw.exists(f"{namespace}/two"), raw.set(f"{namespace}/two", None)):
        reader = reply.reader()
        reader.stat()
        reader.end()
    assert raw.get(f"{namespace}/two").reader().buffer() is None
    reader = raw.children(namespace).reader()
    assert reader.texts() == ["two"]
    reader.end()
    reader = raw.children2(namespace).reader()
    assert (reader.texts(), reader.stat().num_children) == (["two"], 1)
    reader.end()
    reader = raw.get_acl(namespace).reader()
    assert reader.acl() == [(31, "world", "anyone")]
    reader.stat()
    reader.end()
    assert raw.sync(namespace).reader().rest() == text(namespace)
    assert raw.delete(f"{namespace}/two") == Reply(raw.xid, raw.ping().zxid, 0, b"")


def test_errors_are_a_header_only(raw: RawClient, namespace: str) -> None:
    raw.create(namespace)
    for reply, code in (
        (raw.get(f"{namespace}/x"), -101),
        (raw.set(namespace, b"", 5), -103),
        (raw.create(namespace), -110),
        (raw.create(f"{namespace}/x/y"), -101),
        (raw.create(f"{namespace}/x", flags=9), -8),
        (raw.create(f"{namespace}/x", acl=[]), -114),
        (raw.create(f"{namespace}/x", acl=None), -114),
        (raw.create(f"{namespace}/x", acl=[(31, "nope", "x")]), -114),
        (raw.create("no-slash"), -8),
        (raw.create(f"{namespace}/"), -8),
        (raw.create(f"{namespace}//x"), -101),  # the parent, with its slash at the end, is looked up first
        (raw.create(f"{namespace}/./x"), -101),
        (raw.create(f"{namespace}/."), -8),
        (raw.create(f"{namespace}/x\x01"), -8),
        (raw.delete("/"), -8),
        (raw.remove_watches(namespace, 3), -121),
        (raw.call(rawzk.CHECK_WATCHES, text(namespace) + int32(1)), -121),
    ):
        assert (reply.err, reply.body) == (code, b""), reply


def test_an_event_comes_before_the_reply_that_would_show_it(opened: Opener, namespace: str) -> None:
    reader, writer = opened(), opened()
    writer.create(namespace, b"0")
    for number in range(1, 20):
        assert reader.get(namespace, watch=True).err == 0
        writer.set(namespace, b"%d" % number)
        reader.send(rawzk.SYNC, text(namespace))
        reader.send(rawzk.GET_DATA, text(namespace) + b"\x00")
        got = [reader.receive() for _ in range(3)]
        assert isinstance(got[2], Reply)
        assert got[2].reader().buffer() == b"%d" % number
        assert kinds([item for item in got if isinstance(item, Event)]) == [(CHANGED, namespace)]
        assert [event.state for event in got if isinstance(event, Event)] == [3]


def test_a_writers_own_watch_fires_before_its_reply(raw: RawClient, namespace: str) -> None:
    raw.exists(namespace, watch=True)
    raw.create(namespace)
    assert kinds(raw.events) == [(CREATED, namespace)]
    raw.events.clear()
    raw.get(namespace, watch=True)
    raw.children("/", watch=True)
    raw.delete(namespace)
    assert sorted(kinds(raw.events)) == [(DELETED, namespace), (CHILD, "/")]
    raw.events.clear()


def test_data_and_child_watches_of_a_deleted_node_tell_once(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    raw.create(namespace)
    raw.get(namespace, watch=True)
    raw.children(namespace, watch=True)
    other.delete(namespace)
    raw.sync("/")
    assert kinds(raw.events) == [(DELETED, namespace)]


def test_persistent_watches(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    raw.create(namespace)
    assert raw.add_watch(namespace, 0).body == int32(0)
    for step in (
        lambda: other.set(namespace, b"1"),
        lambda: other.set(namespace, b"2"),
        lambda: other.create(f"{namespace}/child"),
        lambda: other.set(f"{namespace}/child", b"3"),
        lambda: other.delete(f"{namespace}/child"),
        lambda: other.delete(namespace),
        lambda: other.create(namespace),
    ):
        assert step().err == 0
    raw.sync("/")
    assert kinds(raw.events) == [
        (CHANGED, namespace),
        (CHANGED, namespace),
        (CHILD, namespace),
        (CHILD, namespace),
        (DELETED, namespace),
        (CREATED, namespace),
    ]
    assert raw.remove_watches(namespace, 3).err == 0
    assert raw.remove_watches(namespace, 3).err == -121
    other.set(namespace, b"unseen")
    raw.sync("/")
    assert len(raw.events) == 6


def test_persistent_recursive_watches(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    raw.create(namespace)
    raw.add_watch(namespace, 1)
    other.create(f"{namespace}/a")
    other.create(f"{namespace}/a/b")
    other.set(f"{namespace}/a/b", b"x")
    other.delete(f"{namespace}/a/b")
    other.set(namespace, b"x")
    raw.sync("/")
    assert kinds(raw.events) == [
        (CREATED, f"{namespace}/a"),
        (CREATED, f"{namespace}/a/b"),
        (CHANGED, f"{namespace}/a/b"),
        (DELETED, f"{namespace}/a/b"),
        (CHANGED, namespace),
    ]


def test_set_watches_replays_what_was_missed(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    for name in ("", "/changed", "/deleted", "/parent", "/same", "/there"):
        raw.create(namespace + name)
    seen = raw.ping().zxid
    other.set(f"{namespace}/changed", b"x")
    other.delete(f"{namespace}/deleted")
    other.create(f"{namespace}/parent/child")
    raw.sync("/")
    data = [f"{namespace}/{name}" for name in ("changed", "deleted", "same")]
    exist = [f"{namespace}/there", f"{namespace}/absent"]
    child = [f"{namespace}/parent", f"{namespace}/deleted", f"{namespace}/same"]
    reply = raw.set_watches(seen, data, exist, child)
    assert (reply.xid, reply.err, reply.body) == (-8, 0, b"")
    assert sorted(kinds(raw.events)) == sorted(
        [
            (CHANGED, f"{namespace}/changed"),
            (DELETED, f"{namespace}/deleted"),
            (CREATED, f"{namespace}/there"),
            (CHILD, f"{namespace}/parent"),
            (DELETED, f"{namespace}/deleted"),
        ]
    )
    assert {event.zxid for event in raw.events} == {-1}
    raw.events.clear()
    other.set(f"{namespace}/same", b"x")
    other.create(f"{namespace}/absent")
    other.create(f"{namespace}/same/child")
    raw.sync("/")
    assert kinds(raw.events) == [
        (CHANGED, f"{namespace}/same"),
        (CREATED, f"{namespace}/absent"),
        (CHILD, f"{namespace}/same"),
    ]


def test_set_watches_2_takes_persistent_ones(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    raw.create(namespace)
    paths = [namespace]
    reply = raw.set_watches(raw.ping().zxid, [], [], [], [], paths, opcode=rawzk.SET_WATCHES2)
    assert (reply.xid, reply.err) == (-8, 0)
    other.create(f"{namespace}/a")
    other.create(f"{namespace}/a/b")
    raw.sync("/")
    assert kinds(raw.events) == [(CREATED, f"{namespace}/a"), (CREATED, f"{namespace}/a/b")]


def test_multi_results(raw: RawClient, namespace: str, kind: str) -> None:
    done = raw.multi(
        [
            (rawzk.CREATE, rawzk.create_body(namespace)),
            (rawzk.CREATE2, rawzk.create_body(f"{namespace}/two", b"x")),
            (rawzk.SET_DATA, text(namespace) + buffer(b"y") + int32(0)),
            (rawzk.CHECK, text(namespace) + int32(1)),
            (rawzk.DELETE, text(f"{namespace}/two") + int32(-1)),
            (rawzk.CREATE_CONTAINER, rawzk.create_body(f"{namespace}/c", flags=rawzk.CONTAINER)),
        ]
    )
    results = multi_results(done)
    # Up to 3.8.1 ZooKeeper answers a create2 inside a multi as a plain create, with the path only (ZOOKEEPER-4026).
    second = 1 if kind == "java" else 15
    assert [(op, err) for op, err, _ in results] == [(1, 0), (second, 0), (5, 0), (13, 0), (2, 0), (15, 0)]
    assert f"{namespace}/two" in (results[1][2], results[1][2][0])
    assert results[2][2].version == 1
    failed = raw.multi(
        [
            (rawzk.CREATE, rawzk.create_body(f"{namespace}/z")),
            (rawzk.CHECK, text(namespace) + int32(9)),
            (rawzk.DELETE, text(f"{namespace}/c") + int32(-1)),
        ]
    )
    assert failed.err == 0
    assert [(op, err) for op, err, _ in multi_results(failed)] == [(-1, 0), (-1, -103), (-1, -2)]
    assert multi_results(raw.multi([])) == []


def test_multi_read_fails_each_for_itself(raw: RawClient, namespace: str) -> None:
    raw.create(namespace, b"data")
    raw.create(f"{namespace}/child")
    body = rawzk.multi_body(
        [
            (rawzk.GET_DATA, text(namespace) + b"\x00"),
            (rawzk.GET_DATA, text(f"{namespace}/missing") + b"\x00"),
            (rawzk.GET_CHILDREN, text(namespace) + b"\x00"),
        ]
    )
    results = multi_results(raw.call(rawzk.MULTI_READ, body))
    assert [(kind, err) for kind, err, _ in results] == [(4, 0), (-1, -101), (8, 0)]
    assert results[0][2][0] == b"data"
    assert results[2][2] == ["child"]


def test_ephemerals_counts_and_who_am_i(raw: RawClient, namespace: str) -> None:
    raw.create(namespace)
    for name in ("a", "b"):
        raw.create(f"{namespace}/{name}", flags=rawzk.EPHEMERAL)
    raw.create("/else-of" + namespace[1:], flags=rawzk.EPHEMERAL)
    mine = raw.call(rawzk.GET_EPHEMERALS, text(namespace)).reader()
    assert sorted(mine.texts()) == [f"{namespace}/a", f"{namespace}/b"]
    mine.end()
    assert len(raw.call(rawzk.GET_EPHEMERALS, text("/")).reader().texts()) == 3
    count = raw.call(rawzk.GET_ALL_CHILDREN_NUMBER, text(namespace)).reader()
    assert count.int32() == 2
    count.end()
    raw.auth("digest", b"ann:secret")
    reader = raw.call(rawzk.WHO_AM_I).reader()
    assert sorted(reader.vector(lambda: (reader.text(), reader.text()))) == [("digest", "ann"), ("ip", "127.0.0.1")]
    reader.end()


def test_auth_replies(opened: Opener) -> None:
    good = opened()
    assert good.auth("digest", b"ann:secret") == Reply(-4, 0, 0, b"")
    bad = opened()
    assert bad.auth("no-such-scheme", b"x").err == -115
    assert bad.is_closed_by_server()


def test_containers_and_time_to_live(server_factory: ServerFactory, opened: Opener) -> None:
    server = server_factory({"extendedTypesEnabled": "true", "znode.container.checkIntervalMs": 200})
    raw = opened(server)
    assert raw.create2("/c", flags=rawzk.CONTAINER).err == 0
    assert raw.create("/c/child").err == 0
    reader = raw.create2("/t", flags=rawzk.TTL, ttl=300).reader()
    assert (reader.text(), reader.stat().ephemeral_owner) == ("/t", 0)
    reader = raw.create2("/t-", flags=rawzk.TTL_SEQUENTIAL, ttl=100_000).reader()
    assert reader.text() == "/t-0000000002"
    assert raw.create2("/x", flags=rawzk.TTL, ttl=-1).err == -8
    assert raw.create2("/x", flags=rawzk.TTL, ttl=1 << 40).err == -8
    raw.exists("/t", watch=True)
    assert kinds([raw.wait_event()]) == [(DELETED, "/t")]
    assert raw.exists("/c").err == 0
    raw.exists("/c", watch=True)
    raw.delete("/c/child")
    assert kinds([raw.wait_event()]) == [(DELETED, "/c")]
    assert raw.exists("/t-0000000002").err == 0


def test_time_to_live_needs_extended_types(server_factory: ServerFactory, opened: Opener) -> None:
    raw = opened(server_factory())
    assert raw.create2("/t", flags=rawzk.TTL, ttl=1000).err == -6


ENFORCED = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants a digest from everybody."""
    with Server.start("corekit", tmp_path_factory.mktemp("enforcing"), ENFORCED) as server:
        yield server


@pytest.mark.parametrize(
    ("opcode", "body", "xid"),
    [
        (rawzk.GET_DATA, text("/") + b"\0", 1),
        (rawzk.EXISTS, text("/") + b"\1", 1),
        (rawzk.CREATE, rawzk.create_body("/x"), 1),
        (rawzk.SYNC, text("/"), 1),
        (rawzk.PING, b"", rawzk.XID_PING),
        (rawzk.CLOSE_SESSION, b"", 1),
        (77, b"", 1),
    ],
)
def test_where_authentication_is_enforced_nothing_else_is_answered(
    enforcing: Server, opened: Opener, opcode: int, body: bytes, xid: int
) -> None:
    client = opened(enforcing)
    assert client.auth("ip", b"").err == 0, "proves another scheme"
    client.send(opcode, body, xid)
    client.send(rawzk.GET_DATA, text("/") + b"\0")
    assert client.receive() == Reply(xid, 0, -124, b"")
    assert client.is_closed_by_server()


def test_who_has_authenticated_where_that_is_enforced_is_served(enforcing: Server, opened: Opener) -> None:
    client = opened(enforcing)
    client.send(rawzk.AUTH, int32(0) + text("digest") + buffer(b"user:secret"), rawzk.XID_AUTH)
    client.send(rawzk.GET_DATA, text("/") + b"\0")
    assert [client.reply().err, client.reply().err] == [0, 0]
    assert client.create("/mine", acl=((31, "auth", ""),)).err == 0
    assert client.get("/mine").err == 0


def test_reconfig_is_disabled(raw: RawClient) -> None:
    body = text("server.9=127.0.0.1:2888:3888;2181") + text(None) + text(None) + int64(-1)
    assert raw.call(rawzk.RECONFIG, body).err == -123


def test_unknown_opcodes_are_refused_and_close(opened: Opener) -> None:
    raw = opened()
    assert raw.call(999).err == -6
    assert raw.is_closed_by_server()


@pytest.mark.parametrize("length", [-1, 0x7FFFFFFF, 0x100000 + 1])
def test_impossible_lengths_close_without_a_word(opened: Opener, length: int) -> None:
    raw = opened()
    raw.send_bytes(struct.pack(">i", length))
    assert raw.is_closed_by_server()


def test_a_truncated_body_is_a_marshalling_error_and_no_more(opened: Opener) -> None:
    raw, other = opened(), opened()
    reply = raw.call(rawzk.CREATE, int32(100) + b"/short")
    assert reply.err == -5
    assert other.exists("/").err == 0


def test_close_session_is_answered_then_closed(opened: Opener, namespace: str) -> None:
    raw, other = opened(), opened()
    raw.create(namespace, flags=rawzk.EPHEMERAL)
    reply = raw.close_session()
    assert (reply.err, reply.body) == (0, b"")
    assert raw.is_closed_by_server()
    assert other.exists(namespace).err == -101


def test_requests_split_and_joined_anyhow(opened: Opener, namespace: str) -> None:
    raw = opened()
    first = rawzk.frame(int32(1) + int32(rawzk.CREATE) + rawzk.create_body(namespace))
    second = rawzk.frame(int32(2) + int32(rawzk.GET_DATA) + text(namespace) + b"\x00")
    joined = first + second
    for byte in joined:
        raw.send_bytes(bytes([byte]))
    assert [raw.reply().xid, raw.reply().xid] == [1, 2]
    raw.send_bytes(rawzk.frame(int32(3) + int32(rawzk.DELETE) + text(namespace) + int32(-1)) + joined * 3)
    assert [raw.reply().xid for _ in range(7)] == [3, 1, 2, 1, 2, 1, 2]


def test_a_second_connection_takes_the_session_over(opened: Opener, namespace: str) -> None:
    first = opened()
    assert first.session is not None
    first.create(namespace, flags=rawzk.EPHEMERAL)
    second = opened(session_id=first.session.session_id, password=first.session.password)
    assert second.session == first.session
    assert first.is_closed_by_server()
    assert second.exists(namespace).reader().stat().ephemeral_owner == first.session.session_id


def test_the_reserved_tree_of_a_fresh_server(server_factory: ServerFactory, opened: Opener) -> None:
    raw = opened(server_factory())
    assert sorted(raw.children("/").reader().texts()) == ["zookeeper"]
    assert sorted(raw.children("/zookeeper").reader().texts()) == ["config", "quota"]
    assert raw.call(rawzk.GET_ALL_CHILDREN_NUMBER, text("/")).reader().int32() == 3
    reader: Reader = raw.get("/").reader()
    data, stat = reader.buffer(), reader.stat()
    assert (data, stat.version, stat.cversion, stat.num_children, stat.czxid) == (b"", 0, -1, 1, 0)
    config = raw.exists("/zookeeper/config").reader().stat()
    assert (config.version, config.aversion, config.czxid, config.mzxid) == (0, -1, 0, 0)


def test_an_answer_larger_than_the_socket_reaches_a_client_that_sends_no_more(server_factory: ServerFactory) -> None:
    """`echo cons | nc -N` shuts its side down at once; the answer was cut off where the socket was full."""
    server = server_factory({"4lw.commands.whitelist": "*"})
    with RawClient("127.0.0.1", server.port) as watcher, RawClient("127.0.0.1", server.port) as bystander:
        watcher.handshake()
        bystander.handshake()
        paths = [f"/{number:06}{'x' * 2000}" for number in range(2000)]
        for path in paths:
            watcher.send(rawzk.EXISTS, text(path) + b"\1")
        for _ in paths:
            watcher.receive()
        with socket.socket() as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            asking.settimeout(30)
            asking.connect(("127.0.0.1", server.port))
            asking.sendall(b"wchp")
            answer = [asking.recv(1)]  # it is on its way
            asking.shutdown(socket.SHUT_WR)
            bystander.ping()  # the server has seen that
            while data := asking.recv(1 << 20):
                answer.append(data)
        assert set(paths) - set(b"".join(answer).decode().splitlines()) == set()
        assert bystander.ping().err == 0
