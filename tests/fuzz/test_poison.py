"""Single requests that stop, stall or bloat servers: the server goes on, and starts again with them in its log.

The first group are transactions that an Apache server cannot apply and then cannot replay either (found by the
differential test, or named by their issues); the others are about time and memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.run import SETTINGS, rss_mb, tree_of
from tests.support import rawzk
from tests.support.rawzk import OPEN_ACL, Closed, RawClient, buffer, create_body, frame, int32, int64, text
from tests.support.servers import Server

LIMITS = "/zookeeper/quota/q/zookeeper_limits"
STATS = "/zookeeper/quota/q/zookeeper_stats"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server.start("corekit", tmp_path / "server", SETTINGS) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    with RawClient("127.0.0.1", server.port, timeout=60.0) as connected:
        connected.handshake(10_000)
        yield connected


def quota(client: RawClient, limits: bytes | None, stats: bytes | None) -> None:
    for path, data in (("/q", b""), ("/zookeeper/quota/q", b""), (LIMITS, limits), (STATS, stats)):
        assert client.create(path, data).err == 0
    client.create("/q/below", b"1")
    client.set("/q/below", b"22")
    client.delete("/q/below")


POISONS: dict[str, Callable[[RawClient], object]] = {
    "limits that are no limits": lambda c: quota(c, b"rubbish", b"count=1,bytes=1"),
    "limits without data": lambda c: quota(c, None, None),
    "statistics that are no numbers": lambda c: quota(c, b"count=1,bytes=1", b"=,=;count=x,bytes=99999999999999999999"),
    "statistics overwritten": lambda c: (
        quota(c, b"count=9,bytes=9", b""),
        c.set(STATS, b"\xff\xfe"),
        c.create("/q/n"),
    ),
    "limits deleted first": lambda c: (quota(c, b"count=9,bytes=9", b""), c.delete(LIMITS), c.create("/q/n")),
    "statistics deleted first": lambda c: (quota(c, b"count=9,bytes=9", b""), c.delete(STATS), c.create("/q/n")),
    "numbers beyond 64 bits": lambda c: quota(c, b"count=99999999999999999999,bytes=-5", b"count=1,bytes=1"),
    "createTTL as persistent, no time": lambda c: c.call(rawzk.CREATE_TTL, create_body("/t", b"", 0, OPEN_ACL, -1)),
    "createTTL as ephemeral, too long": lambda c: c.call(
        rawzk.CREATE_TTL, create_body("/t", b"", 1, OPEN_ACL, 1 << 41)
    ),
    "ZOOKEEPER-2213: set of an empty path": lambda c: c.set("", b"x"),
    "ZOOKEEPER-1877: ids that are none": lambda c: [
        c.create("/i", b"", 0, acl) for acl in ([(31, "digest", "")], [(31, "ip", "x")], [(31, "auth", "")], [], None)
    ],
    "ZOOKEEPER-2623: check as a transaction": lambda c: c.call(rawzk.CHECK, text("/") + int32(0)),
    "check inside a failing multi": lambda c: c.multi(
        [(rawzk.CHECK, text("/") + int32(9)), (rawzk.CHECK, text("") + int32(0))]
    ),
    "delete of everything reserved": lambda c: [c.delete(p) for p in ("/", "/zookeeper", "/zookeeper/quota", "")],
    "deleteContainer from a client": lambda c: c.call(rawzk.DELETE_CONTAINER, text("/zookeeper/config")),
    "createSession from a client": lambda c: c.call(rawzk.CREATE_SESSION, int32(-5)),
    "error from a client": lambda c: c.call(rawzk.ERROR, int32(0)),
    "multi inside a multi": lambda c: c.multi([(rawzk.MULTI, rawzk.multi_body([]))]),
    "empty multi": lambda c: c.multi([]),
    "ephemeral by multi, then closed twice": lambda c: (
        c.multi([(rawzk.CREATE, create_body("/e", b"", 1)), (rawzk.DELETE, text("/e") + int32(-1))]),
        c.close_session(),
    ),
    "a name of bytes that are no text": lambda c: c.call(
        rawzk.CREATE, buffer(b"/\xc3\x28") + buffer(b"") + rawzk.acl_list(OPEN_ACL) + int32(0)
    ),
    "an ACL id of bytes that are no text": lambda c: c.call(
        rawzk.CREATE,
        text("/b") + buffer(b"") + int32(1) + int32(31) + text("digest") + buffer(b"\xff:\xfe") + int32(0),
    ),
    "an ACL under an old key": lambda c: [
        (c.create(f"/acl{n}", b"", 0, [(31, "digest", "a:b"), (1, "world", "anyone")]), c.delete(f"/acl{n}"))
        for n in range(9)
    ],
}


@pytest.mark.parametrize("name", sorted(POISONS))
def test_a_request_that_must_not_poison_the_log(server: Server, client: RawClient, name: str) -> None:
    try:
        POISONS[name](client)
    except Closed:
        pass  # an answer as good as any
    before = tree_of(server.port)
    for hard in (True, False):
        server.restart(hard=hard)
        after = {path: what for path, what in tree_of(server.port).items() if path in before}
        assert after.keys() == before.keys()
        assert {path: what[0] for path, what in after.items()} == {path: what[0] for path, what in before.items()}
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (rawzk.CHECK, text("/") + int32(-1)),
        (rawzk.DELETE_CONTAINER, text("/mine")),
        (rawzk.CREATE_SESSION, int32(5000)),
        (99, b""),
        (0, b""),
    ],
)
def test_operations_that_clients_may_not_ask_for_are_refused_and_end_the_connection(
    server: Server, client: RawClient, opcode: int, body: bytes
) -> None:
    assert client.create("/mine").err == 0
    zxid = client.ping().zxid
    reply = client.call(opcode, body)
    assert reply.err == -6
    assert client.is_closed_by_server()
    with RawClient("127.0.0.1", server.port) as other:
        other.handshake()
        assert other.exists("/mine").err == 0
        assert other.ping().zxid == zxid + 1, "a refused request took a zxid"


def test_a_reader_that_does_not_read_costs_no_memory(server: Server, client: RawClient) -> None:
    """Thousands of reads of a megabyte in flight, and none of the replies taken."""
    assert client.create("/big", bytes(1_000_000)).err == 0
    before = rss_mb(server.pid)
    with RawClient("127.0.0.1", server.port, timeout=0.5) as greedy:
        greedy.handshake(30_000)
        reads = b"".join(frame(int32(n) + int32(rawzk.GET_DATA) + text("/big") + b"\0") for n in range(1, 5001))
        with pytest.raises((TimeoutError, ConnectionError)):
            greedy.send_bytes(reads * 200)
        started = time.monotonic()
        assert client.get("/big").err == 0
        assert time.monotonic() - started < 5
        assert rss_mb(server.pid) - before < 150


def test_a_multi_read_cannot_ask_for_gigabytes(server: Server, client: RawClient) -> None:
    assert client.create("/big", bytes(1_000_000)).err == 0
    before = rss_mb(server.pid)
    part = (rawzk.GET_DATA, text("/big") + b"\0")
    assert client.call(rawzk.MULTI_READ, rawzk.multi_body([part] * 40_000)).err == -5
    assert client.call(rawzk.MULTI_READ, rawzk.multi_body([part] * 3)).err == 0
    assert rss_mb(server.pid) - before < 150


def test_many_identities_times_a_long_acl_do_not_stall(server: Server, client: RawClient) -> None:
    with RawClient("127.0.0.1", server.port, timeout=60.0) as other:
        other.handshake()
        proved = 0
        while other.auth("digest", b"user%d:p" % proved).err == 0:
            proved += 1
            assert proved < 1000, "one connection may prove any number of identities"
    with RawClient("127.0.0.1", server.port, timeout=60.0) as other:
        other.handshake()
        for n in range(50):
            assert other.auth("digest", b"user%d:p" % n).err == 0
        acl = [(31, "digest", f"u{n}:x") for n in range(9_000)]
        assert client.create("/guarded", b"", 0, acl).err == 0
        part = (rawzk.GET_DATA, text("/guarded") + b"\0")
        started = time.monotonic()
        assert other.call(rawzk.MULTI_READ, rawzk.multi_body([part] * 25_000)).err == 0
        assert other.multi([(rawzk.SET_DATA, text("/guarded") + buffer(b"") + int32(-1))] * 20_000).err == 0
        assert time.monotonic() - started < 20


def test_watches_on_many_paths_are_bounded_by_what_was_sent(server: Server, client: RawClient) -> None:
    """A million watches from one connection are 20 packets; they must be gone with it."""
    before = rss_mb(server.pid)
    for round_ in range(3):
        with RawClient("127.0.0.1", server.port, timeout=60.0) as other:
            other.handshake()
            for part in range(10):
                paths = [f"/w{round_}/{part}/{n}" for n in range(50_000)]
                body = int64(1 << 60) + rawzk.vector([], text) + rawzk.vector(paths, text) + rawzk.vector([], text)
                assert other.call(rawzk.SET_WATCHES, body, rawzk.XID_SET_WATCHES).err == 0
            other.close_session()
    grown = rss_mb(server.pid) - before
    assert grown < 400, f"{grown:.0f} MB for 500,000 watches at a time"
    deadline = time.monotonic() + 10
    while "Total watches:0" not in server.four("wchs"):
        assert time.monotonic() < deadline, server.four("wchs")
