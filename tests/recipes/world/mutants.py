"""Known mistakes of recipes, planted on purpose: the campaign must find each within a bounded number of seeds.

A mutant is a function that patches the code under test through `pytest.MonkeyPatch`, which undoes it. Those that other
libraries have made bear the number of their bug.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import pytest
from corekit_recipes import (
    barrier,
    claim_queue,
    config,
    contender,
    counter,
    delay_queue,
    election,
    ids,
    lock,
    master,
    multilock,
    notify,
    partitioner,
    priority_queue,
    queue,
    rwlock,
    semaphore,
    shared_value,
)
from corekit_recipes.contender import Contender
from corekit_recipes.double_barrier import DoubleBarrier
from corekit_recipes.naming import line
from corekit_recipes.presence import Presence

from corekit.client import Client, EventType, Lease, OutcomeUnknown, Stat, Watch, WatchStream, op
from corekit.client.follow import ChildrenFollower, Mapped, over
from corekit.client.paths import join, name
from corekit.client.tasks import alongside
from corekit.errors import NodeExistsError, NoNodeError
from corekit.replica.replica import Replica


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted mistake, and the scenario that must find it within so many seeds (some times what it took)."""

    plant: Callable[[pytest.MonkeyPatch], None]
    scenario: str
    seeds: int
    first: int = 1  # the seed to begin with: one that has found it, so that it takes no longer than it must
    servers: int = 1


MUTANTS: dict[str, Mutant] = {}


def mutant(
    scenario: str, seeds: int, first: int = 1, servers: int = 1
) -> Callable[..., Callable[[pytest.MonkeyPatch], None]]:
    def register(plant: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
        MUTANTS[plant.__name__] = Mutant(plant, scenario, seeds, first, servers)
        return plant

    return register


# ------------------------------------------------------------------------------------------- contenders
@mutant("lock", 30)
def kazoo760_not_found_again(patch: pytest.MonkeyPatch) -> None:
    """After a lost answer another node is made, and the first one is left: nobody gets past it."""

    async def found(self: Contender, names: list[str]) -> bool:
        return False

    patch.setattr(Contender, "_found", found)


@mutant("lock", 30)
def kazoo732_not_removed_when_cancelled(patch: pytest.MonkeyPatch) -> None:
    """Leaving is an ordinary request of the task that leaves, which may be cancelled."""

    async def remove(zk: Client, parent: str, prefix: str, path: str | None) -> None:
        if path is not None:
            try:
                await zk.call(op.delete(path, retry=True))
            except NoNodeError:
                pass

    patch.setattr(contender, "remove", remove)


@mutant("lock", 6, first=3)
def my_turn_when_the_one_before_me_is_gone(patch: pytest.MonkeyPatch) -> None:
    """The line is not looked at again after the watch: the one before may have given up while an older one holds."""

    async def wait_turn(self: Contender, names: list[str], blocks: Any, patient: bool) -> bool:
        assert self.path is not None
        older = []
        for place in line(names):
            if place.name == name(self.path):
                break
            older.append(place)
        if older:
            stat, changed = await self.zk.exists_watch(join(self.line_path, older[-1].name))
            if stat is not None:
                await changed
        return True

    patch.setattr(Contender, "wait_turn", wait_turn)


@mutant("lock", 6, first=2)
def curator604_body_outlives_the_session(patch: pytest.MonkeyPatch) -> None:
    """Nothing ends the body while the connection is broken."""
    enter = Lease.__enter__

    def forever(self: Lease) -> Lease:
        enter(self)
        self._scope.deadline = math.inf
        return self

    patch.setattr(Lease, "__enter__", forever)
    patch.setattr(Lease, "extend", lambda self, safe_until: None)


@mutant("lock", 30)
def lease_without_a_margin(patch: pytest.MonkeyPatch) -> None:
    """The body is told to end when the session may have expired, and not before."""
    patch.setattr("corekit.client.lease.MARGIN", -0.5)


@mutant("lock", 30)
def sessions_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """The server counts the time of sessions by its wall clock, which is set."""
    honest = Replica.set_time
    patch.setattr(Replica, "set_time", lambda self, now_ms, wall_ms: honest(self, wall_ms, wall_ms))


@mutant("lock", 6, first=3)
def removed_before_the_body_has_ended(patch: pytest.MonkeyPatch) -> None:
    """The node is removed when the body is told to end, and not when it has ended."""
    honest = lock.granted

    @asynccontextmanager
    async def granted(zk: Client, make: Any, wait: float | None, what: str) -> AsyncIterator[contender.Grant]:
        async with honest(zk, make, wait, what) as grant:

            async def hasty() -> None:
                try:
                    await anyio.sleep_forever()
                finally:
                    with anyio.move_on_after(0.05, shield=True):
                        await zk.call(op.delete(grant.path, retry=True))

            async with alongside(hasty):
                yield grant

    patch.setattr(lock, "granted", granted)


@mutant("lock", 6)
def token_of_the_session(patch: pytest.MonkeyPatch) -> None:
    """The token is the session's number."""
    made = contender.grant_of
    patch.setattr(contender, "grant_of", lambda zk, token, path, lease: made(zk, lease.session_id, path, lease))


@mutant("election", 6, first=3)
def latch_asks_only_itself(patch: pytest.MonkeyPatch) -> None:
    """A latch believes that it leads until it is told otherwise, and the term's body never ends by itself."""
    curator604_body_outlives_the_session(patch)
    patch.setattr(election.Latch, "term", property(lambda self: self._term))


# ------------------------------------------------------------------------- read/write lock and semaphore
@mutant("rwlock", 6)
def kazoo649_writers_wait_for_writers_only(patch: pytest.MonkeyPatch) -> None:
    """A writer does not wait for readers."""
    patch.setattr(rwlock, "blocks_writer", lambda place: not place.reads)


@mutant("semaphore", 6)
def one_permit_too_many(patch: pytest.MonkeyPatch) -> None:
    """A permit is free if as many are out as there may be."""
    take = semaphore._Permit.take

    async def generous(self: Any, patient: bool) -> bool:
        whole, self._semaphore.permits = self._semaphore.permits, self._semaphore.permits + 1
        try:
            return await take(self, patient)
        finally:
            self._semaphore.permits = whole

    async def agreed(self: semaphore.Semaphore) -> None:
        await self.zk.ensure(self.pool)

    patch.setattr(semaphore._Permit, "take", generous)
    patch.setattr(semaphore.Semaphore, "prepare", agreed)


# ---------------------------------------------------------------------------------------------- numbers
@mutant("counter", 6, first=2)
def unknown_add_done_again(patch: pytest.MonkeyPatch) -> None:
    """A lost answer is taken for a write that did not happen."""

    async def surely(self: counter.Counter, before: Any, ours: bytes) -> bool:
        return True

    patch.setattr(counter.Counter, "_surely_not_written", surely)


# ----------------------------------------------------------------------------------------------- queues
@mutant("queue", 30)
def unknown_put_done_again(patch: pytest.MonkeyPatch) -> None:
    """A put whose answer was lost is done again."""
    append = queue.Queue._append

    async def again(self: queue.Queue, items: Any, prefix: str) -> None:
        while True:
            try:
                return await append(self, items, prefix)
            except OutcomeUnknown:
                pass

    patch.setattr(queue.Queue, "_append", again)


@mutant("queue", 30)
def unknown_take_forgotten(patch: pytest.MonkeyPatch) -> None:
    """An item that is gone after a lost answer is taken for another's."""
    take = queue.Queue.take_entry

    async def silent(self: queue.Queue, entry: str) -> bytes | None:
        try:
            return await take(self, entry)
        except queue.TakeUnknown:
            return None

    patch.setattr(queue.Queue, "take_entry", silent)


@mutant("claim_queue", 6, first=4)
def unknown_end_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """The answer to the removal was lost, and the item is believed to be gone."""
    finish = claim_queue._Claim.finish

    async def hopeful(self: Any, item: claim_queue.Item) -> None:
        with anyio.move_on_after(0.1):
            await finish(self, item)

    patch.setattr(claim_queue._Claim, "finish", hopeful)


@mutant("claim_queue", 30)
def marks_of_others_taken_away(patch: pytest.MonkeyPatch) -> None:
    """Giving back does not look whose mark it is."""

    async def give_back(self: Any) -> None:
        for entry in await self.queue.zk.children(self.queue.taken) if self.tried else []:
            try:
                await self.queue.zk.delete(join(self.queue.taken, entry))
            except NoNodeError:
                pass

    patch.setattr(claim_queue._Claim, "give_back", give_back)


# ------------------------------------------------------------------------------------ master and workers
@mutant("master_worker", 6, first=2)
def tasks_of_the_dead_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A master does not look at what was assigned before its time."""
    plan = master.plan

    def forgetful(tasks: Any, alive: Any, assigned: Any) -> Any:
        return [step for step in plan(tasks, alive, assigned) if isinstance(step, master.Give)]

    patch.setattr(master, "plan", forgetful)


# ------------------------------------------------------------------------------- recipes made of others
@mutant("multilock", 6)
def locks_taken_in_the_order_given(patch: pytest.MonkeyPatch) -> None:
    """Two multi-locks wait for each other."""
    patch.setattr(multilock, "sorted", lambda locks, key: list(locks), raising=False)


@mutant("double_barrier", 6)
def one_too_few_begin(patch: pytest.MonkeyPatch) -> None:
    """The last is not waited for."""
    begin = DoubleBarrier.__init__

    def hasty(self: DoubleBarrier, zk: Client, path: str, count: int, **more: Any) -> None:
        begin(self, zk, path, count - 1, **more)

    patch.setattr(DoubleBarrier, "__init__", hasty)


@mutant("double_barrier", 6)
def left_before_the_others(patch: pytest.MonkeyPatch) -> None:
    """Who leaves does not wait for those who are still inside."""

    async def leave(self: DoubleBarrier, own: str) -> None:
        await self._drop(own)

    patch.setattr(DoubleBarrier, "_leave", leave)


@mutant("partitioner", 6)
def items_without_locks(patch: pytest.MonkeyPatch) -> None:
    """Members believe what they have last seen of each other."""
    tokens = count(1)

    class Unlocked(lock.Lock):
        @asynccontextmanager
        async def hold(self, wait: float | None = None) -> AsyncIterator[contender.Grant]:
            async with self.zk.lease() as lease:
                yield contender.grant_of(self.zk, next(tokens), self.path, lease)

    patch.setattr(partitioner, "Lock", Unlocked)


@mutant("priority_queue", 6)
def priorities_forgotten(patch: pytest.MonkeyPatch) -> None:
    """All items are put with the same priority."""
    append = queue.Queue._append

    async def plain(self: queue.Queue, items: Any, prefix: str) -> None:
        await append(self, items, "entry-100-")

    patch.setattr(priority_queue.PriorityQueue, "_append", plain)


@mutant("delay_queue", 6)
def items_taken_before_they_are_due(patch: pytest.MonkeyPatch) -> None:
    """The order of the names is all that is looked at."""
    patch.setattr(delay_queue.DelayQueue, "try_take", queue.Queue.try_take)


# ------------------------------------------------------------------------------------- what many follow
@mutant("barrier", 6, first=46)
def end_of_a_watch_taken_for_an_opening(patch: pytest.MonkeyPatch) -> None:
    """Who waits gets through when the watch has ended, though it may be the session that has."""

    async def wait(self: barrier.Barrier) -> None:
        stat, changed = await self.zk.exists_watch(self.path)
        if stat is not None:
            await over(self.zk, changed)

    patch.setattr(barrier.Barrier, "wait", wait)


@mutant("barrier", 6, first=102, servers=3)
def opening_believed_of_a_server_that_is_behind(patch: pytest.MonkeyPatch) -> None:
    """A barrier that has just been closed looks open at a server that does not know it yet."""

    async def wait(self: barrier.Barrier) -> None:
        while True:
            stat, changed = await self.zk.exists_watch(self.path)
            if stat is None:
                return
            await over(self.zk, changed)

    patch.setattr(barrier.Barrier, "wait", wait)


@mutant("shared_value", 6)
def value_written_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    """An update does not look whether the value has changed since it was read."""
    honest = Client.set
    patch.setattr(shared_value.SharedValue, "try_set", lambda self, value, before: _set_any(self, honest, value))


async def _set_any(shared: shared_value.SharedValue, write: Any, value: bytes) -> bool:
    await shared.zk.ensure(shared.path)
    await write(shared.zk, shared.path, value)
    return True


@mutant("shared_value", 6)
def unknown_update_done_again(patch: pytest.MonkeyPatch) -> None:
    """A lost answer is taken for a race that was lost."""
    honest = shared_value.SharedValue.try_set

    async def try_set(self: shared_value.SharedValue, value: bytes, before: shared_value.Versioned) -> bool:
        try:
            return await honest(self, value, before)
        except OutcomeUnknown:
            return False

    patch.setattr(shared_value.SharedValue, "try_set", try_set)


@mutant("config_centre", 6, first=6)
def absent_settings_left_out(patch: pytest.MonkeyPatch) -> None:
    """A setting to be removed that is not there is left out of the transaction, and made by another meanwhile."""
    honest = config.ConfigCentre._parts

    def parts(self: config.ConfigCentre, key: str, value: bytes | None, absent: str | None) -> Any:
        return honest(self, key, value, absent) if absent is None or value is not None else []

    patch.setattr(config.ConfigCentre, "_parts", parts)


@mutant("tree", 6)
def resync_ignored(patch: pytest.MonkeyPatch) -> None:
    """Nothing is read again after a reconnection."""
    deliver = WatchStream.deliver

    def silent(self: WatchStream, kind: EventType, path: bytes, zxid: int) -> None:
        if kind is not EventType.RESYNC:
            deliver(self, kind, path, zxid)

    patch.setattr(WatchStream, "deliver", silent)


@mutant("topic", 6)
def gaps_not_told(patch: pytest.MonkeyPatch) -> None:
    """Messages that were removed before they could be read are not counted."""
    patch.setattr(notify, "Message", lambda number, data, missed: notify_message(number, data, 0))


notify_message = notify.Message


@mutant("group", 6)
def members_not_made_again(patch: pytest.MonkeyPatch) -> None:
    """A member whose session has expired stays away."""
    patch.setattr(Presence, "keep", lambda self: anyio.sleep_forever())


@mutant("services", 6)
def known_instances_not_read_again(patch: pytest.MonkeyPatch) -> None:
    """An instance that goes and comes back at another address between two looks keeps its old one."""
    patch.setattr(Watch, "fired", property(lambda self: False))


@mutant("group", 6, first=5)
def change_lost_when_a_wait_is_cut_short(patch: pytest.MonkeyPatch) -> None:
    """A list that came is forgotten when the wait for its members is cancelled."""

    async def next_(self: Mapped[Any, Any]) -> Any:
        return await self._convert(await anext(self._source))

    patch.setattr(Mapped, "__anext__", next_)


@mutant("group", 6, first=163)
def watch_kept_of_a_node_not_yet_read(patch: pytest.MonkeyPatch) -> None:
    """A node that was made while it was found missing is watched, and the reading of it is cut short."""

    async def read(self: ChildrenFollower) -> Any:
        while True:
            try:
                children, self._watch = await self._client.children_watch(self._path)
                return children
            except NoNodeError:
                stat, self._watch = await self._client.exists_watch(self._path)
                if stat is None:
                    return None

    patch.setattr(ChildrenFollower, "_read", read)


@mutant("ids", 6)
def worker_number_of_another_taken(patch: pytest.MonkeyPatch) -> None:
    """Who finds the node of its number there believes that it is its own."""

    async def take(zk: Client, node: str, guid: bytes) -> bool:
        try:
            await zk.create(node, guid, ephemeral=True)
        except (NodeExistsError, OutcomeUnknown):
            pass
        return True

    patch.setattr(ids, "_take", take)
    patch.setattr(ids, "confirm", _not_confirmed)


async def _not_confirmed(zk: Client, path: str, lease: Lease) -> Stat | None:
    await lease.prove()
    return await zk.exists(path)
