"""The heart's promises: order, visibility, events before the state they announce, sessions, bad requests."""

from __future__ import annotations

import pytest

from corekit import errors
from corekit.api import Observer, Peer
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import (
    AddWatchRequest,
    Create2Response,
    CreateRequest,
    DataResponse,
    DeleteRequest,
    GetChildrenResponse,
    MultiHeader,
    PathRequest,
    PathWatchRequest,
    SetDataRequest,
    SetWatches,
    WatcherEvent,
)
from corekit.errors import ProtocolError
from corekit.model.sessions import password
from corekit.replica.options import ReplicaOptions
from tests.support.heart import OPEN, Client, Heart


def get(path: bytes, watch: bool = False) -> bytes:
    return PathWatchRequest(path, watch).encode()


def create(path: bytes, data: bytes = b"", flags: int = 0) -> bytes:
    return CreateRequest(path, data, OPEN, flags).encode()


def test_a_write_is_seen_by_nobody_before_it_is_durable() -> None:
    heart = Heart()
    writer, reader = heart.client(), heart.client()
    writer.send(ops.CREATE, create(b"/a", b"1"))
    heart.flush()
    reader.send(ops.GET_DATA, get(b"/a"))
    assert [reply.code for reply in reader.replies()] == [errors.NO_NODE]
    assert writer.frames() == []
    heart.sync()
    reader.send(ops.GET_DATA, get(b"/a"))
    assert [reply.code for reply in reader.replies()] == [0]
    assert [reply.code for reply in writer.replies()] == [0]


def test_requests_of_one_connection_are_answered_in_order_and_see_each_other() -> None:
    heart = Heart()
    client = heart.client()
    client.send(ops.CREATE, create(b"/a", b"1"))
    client.send(ops.GET_DATA, get(b"/a"))
    client.send(ops.SET_DATA, SetDataRequest(b"/a", b"2", 0).encode())
    client.send(ops.GET_DATA, get(b"/a"))
    client.send(ops.DELETE, DeleteRequest(b"/a", 1).encode())
    client.send(ops.EXISTS, get(b"/a"))
    assert client.frames() == []
    heart.settle()
    replies = client.replies()
    assert [reply.xid for reply in replies] == [1, 2, 3, 4, 5, 6]
    assert [reply.code for reply in replies] == [0, 0, 0, 0, 0, errors.NO_NODE]
    assert DataResponse.decode(Reader(replies[1].body)).data == b"1"
    assert DataResponse.decode(Reader(replies[3].body)).data == b"2"
    zxids = [reply.zxid for reply in replies]
    assert zxids == sorted(zxids)


def test_a_sync_waits_for_what_the_session_wrote_on_an_earlier_connection() -> None:
    """Recipes look for their znode behind a sync when the answer to a create was lost."""
    heart = Heart()
    before = heart.client()
    session = before.connection.session_id
    before.send(ops.CREATE, create(b"/a", b"1"))
    heart.flush()
    after = Client(heart, Peer("127.0.0.1", 2))
    after.hello(session, password(session))
    after.frames()
    asked = [
        after.send(ops.SYNC, PathRequest(b"/").encode()),
        after.send(ops.EXISTS, get(b"/a")),
        after.send(ops.SET_DATA, SetDataRequest(b"/a", b"2", 0).encode()),
        after.send(ops.GET_DATA, get(b"/a")),
    ]
    assert after.frames() == []
    heart.settle()
    assert [(reply.xid, reply.code) for reply in after.replies()] == [(xid, 0) for xid in asked]
    assert after.call(ops.SYNC, PathRequest(b"/").encode()).code == 0


def test_reads_of_others_do_not_wait_for_a_pending_write() -> None:
    heart = Heart()
    writer, reader = heart.client(), heart.client()
    writer.create(b"/a", b"old")
    writer.send(ops.SET_DATA, SetDataRequest(b"/a", b"new", -1).encode())
    heart.flush()
    reader.send(ops.GET_DATA, get(b"/a"))
    assert DataResponse.decode(Reader(reader.replies()[0].body)).data == b"old"


def test_the_event_stands_before_the_reply_that_shows_the_change() -> None:
    heart = Heart()
    writer, watcher = heart.client(), heart.client()
    writer.create(b"/a", b"1")
    watcher.get(b"/a", watch=True)
    writer.send(ops.SET_DATA, SetDataRequest(b"/a", b"2", -1).encode())
    heart.settle()
    watcher.send(ops.GET_DATA, get(b"/a"))
    event, reply = watcher.replies()
    assert (event.xid, event.code) == (-1, 0)
    assert WatcherEvent.decode(Reader(event.body)).path == b"/a"
    assert DataResponse.decode(Reader(reply.body)).data == b"2"
    assert event.zxid == reply.zxid


def test_a_one_shot_watch_fires_once_and_a_recursive_one_for_everything_below() -> None:
    heart = Heart()
    writer, watcher = heart.client(), heart.client()
    writer.create(b"/a")
    watcher.get(b"/a", watch=True)
    watcher.call(ops.ADD_WATCH, AddWatchRequest(b"/", 1).encode())
    for data in (b"1", b"2"):
        writer.set(b"/a", data)
    writer.create(b"/a/b")
    events = [WatcherEvent.decode(Reader(r.body)) for r in watcher.replies()]
    # One event a change for a connection that watches in two ways; never children-changed for a recursive watch.
    assert [(e.type, e.path) for e in events] == [(3, b"/a"), (3, b"/a"), (1, b"/a/b")]


def test_a_refused_write_takes_a_zxid_and_an_undecodable_one_does_not() -> None:
    heart = Heart()
    client = heart.client()
    before = heart.replica.tree.zxid
    assert client.create(b"/no/parent").code == errors.NO_NODE
    assert heart.replica.tree.zxid == before + 1
    assert client.call(ops.CREATE, b"\0\0\0\x7f").code == errors.MARSHALLING_ERROR
    assert heart.replica.tree.zxid == before + 1
    assert client.call(ops.MULTI, b"\0").code == errors.MARSHALLING_ERROR
    assert heart.replica.tree.zxid == before + 2


def multi(*parts: tuple[int, bytes]) -> bytes:
    body = b"".join(MultiHeader(op, False, -1).encode() + part for op, part in parts)
    return body + MultiHeader(-1, True, -1).encode()


def test_a_failed_multi_leaves_nothing_behind_not_even_for_later_requests_in_flight() -> None:
    heart = Heart()
    client = heart.client()
    client.create(b"/q")
    client.send(ops.CREATE, create(b"/q/n", flags=2))
    client.send(
        ops.MULTI,
        multi(
            (ops.CREATE, create(b"/q/x")),
            (ops.CREATE, create(b"/q/n", flags=2)),
            (ops.DELETE, DeleteRequest(b"/none", -1).encode()),
        ),
    )
    client.send(ops.CREATE, create(b"/q/n", flags=2))
    client.send(ops.CREATE, create(b"/q/x"))
    heart.settle()
    first, failed, second, third = client.replies()
    assert (first.code, failed.code, second.code, third.code) == (0, 0, 0, 0)
    assert first.body[4:] == b"/q/n0000000000"
    assert second.body[4:] == b"/q/n0000000001"
    codes = [int.from_bytes(failed.body[at + 9 : at + 13], "big", signed=True) for at in (0, 13, 26)]
    assert codes == [0, 0, errors.NO_NODE]


def test_a_session_comes_back_with_its_password_only() -> None:
    heart = Heart()
    client = heart.client()
    session = client.connection.session_id
    client.create(b"/e", flags=1)
    stranger = Client(heart, client.connection.peer)
    stranger.hello(session, bytes(16))
    assert stranger.connection.closing is not None
    assert client.connection.closing is None, "a wrong password must not disturb the owner"
    again = Client(heart, client.connection.peer)
    again.hello(session, password(session))
    assert again.connection.ready
    assert client.connection.closing is not None
    assert [r.code for r in (again.get(b"/e"),)] == [0]


def test_a_client_that_has_seen_more_is_sent_away() -> None:
    heart = Heart()
    client = Client(heart, heart.client().connection.peer)
    client.hello(seen=heart.replica.tree.zxid + 1)
    assert client.connection.closing is not None
    assert client.frames() == []


def test_a_silent_session_expires_in_time_and_its_ephemerals_go() -> None:
    heart = Heart(ReplicaOptions(tick_time_ms=1000, min_session_timeout_ms=2000))
    quiet, busy = heart.client(timeout_ms=4000), heart.client(timeout_ms=4000)
    quiet.create(b"/quiet", flags=1)
    busy.create(b"/busy", flags=1)
    for _ in range(8):
        heart.later(490)
        busy.call(ops.PING)
    assert busy.get(b"/quiet").code == 0, "3.9 s of silence are not 4"
    heart.later(2000)
    busy.call(ops.PING)
    assert busy.get(b"/quiet").code == errors.NO_NODE
    assert busy.get(b"/busy").code == 0
    assert quiet.connection.closing is not None


def test_closing_a_session_takes_ephemerals_that_are_not_committed_yet() -> None:
    heart = Heart()
    client, other = heart.client(), heart.client()
    client.send(ops.CREATE, create(b"/e", flags=1))
    client.send(ops.CLOSE_SESSION)
    heart.settle()
    assert [reply.code for reply in client.replies()] == [0, 0]
    assert other.get(b"/e").code == errors.NO_NODE
    assert heart.replica.tree.ephemerals == {}


def test_watches_that_were_missed_are_told_on_return() -> None:
    heart = Heart()
    client = heart.client()
    for path in (b"/same", b"/changed", b"/gone"):
        client.create(path)
    seen = heart.replica.tree.zxid
    client.set(b"/changed", b"1")
    client.call(ops.DELETE, DeleteRequest(b"/gone", -1).encode())
    body = SetWatches(seen, [b"/same", b"/changed", b"/gone"], [b"/absent"], []).encode()
    client.send(ops.SET_WATCHES, body)
    *events, reply = client.replies()
    told = [WatcherEvent.decode(Reader(event.body)) for event in events]
    assert [(e.type, e.path) for e in told] == [(3, b"/changed"), (2, b"/gone")]
    assert {event.zxid for event in events} == {-1}
    assert reply.code == 0


def test_an_unknown_operation_is_answered_after_what_came_before_then_the_connection_closes() -> None:
    heart = Heart()
    client = heart.client()
    client.send(ops.CREATE, create(b"/a"))
    client.send(77)
    assert client.frames() == []
    heart.settle()
    assert [reply.code for reply in client.replies()] == [0, errors.UNIMPLEMENTED]
    assert client.connection.closing is not None


@pytest.mark.parametrize("op", [ops.CREATE_SESSION, ops.CHECK, ops.DELETE_CONTAINER, ops.NOTIFICATION])
def test_operations_that_are_not_for_clients_are_refused(op: int) -> None:
    heart = Heart()
    client = heart.client()
    assert client.call(op, PathRequest(b"/zookeeper").encode()).code == errors.UNIMPLEMENTED


def test_frames_that_no_client_sends_raise() -> None:
    heart = Heart(ReplicaOptions(jute_max_buffer=1024))
    client = heart.client()
    with pytest.raises(ProtocolError, match="shorter than its header"):
        heart.replica.feed(client.connection, b"\0\0\0\x04" + bytes(20))
    with pytest.raises(ProtocolError, match=r"jute\.maxbuffer"):
        heart.replica.feed(client.connection, b"\0\0\x08\0" + bytes(0x804))


def test_overload_holds_a_connection_with_work_pending_and_no_other() -> None:
    heart = Heart(ReplicaOptions(global_outstanding_limit=3))
    busy, idle = heart.client(), heart.client()
    for _ in range(3):
        busy.send(ops.CREATE, create(b"/a"))
    heart.flush()
    assert heart.replica.overloaded(busy.connection)
    assert not heart.replica.overloaded(idle.connection)
    heart.settle()
    assert not heart.replica.overloaded(busy.connection)


def test_without_disk_space_writes_are_refused_and_reads_go_on() -> None:
    heart = Heart()
    client = heart.client()
    client.create(b"/a", b"1")
    heart.replica.refuse_writes = "disk is full"
    assert client.set(b"/a", b"2").code == errors.NOT_READ_ONLY
    assert client.get(b"/a").code == 0
    newcomer = heart.client()
    assert newcomer.get(b"/a").code == 0, "a session is a small write, without which nobody new could read"
    heart.replica.refuse_sessions = "disk is fuller"
    latecomer = Client(heart, client.connection.peer)
    latecomer.hello()
    assert latecomer.connection.closing is not None
    heart.replica.refuse_writes = None
    assert client.set(b"/a", b"2").code == 0


def test_an_observer_that_raises_is_unbound_and_breaks_nothing() -> None:
    class Broken(Observer):
        calls = 0

        def committed(self, zxid: int, entry: bytes) -> None:
            self.calls += 1
            raise RuntimeError("broken")

    broken = Broken()
    heart = Heart(observers=[broken])
    client = heart.client()
    assert client.create(b"/a").code == 0
    assert client.create(b"/b").code == 0
    assert broken.calls == 1
    assert len(heart.replica.observing.failures) == 1


@pytest.mark.parametrize("emulate", [False, True])
def test_containers_go_when_their_last_child_has_gone_and_ttl_nodes_in_time(emulate: bool) -> None:
    """With and without `emulate353TTLNodes`; ZooKeeper 3.8 takes the time from the same 40 bits either way."""
    heart = Heart(ReplicaOptions(extended_types=True, emulate_353_ttl=emulate))
    client = heart.client()
    made = client.call(ops.CREATE_CONTAINER, create(b"/c", flags=4))
    assert Create2Response.decode(Reader(made.body)).stat.ephemeral_owner == 0
    ttl = CreateRequest(b"/t", b"", OPEN, 5).encode() + (500).to_bytes(8, "big")
    assert client.call(ops.CREATE_TTL, ttl).code == 0
    heart.replica.collect(100)
    heart.settle()
    assert client.get(b"/c").code == 0, "a container is kept until it was used"
    client.create(b"/c/x")
    client.call(ops.DELETE, DeleteRequest(b"/c/x", -1).encode())
    heart.later(600)
    heart.replica.collect(100)
    heart.settle()
    assert client.get(b"/c").code == errors.NO_NODE
    assert client.get(b"/t").code == errors.NO_NODE


def test_the_counter_of_the_zxid_never_runs_over() -> None:
    heart = Heart()
    client = heart.client()
    client.create(b"/a")
    heart.consensus._last = 0xFFFF0000 - 2  # as after four billion transactions
    heart.replica.next_zxid = 0xFFFF0000 - 1
    zxids = [client.set(b"/a", b"x").zxid for _ in range(4)]
    assert zxids[-1] >> 32 == 1, "a new epoch has begun"
    assert zxids == sorted(zxids)
    assert all(zxid & 0xFFFFFFFF for zxid in zxids)
    assert heart.epochs == (1, 1)


def test_children_are_those_committed() -> None:
    heart = Heart()
    client, other = heart.client(), heart.client()
    client.create(b"/p")
    client.create(b"/p/a")
    client.send(ops.CREATE, create(b"/p/b"))
    heart.flush()
    for expected in ([b"a"], [b"a", b"b"]):
        reply = GetChildrenResponse.decode(Reader(other.call(ops.GET_CHILDREN, get(b"/p")).body))
        assert sorted(reply.children or ()) == expected
