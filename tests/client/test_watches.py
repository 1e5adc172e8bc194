"""Watches against real servers, over reconnections and expired sessions."""

from __future__ import annotations

import anyio
import pytest

from corekit.client import Client, ClientClosedError, EventType, State, Watch, WatchEvent, op
from corekit.client.watches import CHILD, DATA, EXIST, QUEUE_MAX, RECURSIVE, WatchRegistry, WatchStream
from corekit.codec import ops, records
from corekit.errors import NoNodeError, NoWatcherError, SessionExpiredError
from tests.client.proxy import Proxy

pytestmark = pytest.mark.anyio


async def test_one_shot_watches(zk: Client) -> None:
    stat, created = await zk.exists_watch("/a")
    assert stat is None
    _, children = await zk.children_watch("/")
    await zk.create("/a")
    assert (await created).type is EventType.CREATED
    event = await children
    assert (event.type, event.path) == (EventType.CHILDREN_CHANGED, "/")
    assert children.fired
    assert await children == event
    _, data = await zk.get_watch("/a")
    _, stat_watch = await zk.exists_watch("/a")
    _, both = await zk.children_watch("/a")
    await zk.set("/a", b"1")
    assert (await data).type is (await stat_watch).type is EventType.DATA_CHANGED
    assert not both.fired
    _, data = await zk.get_watch("/a")
    await zk.delete("/a")
    assert (await data).type is (await both).type is EventType.DELETED


async def test_the_event_comes_before_the_answer_that_shows_the_change(zk: Client, session) -> None:
    await zk.create("/a", b"0")
    async with session() as other:
        for number in range(50):
            data, changed = await zk.get_watch("/a")
            await other.set("/a", b"%d" % number)
            while (await zk.get("/a")).stat.version == data.stat.version:
                pass
            assert changed.fired


async def test_a_failed_read_sets_no_watch(zk: Client) -> None:
    with pytest.raises(NoNodeError):
        await zk.get_watch("/none")
    with pytest.raises(NoWatcherError):
        await zk.call(op.check_watches("/none"))
    assert len(zk._runner.session.watches) == 0


async def test_persistent_watch(zk: Client, session) -> None:
    async with session() as other, zk.watch("/a") as events:
        await other.create("/a")
        await other.create("/a/b")
        await other.set("/a", b"1")
        await other.set("/a/b", b"1")
        await other.delete("/a/b")
        await other.delete("/a")
        seen = [(await anext(events)).type for _ in range(5)]
    assert seen == [
        EventType.CREATED,
        EventType.CHILDREN_CHANGED,
        EventType.DATA_CHANGED,
        EventType.CHILDREN_CHANGED,
        EventType.DELETED,
    ]
    with pytest.raises(NoWatcherError):
        await zk.call(op.check_watches("/a"))


async def test_recursive_watch(zk: Client, session) -> None:
    await zk.ensure("/a/b")
    async with (
        session() as other,
        zk.watch("/a", recursive=True) as events,
        zk.watch("/", recursive=True) as all_events,
    ):
        await other.set("/a", b"1")
        await other.create("/a/b/c")
        await other.create("/elsewhere")
        await other.delete("/a/b/c")
        seen = [(event.type, event.path) for event in [await anext(events) for _ in range(3)]]
        assert seen == [
            (EventType.DATA_CHANGED, "/a"),
            (EventType.CREATED, "/a/b/c"),
            (EventType.DELETED, "/a/b/c"),
        ]
        paths = [(await anext(all_events)).path for _ in range(4)]
        assert paths == ["/a", "/a/b/c", "/elsewhere", "/a/b/c"]


async def test_two_streams_share_a_path(zk: Client, session) -> None:
    async with session() as other, zk.watch("/a") as first:
        async with zk.watch("/a") as second:
            await other.create("/a")
            assert (await anext(first)).type is (await anext(second)).type is EventType.CREATED
        await other.set("/a", b"1")
        assert (await anext(first)).type is EventType.DATA_CHANGED
        assert second.pending() == 0


async def test_a_closed_stream_leaves_watches_that_are_being_set(zk: Client, session, proxy: Proxy) -> None:
    """The server forgets all watches of a path at once, also one whose answer is still on its way."""
    await zk.create("/a")
    got: list[Watch] = []

    async def read(client: Client) -> None:
        got.append((await client.get_watch("/a"))[1])

    async with session(proxy.hosts) as other:
        async with anyio.create_task_group() as tasks:
            async with other.watch("/a"):
                proxy.deaf = True
                tasks.start_soon(read, other)
                await anyio.wait_all_tasks_blocked()
            assert not got
            proxy.deaf = False
        await other.sync()
        await zk.set("/a", b"1")
        with anyio.fail_after(3):
            assert (await got[0]).type is EventType.DATA_CHANGED


async def test_watches_are_restored(zk: Client, session, proxy: Proxy) -> None:
    """One-shot watches fire for what happened meanwhile; persistent ones say RESYNC and go on."""
    for path in ("/changed", "/deleted", "/quiet"):
        await zk.create(path)
    async with session(proxy.hosts) as watcher, watcher.watch("/p", recursive=True) as events:
        waiting = {
            "changed": (await watcher.get_watch("/changed"))[1],
            "deleted": (await watcher.get_watch("/deleted"))[1],
            "created": (await watcher.exists_watch("/created"))[1],
            "children": (await watcher.children_watch("/"))[1],
            "quiet": (await watcher.get_watch("/quiet"))[1],
        }
        proxy.refusing = True
        proxy.cut()
        await watcher.wait_state(State.SUSPENDED)
        await zk.set("/changed", b"1")
        await zk.delete("/deleted")
        await zk.create("/created")
        proxy.refusing = False
        with anyio.fail_after(4):
            assert (await anext(events)).type is EventType.RESYNC
            assert (await waiting["changed"]).type is EventType.DATA_CHANGED
            assert (await waiting["deleted"]).type is EventType.DELETED
            assert (await waiting["created"]).type is EventType.CREATED
            assert (await waiting["children"]).type is EventType.CHILDREN_CHANGED
            assert not waiting["quiet"].fired
            await zk.create("/p")
            assert (await anext(events)).type is EventType.CREATED
            await zk.set("/quiet", b"1")
            assert (await waiting["quiet"]).type is EventType.DATA_CHANGED


async def test_very_many_watches_are_restored_in_several_packets(zk: Client, session, proxy: Proxy) -> None:
    names = [f"/{'x' * 150}{number}" for number in range(3000)]
    async with session(proxy.hosts) as watcher:
        watches = [(await watcher.exists_watch(name))[1] for name in names]
        proxy.cut()
        await watcher.wait_state(State.SUSPENDED)
        await watcher.wait_connected()
        for name in names[::500]:
            await zk.create(name)
        with anyio.fail_after(10):
            for watch in watches[::500]:
                assert (await watch).type is EventType.CREATED
        assert sum(watch.fired for watch in watches) == 6


async def test_watches_end_with_the_session(zk: Client, session) -> None:
    async with session() as other:
        _, watch = await other.children_watch("/")
    with pytest.raises(ClientClosedError):
        await watch


async def test_watches_end_with_an_expired_session(zk: Client, session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as other, other.watch("/p") as events:
        _, watch = await other.children_watch("/")
        await expire(other)
        with anyio.fail_after(5):
            with pytest.raises(SessionExpiredError):
                await watch
            with pytest.raises(SessionExpiredError):
                await anext(events)
            await other.wait_connected()
            assert await other.children("/") == []


async def test_follow(zk: Client, session) -> None:
    async with session() as other:
        values = zk.follow("/v")
        assert await anext(values) is None
        await other.create("/v", b"1")
        assert (await anext(values)).data == b"1"  # type: ignore[union-attr]
        for number in range(20):
            await other.set("/v", b"%d" % number)
        with anyio.fail_after(5):
            async for data in values:
                if data is not None and data.data == b"19":
                    break
        await other.delete("/v")
        assert await anext(values) is None
        names = zk.follow_children("/g")
        assert await anext(names) is None
        await other.create("/g/a", parents=True)
        with anyio.fail_after(5):
            async for children in names:
                if children is not None and children.names == ["a"]:
                    break


async def test_follow_goes_on_in_a_new_session(zk: Client, session, proxy: Proxy, expire) -> None:
    await zk.create("/v", b"1")
    async with session(proxy.hosts) as other:
        values = other.follow("/v")
        assert (await anext(values)).data == b"1"  # type: ignore[union-attr]
        await expire(other)
        await zk.set("/v", b"2")
        with anyio.fail_after(5):
            assert (await anext(values)).data == b"2"  # type: ignore[union-attr]


def test_watches_that_nobody_holds_are_forgotten() -> None:
    """A wait that was cancelled, a loop that was left: no memory is kept for it, and no room in setWatches."""
    registry = WatchRegistry()
    heard: list[WatchEvent] = []
    kept = [Watch(b"/a", kind, 0) for kind in (DATA, EXIST, CHILD)]
    for watch in kept:
        registry.add(watch)
    registry.add(Watch(b"/b", DATA, 0, heard.append))
    for number in range(100):
        registry.add(Watch(b"/a", DATA, 0))
        registry.add(Watch(b"/%d" % number, CHILD, 0))
    assert len(registry) == 4
    ((_, body),) = registry.restore(7)
    assert body == records.SetWatches(7, [b"/a", b"/b"], [b"/a"], [b"/a"]).encode()
    registry.fire(EventType.DELETED.value, b"/a", 8)
    registry.fire(EventType.DATA_CHANGED.value, b"/b", 9)
    assert all(watch.fired for watch in kept)
    assert [event.path for event in heard] == ["/b"]
    assert len(registry) == 0


async def test_followers_and_waits_leave_no_watches(zk: Client, session, proxy: Proxy, root: str) -> None:
    """Seen in what a reconnection puts back: one watch, though many were set and dropped."""
    async with session(proxy.hosts) as other:
        await other.create("/a")
        _, watch = await other.get_watch("/a")
        for number in range(20):
            await other.create(f"/b{number}")
            async for _ in other.follow(f"/b{number}"):
                break
            with anyio.move_on_after(0.001):
                await (await other.children_watch(f"/b{number}"))[1]
        proxy.cut()
        await other.wait_state(State.SUSPENDED)
        await other.wait_connected()
        await other.get("/a")
        assert proxy.sent[-1].count(f"{root}/a".encode()) == 2  # put back, and read
        assert f"{root}/b".encode() not in proxy.sent[-1]
        await zk.set("/a", b"1")
        assert (await watch).type is EventType.DATA_CHANGED


async def test_a_slow_reader_gets_one_resync_instead() -> None:
    registry = WatchRegistry()
    stream = WatchStream(b"/app/a", RECURSIVE, 4)
    registry.add_stream(stream)
    for number in range(QUEUE_MAX + 1):
        registry.fire(ops.EVENT_NODE_CREATED, b"/app/a/%d" % number, number)
    registry.fire(ops.EVENT_NODE_DELETED, b"/app/a/x", 9)
    first, second = await anext(stream), await anext(stream)
    assert (first.type, first.path) == (EventType.RESYNC, "/a")
    assert (second.type, second.path, second.zxid) == (EventType.DELETED, "/a/x", 9)
    assert stream.pending() == 0
