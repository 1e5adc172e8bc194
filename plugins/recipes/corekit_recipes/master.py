"""The master of `task_board`: is elected, gives tasks to workers, and takes them from workers that died.

Promises, failures, cost, znodes: see `task_board`. Every write of a master is a transaction that checks that its
election node is still there, so that a master that was deposed, frozen or cut off changes nothing: there is no split
brain. What it does is decided by `plan`, a pure function of what it sees, and each step checks what it relies on; so
a stale view costs a refused transaction, nothing more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from corekit.client import Client, LeaseLost, OutcomeUnknown, Watch, op
from corekit.client.op import Request
from corekit.client.paths import join
from corekit.errors import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError
from corekit_recipes.contender import Grant
from corekit_recipes.election import Election
from corekit_recipes.task_board import Result, TaskBoard, TaskState

SETTLE_SECONDS = 0.005  # changes that come together are looked at together


@dataclass(frozen=True, slots=True)
class Give:
    """Assign a task to a worker."""

    task: str
    worker: str


@dataclass(frozen=True, slots=True)
class Take:
    """Take a task from a worker that is gone, or that must stop because the task was cancelled."""

    task: str
    worker: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Bury:
    """Remove what is left of a worker."""

    worker: str


Step = Give | Take | Bury


def plan(tasks: list[str], alive: Mapping[str, int], assigned: Mapping[str, set[str]]) -> list[Step]:
    """What to do next.

    Args:
        tasks: unfinished tasks, in the order in which to give them.
        alive: how many tasks each living worker takes at once.
        assigned: the tasks of each worker, dead ones included.
    """
    steps: list[Step] = []
    known = set(tasks)
    load: dict[str, int] = {}
    for worker, held in sorted(assigned.items()):
        if worker in alive:
            steps += [Take(task, worker, True) for task in sorted(held - known)]
            load[worker] = len(held & known)
        else:
            steps += [Take(task, worker, task not in known) for task in sorted(held)]
            steps.append(Bury(worker))
    taken = set().union(*assigned.values())
    for task in tasks:
        room = [worker for worker, held in load.items() if held < alive[worker]]
        if not room:
            break
        if task not in taken:
            worker = min(room, key=lambda worker: (load[worker] / alive[worker], worker))
            load[worker] += 1
            steps.append(Give(task, worker))
    return steps


class Master:
    """`await Master(board).run()`: stands for election, and leads when elected, until cancelled."""

    def __init__(self, board: TaskBoard, *, identifier: str = "") -> None:
        self.board = board
        self.election = Election(board.zk, board.election, identifier=identifier)
        self.term: Grant | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this master leads now."""
        return self.term is not None and self.term.lease.lost is None

    async def run(self) -> None:
        """Stand for election for ever; lead when elected."""
        await self.board.prepare()
        await self.election.lead_always(self._lead)

    async def _lead(self, term: Grant) -> None:
        self.term = term
        try:
            view = _View(self.board, term.zk)
            while True:
                view.wake = anyio.Event()
                steps = plan(*await view.read())
                for step in steps:
                    await self._do(term, step, view)
                if not steps:
                    await view.wake.wait()
                    await anyio.sleep(SETTLE_SECONDS)
        finally:
            self.term = None

    async def _do(self, term: Grant, step: Step, view: _View) -> None:
        try:
            if isinstance(step, Give):
                await term.multi(await self._give(step))
            elif isinstance(step, Take):
                await term.multi(await self._take(term, step))
            else:
                await term.multi([op.delete(join(self.board.assigned, step.worker))])
        except (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError) as error:
            if error.index < 0 and not isinstance(error, NotEmptyError):
                raise LeaseLost("the election node is gone") from error
            view.forget()  # something has changed meanwhile
        except OutcomeUnknown:
            view.forget()

    async def _give(self, step: Give) -> list[Request[Any]]:
        board = self.board
        return [
            op.check(join(board.workers, step.worker)),
            op.check(join(board.tasks, step.task)),
            op.create(join(join(board.assigned, step.worker), step.task), acl=board.zk.default_acl),
        ]

    async def _take(self, term: Grant, step: Take) -> list[Request[Any]]:
        """A task whose worker died has failed once more; it waits again, or has failed for good."""
        board = self.board
        parts: list[Request[Any]] = [op.delete(join(join(board.assigned, step.worker), step.task))]
        if step.cancelled:
            return parts
        node = join(board.tasks, step.task)
        payload, stat = await term.zk.get(node)
        if stat.version + 1 < board.max_attempts:
            return [*parts, op.set(node, payload, stat.version)]
        result = Result(TaskState.FAILED, b"its worker died", step.worker, stat.version + 1, 0)
        created = op.create(join(board.results, step.task), result.encode(), acl=board.zk.default_acl)
        return [*parts, op.delete(node, stat.version), created]


class _View:
    """Lists of children that are read again only when their watch has fired."""

    def __init__(self, board: TaskBoard, zk: Client) -> None:
        self.board = board
        self.zk = zk
        self.wake = anyio.Event()
        self._lists: dict[str, tuple[list[str], Watch]] = {}
        self._capacity: dict[str, int] = {}

    async def read(self) -> tuple[list[str], dict[str, int], dict[str, set[str]]]:
        """Unfinished tasks, living workers with their capacity, assignments."""
        board = self.board
        workers = await self._list(board.workers)
        assigned = {
            worker: set(await self._list(join(board.assigned, worker))) for worker in await self._list(board.assigned)
        }
        tasks = sorted(await self._list(board.tasks), key=lambda task: (len(task), task))
        self._capacity = {worker: await self._capacity_of(worker) for worker in workers}
        buried = {path for path in self._lists if path.startswith(board.assigned + "/")}
        for path in buried - {join(board.assigned, worker) for worker in assigned}:
            del self._lists[path]
        return tasks, self._capacity, assigned

    def forget(self) -> None:
        """Read everything again."""
        for _, watch in self._lists.values():
            self.zk.forget(watch)
        self._lists.clear()
        self.wake.set()

    async def _list(self, path: str) -> list[str]:
        known = self._lists.get(path)
        if known is not None and not known[1].fired:
            return known[0]
        try:
            children, watch = await self.zk.children_watch(path)
        except NoNodeError:
            self._lists.pop(path, None)
            return []
        watch.then = lambda _: self.wake.set()
        self._lists[path] = (children.names, watch)
        if watch.fired:
            self.wake.set()
        return children.names

    async def _capacity_of(self, worker: str) -> int:
        if worker in self._capacity:
            return self._capacity[worker]
        try:
            data = (await self.zk.get(join(self.board.workers, worker))).data
            return max(0, int(json.loads(data)["capacity"]))
        except (NoNodeError, ValueError, KeyError, TypeError):
            return 0
