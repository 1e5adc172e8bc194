"""A learner and its leader, joined directly: forwarded requests, sessions that move, clients that fall silent."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from corekit import errors
from corekit.api import ConsensusHost, ConsensusStatus, Identity, Observer, Peer, Recovery, Write
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import CreateRequest, MultiHeader, PathRequest, PathWatchRequest, SetDataRequest
from corekit.model.sessions import password
from corekit.replica.attach import admit, attach
from corekit.replica.options import ReplicaOptions
from corekit.replica.replica import Replica
from tests.support.heart import OPEN, Client, Heart

LEARNER = 2
OPTIONS = ReplicaOptions(tick_time_ms=1000)
LOCAL = replace(OPTIONS, local_sessions=True, local_sessions_upgrading=True)


class Uplink:
    """The consensus of the learner: everything goes to the leader's heart at once, answers come when the test says."""

    wake_at = 1 << 62

    def __init__(self, leader: Heart) -> None:
        self.leader = leader
        self.answers: list[Callable[[Replica], None]] = []

    def forward(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        self.leader.replica.remote.forwarded(LEARNER, session_id, cxid, op, body, identities)

    def sync(self, session_id: int, cxid: int, body: bytes) -> None:
        self.answers.append(lambda replica: replica.remote.synced(session_id, cxid))

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        valid = self.leader.replica.remote.revalidate(LEARNER, session_id, timeout_ms)
        self.answers.append(lambda replica: replica.remote.revalidated(session_id, valid))

    # The rest of `EnsembleConsensus`; nothing here asks for it.
    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None: ...
    def stop(self) -> None: ...
    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None: ...
    def persisted(self, upto_zxid: int) -> None: ...
    def tick(self, now_ms: int) -> None: ...
    def durable(self, token: int) -> None: ...
    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None: ...
    def link_data(self, link: int, data: bytes) -> None: ...
    def link_drained(self, link: int) -> None: ...
    def link_closed(self, link: int, why: str) -> None: ...

    def status(self) -> ConsensusStatus:
        return ConsensusStatus(mode="follower")


class Pair:
    """A leader's heart and a learner's replica that applies what the leader has committed."""

    def __init__(self, options: ReplicaOptions = OPTIONS, observers: Sequence[Observer] = ()) -> None:
        self.leader = Heart(options, digest=True)
        self.uplink = Uplink(self.leader)
        self.replica = Replica(options, {}, 0x200000000000000, observers, server_id=LEARNER)
        self.replica.tree.bootstrap()
        self.replica.tree.start_digest()
        self.now_ms = 1_000
        self.replica.set_time(self.now_ms, 1_700_000_000_000)
        self.replica.bind(self.uplink)
        self.replica.serve("follower", 1)
        self._applied = 0

    def settle(self) -> None:
        """The leader commits, the learner applies and hears the answers."""
        self.leader.settle()
        for zxid, entry in self.leader.entries[self._applied :]:
            self.replica.logged(zxid, (entry,))
            self.replica.committed(zxid)
        self._applied = len(self.leader.entries)
        answers, self.uplink.answers = self.uplink.answers, []
        for answer in answers:
            answer(self.replica)

    def client(self) -> Client:
        client = Client(self, Peer("127.0.0.1", 9))  # type: ignore[arg-type]
        client.hello()
        self.settle()
        client.frames()
        assert client.connection.ready
        return client

    def later(self, ms: int) -> None:
        self.now_ms += ms
        self.replica.set_time(self.now_ms, 1_700_000_000_000 + self.now_ms)
        self.replica.tick()


def create(path: bytes, flags: int = 0) -> bytes:
    return CreateRequest(path, b"x", OPEN, flags).encode()


def test_writes_through_a_learner_are_answered_as_by_the_leader() -> None:
    pair = Pair()
    far, near = pair.client(), pair.leader.client()
    pair.settle()
    parts = [(ops.CREATE, create(b"/m")), (ops.SET_DATA, SetDataRequest(b"/m", b"y", 0).encode())]
    end = MultiHeader(-1, True, -1).encode()
    multi = b"".join(MultiHeader(op, False, -1).encode() + body for op, body in parts) + end
    script = [
        (ops.CREATE, create(b"/a")),
        (ops.CREATE, create(b"/a")),
        (ops.CREATE2, create(b"/a/n", 2)),
        (ops.SET_DATA, SetDataRequest(b"/a", b"new", 0).encode()),
        (ops.SET_DATA, SetDataRequest(b"/a", b"new", 7).encode()),
        (ops.MULTI, multi),
        (ops.MULTI, multi),
        (ops.DELETE, b"\0\0\0\x02/m\xff\xff\xff\xff"),
    ]
    remote = [far.call(op, body) for op, body in script]
    for path in (b"/a/n0000000000", b"/a"):
        near.call(ops.DELETE, len(path).to_bytes(4, "big") + path + b"\xff\xff\xff\xff")
    local = [near.call(op, body) for op, body in script]
    assert [reply.code for reply in remote] == [reply.code for reply in local]
    assert [len(reply.body) for reply in remote] == [len(reply.body) for reply in local]
    assert remote[2].body[:22] == local[2].body[:22]
    pair.settle()
    assert pair.replica.stats.digest_mismatches == 0
    assert pair.replica.tree.digest == pair.leader.replica.tree.digest


def test_a_client_that_counts_anew_is_not_answered_with_what_it_asked_before() -> None:
    """kazoo numbers its requests from 1 on every connection: two of one session may have one xid."""
    pair = Pair()
    client = pair.client()
    assert client.call(ops.CREATE, create(b"/a")).code == 0
    session = client.connection.session_id
    client.send(ops.SET_DATA, SetDataRequest(b"/a", b"before", -1).encode())
    xid = client.xid
    pair.replica.disconnect(client.connection)
    again = Client(pair, Peer("127.0.0.1", 10))  # type: ignore[arg-type]
    again.hello(session, password(session))
    pair.uplink.answers.pop(0)(pair.replica)
    assert not again.connection.ready, "the session lives, but its last write is not applied here"
    pair.settle()
    assert again.connection.ready
    again.frames()
    again.xid = xid - 1
    reply = again.call(ops.SET_DATA, SetDataRequest(b"/a", b"after", 1).encode())
    assert (reply.code, reply.zxid) == (0, pair.replica.tree.zxid)
    assert again.get(b"/a").body[4:9] == b"after"


def test_a_read_behind_a_forwarded_write_waits_for_it() -> None:
    pair = Pair()
    client = pair.client()
    client.send(ops.CREATE, create(b"/a"))
    client.send(ops.GET_DATA, PathWatchRequest(b"/a", False).encode())
    assert client.frames() == []
    pair.settle()
    assert [reply.code for reply in client.replies()] == [0, 0]


def test_sync_is_answered_when_consensus_says_so_and_holds_what_follows() -> None:
    pair = Pair()
    client, other = pair.client(), pair.leader.client()
    pair.settle()
    other.create(b"/late")
    client.send(ops.SYNC, PathRequest(b"/").encode())
    client.send(ops.EXISTS, PathWatchRequest(b"/late", False).encode())
    assert client.frames() == []
    pair.settle()
    synced, exists = client.replies()
    assert (synced.code, exists.code) == (0, 0)
    assert Reader(synced.body).string() == b"/"


def test_a_sync_that_is_answered_late_keeps_its_place() -> None:
    """A quorum may confirm a sync later than it commits a write that was sent after it; answers keep their order."""
    pair = Pair()
    client = pair.client()
    script = [
        (ops.SYNC, PathRequest(b"/").encode()),
        (ops.CREATE, create(b"/a")),
        (ops.SET_DATA, SetDataRequest(b"/a", b"new", 0).encode()),
        (ops.SYNC, PathRequest(b"/a").encode()),
        (ops.GET_DATA, PathWatchRequest(b"/a", False).encode()),
        (ops.CREATE, create(b"/b")),
        (ops.EXISTS, PathWatchRequest(b"/b", False).encode()),
    ]
    for op, body in script:
        client.send(op, body)
    late, pair.uplink.answers = pair.uplink.answers, []
    pair.settle()
    assert client.replies() == []
    pair.uplink.answers = late
    replies = []
    for _ in range(4):
        pair.settle()
        replies += client.replies()
    assert [reply.xid for reply in replies] == sorted(reply.xid for reply in replies)
    assert [reply.code for reply in replies] == [0] * len(script)
    assert replies[4].body[4:7] == b"new"


def test_an_undecodable_request_is_answered_too() -> None:
    pair = Pair()
    client = pair.client()
    assert client.call(ops.CREATE, b"\0\0\0\x7f").code == errors.MARSHALLING_ERROR
    assert client.create(b"/after").code == 0


def test_a_session_moves_to_the_leader_and_its_late_requests_fail() -> None:
    pair = Pair()
    client = pair.client()
    client.create(b"/e", flags=1)
    session = client.connection.session_id
    again = Client(pair.leader, Peer("127.0.0.1", 10))
    again.hello(session, password(session))
    assert again.connection.ready
    client.send(ops.CREATE, create(b"/late"))
    pair.settle()
    assert client.connection.closing == "its session moved to another server"
    assert again.get(b"/late").code == errors.NO_NODE
    assert again.get(b"/e").code == 0


def test_a_session_comes_back_to_a_learner_and_the_leader_lets_go_of_it() -> None:
    pair = Pair()
    near = pair.leader.client()
    pair.settle()
    session = near.connection.session_id
    far = Client(pair, Peer("127.0.0.1", 11))  # type: ignore[arg-type]
    far.hello(session, password(session))
    assert not far.connection.ready, "only the leader knows whether the session lives"
    pair.settle()
    assert far.connection.ready
    assert near.connection.closing is not None
    assert far.create(b"/a").code == 0
    expired = Client(pair, Peer("127.0.0.1", 12))  # type: ignore[arg-type]
    expired.hello(0x1234, password(0x1234))
    pair.settle()
    assert expired.connection.closing is not None


def test_what_an_older_connection_holds_back_does_not_come_behind_what_was_asked_elsewhere() -> None:
    """A client leaves a learner unnoticed, asks at the leader, and comes back to the learner."""
    pair = Pair()
    older = pair.client()
    assert older.create(b"/a", b"first").code == 0
    session = older.connection.session_id
    older.send(ops.SYNC, PathRequest(b"/").encode())
    older.send(ops.SET_DATA, SetDataRequest(b"/a", b"late", -1).encode())
    elsewhere = Client(pair.leader, Peer("127.0.0.1", 10))
    elsewhere.hello(session, password(session))
    assert elsewhere.set(b"/a", b"newer").code == 0
    again = Client(pair, Peer("127.0.0.1", 11))  # type: ignore[arg-type]
    again.hello(session, password(session))
    pair.settle()
    pair.settle()
    assert again.connection.ready
    assert older.connection.closing == "its client connected anew"
    assert again.get(b"/a").body[4:9] == b"newer"


def test_closing_through_a_learner_removes_ephemerals_everywhere() -> None:
    pair = Pair()
    client = pair.client()
    client.create(b"/e", flags=1)
    client.send(ops.CLOSE_SESSION)
    pair.settle()
    assert [reply.code for reply in client.replies()] == [0]
    assert client.connection.closing is not None
    assert b"/e" not in pair.replica.tree.nodes
    assert pair.leader.replica.sessions.sessions == {}


def test_touched_sessions_are_those_heard_since_and_a_silent_client_is_closed() -> None:
    pair = Pair()
    quiet, busy = pair.client(), pair.client()
    pair.later(100)
    assert {session for session, _ in pair.replica.remote.touched()} == {
        quiet.connection.session_id,
        busy.connection.session_id,
    }
    for _ in range(12):
        pair.later(1000)
        busy.call(ops.PING)
    assert [session for session, _ in pair.replica.remote.touched()] == [busy.connection.session_id]
    assert quiet.connection.closing is not None
    assert busy.connection.closing is None


def test_a_local_session_takes_no_transaction_until_its_first_ephemeral() -> None:
    pair = Pair(LOCAL)
    for client in (pair.client(), pair.leader.client()):
        assert pair.leader.replica.sessions.sessions == {}
        path = b"/%x" % client.connection.session_id
        assert client.create(path).code == 0
        assert client.create(path + b"/e", flags=1).code == 0
        pair.settle()
        session = client.connection.session_id
        assert set(pair.leader.replica.sessions.sessions) == {session}
        assert set(pair.replica.sessions.sessions) == {session}
        client.send(ops.CLOSE_SESSION)
        pair.settle()
        assert [reply.code for reply in client.replies()] == [0]
        assert pair.leader.replica.tree.ephemerals == {}
        assert pair.leader.replica.sessions.sessions == {}


def test_a_local_session_ends_by_itself_and_without_upgrading_it_owns_nothing() -> None:
    pair = Pair(replace(LOCAL, local_sessions_upgrading=False))
    client = pair.client()
    assert client.create(b"/e", flags=1).code == errors.EPHEMERAL_ON_LOCAL_SESSION
    assert client.create(b"/p").code == 0
    assert pair.replica.remote.touched() == []
    session = client.connection.session_id
    again = Client(pair, Peer("127.0.0.1", 13))  # type: ignore[arg-type]
    again.hello(session, password(session))
    assert again.connection.ready, "this server knows by itself"
    assert client.connection.closing is not None
    again.send(ops.CLOSE_SESSION)
    assert [reply.code for reply in again.replies()[-1:]] == [0]
    silent = pair.client()
    for _ in range(14):
        pair.later(1000)
    assert silent.connection.closing == "session expired"


def test_a_read_only_server_reads_and_refuses_the_rest() -> None:
    pair = Pair(LOCAL)
    writer = pair.client()
    writer.create(b"/a")
    pair.replica.suspend("the leader is gone")
    pair.replica.serve_read_only()
    for flag, ready in ((b"", False), (b"\0", False), (b"\1", True)):
        client = Client(pair, Peer("127.0.0.1", 14))  # type: ignore[arg-type]
        attach(pair.replica, client.connection, struct.pack(">iqiqi", 0, 0, 10_000, 0, 16) + bytes(16) + flag)
        assert client.connection.ready is ready
    hello = client.frames()[0]
    assert hello[-1:] == b"\1", "the client is told that the server is read-only"
    client.send(ops.GET_DATA, PathWatchRequest(b"/a", False).encode())
    client.send(ops.CREATE, create(b"/b"))
    client.send(ops.SYNC, PathRequest(b"/").encode())
    client.send(ops.MULTI, MultiHeader(-1, True, -1).encode())
    assert [reply.code for reply in client.replies()] == [0, *[errors.NOT_READ_ONLY] * 3]
    pair.replica.serve("follower", 1)
    assert client.connection.closing == "there is a quorum again"


def test_an_observer_on_a_learner_is_told_of_its_own_clients_writes() -> None:
    class Auditor(Observer):
        writes: list[Write] = []

        def write_answered(self, write: Write) -> None:
            self.writes.append(write)

    auditor = Auditor()
    pair = Pair(observers=[auditor])
    far, near = pair.client(), pair.leader.client()
    far.call(ops.CREATE, create(b"/a"))
    put = SetDataRequest(b"/a", b"2", -1).encode()
    far.call(ops.SET_DATA, put)
    far.call(ops.CREATE, create(b"/a"))
    near.create(b"/b")
    pair.settle()
    assert [(write.op, write.code, write.before) for write in auditor.writes] == [
        (ops.CREATE, 0, {}),
        (ops.SET_DATA, 0, {b"/a": 0}),
        (ops.CREATE, errors.NODE_EXISTS, {}),
    ]
    assert auditor.writes[1].body == put
    logged = dict(pair.leader.entries)
    assert all(write.entry == logged[write.zxid] for write in auditor.writes)
    assert {write.session_id for write in auditor.writes} == {far.connection.session_id}


def test_who_is_admitted_to_read_on_a_learner_is_refused_a_sync() -> None:
    pair = Pair()
    client = Client(pair, Peer("127.0.0.1", 9))  # type: ignore[arg-type]
    admit(pair.replica, client.connection)
    client.send(ops.GET_DATA, PathWatchRequest(b"/", False).encode())
    client.send(ops.SYNC, PathRequest(b"/").encode())
    client.send(ops.CREATE, create(b"/a"))
    assert [reply.code for reply in client.replies()] == [0, errors.SESSION_EXPIRED, errors.SESSION_EXPIRED]
