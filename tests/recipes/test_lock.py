"""Locks, read-write locks and multi-locks: exclusion, order, tokens, no orphans, whatever happens to connections."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from corekit_recipes.contender import Contender, Grant
from corekit_recipes.lock import Lock, blocks_writer
from corekit_recipes.multilock import MultiLock
from corekit_recipes.naming import Layout, Want, distance, line, new_prefix, parse
from corekit_recipes.rwlock import ReadWriteLock

from corekit.client import Client, LeaseLost, NotAcquired, State, op
from corekit.errors import SessionExpiredError
from tests.client.proxy import Proxy, proxy_to
from tests.client.waiting import until
from tests.recipes.checker import Record

pytestmark = pytest.mark.anyio


async def empty(zk: Client, path: str) -> None:
    """The line is empty, at once or soon."""

    async def check() -> bool:
        return await zk.children(path, fresh=True) == []

    await until(check)


async def test_hold_and_release(zk: Client) -> None:
    lock = Lock(zk, "/lock", identifier="me")
    assert await lock.contenders() == []
    async with lock.hold() as grant:
        (entry,) = await lock.contenders()
        assert (entry.identifier, entry.token, entry.session_id) == ("me", grant.token, zk.session_id)
        assert entry.path == grant.path
        with pytest.raises(NotAcquired):
            async with lock.hold(wait=0):
                pytest.fail("held twice")
        with pytest.raises(NotAcquired, match=r"/lock was not free within 0\.2 s"):
            async with lock.hold(wait=0.2):
                pytest.fail("held twice")
        assert len(await lock.contenders()) == 1
    assert await lock.contenders() == []
    async with lock.hold(wait=0) as again:
        assert again.token > grant.token


async def test_errors_of_the_body_release(zk: Client) -> None:
    lock = Lock(zk, "/lock")
    with pytest.raises(LookupError):
        async with lock.hold():
            raise LookupError
    assert await lock.contenders() == []


async def test_many_contenders_in_one_session(zk: Client) -> None:
    record = Record()

    async def contend(number: int) -> None:
        async with Lock(zk, "/lock").hold() as grant:
            with record.inside(number, grant.token):
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(contend, number)
    record.check_exclusive()
    assert len(record.stays) == 50
    await empty(zk, "/lock")


async def test_many_contenders_with_broken_connections(zk: Client, session, proxy: Proxy) -> None:
    """Connections are cut all the time, in the middle of creates and removals: no body is doubled, nothing is left."""
    record = Record()
    remaining = 30

    async def contend(client: Client, number: int) -> None:
        nonlocal remaining
        while remaining > 0:
            try:
                async with Lock(client, "/lock").hold() as grant:
                    with record.inside(number, grant.token):
                        await anyio.sleep(0.002)
                        remaining -= 1
            except LeaseLost:
                pass

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(proxy.hosts)) for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for number, client in enumerate(clients * 2):
                tasks.start_soon(contend, client, number)
            chance = random.Random(1)
            while remaining > 0:
                await anyio.sleep(chance.uniform(0.01, 0.08))
                proxy.deaf = chance.random() < 0.5
                await anyio.sleep(chance.uniform(0.001, 0.01))
                proxy.cut()
                proxy.deaf = False
        record.check_exclusive()
        await empty(zk, "/lock")


async def test_cancelled_contenders_leave_nothing(zk: Client, session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as other, Lock(zk, "/lock").hold():
        for number in range(30):
            with anyio.move_on_after(number * 0.0005):
                async with Lock(other, "/lock").hold():
                    pytest.fail("held twice")
        proxy.deaf = True
        with anyio.move_on_after(0.05):
            async with Lock(other, "/lock").hold():
                pytest.fail("held twice")
        proxy.cut()
        proxy.deaf = False
        assert await other.exists("/lock") is not None

        async def only_the_holder() -> bool:
            return len(await zk.children("/lock", fresh=True)) == 1

        await until(only_the_holder)


async def test_a_frozen_holder_ends_before_the_next_begins(zk: Client, session, server) -> None:
    record = Record()
    async with proxy_to(server.port) as bad, session(bad.hosts, timeout=2) as holder:
        held = anyio.Event()

        async def body() -> None:
            async with Lock(holder, "/lock").hold() as grant:
                with record.inside("frozen", grant.token):
                    held.set()
                    await anyio.sleep_forever()

        async def first() -> None:
            with pytest.raises(LeaseLost):
                await body()

        async def second() -> None:
            async with Lock(zk, "/lock").hold() as grant:
                with record.inside("next", grant.token):
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await held.wait()
            bad.frozen = True
            tasks.start_soon(second)
        record.check_exclusive()
        assert [stay.who for stay in record.stays] == ["frozen", "next"]
        bad.frozen = False
    await empty(zk, "/lock")


async def test_an_expired_holder(zk: Client, session, proxy: Proxy, expire) -> None:
    async def body(client: Client) -> None:
        async with Lock(client, "/lock").hold():
            await expire(client)
            await anyio.sleep_forever()

    async with session(proxy.hosts) as other:
        with pytest.raises(LeaseLost, match="expired"):
            await body(other)
        async with Lock(other, "/lock").hold(wait=3):
            assert len(await zk.children("/lock")) == 1


async def test_a_waiter_whose_session_expires_begins_anew(zk: Client, session, proxy: Proxy, expire) -> None:
    got: list[Grant] = []

    async def wait(client: Client) -> None:
        async with Lock(client, "/lock").hold() as grant:
            got.append(grant)

    async with session(proxy.hosts) as other, anyio.create_task_group() as tasks:
        async with Lock(zk, "/lock").hold() as first:
            tasks.start_soon(wait, other)
            await until_contenders(zk, "/lock", 2)
            before = other.session_id
            await expire(other)
            await until_contenders(zk, "/lock", 2)
        await until(lambda: is_true(bool(got)))
    assert got[0].session_id != before
    assert got[0].token > first.token


async def test_a_wait_that_meets_no_connection_ends_with_its_session(zk: Client, session, proxy: Proxy, expire) -> None:
    """In the next session it would wait on without a place in the line."""
    ended = anyio.Event()

    async def wait(contender: Contender, names: list[str]) -> None:
        with pytest.raises(SessionExpiredError):
            await contender.wait_turn(names, blocks_writer, True)
        ended.set()

    async with session(proxy.hosts) as other, Lock(zk, "/lock").hold(), anyio.create_task_group() as tasks:
        contender = Contender(other, "/lock", Want.LOCK, Layout.KAZOO, b"")
        names = await contender.join()
        proxy.refusing = True
        proxy.cut()
        await other.wait_state(State.SUSPENDED)
        tasks.start_soon(wait, contender, names)
        await anyio.wait_all_tasks_blocked()
        await expire(other)
        with anyio.fail_after(3):
            await ended.wait()


async def is_true(value: bool) -> bool:
    return value


async def until_contenders(zk: Client, path: str, count: int) -> None:
    async def check() -> bool:
        return len(await Lock(zk, path).contenders()) == count

    await until(check)


async def test_a_line_that_vanishes_is_joined_again(zk: Client, session) -> None:
    """It is a container, which the server removes when everybody in it has been removed."""
    got: list[Grant] = []

    async def wait(client: Client) -> None:
        async with Lock(client, "/lock").hold() as grant:
            got.append(grant)

    async def vanish(tasks: TaskGroup, other: Client) -> None:
        async with Lock(zk, "/lock").hold():
            tasks.start_soon(wait, other)
            await until_contenders(zk, "/lock", 2)
            names = await zk.children("/lock")
            await zk.multi([*(op.delete(f"/lock/{name}") for name in names), op.delete("/lock")])
            await anyio.sleep_forever()

    async with session() as other, anyio.create_task_group() as tasks:
        with pytest.raises(LeaseLost, match="was removed"):
            await vanish(tasks, other)
        await until(lambda: is_true(bool(got)))


async def test_eviction_cancels_the_holder(zk: Client, session) -> None:
    async def body(client: Client) -> None:
        async with Lock(client, "/lock", identifier="victim").hold():
            removed = await Lock(zk, "/lock").evict()
            assert removed is not None
            assert removed.identifier == "victim"
            await anyio.sleep_forever()

    async with session() as other:
        with pytest.raises(LeaseLost, match="was removed"):
            await body(other)
    assert await Lock(zk, "/lock").evict() is None


async def test_a_holder_notices_its_removal_after_writes_to_its_node(zk: Client, session) -> None:
    async def body(client: Client) -> None:
        async with Lock(client, "/lock").hold() as grant:
            for _ in range(3):
                await zk.set(grant.path, b"touched")
                await client.sync()
            await zk.delete(grant.path)
            await anyio.sleep_forever()

    async with session() as other:
        with anyio.fail_after(3), pytest.raises(LeaseLost, match="was removed"):
            await body(other)


async def test_an_evicted_waiter_joins_again(zk: Client, session) -> None:
    async with session() as other, anyio.create_task_group() as tasks:
        got = anyio.Event()

        async def wait() -> None:
            async with Lock(other, "/lock", identifier="waiter").hold():
                got.set()

        async with Lock(zk, "/lock").hold():
            tasks.start_soon(wait)
            await until_contenders(zk, "/lock", 2)
            await Lock(zk, "/lock").evict((await Lock(zk, "/lock").contenders())[1].path)
        with anyio.fail_after(3):
            await got.wait()


async def test_a_wait_without_connection_ends_in_time(zk: Client, session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as other:
        proxy.refusing = True
        proxy.cut()
        await other.wait_state(State.SUSPENDED)
        started = anyio.current_time()
        with pytest.raises(NotAcquired):
            async with Lock(other, "/lock").hold(wait=0.3):
                pytest.fail("no connection")
        assert anyio.current_time() - started < 2
        proxy.refusing = False


async def test_the_release_is_sent_once_there_is_a_connection_again(zk: Client, session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as other:
        async with Lock(other, "/lock").hold():
            proxy.refusing = True
            proxy.cut()
            await other.wait_state(State.SUSPENDED)
        assert len(await zk.children("/lock")) == 1
        proxy.refusing = False
        await empty(zk, "/lock")


async def test_readers_and_writers(zk: Client, session) -> None:
    record = Record()

    async def read(client: Client, number: int) -> None:
        async with ReadWriteLock(client, "/rw").read() as grant:
            with record.inside(f"r{number}", grant.token, reads=True):
                await anyio.sleep(0.01)

    async def write(client: Client, number: int) -> None:
        async with ReadWriteLock(client, "/rw").write() as grant:
            with record.inside(f"w{number}", grant.token):
                await anyio.sleep(0.002)

    async with session() as other, anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(write if number % 5 == 0 else read, (zk, other)[number % 2], number)
    record.check_read_write()
    assert len(record.stays) == 40
    assert record.most_at_once() > 1
    await empty(zk, "/rw")


async def test_a_writer_that_waits_is_not_overtaken(zk: Client) -> None:
    lock = ReadWriteLock(zk, "/rw")
    order: list[str] = []

    async def write() -> None:
        async with lock.write():
            order.append("writer")

    async with anyio.create_task_group() as tasks:
        async with lock.read():
            tasks.start_soon(write)
            await until_contenders(zk, "/rw", 2)
            with pytest.raises(NotAcquired):
                async with lock.read(wait=0):
                    pytest.fail("overtook")
        async with lock.read():
            order.append("reader")
    assert order == ["writer", "reader"]


async def test_multilock(zk: Client, session) -> None:
    record = Record()

    async def contend(client: Client, paths: list[str]) -> None:
        for _ in range(5):
            async with MultiLock([Lock(client, path) for path in paths]).hold() as grants:
                assert [path in grant.path for path, grant in zip(paths, grants, strict=True)] == [True] * len(paths)
                with record.inside(paths, max(grant.token for grant in grants)):
                    await anyio.sleep(0.001)

    async with session() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(contend, zk, ["/m/a", "/m/b"])
        tasks.start_soon(contend, other, ["/m/b", "/m/a"])
    record.check_exclusive()
    async with Lock(zk, "/m/b").hold():
        with pytest.raises(NotAcquired):
            async with MultiLock([Lock(zk, "/m/a"), Lock(zk, "/m/b")]).hold(wait=0.1):
                pytest.fail("one was taken")
        assert await zk.children("/m/a") == []
    with pytest.raises(ValueError, match="different paths"):
        MultiLock([Lock(zk, "/a"), Lock(zk, "/a")])


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_names() -> None:
    names = [
        "a__lock__0000000003",
        "_c_x-lock-0000000001",
        "b__rlock__0000000002",
        "_c_x-__READ__0000000000",
        "lease",
        "__lock__1",
    ]
    assert [place.sequence for place in line(names)] == [0, 1, 2, 3]
    assert [place.reads for place in line(names)] == [True, False, True, False]
    assert parse("x__lock__-2147483648") == ("x__lock__-2147483648", -(2**31), False)
    after_overflow = ["x__lock__2147483647", "x__lock__-2147483648", "x__lock__-000000005"]
    assert [place.sequence for place in line(reversed(after_overflow))] == [2**31 - 1, -(2**31), -5]
    assert distance(-(2**31), 2**31 - 1) == 1
    for layout in Layout:
        for want in Want:
            assert parse(new_prefix(layout, want) + "0000000007") is not None
