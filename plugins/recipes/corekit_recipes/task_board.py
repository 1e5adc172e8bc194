"""Master and workers: the znodes they share, and what those who submit tasks see. See `master` and `worker`.

Promises, as long as nobody removes these znodes by hand: a task that was submitted is worked on until it is done or
has failed `max_attempts` times, whatever dies meanwhile: workers, masters, servers. At any time at most one worker's
body runs for a task. A body may run more than once (its worker died, or its answer was lost): at least once. Its
completion happens exactly once, and so do the effects that it commits with it (`Done.effects`, in the same
transaction). Effects elsewhere carry `task.token`, which rises from one attempt to the next. The state of every task
is in the ensemble, so that a new master goes on where the old one stopped.
Failures: while no master leads, tasks that are assigned go on, others wait. A submission whose answer was lost raises
`OutcomeUnknown`, unless it has an id of its own: then submitting again changes nothing.
Cost: a task takes 1 request to submit, 1 transaction to assign, 2 reads and 1 transaction to work on; each change of
the lists of tasks is read by the master as a whole: meant for some thousands of tasks at a time.
Znodes: PATH/tasks/<id>, data = payload, version = failed attempts; PATH/workers/<worker>, ephemeral, data = JSON;
PATH/assigned/<worker>/<id>; PATH/results/<id>, data = JSON; PATH/master/..., the election (`lock.Lock`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import anyio

from corekit.client import Client, OutcomeUnknown, op
from corekit.client.follow import over
from corekit.client.op import Request
from corekit.client.paths import join, name
from corekit.errors import NodeExistsError, NoNodeError

MAX_ATTEMPTS = 3


class TaskState(Enum):
    """Where a task stands."""

    UNKNOWN = "unknown"  # never submitted, or forgotten
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    Attributes:
        data: what the handler returned, or the text of the last error.
        attempts: how often it was tried.
        token: of the attempt that ended it; 0 if its worker died.
    """

    state: TaskState
    data: bytes
    worker: str
    attempts: int
    token: int

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "state": self.state.value,
                "data": base64.b64encode(self.data).decode(),
                "worker": self.worker,
                "attempts": self.attempts,
                "token": self.token,
            }
        ).encode()

    @staticmethod
    def decode(data: bytes) -> Result:
        """From JSON."""
        found = json.loads(data)
        return Result(
            TaskState(found["state"]),
            base64.b64decode(found["data"]),
            found["worker"],
            found["attempts"],
            found["token"],
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What a handler may return: a result, and operations that take effect with the completion or not at all."""

    data: bytes = b""
    effects: Sequence[Request[Any]] = field(default_factory=tuple)


class TaskBoard:
    """`board = TaskBoard(zk, "/app")`: submit tasks and get their results. Masters and workers use the same board."""

    def __init__(self, zk: Client, path: str, *, max_attempts: int = MAX_ATTEMPTS) -> None:
        if max_attempts < 1:
            raise ValueError("a task is tried at least once")
        self.zk = zk
        self.path = path
        self.max_attempts = max_attempts
        self.tasks = join(path, "tasks")
        self.workers = join(path, "workers")
        self.assigned = join(path, "assigned")
        self.results = join(path, "results")
        self.election = join(path, "master")

    async def prepare(self) -> None:
        """Make the znodes."""
        for path in (self.tasks, self.workers, self.assigned, self.results, self.election):
            await self.zk.ensure(path)

    async def submit(self, payload: bytes, *, id: str | None = None) -> str:
        """Add a task; returns its id. With an id of your own, submitting it again changes nothing.

        Raises:
            OutcomeUnknown: only without an id: it was added once, or not at all.
        """
        if id is not None and (not id or "/" in id):
            raise ValueError(f"an id is part of a path, so it cannot be {id!r}")
        while True:
            try:
                if id is None:
                    create = op.create(join(self.tasks, "task-"), payload, sequential=True, acl=self.zk.default_acl)
                    return name((await self.zk.call(create)).path)
                return await self._submit_once(payload, id)
            except NoNodeError:
                await self.prepare()

    async def _submit_once(self, payload: bytes, id: str) -> str:
        result, acl = join(self.results, id), self.zk.default_acl
        # Creating and deleting the result in one transaction fails if there is one: the task was done before.
        parts: list[Request[Any]] = [op.create(result, acl=acl), op.delete(result)]
        parts.append(op.create(join(self.tasks, id), payload, acl=acl))
        while True:
            try:
                await self.zk.multi(parts)
            except NodeExistsError:
                pass
            except OutcomeUnknown:
                continue
            return id

    async def state(self, id: str) -> TaskState:
        """Where a task stands now."""
        stat, result = await self.zk.exists(join(self.tasks, id), fresh=True), await self.peek(id)
        if result is not None:
            return result.state
        if stat is None:
            return TaskState.UNKNOWN
        for worker in await self.zk.children(self.assigned):
            if await self.zk.exists(join(join(self.assigned, worker), id)) is not None:
                return TaskState.RUNNING
        return TaskState.PENDING

    async def peek(self, id: str) -> Result | None:
        """A task's result, if there is one already."""
        try:
            return Result.decode((await self.zk.get(join(self.results, id))).data)
        except NoNodeError:
            return None

    async def result(self, id: str, wait: float | None = None) -> Result | None:
        """Wait for a task's result; None if there is none after `wait` seconds (None: never; 0: it looks once)."""
        if wait == 0:
            return await self.peek(id)
        with anyio.move_on_after(wait):
            while True:
                stat, changed = await self.zk.exists_watch(join(self.results, id))
                if stat is not None:
                    self.zk.forget(changed)
                    return await self.peek(id)
                await over(self.zk, changed)
        return None

    async def cancel(self, id: str) -> bool:
        """Remove a task that is not finished; its body is cancelled. Returns whether there was one."""
        try:
            await self.zk.delete(join(self.tasks, id))
        except NoNodeError:
            return False
        return True

    async def forget(self, id: str) -> None:
        """Remove a task's result."""
        try:
            await self.zk.call(op.delete(join(self.results, id), retry=True))
        except NoNodeError:
            pass
