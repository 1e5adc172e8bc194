"""Every operation against real servers, on both event loops."""

from __future__ import annotations

import anyio
import pytest

from corekit.client import CREATOR_ALL, READ_ONLY, Client, ClientClosedError, connect, digest_acl, op
from corekit.client.acl import ACL, READ
from corekit.errors import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLossError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoWatcherError,
    ReconfigDisabledError,
    UnimplementedError,
    UserError,
)
from tests.conftest import Site

pytestmark = pytest.mark.anyio


async def test_nodes(zk: Client) -> None:
    created = await zk.create("/a", b"1")
    assert created.path == "/a"
    assert created.stat.version == 0
    assert (await zk.get("/a")).data == b"1"
    stat = await zk.set("/a", b"22")
    assert (stat.version, stat.data_length) == (1, 2)
    assert await zk.exists("/a") == stat
    assert await zk.exists("/b") is None
    with pytest.raises(BadVersionError):
        await zk.set("/a", b"", 0)
    with pytest.raises(NodeExistsError) as caught:
        await zk.create("/a")
    assert caught.value.path == "/a"
    assert hex(zk.session_id % 2**64) in str(caught.value)
    await zk.create("/a/b")
    assert await zk.children("/a") == ["b"]
    assert (await zk.children_stat("/a")).stat.num_children == 1
    with pytest.raises(NotEmptyError):
        await zk.delete("/a")
    await zk.delete("/a/b", 0)
    await zk.delete("/a")
    with pytest.raises(NoNodeError):
        await zk.get("/a")


async def test_null_and_empty_data(zk: Client) -> None:
    await zk.create("/null", None)
    await zk.create("/empty", b"")
    assert (await zk.get("/null")).data == (await zk.get("/empty")).data == b""
    assert (await zk.call(op.get_nullable("/null")))[0] is None
    assert (await zk.call(op.get_nullable("/empty")))[0] == b""


async def test_kinds_of_nodes(zk: Client) -> None:
    first = await zk.create("/s-", sequential=True)
    second = await zk.create("/s-", sequential=True, ephemeral=True)
    assert int(second.path[3:]) == int(first.path[3:]) + 1
    assert second.stat.ephemeral_owner == zk.session_id
    with pytest.raises(NoChildrenForEphemeralsError):
        await zk.create(second.path + "/child")
    container = await zk.create("/c", container=True)
    ttl = await zk.create("/t", ttl=3600)
    sequential_ttl = await zk.create("/t-", ttl=3600, sequential=True)
    assert (container.path, ttl.path, len(sequential_ttl.path)) == ("/c", "/t", 13)
    assert container.stat.ephemeral_owner == ttl.stat.ephemeral_owner == 0
    assert await zk.ephemerals() == [second.path]
    assert await zk.count_descendants("/") == 5


async def test_ephemerals_go_with_their_session(zk: Client, session) -> None:
    async with session() as other:
        await other.create("/e", ephemeral=True)
        assert await zk.exists("/e", fresh=True) is not None
    assert await zk.exists("/e", fresh=True) is None


async def test_parents(zk: Client) -> None:
    await zk.create("/a/b/c", b"x", parents=True)
    assert (await zk.get("/a/b")).data == b""
    await zk.ensure("/a/b/c/d/e")
    await zk.ensure("/a/b/c/d/e")
    await zk.ensure("/")
    assert [path async for path, _ in zk.walk("/a")] == ["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/b/c/d/e"]
    assert await zk.delete_tree("/a") == 5
    with pytest.raises(NoNodeError):
        await zk.delete_tree("/a")


async def test_ensure_makes_the_chroot(server: Site, root: str) -> None:
    async with connect(f"{server.hosts}{root}/deep/er") as zk:
        with pytest.raises(NoNodeError):
            await zk.create("/a")
        await zk.create("/a", parents=True)
        assert (await zk.at("/a").exists("/")) is not None
        assert await zk.at("/").children("/") == ["a"]


async def test_multi(zk: Client) -> None:
    await zk.create("/a")
    results = await zk.multi(
        [op.check("/a", 0), op.set("/a", b"1"), op.create("/b-", sequential=True), op.create("/c", container=True)]
    )
    assert results[0] is None
    assert results[1].version == 1
    assert results[2].path.startswith("/b-")
    assert results[3].stat.num_children == 0
    with pytest.raises(BadVersionError) as caught:
        await zk.multi([op.create("/d"), op.set("/a", b"2", 7), op.delete("/c")])
    assert (caught.value.index, caught.value.path) == (1, "/a")
    assert await zk.exists("/d") is None
    assert await zk.multi([]) == []
    assert await zk.multi([op.delete("/c")]) == [None]


async def test_multi_read(zk: Client) -> None:
    await zk.create("/a", b"1")
    data, names, missing = await zk.multi_read([op.get("/a"), op.names("/"), op.get("/none")])
    assert data.data == b"1"
    assert names == ["a"]
    assert isinstance(missing, NoNodeError)
    assert missing.path == "/none"


async def test_acls_and_authentication(zk: Client, session) -> None:
    await zk.create("/open", acl=READ_ONLY)
    with pytest.raises(NoAuthError):
        await zk.set("/open", b"")
    await zk.create("/mine", b"s", acl=[digest_acl("ada", "pw")])
    with pytest.raises(NoAuthError):
        await zk.get("/mine")
    await zk.add_auth("digest", "ada:pw")
    assert (await zk.get("/mine")).data == b"s"
    await zk.create("/creator", acl=CREATOR_ALL)
    acl, stat = await zk.get_acl("/creator")
    assert acl == [digest_acl("ada", "pw")]
    await zk.set_acl("/creator", [ACL(READ, "world", "anyone"), digest_acl("ada", "pw")], stat.aversion)
    with pytest.raises(BadVersionError):
        await zk.set_acl("/creator", READ_ONLY, stat.aversion)
    assert ("digest", "ada") in {(identity.scheme, identity.id) for identity in await zk.who_am_i()}
    async with session(auth=[("digest", b"ada:pw")]) as other:
        assert (await other.get("/mine")).data == b"s"


async def test_a_refused_credential_is_final(session) -> None:
    async with session() as zk:
        with pytest.raises(AuthFailedError):
            await zk.add_auth("nonsense", "x")
        with pytest.raises(AuthFailedError, match="refused the credentials"):
            await zk.get("/")
        assert zk.state.state.value == "authentication failed"
    with pytest.raises(AuthFailedError):
        async with session(auth=[("nonsense", "x")]) as zk:
            await zk.create("/never")  # and not OutcomeUnknown: nothing is sent before the credentials are accepted


async def test_fresh_reads(zk: Client) -> None:
    await zk.create("/a", b"1")
    assert (await zk.get("/a", fresh=True)).data == b"1"
    assert await zk.children("/", fresh=True) == ["a"]
    await zk.sync("/a")


async def test_administration(zk: Client) -> None:
    with pytest.raises((ReconfigDisabledError, UnimplementedError, NoAuthError)):
        await zk.reconfig(joining="server.9=localhost:1:2;3")
    assert (await zk.get_config()).stat.czxid == 0
    with pytest.raises(NoWatcherError):
        await zk.call(op.check_watches("/"))
    with pytest.raises(NoWatcherError):
        await zk.call(op.remove_watches("/"))


async def test_bulk(zk: Client) -> None:
    await zk.create("/n")
    sets = [stat async for stat in zk.stream((op.set("/n", b"%d" % number) for number in range(500)), flight=32)]
    assert [stat.version for stat in sets] == list(range(1, 501))
    got = await zk.gather(*[op.get("/n")] * 100)
    assert {data.data for data in got} == {b"499"}
    with pytest.raises(NoNodeError):
        await zk.gather(op.get("/n"), op.get("/none"), op.create("/made"))
    assert await zk.exists("/made") is not None
    kinds = [type(answer).__name__ async for answer in zk.stream([op.get("/n"), op.get("/none")], errors=True)]
    assert kinds == ["Data", "NoNodeError"]


async def test_an_error_leaves_a_stream_usable(zk: Client) -> None:
    stream = zk.stream([op.get("/none"), op.exists("/")])
    with pytest.raises(NoNodeError):
        await anext(stream)
    assert (await anext(stream)).num_children == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_many_tasks_share_one_session(zk: Client) -> None:
    made: list[str] = []

    async def make(number: int) -> None:
        made.append((await zk.create(f"/n{number}", b"%d" % number)).path)

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(make, number)
    assert sorted(made) == sorted("/" + name for name in await zk.children("/"))


async def test_too_large_a_request_is_refused_here(zk: Client) -> None:
    with pytest.raises(BadArgumentsError, match=r"servers accept 1048575 \(their jute.maxbuffer"):
        await zk.create("/big", bytes(2_000_000))
    await zk.create("/fits", bytes(1_000_000))
    assert len((await zk.get("/fits")).data) == 1_000_000


async def test_too_large_a_reply_ends_one_request_and_nothing_else(zk: Client, session) -> None:
    await zk.create("/big", bytes(500_000))
    await zk.create("/small", b"s")
    async with session(reply_bytes_max=100_000) as other:
        with pytest.raises(Exception, match=r"packet of 5000.. bytes; the client accepts 100000"):
            await other.get("/big")
        assert (await other.get("/small")).data == b"s"


async def test_errors_of_the_block_leave_as_they_are(session) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with session():
            raise LookupError("mine")


async def test_after_the_block(session) -> None:
    async with session() as zk:
        await zk.sync()
    assert zk.state.state.value == "closed"
    with pytest.raises(ClientClosedError):
        await zk.get("/")


async def test_cancelling_the_block_is_quick_and_closes_the_session(zk: Client, session) -> None:
    started = anyio.current_time()
    with anyio.move_on_after(0.3):
        async with session() as other:
            await other.create("/e", ephemeral=True)
            await anyio.sleep_forever()
    assert anyio.current_time() - started < 2
    assert await zk.exists("/e", fresh=True) is None


async def test_nobody_there() -> None:
    with pytest.raises(ConnectionLossError, match=r"no session within 0\.3 s: 127\.0\.0\.1:1: connection refused"):
        async with connect("127.0.0.1:1", connect_timeout=0.3):
            pass
    with pytest.raises(UserError):
        async with connect("127.0.0.1:1", timeout=0):
            pass


async def test_without_patience_servers_that_refuse_are_tried_once() -> None:
    with anyio.fail_after(10):
        with pytest.raises(ConnectionLossError, match=r"no session: .*: connection refused; .*: connection refused"):
            async with connect("127.0.0.1:1,127.0.0.1:2", connect_timeout=None, patient=False):
                pass


async def test_without_patience_one_server_that_answers_will_do(server: Site) -> None:
    async with connect(f"127.0.0.1:1,127.0.0.1:2,{server.hosts}", patient=False) as zk:
        assert zk.state.server in server.hosts.split(",")


async def test_a_host_that_does_not_resolve_is_passed_over(server: Site) -> None:
    async with connect(f"no-such-host.invalid:1,{server.hosts}") as zk:
        assert zk.state.server in server.hosts.split(",")
