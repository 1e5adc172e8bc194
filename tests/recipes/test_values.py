"""Barriers, counters, shared values, configuration, ids."""

from __future__ import annotations

import anyio
import pytest
from corekit_recipes.barrier import Barrier
from corekit_recipes.config import ConfigCentre
from corekit_recipes.counter import Counter, Form
from corekit_recipes.double_barrier import DoubleBarrier
from corekit_recipes.ids import Flakes, NoNumberFree, Numbers, worker_number
from corekit_recipes.shared_value import SharedValue
from hypothesis import given
from hypothesis import strategies as st

from corekit.client import Client, LeaseLost, NotAcquired, OutcomeUnknown, State
from corekit.errors import NoNodeError, UserError
from tests.client.proxy import Proxy
from tests.client.waiting import gone, until

pytestmark = pytest.mark.anyio


async def test_barrier(zk: Client, session, proxy: Proxy, expire) -> None:
    through: list[int] = []

    async def wait(client: Client, number: int) -> None:
        await Barrier(client, "/barrier").wait()
        through.append(number)

    await Barrier(zk, "/barrier").wait()
    await Barrier(zk, "/barrier").close()
    await Barrier(zk, "/barrier").close()
    async with session(proxy.hosts) as other:
        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(wait, (zk, other)[number % 2], number)
                await expire(other)
                proxy.cut()
                await anyio.wait_all_tasks_blocked()
                assert through == []
                assert await Barrier(zk, "/barrier").open()
    assert sorted(through) == [0, 1, 2]
    assert not await Barrier(zk, "/barrier").open()


async def test_double_barrier(zk: Client, session) -> None:
    log: list[str] = []

    async def member(client: Client, number: int) -> None:
        async with DoubleBarrier(client, "/round", 5).inside():
            log.append("in")
            await anyio.sleep(number * 0.01)
            log.append("out")
        log.append("left")

    async with session() as other:
        for _ in range(2):
            log.clear()
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    for number in range(5):
                        tasks.start_soon(member, (zk, other)[number % 2], number)
            assert log.count("left") == 5
            assert log.index("left") > max(index for index, what in enumerate(log) if what == "out")
            assert await zk.children("/round") == []


async def test_a_double_barrier_that_nobody_joins(zk: Client) -> None:
    with pytest.raises(NotAcquired):
        async with DoubleBarrier(zk, "/round", 2).inside(wait=0.2):
            pytest.fail("alone")
    assert await zk.children("/round") == []


async def test_a_member_that_dies_inside_has_left(zk: Client, session, proxy: Proxy, expire) -> None:
    async def dies(client: Client) -> None:
        async with DoubleBarrier(client, "/round", 2).inside():
            await expire(client)
            await anyio.sleep_forever()

    async def check(client: Client) -> None:
        with pytest.raises(LeaseLost):
            await dies(client)

    async with session(proxy.hosts) as other, anyio.create_task_group() as tasks:
        with anyio.fail_after(8):
            tasks.start_soon(check, other)
            async with DoubleBarrier(zk, "/round", 2).inside():
                pass


async def test_counter(zk: Client, session) -> None:
    counter = Counter(zk, "/hits")
    assert await counter.value() == 0
    seen: list[int] = []

    async def add(client: Client) -> None:
        for _ in range(10):
            seen.append(await Counter(client, "/hits").add(1))

    async with session() as other, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(add, zk)
            tasks.start_soon(add, other)
    assert sorted(seen) == list(range(1, 81))
    assert await counter.value(fresh=True) == 80
    assert await counter.add(-100) == -20
    await counter.set(7)
    assert await counter.value() == 7
    assert (await zk.get("/hits")).data == b"7"


async def test_counter_forms(zk: Client) -> None:
    small, large = Counter(zk, "/small", form=Form.INT32), Counter(zk, "/large", form=Form.INT64)
    await small.add(-2)
    await large.add(2**40)
    assert (await zk.get("/small")).data == b"\xff\xff\xff\xfe"
    assert (await zk.get("/large")).data == b"\0\0\1\0\0\0\0\0"
    with pytest.raises(UserError, match="2147483651 does not fit into a counter of the form int32"):
        await small.add(2**31 + 5)
    await zk.create("/text", b"many")
    with pytest.raises(UserError, match="not a counter"):
        await Counter(zk, "/text").add(1)


async def test_a_counter_with_broken_connections(zk: Client, session, proxy: Proxy) -> None:
    """Every add that returned happened once; those that were unknown happened once or not at all."""
    sure = unknown = 0
    async with session(proxy.hosts) as other:
        for number in range(40):
            proxy.deaf = number % 3 == 0
            async with anyio.create_task_group() as tasks:

                async def add() -> None:
                    nonlocal sure, unknown
                    try:
                        await Counter(other, "/hits").add(1)
                        sure += 1
                    except OutcomeUnknown:
                        unknown += 1

                tasks.start_soon(add)
                if number % 3 == 0:
                    await anyio.sleep(0.01)
                    proxy.cut()
                    proxy.deaf = False
        value = await Counter(zk, "/hits").value(fresh=True)
    assert sure <= value <= sure + unknown
    assert sure > 20


async def test_shared_value(zk: Client, session) -> None:
    value = SharedValue(zk, "/v")
    assert await value.get() == (b"", -1)
    assert await value.try_set(b"a", await value.get())
    before = await value.get()
    async with session() as other:
        await SharedValue(other, "/v").set(b"b")
        assert not await value.try_set(b"c", before)

        async def append(client: Client, letter: bytes) -> None:
            for _ in range(10):
                await SharedValue(client, "/v").update(lambda old: old + letter)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append, zk, b"x")
            tasks.start_soon(append, other, b"y")
    final = (await value.get(fresh=True)).value
    assert (len(final), final.count(b"x"), final.count(b"y")) == (21, 10, 10)
    async for versioned in value.follow():
        assert versioned.value == final
        break


async def test_config(zk: Client, session) -> None:
    centre = ConfigCentre(zk, "/config")
    assert await centre.all() == {}
    await centre.publish({"db/url": b"u1", "db/pool": b"5", "debug": b""})
    assert await centre.get("db/url") == b"u1"
    assert await centre.get("none") is None
    assert await centre.all() == {"db/pool": b"5", "db/url": b"u1", "debug": b""}
    async with session() as other:
        values = ConfigCentre(other, "/config").follow("db/url")
        assert await anext(values) == b"u1"
        async with ConfigCentre(other, "/config").follow_all() as everything:
            assert (await anext(everything))["db/url"] == b"u1"
            with anyio.fail_after(5):
                await centre.publish({"db/url": b"u2", "debug": None, "new": b"1"})
                assert await anext(values) == b"u2"
                async for settings in everything:
                    if settings == {"db/pool": b"5", "db/url": b"u2", "new": b"1"}:
                        break
                await centre.publish({"db/url": None})
                assert await anext(values) is None


async def test_numbers(zk: Client, session) -> None:
    got: list[int] = []

    async def draw(client: Client) -> None:
        numbers = Numbers(client, "/ids", block=7)
        mine = [await numbers.next() for _ in range(30)]
        assert mine == sorted(mine)
        got.extend(mine)

    async with session() as other, anyio.create_task_group() as tasks:
        for client in (zk, other, zk, other):
            tasks.start_soon(draw, client)
    assert len(set(got)) == 120
    assert min(got) == 0


async def test_worker_numbers(zk: Client, session, proxy: Proxy, expire) -> None:
    async def lose(client: Client) -> None:
        async with worker_number(client, "/w", 3):
            await expire(client)
            await anyio.sleep_forever()

    async with worker_number(zk, "/w", 3) as (first, _), worker_number(zk, "/w", 3) as (second, grant):
        assert (first, second) == (0, 1)
        assert grant.token > 0
        async with worker_number(zk, "/w", 3) as (third, _):
            assert third == 2
            with pytest.raises(NoNumberFree):
                async with worker_number(zk, "/w", 3):
                    pytest.fail("a fourth number")
        async with session(proxy.hosts) as other:
            with pytest.raises(LeaseLost):
                await lose(other)
            async with worker_number(other, "/w", 3) as (again, _):
                assert again == 2
    await until(gone(zk, "/w/0"))
    assert await zk.children("/w", fresh=True) == []


async def test_a_worker_number_given_to_another_meanwhile_is_lost(zk: Client, session, proxy: Proxy) -> None:
    """Somebody removes the node of a holder that is cut off, and another takes the number: the body ends at once."""

    async def hold(client: Client) -> None:
        async with worker_number(client, "/w") as (number, _):
            proxy.refusing = True
            proxy.cut()
            await client.wait_state(State.SUSPENDED)
            await zk.delete("/w/0")
            async with worker_number(zk, "/w") as (again, _):
                assert (number, again) == (0, 0)
                proxy.refusing = False
                with anyio.fail_after(10):
                    await anyio.sleep_forever()

    async with session(proxy.hosts) as cut_off:
        with pytest.raises(LeaseLost, match="was removed"):
            await hold(cut_off)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_flakes() -> None:
    @given(st.lists(st.floats(1.7e9, 1.9e9), min_size=1, max_size=200), st.integers(0, 1023))
    def check(times: list[float], worker: int) -> None:
        clock = iter(times)
        flakes = Flakes(worker, clock=lambda: next(clock))
        ids = [flakes.next() for _ in times]
        assert ids == sorted(set(ids))
        assert {id >> 12 & 1023 for id in ids} == {worker}
        assert all(0 < id < 2**63 for id in ids)

    check()
    still = Flakes(1, clock=lambda: 1.7e9)
    many = [still.next() for _ in range(10_000)]
    assert many == sorted(set(many))


async def test_reading_what_is_not_there(zk: Client) -> None:
    assert await SharedValue(zk, "/none/there").get() == (b"", -1)
    await SharedValue(zk, "/none/there").set(b"1")
    with pytest.raises(NoNodeError):
        await zk.get("/none/there/yet")
