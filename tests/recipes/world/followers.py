"""Scenarios of what many follow: values, settings, trees, topics, groups and services.

Some change things while faults happen, and come to a last state; others follow, with waits that are cut short, and
must come to see that state: who has missed a change waits for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio
from corekit_recipes.config import ConfigCentre
from corekit_recipes.group import Group, Member
from corekit_recipes.notify import Message, Topic
from corekit_recipes.service import Instance, Services
from corekit_recipes.shared_value import SharedValue, Versioned
from corekit_recipes.tree_cache import tree_cache

from corekit.client import Client, op
from corekit.errors import CorekitError
from corekit.testing.world import World
from tests.recipes.world.checks import TROUBLE, Violation, pause
from tests.recipes.world.scenarios import CLIENTS, LONG, SECONDS, TIMEOUT, Work, turmoil

T = TypeVar("T")


class Story:
    """One task of each session changes things, and ends with `settle`; the other follows.

    Attributes:
        over: nothing changes any more.
        followed: all who follow have seen the last state.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.over = trio.Event()
        self.followed = trio.Event()
        self._changing = self._following = CLIENTS

    async def run(self, change: Work, follow: Work) -> None:
        """Let it happen."""

        async def work(zk: Client, who: str) -> None:
            if who.endswith("0"):
                await change(zk, who)
                return
            await follow(zk, who)
            self._following -= 1
            if not self._following:
                self.followed.set()

        await turmoil(self.world, work, peace=20 * TIMEOUT)

    async def settle(self, last: Callable[[], Awaitable[object]] | None = None) -> None:
        """One changes nothing more; what is `last` is done, twice if need be, when this is true of all."""
        self._changing -= 1
        if self._changing:
            return
        while last is not None:
            try:
                await last()
                break
            except TROUBLE:
                pass
        self.over.set()

    async def read(self, source: AsyncIterator[T], seen: Callable[[T], bool]) -> None:
        """Read until the story is over and `seen` the last state; waits are cut short and begun again."""
        states: list[T] = []
        while not (self.over.is_set() and states and seen(states[0])):
            # Often very short, but so long that time goes on: in the same moment it would be the same again, for ever.
            patience = LONG * max(1e-9, self.world.random(f"patience {self.world.now}").random() ** 3)
            with trio.move_on_after(patience):
                states[:] = [await anext(source)]
                self.world.count("bodies")
                seen(states[0])


async def shared_value(world: World) -> None:
    """Updates append a word each: every one that returned is there once. Followers see the text grow only."""
    story = Story(world)
    sure: list[bytes] = []

    async def change(zk: Client, who: str) -> None:
        for number in range(1000):
            if world.now > SECONDS:
                break
            word = f" {who}:{number}".encode()
            with world.cancellable():
                try:
                    await SharedValue(zk, "/text").update(lambda old, word=word: old + word)  # type: ignore[misc]
                    sure.append(word.strip())
                except CorekitError:
                    pass
            await pause(world, LONG)
        await story.settle(lambda: SharedValue(zk, "/text").update(lambda old: old.removesuffix(b" end") + b" end"))

    async def follow(zk: Client, who: str) -> None:
        text = b""

        def seen(state: Versioned) -> bool:
            nonlocal text
            if not state.value.startswith(text):
                raise Violation(f"{who} was shown {state.value!r} after {text!r}")
            text = state.value
            return text.endswith(b" end")

        await story.read(SharedValue(zk, "/text").follow(), seen)

    async with world.client("observer") as zk:
        await story.run(change, follow)
        words = (await SharedValue(zk, "/text").get(fresh=True)).value.split()
    if len(set(words)) < len(words):
        raise Violation(f"an update was applied twice: {words}")
    if lost := set(sure) - set(words):
        raise Violation(f"lost: {sorted(lost)}")


async def config_centre(world: World) -> None:
    """Two settings are always published together and never seen apart by a transaction; followers see the last."""
    story = Story(world)

    async def change(zk: Client, who: str) -> None:
        centre = ConfigCentre(zk, "/config")
        while world.now < SECONDS:
            value = f"{who} {world.now}".encode()
            removed = world.random(f"{who} {world.now}").random() < 0.2
            with world.cancellable():
                try:
                    await centre.publish(dict.fromkeys(("app/a", "app/b"), None if removed else value))
                    answers = zk.stream([op.get(f"/config/app/{key}") for key in "aba"], errors=True)
                    first, other, again = [getattr(answer, "stat", None) async for answer in answers]
                    if first is not None and first == again and (other is None or other.mzxid != first.mzxid):
                        raise Violation(f"published together and seen apart: {first} and {other}")
                except CorekitError:
                    pass
            await pause(world, LONG)
        await story.settle(lambda: centre.publish({"app/a": b"end", "app/b": b"end"}))

    async def follow(zk: Client, who: str) -> None:
        centre = ConfigCentre(zk, "/config")
        if who == "c0.1":
            async with centre.follow_all() as states:
                await story.read(states, lambda settings: settings == {"app/a": b"end", "app/b": b"end"})
        else:
            await story.read(centre.follow("app/a"), lambda value: value == b"end")

    async with world.client("observer"):
        await story.run(change, follow)


async def tree(world: World) -> None:
    """The nodes of a cache only ever get newer, and in the end it is what the ensemble has."""
    story = Story(world)
    found: dict[str, bytes] = {}

    async def change(zk: Client, who: str) -> None:
        """Each has nodes of its own, and numbers its writes."""
        number = 0
        while world.now < SECONDS:
            number += 1
            random = world.random(f"{who} {number}")
            path = f"/tree/{random.choice('ab')}/{who}.{random.choice('xy')}"
            with world.cancellable():
                try:
                    if random.random() < 0.3:
                        await zk.delete(path)
                    elif await zk.exists(path) is None:
                        await zk.create(path, b"%d" % number, parents=True)
                    else:
                        await zk.set(path, b"%d" % number)
                except CorekitError:
                    pass
            await pause(world, LONG / 2)
        await story.settle(lambda: look(zk))

    async def follow(zk: Client, who: str) -> None:
        async with tree_cache(zk, "/tree", recursive=who != "c0.1") as cache:
            newest: dict[str, int] = {}

            def seen(_: object) -> bool:
                for path, data in cache.data.items():
                    if int(data or 0) < newest.get(path, 0):
                        raise Violation(f"{who} has {path} go back from {newest[path]} to {data!r}")
                    newest[path] = int(data or 0)
                return cache.data == found

            await story.read(cache.versions(), seen)

    async def look(zk: Client) -> None:
        await zk.sync("/tree")
        paths = [path async for path, _ in zk.walk("/tree")]
        found.update({path: (await zk.get(path)).data for path in paths})

    async with world.client("observer") as zk:
        await zk.create("/tree")
        await story.run(change, follow)


async def topic(world: World) -> None:
    """A listener gets what was published, in order, and is told how much was removed before it could read it."""
    story = Story(world)
    published: dict[int, bytes] = {}

    async def change(zk: Client, who: str) -> None:
        events = Topic(zk, "/events", keep=5)
        while world.now < SECONDS:
            data = f"{who} {world.now}".encode()
            with world.cancellable():
                try:
                    published[await events.publish(data)] = data
                except CorekitError:
                    pass
            await pause(world, LONG)
        await story.settle(lambda: events.publish(b"end"))

    async def follow(zk: Client, who: str) -> None:
        newest = await Topic(zk, "/events").newest()

        def seen(message: Message) -> bool:
            nonlocal newest
            if message.number != newest:
                if message.number - newest - 1 != message.missed:
                    raise Violation(f"{who} got {message} after {newest}")
                newest = message.number
            if published.get(message.number, message.data) != message.data:
                raise Violation(f"{who} got {message}, but {published[message.number]!r} was published")
            return message.data == b"end"

        await story.read(Topic(zk, "/events").listen(newest), seen)

    async with world.client("observer") as zk:
        await zk.create("/events")
        await story.run(change, follow)


class Lives:
    """Members come and go under one name each, with data that tells each life from the others; the last one stays."""

    def __init__(self, world: World, story: Story) -> None:
        self.world = world
        self.story = story
        self.latest: dict[str, int] = {}

    async def run(self, who: str, join: Callable[[int], AbstractAsyncContextManager[object]]) -> None:
        """Short lives, and a last one; `join` gets its number."""
        world = self.world
        last = world.random(f"last life of {who}").uniform(0.2, 0.8) * SECONDS
        for number in range(1, 1000):
            self.latest[who] = number
            if world.now > last:
                break
            with world.cancellable():
                async with join(number):
                    await pause(world, LONG)
            await pause(world, LONG)
        async with join(self.latest[who]):
            await trio.sleep(max(0, SECONDS - world.now))
            await self.story.settle()
            await self.story.followed.wait()


async def group(world: World) -> None:
    """In the end everybody's list has all who have joined, as they are now; the tokens of a member only rise."""
    story = Story(world)
    lives = Lives(world, story)

    async def change(zk: Client, who: str) -> None:
        await lives.run(who, lambda number: Group(zk, "/group").join(b"%d" % number, id=who))

    async def follow(zk: Client, who: str) -> None:
        tokens: dict[str, int] = {}

        def seen(members: list[Member]) -> bool:
            for member in members:
                if member.token < tokens.get(member.id, 0):
                    raise Violation(f"{who} was shown {member} after its token {tokens[member.id]}")
                tokens[member.id] = member.token
            return {member.id: int(member.data) for member in members} == lives.latest

        await story.read(Group(zk, "/group").follow(), seen)

    async with world.client("observer"):
        await story.run(change, follow)


async def services(world: World) -> None:
    """An instance has a new port in each life; in the end everybody picks each one, where it is now."""
    story = Story(world)
    lives = Lives(world, story)

    async def change(zk: Client, who: str) -> None:
        registry = Services(zk, "/services")
        await lives.run(who, lambda number: registry.register(Instance("api", "host", number, id=who)))

    async def follow(zk: Client, who: str) -> None:
        async with Services(zk, "/services").pool("api") as pool:
            picked: dict[str, int] = {}
            while not (story.over.is_set() and picked == lives.latest):
                await pause(world, LONG)
                picked = {}
                for _ in pool.instances:
                    instance = pool.pick()
                    picked[instance.id] = instance.port
                    world.count("bodies")

    async with world.client("observer"):
        await story.run(change, follow)
