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

from collections import deque
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

    def listen(self, after: int | None = None) -> AsyncIterator[Message]:
        """`async for message in topic.listen(): ...`

        Args:
            after: the number of the last message that was seen, to go on there; without it listening begins with what
                is published after the loop has begun.
        """
        return _Listener(self, after)

    async def newest(self) -> int:
        """The number of the newest message; if none is left, what the next one would follow."""
        await self.zk.ensure(self.path)
        names = _in_order(await self.zk.children(self.path, fresh=True))
        if names:
            return _number(names[-1])
        stat = await self.zk.exists(self.path)
        return -1 if stat is None else stat.cversion // 2 - 1


class _Listener:
    def __init__(self, topic: Topic, after: int | None) -> None:
        self._topic = topic
        self._seen = after
        self._lists = topic.zk.follow_children(topic.path)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unread: list[str] = []  # names of a list whose messages were not all read yet

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if self._seen is None:
            self._seen = await self._topic.newest()
        while not self._waiting:
            await self._read()
        number, data = self._waiting.popleft()
        missed, self._seen = distance(number, self._seen) - 1, number
        return Message(number, data, missed)

    async def _read(self) -> None:
        """Read what is new in the list; what was removed since counts as missed with the next message.

        It may be cancelled anywhere, and goes on there the next time.
        """
        assert self._seen is not None
        topic = self._topic
        if not self._unread:
            children = await anext(self._lists)
            names, last = [] if children is None else children.names, self._seen
            self._unread = [name for name in _in_order(names) if distance(_number(name), last) > 0]
        answers = topic.zk.stream([op.get(join(topic.path, name)) for name in self._unread], errors=True)
        while self._unread:
            answer = await anext(answers)
            name = self._unread.pop(0)
            if isinstance(answer, NoNodeError):
                continue
            if isinstance(answer, KeeperError):
                raise answer
            self._waiting.append((_number(name), answer.data))


def _number(name: str) -> int:
    return int(name.rpartition(PREFIX)[2])


def _in_order(names: list[str]) -> list[str]:
    found = [name for name in names if name.startswith(PREFIX)]
    if found:
        origin = _number(found[0])
        found.sort(key=lambda name: distance(_number(name), origin))
    return found
