"""Scenarios of the recipes that are made of others, and of barriers and the queues with an order of their own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise

import trio
from corekit_recipes.barrier import Barrier
from corekit_recipes.contender import Grant
from corekit_recipes.delay_queue import DelayQueue
from corekit_recipes.double_barrier import DoubleBarrier
from corekit_recipes.lock import Lock
from corekit_recipes.multilock import MultiLock
from corekit_recipes.partitioner import Partitioner
from corekit_recipes.priority_queue import PriorityQueue

from corekit.client import Client, NotAcquired
from corekit.errors import CorekitError
from corekit.testing.world import World
from tests.recipes.world.checks import TROUBLE, Bodies, Violation, pause, work_a_while
from tests.recipes.world.queues import Goods
from tests.recipes.world.scenarios import CLIENTS, LONG, PEACE, SECONDS, TASKS, empty, turmoil


async def multilock(world: World) -> None:
    """Each takes two or three of three locks, in any order: never two in one lock, and nobody waits for ever."""
    bodies = Bodies(world)
    paths = ["/lock/a", "/lock/b", "/lock/c"]

    async def work(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            random = world.random(f"locks {who} {world.now}")
            wanted = random.sample(paths, random.choice((2, 2, 3)))
            with world.cancellable():
                try:
                    async with MultiLock([Lock(zk, path, identifier=who) for path in wanted]).hold() as grants:
                        with ExitStack() as inside:
                            for path, grant in zip(wanted, grants, strict=True):
                                inside.enter_context(bodies.body(who, grant.token, path))
                            await work_a_while(world)
                except TROUBLE:
                    pass
            await pause(world, LONG / 2)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies, peace=100.0)
        for path in paths:
            await zk.ensure(path)
            await empty(world, zk, path)


async def double_barrier(world: World) -> None:
    """Nobody begins before all have come, and who has left finds nobody inside; in peace, all get through."""
    every = 8.0  # seconds from one round to the next
    last = int(SECONDS // every) + 3  # in peace
    members = CLIENTS * TASKS
    come: dict[int, set[str]] = {}
    inside: dict[int, set[str]] = {}
    over: set[int] = set()

    async def take_part(zk: Client, who: str, number: int) -> None:
        come.setdefault(number, set()).add(who)
        async with DoubleBarrier(zk, f"/round{number}", members, identifier=who).inside(wait=every * 0.7):
            if len(come[number]) < members:
                raise Violation(f"{who} began round {number} with {sorted(come[number])}")
            if number in over:
                raise Violation(f"{who} began round {number} when others had left it")
            world.count("bodies")
            inside.setdefault(number, set()).add(who)
            try:
                await pause(world, LONG)
            finally:
                inside[number].discard(who)
        over.add(number)
        if inside[number]:
            raise Violation(f"{who} left round {number} with {sorted(inside[number])} inside")
        if number == last:
            world.count("finished")

    async def work(zk: Client, who: str) -> None:
        while (number := int(world.now // every) + 1) <= last:
            comes = number * every + world.random(f"comes {who} {number}").uniform(0, LONG)
            await trio.sleep(comes - world.now)
            try:
                await take_part(zk, who, number)
            except (NotAcquired, *TROUBLE):
                pass

    async with world.client("observer"):
        await turmoil(world, work)
    if world.counters.get("finished", 0) != members:
        raise Violation(f"{world.counters.get('finished', 0)} of {members} came through a round in peace")


async def partitioner(world: World) -> None:
    """One body for an item at a time, while members come and go; in peace, every item is worked on."""
    bodies = Bodies(world)
    items = ["a", "b", "c", "d"]
    seen: set[str] = set()
    covered = trio.Event()

    async def take_part(zk: Client, who: str) -> None:
        async def handle(item: str, grant: Grant) -> None:
            with bodies.body(who, grant.token, item):
                seen.add(item)
                if len(seen) == len(items):
                    covered.set()
                await work_a_while(world)

        await Partitioner(zk, "/shards", items, identifier=who).run(handle)

    async def work(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            with trio.move_on_after(world.random(f"{who} {world.now}").uniform(1, SECONDS / 3)):
                try:
                    await take_part(zk, who)
                except TROUBLE:
                    pass
            await pause(world, LONG)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies)
        seen.clear()
        covered = trio.Event()
        with trio.move_on_after(PEACE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_part, zk, "the last")
                await covered.wait()
                nursery.cancel_scope.cancel()
    if len(seen) < len(items):
        raise Violation(f"nobody works on {sorted(set(items) - seen)}")


async def priority_queue(world: World) -> None:
    """An item comes out once and is not lost unless `TakeUnknown` says so; what is left comes out by priority."""
    goods = Goods(world)
    priorities: dict[bytes, int] = {}

    async def put(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            item = goods.new(who)
            priorities[item] = world.random(f"priority {item!r}").randrange(1000)
            with world.cancellable():
                try:
                    await PriorityQueue(zk, "/jobs").put(item, priorities[item])
                    goods.put(item)
                except CorekitError:
                    pass
            await pause(world, LONG / 2)

    async def take(zk: Client, who: str) -> None:
        jobs = PriorityQueue(zk, "/jobs")
        while world.now < SECONDS:
            await goods.take(jobs, who)
            await pause(world, 2 * LONG)

    async def work(zk: Client, who: str) -> None:
        await (put if who.endswith("1") else take)(zk, who)

    async with world.client("observer") as zk:
        await turmoil(world, work)
        rest = await goods.take_rest(PriorityQueue(zk, "/jobs"))
    if any(priorities[first] > priorities[second] for first, second in pairwise(rest)):
        raise Violation(f"the rest came in the order {[priorities[item] for item in rest]}")


async def delay_queue(world: World) -> None:
    """An item comes out once, not before it is due by its taker's clock; what is left comes out as it becomes due."""
    goods = Goods(world)
    due: dict[bytes, float] = {}  # by the clock of who put it

    async def put(zk: Client, who: str) -> None:
        jobs = DelayQueue(zk, "/later")
        while world.now < SECONDS:
            item = goods.new(who)
            delay = world.random(f"delay {item!r}").uniform(0, 4 * LONG)
            with world.cancellable():
                due[item] = round(time.time() + delay, 3)
                try:
                    await jobs.put(item, delay=delay)
                    goods.put(item)
                except CorekitError:
                    pass
            await pause(world, LONG)

    async def take(zk: Client, who: str) -> None:
        jobs, clock = DelayQueue(zk, "/later"), world.clocks[who.partition(".")[0]]
        while world.now < SECONDS:

            def seen(item: bytes, ahead: float = clock.wall_ahead) -> None:
                if clock.wall_ahead == ahead and time.time() < due[item]:  # nobody has set the clock meanwhile
                    raise Violation(f"{who} took {item!r} {due[item] - time.time():.3f} s before it was due")

            await goods.take(jobs, who, seen)

    async def work(zk: Client, who: str) -> None:
        await (put if who.endswith("1") else take)(zk, who)

    async with world.client("observer") as zk:
        await turmoil(world, work)
        world.clocks["observer"].wall_ahead += 1e6  # so that all is due
        rest = await goods.take_rest(DelayQueue(zk, "/later"))
    if any(due[first] > due[second] for first, second in pairwise(rest)):
        raise Violation(f"the rest came in the order {[due[item] for item in rest]}")


async def barrier(world: World) -> None:
    """Nobody gets through who came after it was closed and before somebody began to open it; in peace, all do."""
    closed = 0  # how often; 0 while it may be open

    async def guard(zk: Client, who: str) -> None:
        nonlocal closed
        gate, times = Barrier(zk, "/gate"), 0
        while world.now < SECONDS:
            times += 1
            try:
                await gate.close()
                closed = times
                await pause(world, SECONDS / 2)
                closed = 0
                await gate.open()
                await pause(world, LONG)
            except TROUBLE:
                pass
            closed = 0
        while True:
            try:
                await gate.open()
                return
            except TROUBLE:
                pass

    async def pass_through(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            with world.cancellable():
                before = closed
                try:
                    await Barrier(zk, "/gate").wait()
                except TROUBLE:
                    continue
                world.count("bodies")
                if closed and closed == before:
                    raise Violation(f"{who} got through while the barrier was closed")
            await pause(world, LONG)

    async def work(zk: Client, who: str) -> None:
        await (guard if who == "c0.0" else pass_through)(zk, who)

    async with world.client("observer"):
        await turmoil(world, work)
