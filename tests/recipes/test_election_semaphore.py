"""Elections and semaphores."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import anyio
import pytest
from corekit_recipes.contender import Grant
from corekit_recipes.election import Election, latch
from corekit_recipes.naming import Layout
from corekit_recipes.semaphore import Semaphore

from corekit.client import Client, LeaseLost, NotAcquired
from corekit.errors import UserError
from tests.client.proxy import Proxy
from tests.client.waiting import until
from tests.recipes.checker import Record
from tests.recipes.test_lock import empty

pytestmark = pytest.mark.anyio


async def test_leaders_follow_each_other(zk: Client, session) -> None:
    record = Record()
    async with session() as other, anyio.create_task_group() as tasks:

        async def candidate(client: Client, number: int) -> None:
            async with Election(client, "/leader", identifier=f"c{number}").lead() as term:
                with record.inside(number, term.token):
                    leader = await Election(zk, "/leader").leader()
                    assert leader is not None
                    assert (leader.identifier, leader.token) == (f"c{number}", term.token)

        for number in range(10):
            tasks.start_soon(candidate, (zk, other)[number % 2], number)
    record.check_exclusive()
    assert len(record.stays) == 10
    assert await Election(zk, "/leader").leader() is None


async def test_lead_always_stands_again(zk: Client, session, proxy: Proxy, expire) -> None:
    terms: list[Grant] = []

    async def body(term: Grant) -> None:
        terms.append(term)
        if len(terms) != 2:
            await anyio.sleep_forever()

    async def terms_are(count: int) -> None:
        async def check() -> bool:
            return len(terms) == count

        await until(check)

    async with session(proxy.hosts) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(Election(other, "/leader").lead_always, body)
        await terms_are(1)
        await expire(other)  # the second body returns at once, the third stays
        await terms_are(3)
        tasks.cancel_scope.cancel()
    assert [term.token for term in terms] == sorted({term.token for term in terms})
    await empty(zk, "/leader")


@pytest.mark.parametrize("layout", list(Layout))
async def test_latch(zk: Client, session, proxy: Proxy, expire, layout: Layout) -> None:
    async with session(proxy.hosts) as other, latch(other, "/latch", identifier="first", layout=layout) as first:
        await first.elected()
        async with latch(zk, "/latch", identifier="second", layout=layout) as second:
            assert first.is_leader
            assert not second.is_leader
            await expire(other)
            await first.deposed()
            term = await second.elected()
            assert second.is_leader
            assert not first.is_leader
            leader = await first.leader()
            assert leader is not None
            assert (leader.identifier, leader.token) == ("second", term.token)
        with anyio.fail_after(5):
            await first.elected()
    await empty(zk, "/latch")


async def test_grant_multi_needs_the_grant(zk: Client, session) -> None:
    from corekit.client import op
    from corekit.errors import BadVersionError, NoNodeError

    async with session() as other:
        with pytest.raises(NoNodeError) as caught:
            await written_after_removal(zk, other)
        assert caught.value.index == -1
        async with Election(other, "/leader").lead() as term:
            assert len(await term.multi([op.create("/made"), op.check("/made")])) == 2
            with pytest.raises(BadVersionError) as refused:
                await term.multi([op.create("/made2"), op.set("/made", b"", 7)])
            assert refused.value.index == 1
    assert sorted(await zk.children("/")) == ["leader", "made"]


async def written_after_removal(zk: Client, other: Client) -> None:
    from corekit.client import op

    async with Election(other, "/leader").lead() as term:
        with anyio.CancelScope(shield=True):
            await zk.delete(term.path)
            await term.multi([op.create("/never")])


@pytest.mark.parametrize("layout", list(Layout))
async def test_semaphore(zk: Client, session, layout: Layout) -> None:
    record = Record()
    inside = 0
    full = anyio.Event()

    async def contend(client: Client, number: int) -> None:
        nonlocal inside
        async with Semaphore(client, "/pool", 3, identifier=str(number), layout=layout).hold() as grant:
            with record.inside(number, grant.token):
                inside += 1
                if inside == 3:
                    full.set()
                await full.wait()
                await anyio.sleep(0.02)
                inside -= 1

    async with session() as other, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(contend, (zk, other)[number % 2], number)
    assert record.most_at_once() == 3
    assert len({stay.token for stay in record.stays}) == 20
    semaphore = Semaphore(zk, "/pool", 3, identifier="x", layout=layout)
    assert await semaphore.holders() == []
    async with semaphore.hold(), semaphore.hold(), semaphore.hold() as last:
        assert [entry.identifier for entry in await semaphore.holders()] == ["x"] * 3
        assert (await semaphore.holders())[-1].token == last.token
        for wait in (0, 0.1):
            with pytest.raises(NotAcquired):
                async with semaphore.hold(wait=wait):
                    pytest.fail("a fourth permit")
    await empty(zk, semaphore.line)
    await empty(zk, semaphore.pool)


async def test_permits_must_agree(zk: Client) -> None:
    async with Semaphore(zk, "/pool", 2).hold():
        pass
    assert (await zk.get("/pool")).data == b"2"
    with pytest.raises(UserError, match="has 2 permits, not 3"):
        async with Semaphore(zk, "/pool", 3).hold():
            pytest.fail("other number")
    await empty(zk, "/pool-__lock__")


async def test_an_expired_holder_gives_its_permit_back(zk: Client, session, proxy: Proxy, expire) -> None:
    async def body(client: Client) -> None:
        async with Semaphore(client, "/pool", 1).hold():
            await expire(client)
            await anyio.sleep_forever()

    async with session(proxy.hosts) as other:
        with pytest.raises(LeaseLost):
            await body(other)
        async with Semaphore(zk, "/pool", 1).hold(wait=3):
            pass


async def test_a_semaphore_with_broken_connections(zk: Client, session, proxy: Proxy) -> None:
    record = Record()
    remaining = 30

    async def contend(client: Client, number: int) -> None:
        nonlocal remaining
        while remaining > 0:
            try:
                async with Semaphore(client, "/pool", 2).hold() as grant:
                    with record.inside(number, grant.token):
                        await anyio.sleep(0.005)
                        remaining -= 1
            except LeaseLost:
                pass

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(proxy.hosts)) for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for number, client in enumerate(clients * 2):
                tasks.start_soon(contend, client, number)
            chance = random.Random(2)
            while remaining > 0:
                await anyio.sleep(chance.uniform(0.03, 0.1))
                proxy.deaf = chance.random() < 0.5
                await anyio.sleep(chance.uniform(0.001, 0.01))
                proxy.cut()
                proxy.deaf = False
        assert record.most_at_once() <= 2
        assert len({stay.token for stay in record.stays}) == len(record.stays)
        await empty(zk, "/pool")
        await empty(zk, "/pool-__lock__")
