"""Distributed notification: messages on a topic, to everyone who listens.

Promises: whoever listens gets every message published after the listening began, in one order that is the same for
all, over reconnections and expired sessions. When a listener is so slow, or was away for so long, that messages were
removed before it read them, it gets `Message.missed` instead of a silent gap.
Failures: a publication whose answer was lost raises `OutcomeUnknown`: it was published once or not at all.
Cost: to publish 1 request, and 1 list and some removals now and then; for a listener 1 list and 1 request for each
message.
Znodes: PATH/msg-<sequence>, persistent, data = the message; the newest `keep` of them stay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from corekit.client import Client, op
from corekit.client.paths import join
from corekit.errors import KeeperError, NoNodeError
from corekit_recipes.naming import distance

PREFIX = "msg-"


class Message(NamedTuple):
    """A message; `missed` messages before it were removed before they could be read."""

    number: int
    data: bytes
    missed: int


class Topic:
    """`await Topic(zk, "/events").publish(b"...")`, `async for message in Topic(zk, "/events").listen(): ...`

    Args:
        keep: how many messages stay for listeners that are behind.
    """

    def __init__(self, zk: Client, path: str, *, keep: int = 1000) -> None:
        if keep < 1:
            raise ValueError("a topic keeps at least one message")
        self.zk = zk
        self.path = path
        self.keep = keep

    async def publish(self, data: bytes) -> int:
        """Send a message to everyone who listens; returns its number.

        Raises:
            OutcomeUnknown: it was published once, or not at all.
        """
        create = op.create(join(self.path, PREFIX), data, sequential=True, acl=self.zk.default_acl)
        while True:
            try:
                number = _number((await self.zk.call(create)).path)
                break
            except NoNodeError:
                await self.zk.ensure(self.path)
        if number % max(1, self.keep // 2) == 0:
            await self.trim()
        return number

    async def trim(self) -> None:
        """Remove all but the newest messages."""
        names = _in_order(await self.zk.children(self.path))
        removals = (op.delete(join(self.path, name), retry=True) for name in names[: -self.keep])
        async for answer in self.zk.stream(removals, errors=True):
            if isinstance(answer, KeeperError) and not isinstance(answer, NoNodeError):
                raise answer

    async def listen(self, after: int | None = None) -> AsyncIterator[Message]:
        """Messages published from now on, or after the message with a number (to go on where one had stopped)."""
        await self.zk.ensure(self.path)
        seen = after
        async for children in self.zk.follow_children(self.path):
            names = _in_order([] if children is None else children.names)
            if seen is None:
                seen = await self._newest(names)
                continue
            last = seen
            answers = self.zk.stream(
                (op.get(join(self.path, name)) for name in names if distance(_number(name), last) > 0), errors=True
            )
            for name in names:
                number = _number(name)
                if distance(number, last) <= 0:
                    continue
                answer = await anext(answers)
                if isinstance(answer, NoNodeError):
                    continue  # removed since; counted as missed with the next one
                if isinstance(answer, KeeperError):
                    raise answer
                missed, seen = distance(number, seen) - 1, number
                yield Message(number, answer.data, missed)

    async def _newest(self, names: list[str]) -> int:
        """The number of the newest message; if none is left, what the next one would follow."""
        if names:
            return _number(names[-1])
        stat = await self.zk.exists(self.path)
        return -1 if stat is None else stat.cversion // 2 - 1


def _number(name: str) -> int:
    return int(name.rpartition(PREFIX)[2])


def _in_order(names: list[str]) -> list[str]:
    found = [name for name in names if name.startswith(PREFIX)]
    if found:
        origin = _number(found[0])
        found.sort(key=lambda name: distance(_number(name), origin))
    return found
