"""Scenarios of the recipes that hand things out: queues, and the master with its workers. See `scenarios.py`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import trio
from corekit_recipes.claim_queue import ClaimQueue
from corekit_recipes.master import Master
from corekit_recipes.queue import Queue, TakeUnknown
from corekit_recipes.task_board import Done, TaskBoard, TaskState
from corekit_recipes.worker import Task, Worker

from corekit.client import Client, NotAcquired, op
from corekit.errors import CorekitError
from corekit.testing.world import World
from tests.recipes.world.checks import TROUBLE, Bodies, Violation, pause, work_a_while
from tests.recipes.world.scenarios import LONG, PEACE, SECONDS, TIMEOUT, turmoil


class Takes(Protocol):
    """A queue of any kind."""

    async def take(self, wait: float | None = None) -> bytes | None: ...


class Goods:
    """What was put, for certain or perhaps, and what has come out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sure: set[bytes] = set()
        self.perhaps: set[bytes] = set()
        self.unsure: set[bytes] = set()  # perhaps taken by somebody who does not know
        self.taken: list[tuple[str, bytes]] = []
        self._made = 0

    def new(self, who: str) -> bytes:
        """The next item of a producer; perhaps put, until `put` says so."""
        self._made += 1
        item = f"{who}:{self._made}".encode()
        self.perhaps.add(item)
        return item

    def put(self, item: bytes) -> None:
        """The put has returned."""
        self.sure.add(item)

    def known(self, item: bytes) -> None:
        """An item has come out."""
        if item not in self.perhaps:
            raise Violation(f"{item!r} came out, and nobody has put it")

    async def take(self, jobs: Takes, who: str, seen: Callable[[bytes], None] = lambda item: None) -> bool:
        """Try to take one; returns whether there was one (or perhaps one)."""
        try:
            item = await jobs.take(wait=LONG)
        except TakeUnknown as unknown:
            self.unsure.add(unknown.item)
            return True
        except TROUBLE:
            return True
        if item is None:
            return False
        self.world.note("taken", who, item)
        self.world.count("bodies")
        self.known(item)
        self.taken.append((who, item))
        seen(item)
        return True

    async def take_rest(self, jobs: Takes) -> list[bytes]:
        """Take, in peace, what is left; then everything must have come out once."""
        before = len(self.taken)
        while await self.take(jobs, "the rest"):
            pass
        everything = [item for _, item in self.taken]
        if len(set(everything)) < len(everything):
            raise Violation("an item was taken twice")
        if lost := self.sure - set(everything) - self.unsure:
            raise Violation(f"lost: {sorted(lost)}")
        return everything[before:]


async def queue(world: World) -> None:
    """An item comes out once, in order, and is not lost unless `TakeUnknown` says that it may be."""
    goods = Goods(world)

    async def put(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            item = goods.new(who)
            with world.cancellable():
                try:
                    await Queue(zk, "/jobs").put(item)
                    goods.put(item)
                except CorekitError:
                    pass
            await pause(world, LONG)

    async def take(zk: Client, who: str) -> None:
        jobs = Queue(zk, "/jobs")
        while world.now < SECONDS:
            await goods.take(jobs, who)

    async def work(zk: Client, who: str) -> None:
        await (put if who.endswith("1") else take)(zk, who)

    async with world.client("observer") as zk:
        await turmoil(world, work)
        await goods.take_rest(Queue(zk, "/jobs"))
    for taker in sorted({who for who, _ in goods.taken}):
        _check_order(taker, [item for who, item in goods.taken if who == taker])


def _check_order(who: str, items: list[bytes]) -> None:
    """One taker gets what one producer has put in the order in which it was put."""
    by_producer: dict[bytes, list[int]] = {}
    for item in items:
        producer, number = item.split(b":")
        by_producer.setdefault(producer, []).append(int(number))
    for producer, numbers in by_producer.items():
        if any(later < earlier for earlier, later in pairwise(numbers)):
            raise Violation(f"{who} took the items of {producer!r} in the order {numbers}")


async def claim_queue(world: World) -> None:
    """One body for an item at a time, with rising tokens; never again after its end; none is lost."""
    goods = Goods(world)
    bodies = Bodies(world)
    ended: set[bytes] = set()  # their body has come to its end
    done: set[bytes] = set()  # and their removal has been confirmed

    async def put(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            item = goods.new(who)
            with world.cancellable():
                try:
                    await ClaimQueue(zk, "/jobs").put(item)
                    goods.put(item)
                except CorekitError:
                    pass
            await pause(world, LONG)

    async def claim(zk: Client, who: str, rest: bool = False) -> None:
        while world.now < SECONDS or rest:
            with world.cancellable():
                try:
                    async with ClaimQueue(zk, "/jobs").claim(wait=LONG) as item:
                        goods.known(item.data)
                        with bodies.body(who, item.token, item.data.decode()):
                            if item.data in done:
                                raise Violation(f"{item.data!r} came back after it was done")
                            await work_a_while(world)
                            if not rest and world.random(f"fails {who} {world.now}").random() < 0.2:
                                raise LookupError
                            ended.add(item.data)
                    done.add(item.data)
                except NotAcquired:
                    if rest:
                        return
                except (LookupError, *TROUBLE):
                    pass

    async def work(zk: Client, who: str) -> None:
        await (put if who == "c0.0" else claim)(zk, who)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies)
        await trio.sleep(2 * TIMEOUT)  # whose session was left behind is expired by then
        await claim(zk, "the rest", rest=True)
    if lost := goods.sure - ended:
        raise Violation(f"lost: {sorted(lost)}")


async def master_worker(world: World) -> None:
    """Every task is done, its effect happens once, its attempts do not overlap; masters and workers come and go."""
    bodies = Bodies(world)
    tasks = [f"t{number}" for number in range(8)]

    async def handle(task: Task) -> Done:
        with bodies.body(task.worker, task.token, task.id):
            await work_a_while(world)
            if world.random(f"fails {task.id} {world.now}").random() < 0.3:
                raise LookupError("this attempt fails")
        return Done(task.id.encode(), (op.create(f"/effects/{task.id}"),))

    async def work(zk: Client, who: str) -> None:
        board = TaskBoard(zk, "/app", max_attempts=1000)
        while world.now < SECONDS:
            with world.cancellable(), trio.move_on_after(SECONDS - world.now):
                try:
                    await (Master(board).run() if who.endswith("0") else Worker(board, handle, capacity=2).run())
                except TROUBLE:
                    pass

    async def submit(zk: Client) -> None:
        for task in tasks:
            while True:
                try:
                    await TaskBoard(zk, "/app").submit(task.encode(), id=task)
                    break
                except TROUBLE:
                    pass
            await pause(world, SECONDS / len(tasks))

    async with world.client("observer") as zk:
        await zk.create("/effects")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, zk)
            await turmoil(world, work)
        board = TaskBoard(zk, "/app", max_attempts=1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Master(board).run)
            nursery.start_soon(Worker(board, handle, capacity=2).run)
            for task in tasks:
                result = await board.result(task, wait=PEACE)
                if result is None or result.state is not TaskState.DONE:
                    raise Violation(f"task {task} ended as {result}")
                if await zk.exists(f"/effects/{task}") is None:
                    raise Violation(f"task {task} is done without its effect")
            nursery.cancel_scope.cancel()
