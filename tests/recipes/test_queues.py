"""Queues: nothing lost, nothing doubled, order, and what broken connections may do."""

from __future__ import annotations

import random
from collections import Counter as Bag

import anyio
import pytest
from corekit_recipes.claim_queue import ClaimQueue
from corekit_recipes.delay_queue import DelayQueue
from corekit_recipes.naming import Layout
from corekit_recipes.priority_queue import PriorityQueue
from corekit_recipes.queue import Queue, TakeUnknown, in_order

from corekit.client import Client, LeaseLost, NotAcquired, OutcomeUnknown
from tests.client.proxy import Proxy
from tests.client.waiting import until
from tests.recipes.checker import Record

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("layout", list(Layout))
async def test_first_in_first_out(zk: Client, layout: Layout) -> None:
    queue = Queue(zk, "/q", layout=layout)
    assert await queue.try_take() is None
    assert await queue.peek() is None
    assert await queue.take(wait=0.1) is None
    await queue.put(b"0")
    await queue.put_all([b"%d" % number for number in range(1, 20)])
    assert await queue.size() == 20
    assert await queue.peek() == b"0"
    assert [await queue.take() for _ in range(20)] == [b"%d" % number for number in range(20)]


async def test_an_item_whose_take_was_cancelled_is_still_the_next(zk: Client) -> None:
    queue = Queue(zk, "/q")
    await queue.put_all([b"1", b"2", b"3"])
    assert await queue.take() == b"1"
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.try_take()
    assert [await queue.take(), await queue.take()] == [b"2", b"3"]


async def test_takers_compete(zk: Client, session) -> None:
    taken: list[bytes] = []

    async def take(client: Client) -> None:
        queue = Queue(client, "/q")
        while (item := await queue.take()) != b"end":
            assert item is not None
            taken.append(item)

    items = [b"%d" % number for number in range(200)]
    async with session() as other:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for client in (zk, other, zk, other):
                    tasks.start_soon(take, client)
                await Queue(zk, "/q").put_all(items[:100])
                for item in items[100:]:
                    await Queue(other, "/q").put(item)
                await Queue(zk, "/q").put_all([b"end"] * 4)
    assert Bag(taken) == Bag(items)
    assert await Queue(zk, "/q").size() == 0


async def test_a_take_waits_over_an_expired_session(zk: Client, session, proxy: Proxy, expire) -> None:
    got: list[bytes | None] = []

    async def take(client: Client) -> None:
        got.append(await Queue(client, "/q").take())

    async with session(proxy.hosts) as other:
        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, other)
                await expire(other)
                await Queue(zk, "/q").put(b"x")
    assert got == [b"x"]


async def test_a_queue_with_broken_connections(zk: Client, session, proxy: Proxy) -> None:
    """Items that were surely put are taken, once; what is unknown is said to be so."""
    put: list[bytes] = []
    perhaps_put: list[bytes] = []
    taken: list[bytes] = []
    perhaps_taken: list[bytes] = []
    done = False

    async def produce(client: Client) -> None:
        for number in range(60):
            item = b"%d" % number
            try:
                await Queue(client, "/q").put(item)
                put.append(item)
            except OutcomeUnknown:
                perhaps_put.append(item)

    async def consume(client: Client) -> None:
        queue = Queue(client, "/q")
        while not (done and await queue.size() == 0):
            try:
                item = await queue.take(wait=0.2)
                if item is not None:
                    taken.append(item)
            except TakeUnknown as unknown:
                perhaps_taken.append(unknown.item)

    async def break_connections() -> None:
        chance = random.Random(3)
        while not done:
            await anyio.sleep(chance.uniform(0.02, 0.06))
            proxy.deaf = chance.random() < 0.5
            await anyio.sleep(chance.uniform(0.001, 0.01))
            proxy.cut()
            proxy.deaf = False

    async with session(proxy.hosts) as first, session(proxy.hosts) as second, anyio.create_task_group() as tasks:
        tasks.start_soon(consume, first)
        tasks.start_soon(consume, second)
        tasks.start_soon(break_connections)
        await produce(second)
        done = True
    assert max(Bag(taken).values()) == 1
    assert set(put) <= set(taken) | set(perhaps_taken)
    assert set(taken) <= set(put) | set(perhaps_put)
    assert len(taken) > 20


async def test_priorities(zk: Client) -> None:
    queue = PriorityQueue(zk, "/q")
    await queue.put(b"late", 900)
    await queue.put(b"normal 1")
    await queue.put(b"normal 2")
    assert await queue.try_take() == b"normal 1"
    await queue.put(b"soon", 1)
    assert [await queue.try_take() for _ in range(4)] == [b"soon", b"normal 2", b"late", None]
    with pytest.raises(ValueError, match="priority"):
        await queue.put(b"", 1000)


async def test_delays(zk: Client) -> None:
    queue = DelayQueue(zk, "/q")
    assert await queue.try_take() is None
    started = anyio.current_time()
    await queue.put(b"second", delay=1.4)
    await queue.put(b"first", delay=0.7)
    assert await queue.size() == 2
    assert await queue.try_take() is None
    assert await queue.take(wait=0.05) is None
    with anyio.fail_after(5):
        assert await queue.take() == b"first"
        assert anyio.current_time() - started > 0.68
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: queue.put(b"now", delay=0))
            assert await queue.take() == b"now"
        assert await queue.take() == b"second"
    assert anyio.current_time() - started > 1.38


async def test_claims(zk: Client, session) -> None:
    queue = ClaimQueue(zk, "/q")
    with pytest.raises(NotAcquired):
        async with queue.claim(wait=0):
            pytest.fail("empty")
    with pytest.raises(NotAcquired):
        async with queue.claim(wait=0.1):
            pytest.fail("empty")
    await queue.put_all([b"a", b"b"])
    async with session() as other, queue.claim() as first, ClaimQueue(other, "/q").claim() as second:
        assert (first.data, second.data) == (b"a", b"b")
        assert second.token > first.token
        assert await queue.free() == []
        assert await queue.size() == 2
        with pytest.raises(NotAcquired):
            async with queue.claim(wait=0.1):
                pytest.fail("all claimed")
    assert await queue.size() == 0
    assert await zk.children("/q/taken") == []


async def test_an_item_comes_back(zk: Client, session, proxy: Proxy, expire) -> None:
    queue = ClaimQueue(zk, "/q")
    await queue.put(b"a")
    with pytest.raises(LookupError):
        async with queue.claim():
            raise LookupError

    async def lose(client: Client) -> None:
        async with ClaimQueue(client, "/q").claim() as item:
            tokens.append(item.token)
            await expire(client)
            await anyio.sleep_forever()

    tokens: list[int] = []
    async with session(proxy.hosts) as other:
        with pytest.raises(LeaseLost):
            await lose(other)
        async with queue.claim(wait=5) as item:
            assert item.data == b"a"
            tokens.append(item.token)
    assert tokens == sorted(set(tokens))
    assert await queue.size() == 0


async def test_a_late_worker_cannot_finish(zk: Client, session) -> None:
    """Somebody removed its mark and the item was claimed by another: the first one's removal is refused."""

    async def late(client: Client) -> None:
        async with ClaimQueue(client, "/q").claim() as item:
            with anyio.CancelScope(shield=True):
                await zk.delete(item.grant.path)
                await client.sync()

    await ClaimQueue(zk, "/q").put(b"a")
    async with session() as other:
        with pytest.raises(LeaseLost):
            await late(other)
    assert await ClaimQueue(zk, "/q").free() != []


async def test_claims_with_broken_connections(zk: Client, session, proxy: Proxy) -> None:
    """Every item is worked on, by one body at a time, and removed once."""
    items = [b"%d" % number for number in range(30)]
    finished: list[bytes] = []
    records = {item: Record() for item in items}
    await ClaimQueue(zk, "/q").put_all(items)

    async def work(client: Client) -> None:
        while True:
            try:
                async with ClaimQueue(client, "/q").claim(wait=0.5) as item:
                    with records[item.data].inside(client.session_id, item.token):
                        await anyio.sleep(0.003)
                finished.append(item.data)
            except LeaseLost:
                pass
            except NotAcquired:
                if await ClaimQueue(client, "/q").size() == 0:
                    return

    async def break_connections() -> None:
        chance = random.Random(4)
        while True:
            await anyio.sleep(chance.uniform(0.03, 0.1))
            proxy.deaf = chance.random() < 0.5
            await anyio.sleep(chance.uniform(0.001, 0.01))
            proxy.cut()
            proxy.deaf = False

    async with session(proxy.hosts) as first, session(proxy.hosts) as second:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as breaking:
                breaking.start_soon(break_connections)
                async with anyio.create_task_group() as tasks:
                    for client in (first, second, first, second):
                        tasks.start_soon(work, client)
                breaking.cancel_scope.cancel()
    for record in records.values():
        record.check_exclusive()
        assert record.stays
    assert max(Bag(finished).values()) == 1

    async def no_marks() -> bool:
        return await zk.children("/q/taken", fresh=True) == []

    await until(no_marks)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_names() -> None:
    names = ["entry-100-0000000002", "x", "entry-005-0000000009", "entry-100-0000000001", "entry-1000-1"]
    assert in_order(names) == ["entry-005-0000000009", "entry-100-0000000001", "entry-100-0000000002"]
    assert in_order(["qn--2147483648", "qn-2147483647"]) == ["qn-2147483647", "qn--2147483648"]


async def test_no_wait_is_one_try(zk: Client) -> None:
    queue = Queue(zk, "/q")
    assert await queue.take(wait=0) is None
    await queue.put(b"1")
    assert await queue.take(wait=0) == b"1"


async def test_a_stranger_among_the_items_is_no_free_item(zk: Client, session, proxy: Proxy) -> None:
    """Who waits sleeps, though there is a node that nobody has claimed."""
    async with session(proxy.hosts) as other:
        await zk.ensure("/q/entries/stranger")
        with pytest.raises(NotAcquired):
            async with ClaimQueue(other, "/q").claim(wait=0.5):
                pass
    assert len(proxy.sent[-1]) < 2000
