"""The client without sockets: the connection object and the session, against a scripted server of records."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.client import OutcomeUnknown, op
from corekit.client.errors import ClientClosedError
from corekit.client.protocol import Broken, Call, Connection, Fired, Opened
from corekit.client.session import NEVER, Credential, Notice, Session, expired
from corekit.client.types import EventType
from corekit.client.watches import CHILD, DATA, PERSISTENT, RESTORE_BYTES_MAX, Watch, WatchRegistry, WatchStream
from corekit.codec import ops, records
from corekit.codec.jute import Reader
from corekit.errors import (
    NO_NODE,
    AuthFailedError,
    ConnectionLossError,
    NoNodeError,
    ProtocolError,
    SessionExpiredError,
)
from corekit.model.stat import Stat

STAT = Stat(*range(11))
OK = records.ConnectResponse(0, 8000, 7, bytes(range(16)), False)
GONE = records.ConnectResponse(0, 0, 0, bytes(16), False)


def requests(data: bytes) -> list[tuple[int, int, bytes]]:
    """Packets after the handshake, as (xid, operation, body)."""
    found = []
    reader = Reader(data)
    while not reader.done():
        size = reader.int()
        end = reader.pos + size
        xid, kind = reader.int(), reader.int()
        found.append((xid, kind, bytes(data[reader.pos : end])))
        reader.pos = end
    return found


def reply(xid: int, zxid: int = 5, err: int = 0, body: bytes = b"") -> bytes:
    return records.frame(records.ReplyHeader(xid, zxid, err).encode() + body)


def session(**options: object) -> Session:
    return Session(**{"timeout": 8.0, "flight": 100, "packet_bytes_max": 10_000, **options})  # type: ignore[arg-type]


def connected(now: float = 0.0, **options: object) -> Session:
    made = session(**options)
    reconnect(made, now)
    return made


def reconnect(made: Session, now: float) -> bytes:
    """Attach, accept, and return what the session sends then."""
    connection = made.attach("h:1", now)
    connection.take()
    assert made.feed(records.frame(OK.encode()), now) is Notice.OPENED
    return connection.take()


# ----------------------------------------------------------------------------------------- connection
def test_bytes_may_come_in_any_pieces() -> None:
    data = reply(1, 9, 0, records.DataResponse(b"x", STAT).encode()) + reply(
        -1, 7, 0, records.WatcherEvent(3, 3, b"/a").encode()
    )

    @given(st.lists(st.integers(0, len(data)), max_size=6))
    def check(cuts: list[int]) -> None:
        connection = Connection(1000)
        connection.opened = True
        call = Call(op.get("/a"))
        connection.send(call)
        places = [0, *sorted(cuts), len(data)]
        events = [event for a, b in pairwise(places) for event in connection.feed(data[a:b])]
        assert events == [call, Fired(7, 3, b"/a")]
        assert call.value == (b"x", STAT)
        assert connection.last_zxid == 9

    check()


@given(st.binary(max_size=80), st.booleans())
def test_garbage_breaks_the_connection_and_nothing_else(garbage: bytes, opened: bool) -> None:
    connection = Connection(1000)
    connection.opened = opened
    call = Call(op.children("/a"))
    connection.send(call)
    for event in connection.feed(garbage):
        assert isinstance(event, Broken | Fired | Opened | Call) or event[0] is not None
    assert not call.done


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x04\x00",
        records.frame(b"short"),
        reply(2),
        reply(-2),
        reply(-5),
        reply(1, 5, 0, b"\0\0\0\xff"),
    ],
)
def test_impossible_packets(bad: bytes) -> None:
    connection = Connection(1000)
    connection.opened = True
    connection.send(Call(op.get("/a")))
    (event,) = connection.feed(bad)
    assert isinstance(event, Broken)
    assert len(connection.pending) == 1


def test_xids_wrap() -> None:
    connection = Connection(1000)
    connection.opened = True
    connection.last_xid = 0x7FFFFFFD
    calls = [Call(op.exists("/a")) for _ in range(5)]
    for call in calls:
        connection.send(call)
    xids = [xid for xid, _, _ in requests(connection.take())]
    assert xids == [0x7FFFFFFE, 0x7FFFFFFF, 1, 2, 3]
    body = records.StatResponse(STAT).encode()
    assert connection.feed(b"".join(reply(xid, 5, 0, body) for xid in xids)) == calls


# -------------------------------------------------------------------------------------------- session
def test_calls_that_nobody_waits_for_do_not_gather() -> None:
    """While there is no connection, which may be for hours."""
    made = connected()
    made.detach("cut")
    wanted = Call(op.get("/wanted"))
    made.submit(wanted)
    for _ in range(10_000):
        call = Call(op.get("/a"))
        made.submit(call)
        call.abandoned = True
    assert wanted in made.queue
    assert len(made.queue) < 3000


def test_order_on_a_new_connection() -> None:
    """Credentials, watches; and when those credentials were accepted, calls that are sent again, calls that waited."""
    made = connected(credentials=[Credential("digest", b"a:b"), Credential("digest", b"c:d")])
    accepted = reply(ops.XID_AUTH)
    made.feed(accepted * 2, 0.0)
    watch = Watch(b"/w", DATA, 0)
    made.watches.add(watch)
    made.submit(Call(op.get("/again")))
    made.detach("cut")
    made.submit(Call(op.create("/new")))
    sent = requests(reconnect(made, 1.0))
    assert [kind for _, kind, _ in sent] == [ops.AUTH, ops.AUTH, ops.SET_WATCHES]
    assert made.connection is not None
    made.feed(accepted, 1.0)
    assert made.connection.take() == b""
    made.feed(accepted, 1.0)
    assert [kind for _, kind, _ in requests(made.connection.take())] == [ops.GET_DATA, ops.CREATE2]


def test_what_a_broken_connection_does_to_calls() -> None:
    made = connected()
    read, write, beat, dropped = Call(op.get("/a")), Call(op.set("/a", b"")), Call(op.sync("/")), Call(op.get("/b"))
    beat.beat_at = 1.0
    for call in (read, write, beat, dropped):
        made.submit(call)
    dropped.abandoned = True
    made.detach("cut")
    assert not read.done
    assert isinstance(write.error, OutcomeUnknown)
    assert isinstance(beat.error, ConnectionLossError)
    assert dropped.done
    assert list(made.queue) == [read]


def test_calls_that_wait_are_not_lost_with_the_connection() -> None:
    made = connected(flight=1)
    first, second = Call(op.set("/a", b"1")), Call(op.set("/a", b"2"))
    made.submit(first)
    made.submit(second)
    assert (first.sent, second.sent) == (True, False)
    made.detach("cut")
    assert isinstance(first.error, OutcomeUnknown)
    assert not second.done
    assert [kind for _, kind, _ in requests(reconnect(made, 1.0))] == [ops.SET_DATA]


def test_flight_is_bounded() -> None:
    made = connected(flight=2)
    calls = [Call(op.exists("/a")) for _ in range(5)]
    for call in calls:
        made.submit(call)
    assert made.connection is not None
    assert len(made.connection.pending) == 2
    body = records.StatResponse(STAT).encode()
    made.feed(reply(1, 5, 0, body) + reply(2, 5, 0, body), 1.0)
    assert [call.sent for call in calls] == [True, True, True, True, False]


def test_an_expired_session_sends_nothing_more() -> None:
    made = connected()
    made.detach("cut")
    waiting = Call(op.create("/a"))
    made.submit(waiting)
    connection = made.attach("h:1", 1.0)
    connection.take()
    assert made.feed(records.frame(GONE.encode()), 1.0) is Notice.EXPIRED
    assert connection.take() == b""
    made.end(expired)
    assert isinstance(waiting.error, SessionExpiredError)
    late = Call(op.get("/a"))
    made.submit(late)
    assert isinstance(late.error, SessionExpiredError)


def test_an_answer_that_cannot_be_read_is_not_asked_for_again() -> None:
    made = connected(packet_bytes_max=200)
    big, small = Call(op.get("/big")), Call(op.get("/small"))
    made.submit(big)
    made.submit(small)
    assert made.feed(b"\0\0\xff\xff", 1.0) is Notice.BROKEN
    made.detach(made.break_reason)
    assert isinstance(big.error, ProtocolError)
    assert list(made.queue) == [small]


def test_a_read_only_server_grants_nothing_lasting() -> None:
    made = session(allow_read_only=True)
    made.attach("h:1", 0.0)
    made.feed(records.frame(records.ConnectResponse(0, 8000, 9, bytes(16), True).encode()), 0.1)
    assert (made.read_only, made.granted, made.safe_until) == (True, False, NEVER)
    made.detach("moving")
    connection = made.attach("h:2", 1.0)
    asked = records.ConnectRequest.decode(Reader(connection.take(), 4))
    assert (asked.session_id, asked.read_only) == (0, True)


def test_refused_credentials() -> None:
    made = connected(credentials=[Credential("digest", b"a:b")])
    assert made.feed(reply(ops.XID_AUTH, 0, -115), 1.0) is Notice.AUTH_FAILED


def test_only_writes_sent_before_refused_credentials_are_unknown() -> None:
    made = connected()
    before, after = Call(op.create("/before")), Call(op.create("/after"))
    made.submit(before)
    made.add_credential(Credential("digest", b"a:b"))
    made.submit(after)
    assert made.feed(reply(ops.XID_AUTH, 0, -115), 1.0) is Notice.AUTH_FAILED
    made.end(lambda: AuthFailedError("refused"))
    assert isinstance(before.error, OutcomeUnknown)
    assert isinstance(after.error, AuthFailedError)


def test_the_reconnection_says_what_was_seen() -> None:
    made = connected()
    made.submit(Call(op.exists("/a")))
    made.feed(reply(1, 77, NO_NODE), 1.0)
    made.detach("cut")
    connection = made.attach("h:2", 2.0)
    asked = records.ConnectRequest.decode(Reader(connection.take(), 4))
    assert (asked.last_zxid_seen, asked.session_id, asked.password) == (77, 7, bytes(range(16)))


# ----------------------------------------------------------------------------------- how long it lives
def beat(made: Session, sent: float, answered: float) -> None:
    """One heartbeat and its answer."""
    made.beat(sent)
    assert made.connection is not None
    xid, kind, _ = requests(made.connection.take())[-1]
    made.feed(reply(xid, 5, 0, b"" if kind == ops.PING else records.PathResponse(b"/").encode()), answered)


def test_the_handshake_proves_the_session_alive() -> None:
    made = session()
    made.attach("h:1", 100.0)
    made.feed(records.frame(OK.encode()), 103.0)
    assert made.safe_until == 108.0  # from when it was asked for, not from the answer


def test_pings_prove_nothing() -> None:
    made = connected(0.0)
    for second in range(2, 40, 2):
        beat(made, second, second + 0.1)
    assert made.safe_until == 8.0


def test_a_sync_proves_what_was_answered_a_quarter_of_the_timeout_before() -> None:
    made = connected(0.0)
    beat(made, 2.0, 2.1)
    beat(made, 4.0, 4.1)
    made.leases = 1
    beat(made, 6.0, 6.3)  # 4.1 is only 1.9 s before
    assert made.safe_until == 2.0 + 8.0
    beat(made, 7.0, 7.1)
    assert made.safe_until == 4.0 + 8.0
    beat(made, 8.3, 8.4)  # the sync sent at 6.0 and answered at 6.3 counts as well
    assert made.safe_until == 6.0 + 8.0


def test_a_late_answer_proves_less() -> None:
    made = connected(0.0)
    made.leases = 1
    beat(made, 1.0, 6.0)
    beat(made, 7.0, 7.5)
    assert made.safe_until == 8.0


def test_heartbeats_of_another_server_prove_nothing() -> None:
    made = connected(0.0)
    made.leases = 1
    beat(made, 1.0, 1.1)
    made.detach("cut")
    reconnect(made, 3.0)
    assert made.safe_until == 11.0
    beat(made, 4.0, 4.1)
    assert made.safe_until == 11.0


def test_a_sync_that_fails_proves_nothing() -> None:
    made = connected(0.0)
    beat(made, 1.0, 1.1)
    made.leases = 1
    call = made.beat(5.0)
    assert call is not None
    made.feed(reply(1, 5, -119), 5.1)
    assert made.safe_until == 8.0
    assert call.error is not None


@given(st.lists(st.tuples(st.floats(0.05, 3), st.floats(0, 2)), max_size=20))
def test_never_beyond_the_newest_answered_heartbeat(beats: list[tuple[float, float]]) -> None:
    made = connected(0.0)
    made.leases = 1
    now = 0.0
    newest = 0.0
    for pause, delay in beats:
        newest, before = now + pause, newest
        now = newest + delay
        beat(made, newest, now)
        assert made.safe_until <= max(before, 0.0) + 8.0


# -------------------------------------------------------------------------------------------- watches
def test_restoring_is_split_and_uses_the_old_operation_where_it_can() -> None:
    registry = WatchRegistry()
    watches = [Watch(b"/" + b"x" * 150 + b"%d" % number, CHILD, 0) for number in range(3000)]
    for watch in watches:
        registry.add(watch)
    packets = list(registry.restore(5))
    assert len(packets) > 3
    assert {code for code, _ in packets} == {ops.SET_WATCHES}
    assert max(len(body) for _, body in packets) < RESTORE_BYTES_MAX + 1000
    paths = [path for _, body in packets for path in records.SetWatches.decode(Reader(body)).child or []]
    assert len(set(paths)) == 3000
    registry.add_stream(WatchStream(b"/p", PERSISTENT, 0))
    assert [code for code, _ in registry.restore(5)][-1] == ops.SET_WATCHES2


def test_forgotten_watches() -> None:
    registry = WatchRegistry()
    watch, stream, twin = Watch(b"/a", DATA, 0), WatchStream(b"/a", PERSISTENT, 0), WatchStream(b"/a", PERSISTENT, 0)
    registry.add(watch)
    registry.add_stream(stream)
    registry.add_stream(twin)
    assert len(registry) == 3
    assert not registry.forget_stream(stream)
    registry.forget(watch)
    registry.forget(watch)
    assert registry.forget_stream(twin)
    assert len(registry) == 0
    registry.fire(ops.EVENT_NODE_CREATED, b"/a", 1)
    registry.fire(99, b"/a", 1)
    assert not watch.fired


def test_an_exists_watch_waits_for_the_node_or_for_its_change() -> None:
    made = connected()
    there, missing = Watch(b"/a", DATA, 0), Watch(b"/b", DATA, 0)
    made.submit(Call(op.exists("/a", True), b"", there))
    made.submit(Call(op.exists("/b", True), b"", missing))
    made.feed(reply(1, 5, 0, records.StatResponse(STAT).encode()) + reply(2, 5, NO_NODE), 1.0)
    ((_, body),) = made.watches.restore(5)
    lists = records.SetWatches.decode(Reader(body))
    assert (lists.data, lists.exist) == ([b"/a"], [b"/b"])
    made.feed(reply(-1, -1, 0, records.WatcherEvent(EventType.CREATED.value, 3, b"/b").encode()), 2.0)
    assert (there.fired, missing.fired) == (False, True)


def test_errors_reach_the_caller_with_their_context() -> None:
    made = connected()
    call = Call(op.get("/a"), b"/app")
    made.submit(call)
    made.feed(reply(1, 5, NO_NODE), 1.0)
    with pytest.raises(NoNodeError, match=r"\[/a\] \(getData at h:1, session 0x7\)"):
        call.result()
    made.end(lambda: ClientClosedError("closed"))
    assert made.ended is not None
