"""Reading without a session, which `Gateway.admit` allows."""

from __future__ import annotations

from corekit import errors
from corekit.api import Peer
from corekit.codec import ops
from corekit.codec.records import AddWatchRequest, CreateRequest, PathWatchRequest
from corekit.replica.attach import admit
from tests.support.heart import OPEN, Client, Heart


def reader(heart: Heart) -> Client:
    client = Client(heart, Peer("127.0.0.1", 1))
    admit(heart.replica, client.connection)
    return client


def test_reading_costs_no_transaction() -> None:
    heart = Heart()
    client = reader(heart)
    assert client.get(b"/").code == 0
    assert client.get(b"/none").code == errors.NO_NODE
    assert heart.entries == []


def test_watches_are_told() -> None:
    heart = Heart()
    client = reader(heart)
    client.call(ops.ADD_WATCH, AddWatchRequest(b"/", 1).encode())
    heart.client().create(b"/a")
    assert [reply.xid for reply in client.replies()] == [-1]


def test_writes_are_refused_until_there_is_a_session() -> None:
    heart = Heart()
    client = reader(heart)
    assert client.create(b"/a").code == errors.SESSION_EXPIRED
    assert client.call(ops.CLOSE_SESSION).code == errors.SESSION_EXPIRED
    assert client.connection.closing is None
    client.hello()
    client.send(ops.CREATE, CreateRequest(b"/a", b"", OPEN, 0).encode())
    client.send(ops.GET_DATA, PathWatchRequest(b"/", False).encode())
    heart.settle()
    hello, *rest = client.frames()
    assert len(hello) >= 36, "the answer to the ConnectRequest comes first"
    assert [int.from_bytes(frame[12:16], "big", signed=True) for frame in rest] == [errors.SESSION_EXPIRED, 0]
    assert client.create(b"/a").code == 0


def test_reading_goes_on_when_the_disk_is_full() -> None:
    heart = Heart()
    heart.replica.refuse_writes = "the disk is full"
    assert reader(heart).get(b"/").code == 0


def test_a_server_that_does_not_serve_admits_nobody() -> None:
    heart = Heart()
    before = reader(heart)
    heart.replica.suspend("a test")
    assert before.connection.closing == "a test"
    assert reader(heart).connection.closing == "not serving"
    heart.replica.serve_read_only()
    assert reader(heart).connection.closing is not None
