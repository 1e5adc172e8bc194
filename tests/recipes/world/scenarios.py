"""One scenario for each recipe: contenders in several sessions work while faults happen; then there is peace, in which
everybody must come to an end.

A scenario is run by `corekit.testing.world.run` and raises `Violation`, or `TimeoutError` if somebody waits for ever:
an orphan in a line of locks shows that way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from corekit_recipes.contender import Grant
from corekit_recipes.counter import Counter
from corekit_recipes.election import Election, latch
from corekit_recipes.ids import Flakes, NoNumberFree, Numbers, worker_number
from corekit_recipes.lock import Lock
from corekit_recipes.rwlock import ReadWriteLock
from corekit_recipes.semaphore import Semaphore

from corekit.client import Client, ClientClosedError, op
from corekit.errors import CorekitError, NoNodeError
from corekit.testing.world import Swarm, World
from tests.recipes.world.checks import TROUBLE, Bodies, Readers, Violation, pause, work_a_while

SECONDS = 20.0  # of faults
PEACE = 300.0  # seconds after which who still waits has been forgotten
TIMEOUT = 2.0  # of sessions
LONG = 1.0  # the longest that most bodies take, in seconds
MARGIN = 0.1 * TIMEOUT  # of leases
CLIENTS, TASKS = 3, 2

Work = Callable[[Client, str], Awaitable[None]]


async def turmoil(world: World, work: Work, bodies: Bodies | None = None, peace: float = PEACE) -> None:
    """Let `work(zk, who)` be done by two tasks of each session; faults happen for `SECONDS`, and then none.

    Args:
        bodies: whose sessions are also cut off while they are inside, for about as long as a session lives.
        peace: seconds after the last fault in which all must come to an end.
    """
    swarm = Swarm(world)
    world.note("faults", *swarm.kinds)

    async def session(name: str) -> None:
        async with world.client(name) as zk, trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(work, zk, f"{name}.{number}")

    async def faults() -> None:
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(swarm.run)
                if bodies is not None and swarm.random.random() < 0.7:
                    nursery.start_soon(cut_off_holders, world, bodies)
        swarm.heal()

    with trio.CancelScope(deadline=trio.current_time() + SECONDS + peace) as limit:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faults)
                for number in range(CLIENTS):
                    nursery.start_soon(session, f"c{number}")
        except BaseException:
            if not limit.cancel_called:
                raise
    if limit.cancel_called:
        raise Violation(f"somebody still waits {peace:g} s after the last fault")


async def cut_off_holders(world: World, bodies: Bodies) -> None:
    """Nothing passes between a client whose body runs and the servers, again and again."""
    random = world.random("holders")
    while True:
        await trio.sleep(random.uniform(0, TIMEOUT))
        inside = [who for holders in bodies.inside.values() for who in holders]
        if inside:
            client = random.choice(inside).partition(".")[0]
            world.note("cut off", client)
            world.count("faults")
            pairs = [(client, machine.name) for machine in world.machines]
            pairs += [(machine.name, client) for machine in world.machines]
            for source, target in pairs:
                world.net.cut(source, target)
            await trio.sleep(random.uniform(0.5, 2.5) * TIMEOUT)
            for source, target in pairs:
                world.net.heal(source, target)


async def empty(world: World, zk: Client, path: str) -> None:
    """Nothing of the contenders is left once their sessions have ended."""
    for _ in range(100):
        if not await zk.children(path, fresh=True):
            return
        await trio.sleep(TIMEOUT / 10)
    raise Violation(f"left over in {path}: {await zk.children(path)}")


# -------------------------------------------------------------------------------------------- exclusion
async def lock(world: World) -> None:
    """Bodies write their token into the ensemble; one whose lease was lost tries to write later still."""
    bodies = Bodies(world)

    async def write(grant: Grant) -> None:
        await grant.multi([op.set("/fenced", b"%d" % grant.token)])

    async def work_and_write(who: str, grant: Grant) -> None:
        await work_a_while(world)
        await write(grant)
        await pause(world, LONG)
        found = int((await grant.zk.get("/fenced")).data)
        if found != grant.token:
            raise Violation(f"{found} wrote while {who} held with token {grant.token}")

    async def late(grant: Grant) -> None:
        await pause(world, 2 * TIMEOUT)
        try:
            await write(grant)
            world.count("late writes")
        except (ClientClosedError, NoNodeError, *TROUBLE):  # NoNodeError: it is not held any more
            pass

    async def work(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            grant: Grant | None = None
            with world.cancellable():
                try:
                    async with Lock(zk, "/lock", identifier=who).hold() as grant:
                        with bodies.body(who, grant.token):
                            try:
                                await work_and_write(who, grant)
                            finally:
                                with trio.CancelScope(shield=True):  # a body takes its time to end, if it has some
                                    left = min(TIMEOUT, grant.lease.remaining())
                                    await pause(world, max(MARGIN, left) / 2)
                except (NoNodeError, *TROUBLE):
                    if grant is not None:
                        world.nursery.start_soon(late, grant)
            await pause(world, LONG)

    async with world.client("observer") as zk:
        await zk.create("/fenced", b"0")
        await turmoil(world, work, bodies)
        await empty(world, zk, "/lock")


async def rwlock(world: World) -> None:
    """Half of the contenders read."""
    bodies = Readers(world)

    async def work(zk: Client, who: str) -> None:
        reads = who.endswith("1")
        while world.now < SECONDS:
            with world.cancellable():
                try:
                    table = ReadWriteLock(zk, "/rw", identifier=who)
                    async with table.read() if reads else table.write():
                        with bodies.body(who, reads):
                            await work_a_while(world)
                except TROUBLE:
                    pass
            await pause(world, LONG)

    async with world.client("observer") as zk:
        await turmoil(world, work)
        await empty(world, zk, "/rw")


async def semaphore(world: World) -> None:
    """Two permits for six."""
    bodies = Bodies(world, most=2, rising=False)

    async def work(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            with world.cancellable():
                try:
                    async with Semaphore(zk, "/pool", 2, identifier=who).hold() as grant:
                        with bodies.body(who, grant.token):
                            await work_a_while(world)
                except TROUBLE:
                    pass
            await pause(world, LONG / 2)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies)
        await empty(world, zk, "/pool")


async def election(world: World) -> None:
    """Some lead in a body, some ask a latch whether they lead: never two at once, and terms rise."""
    bodies = Bodies(world)

    async def lead(who: str, term: Grant) -> None:
        with bodies.body(who, term.token):
            await work_a_while(world)

    async def ask(zk: Client, who: str) -> None:
        async with latch(zk, "/leader", identifier=who) as candidate:
            term = await candidate.elected()
            with bodies.body(who, term.token):
                with trio.move_on_after(world.random(who + str(world.now)).uniform(0, 3 * LONG)):
                    await candidate.deposed()

    async def work(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            with world.cancellable():
                try:
                    if who.endswith("1"):
                        await ask(zk, who)
                    else:
                        with trio.move_on_after(SECONDS / 4):
                            await Election(zk, "/leader", identifier=who).lead_always(partial(lead, who))
                except TROUBLE:
                    pass
            await pause(world, LONG)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies)
        await empty(world, zk, "/leader")


# ---------------------------------------------------------------------------------------------- numbers
async def counter(world: World) -> None:
    """Every add that returned is in the sum once; one that did not, at most once. No two return the same value."""
    values: list[int] = []
    unsure = 0

    async def work(zk: Client, who: str) -> None:
        nonlocal unsure
        hits = Counter(zk, "/hits")
        while world.now < SECONDS:
            unsure += 1
            with world.cancellable():
                try:
                    values.append(await hits.add(1))
                    world.count("bodies")
                    unsure -= 1
                except CorekitError:
                    pass
            await pause(world, LONG)

    async with world.client("observer") as zk:
        await turmoil(world, work)
        total = await Counter(zk, "/hits").value(fresh=True)
    if len(set(values)) < len(values):
        raise Violation("two adds returned the same value")
    if not len(values) <= total <= len(values) + unsure:
        raise Violation(f"{total} after {len(values)} adds and {unsure} of unknown outcome")


async def ids(world: World) -> None:
    """No number of a sequence, no id and no worker number is given to two; those of one generator rise."""
    bodies = Bodies(world, rising=False)
    given: set[tuple[str, int]] = set()

    def take(kind: str, number: int) -> None:
        world.count("bodies")
        if (kind, number) in given:
            raise Violation(f"{kind} {number} was given twice")
        given.add((kind, number))

    async def count(zk: Client, who: str) -> None:
        last, numbers = -1, Numbers(zk, "/numbers", block=3)
        while world.now < SECONDS:
            with world.cancellable():
                try:
                    number = await numbers.next()
                except CorekitError:
                    continue
                take("number", number)
                if number <= last:
                    raise Violation(f"{who} got {number} after {last}")
                last = number
            await pause(world, LONG / 2)

    async def make_ids(zk: Client, who: str) -> None:
        while world.now < SECONDS:
            with world.cancellable():
                try:
                    async with worker_number(zk, "/workers", limit=CLIENTS) as (worker, grant):
                        with bodies.body(who, grant.token, f"worker {worker}"):
                            flakes = Flakes(worker, clock=lambda: 2e9 + world.now)
                            for _ in range(3):
                                take("id", flakes.next())
                                await work_a_while(world)
                except (NoNumberFree, *TROUBLE):
                    pass
            await pause(world, LONG)

    async def work(zk: Client, who: str) -> None:
        await (count if who == "c0.0" or who == "c1.0" else make_ids)(zk, who)

    async with world.client("observer") as zk:
        await turmoil(world, work, bodies)
        await empty(world, zk, "/workers")
