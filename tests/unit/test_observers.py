"""What observers are told, and when."""

from __future__ import annotations

from corekit import errors
from corekit.api import Observer, Peer, Write
from corekit.codec import ops
from corekit.codec.records import CreateRequest, DeleteRequest, MultiHeader, SetDataRequest
from corekit.replica.options import ReplicaOptions
from tests.support.heart import OPEN, Client, Heart


class Diary(Observer):
    """Writes down everything."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []
        self.entries: list[tuple[int, bytes]] = []

    def session_opened(self, session_id: int, timeout_ms: int, peer: Peer) -> None:
        self.lines.append(("opened", session_id, timeout_ms, peer.address))

    def session_closed(self, session_id: int, why: str) -> None:
        self.lines.append(("closed", session_id, why))

    def committed(self, zxid: int, entry: bytes) -> None:
        self.entries.append((zxid, entry))

    def request_failed(self, session_id: int, op: int, code: int) -> None:
        self.lines.append(("failed", session_id, op, code))

    def connection_opened(self, peer: Peer) -> None:
        self.lines.append(("connected", peer.address))

    def connection_closed(self, peer: Peer, why: str) -> None:
        self.lines.append(("disconnected", peer.address, why))

    def take(self) -> list[tuple[object, ...]]:
        lines, self.lines = self.lines, []
        return lines


def watched() -> tuple[Heart, Diary, Client]:
    diary = Diary()
    heart = Heart(ReplicaOptions(), observers=[diary])
    return heart, diary, heart.client("10.0.0.7")


def test_the_life_of_a_client() -> None:
    heart, diary, client = watched()
    session = client.connection.session_id
    assert diary.take() == [("connected", "10.0.0.7"), ("opened", session, 10_000, "10.0.0.7")]
    client.call(ops.CLOSE_SESSION)
    assert diary.take() == [("closed", session, "closed")]
    heart.replica.disconnect(client.connection)
    heart.replica.disconnect(client.connection)
    assert diary.take() == [("disconnected", "10.0.0.7", "session closed")], "told once"


def test_a_session_that_nobody_uses_expires() -> None:
    heart, diary, client = watched()
    diary.take()
    heart.replica.disconnect(client.connection)
    heart.later(60_000)
    assert diary.take() == [
        ("disconnected", "10.0.0.7", "disconnected"),
        ("closed", client.connection.session_id, "expired"),
    ]


def test_every_transaction_is_told_in_order_also_those_that_refuse() -> None:
    heart, diary, client = watched()
    client.create(b"/a")
    client.create(b"/a")
    client.set(b"/a", b"1")
    assert [zxid for zxid, _ in diary.entries] == [1, 2, 3, 4]
    assert diary.entries == heart.entries


def test_an_entry_is_told_when_its_change_is_visible() -> None:
    class Reader(Observer):
        found: list[bytes | None]

        def committed(self, zxid: int, entry: bytes) -> None:
            self.found.append(heart.replica.tree.nodes.get(b"/a"))

    reader = Reader()
    reader.found = []
    heart = Heart(observers=[reader])
    client = heart.client()
    client.send(ops.CREATE, CreateRequest(b"/a", b"1", OPEN, 0).encode())
    heart.flush()
    assert len(reader.found) == 1, "the session; the write is not durable"
    heart.sync()
    assert reader.found[0] is None
    assert reader.found[1] is not None


def multi(*parts: tuple[int, bytes]) -> bytes:
    body = b"".join(MultiHeader(op, False, -1).encode() + part for op, part in parts)
    return body + MultiHeader(-1, True, -1).encode()


def test_refused_writes_are_told_with_their_code() -> None:
    heart, diary, client = watched()
    session = client.connection.session_id
    client.create(b"/a")
    diary.take()
    client.create(b"/a")
    client.set(b"/a", b"", 7)
    client.call(ops.DELETE, DeleteRequest(b"/none", -1).encode())
    client.call(ops.CREATE, b"\0\0\0\x7f")
    client.call(ops.GET_DATA, b"\0\0\0\x05/none\0")
    assert diary.take() == [
        ("failed", session, ops.CREATE, errors.NODE_EXISTS),
        ("failed", session, ops.SET_DATA, errors.BAD_VERSION),
        ("failed", session, ops.DELETE, errors.NO_NODE),
        ("failed", session, ops.CREATE, errors.MARSHALLING_ERROR),
    ], "reads are not writes"
    heart.replica.refuse_writes = "the disk is full"
    client.set(b"/a", b"")
    assert diary.take() == [("failed", session, ops.SET_DATA, errors.NOT_READ_ONLY)]


def test_a_refused_multi_is_told_with_the_code_of_what_failed() -> None:
    _, diary, client = watched()
    session = client.connection.session_id
    diary.take()
    good = (ops.CREATE, CreateRequest(b"/a", b"", OPEN, 0).encode())
    bad = (ops.SET_DATA, SetDataRequest(b"/a", b"", 9).encode())
    client.call(ops.MULTI, multi(good, bad, good))
    assert diary.take() == [("failed", session, ops.MULTI, errors.BAD_VERSION)]
    client.call(ops.MULTI, multi(good))
    client.call(ops.MULTI, multi())
    assert diary.take() == []


def test_one_that_raises_is_unbound_from_everything_and_the_others_are_told() -> None:
    class Fragile(Diary):
        def request_failed(self, session_id: int, op: int, code: int) -> None:
            raise ZeroDivisionError

    fragile, diary = Fragile(), Diary()
    heart = Heart(observers=[fragile, diary])
    client = heart.client()
    assert client.create(b"/none/a").code == errors.NO_NODE
    assert [(who, type(error)) for who, error in heart.replica.observing.failures] == [(fragile, ZeroDivisionError)]
    before = len(fragile.entries)
    assert client.create(b"/a").code == 0
    assert len(fragile.entries) == before
    assert len(diary.entries) == before + 2


def test_what_is_not_overridden_costs_nothing() -> None:
    heart = Heart(observers=[Observer()])
    observing = heart.replica.observing
    assert not observing.committed
    assert not observing.request_failed
    assert heart.client().create(b"/a").code == 0


class Auditor(Observer):
    """Keeps the writes that were answered."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def write_answered(self, write: Write) -> None:
        self.writes.append(write)


def test_an_answered_write_says_who_did_what_to_what() -> None:
    auditor = Auditor()
    heart = Heart(observers=[auditor])
    client = heart.client("10.0.0.7")
    create, put = CreateRequest(b"/a", b"1", OPEN, 0).encode(), SetDataRequest(b"/a", b"2", -1).encode()
    client.send(ops.CREATE, create)
    heart.flush()
    assert auditor.writes == [], "it is not decided"
    heart.settle()
    client.call(ops.SET_DATA, put)
    client.call(ops.SET_DATA, put)
    client.call(ops.CREATE, create)
    client.get(b"/a")
    made, _, changed, refused = auditor.writes
    assert (made.op, made.body, made.code, made.before) == (ops.CREATE, create, 0, {})
    assert (changed.op, changed.body, changed.code, changed.before) == (ops.SET_DATA, put, 0, {b"/a": 1})
    assert (refused.op, refused.body, refused.code, refused.before) == (ops.CREATE, create, errors.NODE_EXISTS, {})
    for write in auditor.writes:
        assert write.session_id == client.connection.session_id
        assert write.peer.address == "10.0.0.7"
    logged = dict(heart.entries)
    assert [write.entry for write in auditor.writes] == [logged[write.zxid] for write in auditor.writes]


def test_a_write_that_becomes_no_transaction_is_answered_too() -> None:
    auditor = Auditor()
    heart = Heart(observers=[auditor])
    client = heart.client()
    client.call(ops.CREATE, b"\0\0\0\x7f")
    heart.replica.refuse_writes = "the disk is full"
    client.set(b"/a", b"")
    assert [(write.code, write.zxid, write.entry) for write in auditor.writes] == [
        (errors.MARSHALLING_ERROR, 0, b""),
        (errors.NOT_READ_ONLY, 0, b""),
    ]


def test_a_refused_multi_and_the_end_of_a_session_are_answered_writes() -> None:
    auditor = Auditor()
    heart = Heart(observers=[auditor])
    client = heart.client()
    client.create(b"/e", flags=1)
    body = multi(
        (ops.CREATE, CreateRequest(b"/a", b"", OPEN, 0).encode()), (ops.DELETE, DeleteRequest(b"/e", 5).encode())
    )
    client.call(ops.MULTI, body)
    client.call(ops.CLOSE_SESSION)
    _, failed, closed = auditor.writes
    assert (failed.op, failed.body, failed.code) == (ops.MULTI, body, errors.BAD_VERSION)
    assert (closed.op, closed.code, closed.before[b"/e"]) == (ops.CLOSE_SESSION, 0, 0)


def test_what_a_lost_leadership_left_undecided_is_not_answered() -> None:
    auditor = Auditor()
    heart = Heart(observers=[auditor])
    client = heart.client()
    client.send(ops.CREATE, CreateRequest(b"/a", b"", OPEN, 0).encode())
    heart.flush()
    heart.replica.suspend("a test")
    heart.replica.serve("standalone", heart.replica.next_zxid)
    other = heart.client()
    other.create(b"/b")
    assert [write.session_id for write in auditor.writes] == [other.connection.session_id]
