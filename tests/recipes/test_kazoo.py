"""kazoo at the same znodes: each library sees the other's contenders, permits, items and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from corekit_recipes.barrier import Barrier
from corekit_recipes.claim_queue import ClaimQueue
from corekit_recipes.counter import Counter, Form
from corekit_recipes.double_barrier import DoubleBarrier
from corekit_recipes.election import Election
from corekit_recipes.group import Group
from corekit_recipes.lock import Lock
from corekit_recipes.priority_queue import PriorityQueue
from corekit_recipes.queue import Queue
from corekit_recipes.rwlock import ReadWriteLock
from corekit_recipes.semaphore import Semaphore
from kazoo.client import KazooClient

from corekit.client import Client, NotAcquired
from tests.conftest import Site
from tests.recipes.checker import Record

pytestmark = pytest.mark.anyio


@pytest.fixture
def kazoo(server: Site, root: str) -> Iterator[Callable[[], KazooClient]]:
    """`kazoo()` is one more connected kazoo client on the test's chroot."""
    clients: list[KazooClient] = []

    def start() -> KazooClient:
        client = KazooClient(server.hosts + root)
        client.start()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.stop()
        client.close()


async def in_thread(work: Callable[..., Any], *args: object) -> Any:
    return await anyio.to_thread.run_sync(work, *args)


async def test_one_lock(zk: Client, kazoo) -> None:
    record = Record()

    def kazoo_contends(client: KazooClient, who: str) -> None:
        for _ in range(10):
            lock = client.Lock("/lock", who)
            lock.acquire()
            with record.inside(who, client.exists(f"/lock/{lock.node}").czxid):
                pass
            lock.release()

    async def we_contend(who: str) -> None:
        for _ in range(10):
            async with Lock(zk, "/lock", identifier=who).hold() as grant:
                with record.inside(who, grant.token):
                    await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(in_thread, kazoo_contends, await in_thread(kazoo), f"kazoo{number}")
            tasks.start_soon(we_contend, f"corekit{number}")
    record.check_exclusive()
    assert len(record.stays) == 60
    assert await zk.children("/lock") == []


async def test_each_sees_the_other_hold(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)
    theirs = client.Lock("/lock", "kazoo")
    async with Lock(zk, "/lock", identifier="ours").hold():
        assert not await in_thread(theirs.acquire, False)
        assert await in_thread(theirs.contenders) == ["ours"]
    assert await in_thread(theirs.acquire, False)
    assert [entry.identifier for entry in await Lock(zk, "/lock").contenders()] == ["kazoo"]
    with pytest.raises(NotAcquired):
        async with Lock(zk, "/lock").hold(wait=0):
            pytest.fail("held twice")
    await in_thread(theirs.release)


async def test_readers_and_writers(zk: Client, kazoo) -> None:
    record = Record()

    def kazoo_contends(client: KazooClient, number: int) -> None:
        lock = client.ReadLock("/rw") if number % 2 else client.WriteLock("/rw")
        for _ in range(8):
            lock.acquire()
            with record.inside(f"kazoo{number}", 0, reads=bool(number % 2)):
                pass
            lock.release()

    async def we_contend(number: int) -> None:
        lock = ReadWriteLock(zk, "/rw")
        for _ in range(8):
            async with lock.read() if number % 2 else lock.write():
                with record.inside(f"corekit{number}", 0, reads=bool(number % 2)):
                    await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(in_thread, kazoo_contends, await in_thread(kazoo), number)
            tasks.start_soon(we_contend, number)
    record.check_read_write()
    assert len(record.stays) == 64


async def test_semaphore(zk: Client, kazoo) -> None:
    record = Record()

    def kazoo_contends(client: KazooClient) -> None:
        for _ in range(6):
            semaphore = client.Semaphore("/pool", "kazoo", max_leases=2)
            semaphore.acquire()
            with record.inside("kazoo", 0):
                assert len(semaphore.lease_holders()) <= 2
            semaphore.release()

    async def we_contend() -> None:
        for _ in range(6):
            async with Semaphore(zk, "/pool", 2, identifier="corekit").hold():
                with record.inside("corekit", 0):
                    await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(in_thread, kazoo_contends, await in_thread(kazoo))
            tasks.start_soon(we_contend)
    assert record.most_at_once() <= 2
    assert len(record.stays) == 36


async def test_election(zk: Client, kazoo) -> None:
    record = Record()

    def kazoo_leads(client: KazooClient) -> None:
        def lead() -> None:
            with record.inside("kazoo", 0):
                assert client.Election("/leader").contenders()[0] == "kazoo"

        for _ in range(5):
            client.Election("/leader", "kazoo").run(lead)

    async def we_lead() -> None:
        for _ in range(5):
            async with Election(zk, "/leader", identifier="corekit").lead():
                with record.inside("corekit", 0):
                    leader = await Election(zk, "/leader").leader()
                    assert leader is not None
                    assert leader.identifier == "corekit"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, kazoo_leads, await in_thread(kazoo))
        tasks.start_soon(we_lead)
    assert record.most_at_once() == 1
    assert len(record.stays) == 10


async def test_queues(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)
    theirs = client.Queue("/q")
    await in_thread(theirs.put, b"1")
    await Queue(zk, "/q").put(b"2")
    await in_thread(theirs.put, b"0", 5)
    await PriorityQueue(zk, "/q").put(b"3", 200)
    assert await PriorityQueue(zk, "/q").try_take() == b"0"
    assert [await in_thread(theirs.get) for _ in range(2)] == [b"1", b"2"]
    assert await Queue(zk, "/q").try_take() == b"3"
    assert await in_thread(theirs.get) is None


async def test_locking_queue(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)
    theirs = client.LockingQueue("/jobs")
    await in_thread(theirs.put, b"a")
    await ClaimQueue(zk, "/jobs").put(b"b")
    assert await in_thread(theirs.get, 5) == b"a"
    async with ClaimQueue(zk, "/jobs").claim() as item:
        assert item.data == b"b"
        assert await in_thread(theirs.consume)
        with pytest.raises(NotAcquired):
            async with ClaimQueue(zk, "/jobs").claim(wait=0):
                pytest.fail("nothing is left")
    assert await ClaimQueue(zk, "/jobs").size() == 0


async def test_counters(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)

    def add(path: str, curator: bool) -> None:
        counter = client.Counter(path, support_curator=curator)
        for _ in range(20):
            counter += 1

    async def we_add(counter: Counter) -> None:
        for _ in range(20):
            await counter.add(2)

    for path, form in (("/text", Form.TEXT), ("/int", Form.INT32)):
        counter = Counter(zk, path, form=form)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_thread, add, path, form is Form.INT32)
            tasks.start_soon(we_add, counter)
        assert await counter.value(fresh=True) == 60


async def test_barriers(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)
    await Barrier(zk, "/barrier").close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, client.Barrier("/barrier").wait, 10)
        tasks.start_soon(Barrier(zk, "/barrier").wait)
        await anyio.wait_all_tasks_blocked()
        assert await in_thread(client.Barrier("/barrier").remove)
    inside: list[str] = []

    def kazoo_member() -> None:
        barrier = client.DoubleBarrier("/round", 3)
        barrier.enter()
        inside.append("kazoo")
        barrier.leave()

    async def member() -> None:
        async with DoubleBarrier(zk, "/round", 3).inside():
            inside.append("corekit")

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_thread, kazoo_member)
            tasks.start_soon(member)
            tasks.start_soon(member)
    assert sorted(inside) == ["corekit", "corekit", "kazoo"]


async def test_party(zk: Client, kazoo) -> None:
    client = await in_thread(kazoo)
    theirs = client.Party("/party", "kazoo")
    await in_thread(theirs.join)
    async with Group(zk, "/party").join(b"corekit"):
        assert sorted(await in_thread(lambda: list(theirs))) == ["corekit", "kazoo"]
        assert [member.name for member in await Group(zk, "/party").members()] == ["kazoo", "corekit"]
    await in_thread(theirs.leave)
    assert await Group(zk, "/party").members(fresh=True) == []
