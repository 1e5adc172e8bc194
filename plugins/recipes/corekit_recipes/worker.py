"""A worker of `task_board`: works on the tasks that the master gives it.

Promises, failures, cost, znodes: see `task_board`. A worker has a new name in every session, so that tasks of an
expired session are never taken for its own. All bodies run under one lease: they are cancelled before the session can
have expired, when the master takes a task away, and when somebody removes the worker's node. Completing checks, in
the same transaction, that the worker is still known and the task still assigned to it.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from corekit.client import Client, LeaseLost, OutcomeUnknown, op
from corekit.client.op import Request
from corekit.client.paths import join
from corekit.client.tasks import sole
from corekit.errors import NodeExistsError, NoNodeError, SessionExpiredError
from corekit_recipes.contender import CLEAN_UP_SECONDS, confirm
from corekit_recipes.task_board import Done, Result, TaskBoard, TaskState

EFFECTS = 3  # in the transaction that completes a task, the handler's own operations come after this index
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A task to work on.

    Attributes:
        token: fencing token: higher than that of every earlier attempt at this task.
        attempt: 1 for the first.
    """

    id: str
    payload: bytes
    token: int
    attempt: int
    worker: str


@dataclass(slots=True)
class _Body:
    """A body that runs. Its task may have been `seen_again`: after this attempt, given for another already."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    seen_again: bool = False


Handler = Callable[[Task], Awaitable[Done | bytes | None]]


class Worker:
    """`await Worker(board, handle).run()`, where `handle` takes a `Task` and returns the result.

    A handler that raises has failed at this attempt; the task is given out again, `max_attempts` times in all.
    """

    def __init__(self, board: TaskBoard, handler: Handler, *, capacity: int = 1, identifier: str = "") -> None:
        if capacity < 1:
            raise ValueError("a worker takes at least one task at a time")
        self.board = board
        self.handler = handler
        self.capacity = capacity
        self.identifier = identifier
        self.name = ""

    async def run(self) -> None:
        """Work until cancelled; after an expired session under a new name."""
        await self.board.prepare()
        while True:
            try:
                await self._work()
            except (LeaseLost, NoNodeError):
                pass
            except SessionExpiredError:
                if not self.board.zk.renews:
                    raise

    async def _work(self) -> None:
        """One life: from appearing to the end of the lease."""
        board = self.board
        zk = board.zk.bound()
        name = uuid.uuid4().hex
        lease = zk.lease()
        try:
            await self._appear(zk, name)
            if await confirm(zk, join(board.workers, name), lease) is None:
                return
            self.name = name
            with lease:
                await self._follow(board.zk.bound(lease), name)
        finally:
            self.name = ""
            seconds = CLEAN_UP_SECONDS if board.zk.state.state.connected else 0
            await board.zk.clean_up(lambda: self._vanish(zk, name), seconds)

    async def _appear(self, zk: Client, name: str) -> None:
        board = self.board
        data = json.dumps({"identifier": self.identifier, "capacity": self.capacity}).encode()
        acl = zk.default_acl
        parts = [
            op.create(join(board.assigned, name), acl=acl),
            op.create(join(board.workers, name), data, ephemeral=True, acl=acl),
        ]
        while True:
            try:
                await zk.multi(parts)
                return
            except NodeExistsError:
                return  # by a try whose answer was lost
            except OutcomeUnknown:
                pass

    async def _vanish(self, zk: Client, name: str) -> None:
        """The master takes what was assigned to us, and removes the rest."""
        try:
            await zk.within(None).call(op.delete(join(self.board.workers, name), retry=True))
        except NoNodeError:
            pass

    async def _follow(self, zk: Client, name: str) -> None:
        running: dict[str, _Body] = {}
        try:
            async with anyio.create_task_group() as tasks:
                async for children in zk.follow_children(join(self.board.assigned, name)):
                    mine = set() if children is None else set(children.names)
                    for id in set(running) - mine:
                        running.pop(id).scope.cancel()
                    for id in mine:
                        if id in running:
                            running[id].seen_again = True
                        else:
                            self._start(tasks, zk, name, id, running)
                    if children is None:
                        return
        except BaseExceptionGroup as group:
            raise sole(group) from None

    def _start(self, tasks: TaskGroup, zk: Client, name: str, id: str, running: dict[str, _Body]) -> None:
        body = running[id] = _Body()

        async def work() -> None:
            try:
                with body.scope:
                    await self._do(zk, name, id)
            except (LeaseLost, SessionExpiredError):
                tasks.cancel_scope.cancel()  # this life is over
            if running.get(id) is body:
                del running[id]
                if body.seen_again:
                    self._start(tasks, zk, name, id, running)

        tasks.start_soon(work)

    async def _do(self, zk: Client, name: str, id: str) -> None:
        board = self.board
        node, mark = join(board.tasks, id), join(join(board.assigned, name), id)
        try:
            (payload, stat), (_, marked) = await zk.gather(op.get(node), op.get(mark))
        except NoNodeError:
            return  # cancelled, or taken away again
        task = Task(id, payload, marked.czxid, stat.version + 1, name)
        try:
            done = await self.handler(task)
            if not isinstance(done, Done):
                done = Done(done or b"")
            result = Result(TaskState.DONE, done.data, name, task.attempt, task.token)
            await self._finish(zk, name, id, [*self._result(task, mark, result), *done.effects])
        except (LeaseLost, SessionExpiredError):
            raise
        except Exception as error:  # of the handler, or of an effect that was refused
            log.warning("task failed", extra={"task": id, "attempt": task.attempt}, exc_info=error)
            await self._finish(zk, name, id, self._failed(task, mark, error))

    def _result(self, task: Task, mark: str, result: Result) -> list[Request[Any]]:
        board = self.board
        return [
            op.delete(mark),
            op.delete(join(board.tasks, task.id)),
            op.create(join(board.results, task.id), result.encode(), acl=board.zk.default_acl),
        ]

    def _failed(self, task: Task, mark: str, error: Exception) -> list[Request[Any]]:
        """Back to the tasks that wait, with one failure more; or the end."""
        if task.attempt < self.board.max_attempts:
            return [op.delete(mark), op.set(join(self.board.tasks, task.id), task.payload, task.attempt - 1)]
        text = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
        return self._result(task, mark, Result(TaskState.FAILED, text, task.worker, task.attempt, task.token))

    async def _finish(self, zk: Client, name: str, id: str, parts: list[Request[Any]]) -> None:
        """One transaction, in the session of this life or not at all; repeated only when it surely did not happen."""
        alive = op.check(join(self.board.workers, name))
        while True:
            try:
                await zk.multi([alive, *parts])
                return
            except OutcomeUnknown:
                if await zk.exists(join(join(self.board.assigned, name), id), fresh=True) is None:
                    return  # in this session only our own transaction, or a master that cancels, removes it
            except NoNodeError as error:
                if error.index == 0:
                    raise LeaseLost("the worker's node is gone") from error
                if error.index > EFFECTS:
                    raise
                return  # the task was cancelled
