"""Master and workers: nothing lost, one completion for each task, whoever dies."""

from __future__ import annotations

import logging
import random
from collections import Counter as Bag

import anyio
import pytest
from corekit_recipes.master import Bury, Give, Master, Take, plan
from corekit_recipes.task_board import Done, Result, TaskBoard, TaskState
from corekit_recipes.worker import Task, Worker
from hypothesis import given
from hypothesis import strategies as st

from corekit.client import Client, op
from tests.client.proxy import Proxy, proxy_to
from tests.client.waiting import until
from tests.conftest import Site
from tests.recipes.checker import Record

pytestmark = pytest.mark.anyio


async def double(task: Task) -> bytes:
    return task.payload * 2


async def test_tasks_are_done(zk: Client, session) -> None:
    board = TaskBoard(zk, "/app")
    assert await board.state("none") is TaskState.UNKNOWN
    async with session() as one, session() as two, anyio.create_task_group() as tasks:
        first = await board.submit(b"early")
        assert await board.state(first) is TaskState.PENDING
        tasks.start_soon(Master(TaskBoard(one, "/app")).run)
        tasks.start_soon(Worker(TaskBoard(one, "/app"), double, capacity=3).run)
        tasks.start_soon(Worker(TaskBoard(two, "/app"), double, capacity=3).run)
        ids = [first] + [await board.submit(b"%d" % number) for number in range(20)]
        with anyio.fail_after(20):
            results = [await board.result(id) for id in ids]
        assert [result.data for result in results if result] == [b"earlyearly"] + [b"%d" % n * 2 for n in range(20)]
        assert {result.state for result in results if result} == {TaskState.DONE}
        assert len({result.worker for result in results if result}) == 2
        assert await zk.children("/app/tasks") == []
        await board.forget(first)
        await board.forget(first)
        assert await board.state(first) is TaskState.UNKNOWN
        assert await board.result(first, wait=0.05) is None
        tasks.cancel_scope.cancel()


async def test_an_id_of_ones_own_is_done_once(zk: Client) -> None:
    board = TaskBoard(zk, "/app")
    runs: list[int] = []

    async def handle(task: Task) -> None:
        runs.append(task.attempt)

    async with anyio.create_task_group() as tasks:
        assert await board.submit(b"x", id="order-1") == "order-1"
        assert await board.submit(b"x", id="order-1") == "order-1"
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(board, handle).run)
        with anyio.fail_after(10):
            assert (await board.result("order-1")).state is TaskState.DONE  # type: ignore[union-attr]
            await board.submit(b"x", id="order-1")
            await board.result(await board.submit(b"y"))
        assert runs == [1, 1]
        tasks.cancel_scope.cancel()
    with pytest.raises(ValueError, match="part of a path"):
        await board.submit(b"", id="a/b")


async def test_failures_are_tried_again_and_then_reported(zk: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "corekit_recipes.worker")
    board = TaskBoard(zk, "/app", max_attempts=3)
    attempts: dict[str, list[tuple[int, int]]] = {}

    async def handle(task: Task) -> Done:
        attempts.setdefault(task.id, []).append((task.attempt, task.token))
        if task.payload == b"bad" or task.attempt < 3:
            raise RuntimeError("no luck")
        return Done(b"third time")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(board, handle).run)
        good, bad = await board.submit(b"good"), await board.submit(b"bad")
        with anyio.fail_after(10):
            assert await board.result(good) == await board.peek(good)
            result = await board.result(bad)
        assert result is not None
        assert (result.state, result.data, result.attempts) == (TaskState.FAILED, b"RuntimeError: no luck", 3)
        tasks.cancel_scope.cancel()
    for tried in attempts.values():
        assert [attempt for attempt, _ in tried] == [1, 2, 3]
        assert [token for _, token in tried] == sorted({token for _, token in tried})


async def test_a_task_given_again_before_its_worker_has_looked(
    zk: Client, session, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker fails, hears nothing for a moment, and sees the same task in its list again: it is another attempt."""
    caplog.set_level(logging.CRITICAL, "corekit_recipes.worker")
    tokens: list[int] = []
    failed = anyio.Event()

    async def handle(task: Task) -> None:
        tokens.append(task.token)
        if len(tokens) == 1:
            proxy.deaf = True
            failed.set()
            raise LookupError

    async def given_again() -> bool:
        for worker in await zk.children("/app/assigned"):
            stat = await zk.exists(f"/app/assigned/{worker}/{id}")
            return stat is not None and stat.czxid > tokens[0]
        return False

    board = TaskBoard(zk, "/app")
    async with session(proxy.hosts) as far, anyio.create_task_group() as tasks:
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(TaskBoard(far, "/app"), handle).run)
        id = await board.submit(b"")
        with anyio.fail_after(8):
            await failed.wait()
        await until(given_again)
        proxy.deaf = False
        result = await board.result(id, wait=8)
        tasks.cancel_scope.cancel()
    assert result is not None
    assert (result.state, result.attempts, result.token) == (TaskState.DONE, 2, tokens[1])


async def test_effects_go_with_the_completion(zk: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "corekit_recipes.worker")
    board = TaskBoard(zk, "/app", max_attempts=2)

    async def handle(task: Task) -> Done:
        return Done(b"", [op.create(f"/made-{task.payload.decode()}")])

    await zk.create("/made-twice")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(board, handle).run)
        once, twice = await board.submit(b"once"), await board.submit(b"twice")
        with anyio.fail_after(10):
            assert (await board.result(once)).state is TaskState.DONE  # type: ignore[union-attr]
            refused = await board.result(twice)
        assert refused is not None
        assert refused.state is TaskState.FAILED
        assert b"exists" in refused.data
        assert await zk.exists("/made-once") is not None
        tasks.cancel_scope.cancel()


async def test_cancelling_a_task(zk: Client) -> None:
    board = TaskBoard(zk, "/app")
    began, ended = anyio.Event(), anyio.Event()

    async def handle(task: Task) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(board, handle).run)
        id = await board.submit(b"")
        with anyio.fail_after(10):
            await began.wait()
            assert await board.state(id) is TaskState.RUNNING
            assert await board.cancel(id)
            await ended.wait()
        assert not await board.cancel(id)
        assert await board.state(id) is TaskState.UNKNOWN
        tasks.cancel_scope.cancel()


async def test_tasks_of_a_dead_worker_move(zk: Client, session, proxy: Proxy) -> None:
    board = TaskBoard(zk, "/app")
    record = Record()
    stuck = anyio.Event()

    def handler(client: Client):
        async def handle(task: Task) -> bytes:
            with record.inside(client is zk, task.token):
                if client is not zk:
                    stuck.set()
                    await anyio.sleep_forever()
            return b"by the second"

        return handle

    async with session(proxy.hosts, timeout=1) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(Master(board).run)
        tasks.start_soon(Worker(TaskBoard(other, "/app"), handler(other)).run)
        id = await board.submit(b"")
        with anyio.fail_after(15):
            await stuck.wait()
            tasks.start_soon(Worker(board, handler(zk)).run)
            proxy.frozen = True
            result = await board.result(id)
        assert result is not None
        assert (result.data, result.attempts) == (b"by the second", 2)
        proxy.frozen = False
        tasks.cancel_scope.cancel()
    record.check_exclusive()
    assert [stay.who for stay in record.stays] == ["False", "True"]


async def test_a_new_master_goes_on(zk: Client, session, proxy: Proxy, expire) -> None:
    board = TaskBoard(zk, "/app")
    async with session(proxy.hosts) as other, anyio.create_task_group() as tasks:
        first, second = Master(TaskBoard(other, "/app"), identifier="1"), Master(board, identifier="2")
        tasks.start_soon(first.run)

        async def leads() -> bool:
            return first.is_leader

        await until(leads)
        tasks.start_soon(second.run)
        tasks.start_soon(Worker(board, double).run)
        with anyio.fail_after(15):
            await board.result(await board.submit(b"a"))
            await expire(other)
            result = await board.result(await board.submit(b"b"))
        assert result is not None
        assert result.data == b"bb"
        assert second.is_leader
        tasks.cancel_scope.cancel()


async def test_broken_connections(zk: Client, session, server: Site, proxy: Proxy) -> None:
    """Masters, workers and submitters lose their connections all the time, and their sessions now and then."""
    board = TaskBoard(zk, "/app", max_attempts=100)
    records: dict[str, Record] = {}
    thawed = anyio.Event()

    async def handle(task: Task) -> Done:
        with records.setdefault(task.id, Record()).inside(task.worker, task.token):
            await anyio.sleep(0.02)
        return Done(task.payload, [op.create(f"/effect-{task.id}")])

    async def break_connections(alone: Proxy) -> None:
        chance = random.Random(5)
        while True:
            for _ in range(4):
                await anyio.sleep(chance.uniform(0.05, 0.15))
                proxy.deaf = chance.random() < 0.5
                await anyio.sleep(chance.uniform(0.001, 0.01))
                proxy.cut()
                proxy.deaf = False
            alone.frozen = True  # for longer than the session lives
            await anyio.sleep(2)
            alone.frozen = False
            alone.cut()
            thawed.set()

    async with (
        proxy_to(server.port) as alone,
        session(proxy.hosts) as one,
        session(proxy.hosts) as two,
        session(alone.hosts, timeout=1) as three,
    ):
        clients = [one, two, three]
        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    tasks.start_soon(Master(TaskBoard(client, "/app", max_attempts=100)).run)
                    worker = Worker(TaskBoard(client, "/app", max_attempts=100), handle, capacity=2)
                    tasks.start_soon(worker.run)
                tasks.start_soon(break_connections, alone)
                ids = []
                while not thawed.is_set() or len(ids) < 200:
                    ids.append(await TaskBoard(one, "/app").submit(b"x", id=f"t{len(ids)}"))
                    await anyio.sleep(0.005)
                results = [await board.result(id) for id in ids]
                tasks.cancel_scope.cancel()
    assert Bag(result.state for result in results if result) == {TaskState.DONE: len(ids)}
    assert len([name for name in await zk.children("/") if name.startswith("effect-")]) == len(ids)
    for record in records.values():
        record.check_exclusive()


# ------------------------------------------------------------------------------------------- the plan
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_plan() -> None:
    assert plan(["a", "b", "c"], {"w": 1, "v": 1}, {"w": set(), "v": set()}) == [Give("a", "v"), Give("b", "w")]
    assert plan(["a"], {"w": 1}, {"w": set(), "dead": {"a"}}) == [Take("a", "dead", False), Bury("dead")]
    assert plan([], {"w": 1}, {"w": {"gone"}}) == [Take("gone", "w", True)]
    assert plan(["a"], {}, {}) == []
    result = Result(TaskState.DONE, b"\xff", "w", 2, 7)
    assert Result.decode(result.encode()) == result


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_plan_comes_to_an_end_with_everything_placed() -> None:
    names = st.integers(0, 20).map(str)

    @given(
        st.lists(names, unique=True, max_size=15),
        st.dictionaries(st.sampled_from("abc"), st.integers(1, 4), max_size=3),
        st.dictionaries(st.sampled_from("abcdef"), st.sets(names, max_size=4), max_size=6),
    )
    def check(tasks: list[str], alive: dict[str, int], assigned: dict[str, set[str]]) -> None:
        for worker in alive:
            assigned.setdefault(worker, set())
        seen: set[str] = set()
        for held in assigned.values():
            held -= seen
            seen |= held
        for _ in range(5):
            steps = plan(tasks, alive, assigned)
            for step in steps:
                if isinstance(step, Give):
                    assert step.task not in set().union(*assigned.values())
                    assigned[step.worker].add(step.task)
                elif isinstance(step, Take):
                    assigned[step.worker].remove(step.task)
                else:
                    assert not assigned.pop(step.worker)
            if not steps:
                break
        assert plan(tasks, alive, assigned) == []
        assert set(assigned) == set(alive)
        placed = set().union(*assigned.values())
        assert placed <= set(tasks)
        if placed != set(tasks):
            assert all(len(assigned[worker]) >= alive[worker] for worker in alive)

    check()
