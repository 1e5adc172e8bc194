"""Scenarios of the recipes that are made of others: multi-lock, double barrier, partitioner, priority queue."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

import trio
from corekit_recipes.contender import Grant
from corekit_recipes.double_barrier import DoubleBarrier
from corekit_recipes.lock import Lock
from corekit_recipes.multilock import MultiLock
from corekit_recipes.partitioner import Partitioner
from corekit_recipes.priority_queue import PriorityQueue
from corekit_recipes.queue import TakeUnknown

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
        await turmoil(world, work, bodies)
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
    goods = Goods()
    taken: list[bytes] = []
    unsure: set[bytes] = set()
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

    async def take(zk: Client, rest: bool = False) -> None:
        jobs = PriorityQueue(zk, "/jobs")
        while world.now < SECONDS or rest:
            try:
                item = await jobs.take(wait=LONG)
            except TakeUnknown as unknown:
                unsure.add(unknown.item)
                continue
            except TROUBLE:
                continue
            if item is not None:
                world.count("bodies")
                goods.known(item)
                taken.append(item)
            elif rest:
                return
            if not rest:
                await pause(world, 2 * LONG)

    async def work(zk: Client, who: str) -> None:
        await (put(zk, who) if who.endswith("1") else take(zk))

    async with world.client("observer") as zk:
        await turmoil(world, work)
        before = len(taken)
        await take(zk, rest=True)
    if len(set(taken)) < len(taken):
        raise Violation("an item was taken twice")
    if lost := goods.sure - set(taken) - unsure:
        raise Violation(f"lost: {sorted(lost)}")
    if any(priorities[first] > priorities[second] for first, second in pairwise(taken[before:])):
        raise Violation(f"the rest came in the order {[priorities[item] for item in taken[before:]]}")
