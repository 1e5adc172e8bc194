"""`corekit master`, `worker` and `task`: master and workers, to try them and to run small jobs."""

from __future__ import annotations

import json as jsons
import os
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import JsonOption, Session, Target, command, run_async
from corekit.cli.output import print_json_line, print_table, reader_left
from corekit.errors import EXIT_NOT_ACQUIRED, CorekitError, UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.guard import Guard, Job
from corekit_recipes.commands.holding import find_command, run_under
from corekit_recipes.commands.lock_commands import HOLDERS, NameOption

if TYPE_CHECKING:
    import anyio

    from corekit.client import Client
    from corekit_recipes.task_board import Result, TaskBoard
    from corekit_recipes.worker import Task

# Of the session timeout. Together less than the margin of a worker's lease (a tenth), which ends the command.
GRACE, SLACK = 0.06, 0.02
POLL_SECONDS = 0.2

AttemptsOption = Annotated[int, typer.Option("--max-attempts", min=1, metavar="N", help="How often a task is tried.")]
WithinOption = Annotated[
    float | None,
    typer.Option(
        "--within", "-w", min=0.0, metavar="SECONDS", help="Give up then (default: never).", show_default=False
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID")]


def _identifier(name: str) -> str:
    return name or f"{socket.gethostname()}:{os.getpid()}"


def master(
    target: Target, path: PathArgument, name: NameOption = "", attempts: AttemptsOption = 3, json: JsonOption = False
) -> int:
    """Be a master (or wait to become the one that leads): give tasks to workers, until Ctrl-C.

    [bold]Example[/bold]

      corekit master /app
    """

    async def lead() -> int:
        import anyio

        from corekit_recipes.master import Master
        from corekit_recipes.task_board import TaskBoard

        async with target.connect_for_long(None) as zk, anyio.create_task_group() as tasks:
            one = Master(TaskBoard(zk, path, max_attempts=attempts), identifier=_identifier(name))
            tasks.start_soon(one.run)
            shown: int | None = None
            while True:
                term = one.term.token if one.is_leader and one.term is not None else None
                if term != shown:
                    if json:
                        print_json_line({"leading": term is not None, "term": term})
                    else:
                        print(f"leading, term {term}" if term is not None else "not leading", flush=True)
                    shown = term
                await anyio.sleep(POLL_SECONDS)
        return 0

    return run_async(lambda: Attendant(regular=True).run(lead))


def worker(
    target: Target,
    path: PathArgument,
    run: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="Gets the task on standard input.")],
    capacity: Annotated[int, typer.Option("--capacity", "-n", min=1, metavar="N", help="Tasks at once.")] = 1,
    name: NameOption = "",
    attempts: AttemptsOption = 3,
    json: JsonOption = False,
) -> int:
    """Run a command for every task that the master gives, until Ctrl-C, and print a line for each.

    What the command writes to standard output is the result. If it fails, the task is tried again. It finds
    COREKIT_TASK_ID, COREKIT_TASK_TOKEN (a fencing token) and COREKIT_TASK_ATTEMPT in its environment.

    [bold]Example[/bold]

      corekit worker /app --capacity 2 -- ./resize.sh
    """
    find_command(run)
    with ExitStack() as stack:
        guards = [stack.enter_context(Guard.fork()) for _ in range(capacity)]
        one = _Worker(target, path, run, guards, _identifier(name), attempts, json)
        return run_async(lambda: Attendant(regular=True).run(one.main))


class _CommandFailed(CorekitError):
    """The command of a task ended with another code than 0."""


class _Worker:
    """Runs a worker whose handler is a command."""

    def __init__(
        self,
        target: Target,
        path: str,
        run: list[str],
        guards: list[Guard],
        identifier: str,
        attempts: int,
        json: bool,
    ) -> None:
        self._target = target
        self._path = path
        self._run = run
        self._free = guards
        self._capacity = len(guards)
        self._identifier = identifier
        self._attempts = attempts
        self._json = json
        self._zk: Client | None = None
        self._places: anyio.Semaphore | None = None

    async def main(self) -> int:
        import anyio

        from corekit_recipes.task_board import TaskBoard
        from corekit_recipes.worker import Worker

        self._places = anyio.Semaphore(self._capacity)
        async with self._target.connect_for_long(None) as self._zk:
            board = TaskBoard(self._zk, self._path, max_attempts=self._attempts)
            await Worker(board, self._handle, capacity=self._capacity, identifier=self._identifier).run()
        return 0

    async def _handle(self, task: Task) -> bytes:
        import anyio

        zk = self._zk
        assert zk is not None
        timeout = zk.session_timeout
        env = {
            "COREKIT_TASK_ID": task.id,
            "COREKIT_TASK_TOKEN": str(task.token),
            "COREKIT_TASK_ATTEMPT": str(task.attempt),
        }
        job = Job(self._run, env, GRACE * timeout, SLACK * timeout, task.payload, capture=True)

        def until() -> float:
            return time.monotonic() + zk.safe_until - anyio.current_time()

        assert self._places is not None
        async with self._places:  # a command that is being ended still has its place
            guard = self._free.pop()
            self._tell(task, "started")
            try:
                code = await run_under(guard, job, until, timeout)
            except anyio.get_cancelled_exc_class():
                self._tell(task, "stopped")
                raise
            finally:
                self._free.append(guard)
        self._tell(task, "failed" if code else "succeeded", code)
        if code:
            raise _CommandFailed(f"{self._run[0]} ended with {code}")
        return guard.output

    def _tell(self, task: Task, event: str, code: int | None = None) -> None:
        line = f"{task.id} {event}, attempt {task.attempt}{f', exit code {code}' if code else ''}"
        if self._json:
            line = jsons.dumps({"event": event, "id": task.id, "attempt": task.attempt, "exit_code": code})
        try:
            print(line, flush=True)
        except BrokenPipeError:  # would be taken for a failure of the task
            reader_left()


# ---------------------------------------------------------------------------------------------- task
def _board(session: Session, path: str) -> TaskBoard:
    from corekit_recipes.task_board import TaskBoard

    return TaskBoard(session.zk.within(None), path)


async def submit(
    session: Session,
    path: PathArgument,
    payload: Annotated[str | None, typer.Argument(metavar="[PAYLOAD]", show_default=False)] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Take the payload from a file (-: standard input).")
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="Its name; submitting it again changes nothing.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and print it.")] = False,
    within: WithinOption = None,
) -> int:
    """Submit a task; print its id, or with --wait its result (exit code 1 if it failed, 75 if there was none in time).

    [bold]Examples[/bold]

      corekit task submit /app "some work"

      corekit task submit /app --file picture.png --id picture --wait --within 60
    """
    from corekit.cli.tree_write import read_data

    board = _board(session, path)
    if id is not None and (not id or "/" in id):
        raise UserError(f"--id {id}: an id is part of a path, so it has no slash and is not empty")
    found = await board.submit(read_data(payload, file, False) or b"", id=id)
    if wait:
        return await _print_result(session, board, found, within)
    session.answer({"id": found}, found)
    return 0


async def result(session: Session, path: PathArgument, id: IdArgument, within: WithinOption = None) -> int:
    """Wait for the result of a task and print it. Exit code 1 if it failed, 75 if there was none in time.

    [bold]Example[/bold]

      corekit task result /app task-0000000003 --within 10
    """
    return await _print_result(session, _board(session, path), id, within)


async def _print_result(session: Session, board: TaskBoard, id: str, wait: float | None) -> int:
    from corekit.cli.text import data_json
    from corekit_recipes.task_board import TaskState

    found: Result | None = await board.result(id, wait)
    if found is None:
        raise UserError(f"no result of {id} within {wait:g} s", EXIT_NOT_ACQUIRED)
    failed = found.state is TaskState.FAILED
    if session.json:
        session.answer({"id": id, "state": found.state.value, "attempts": found.attempts, **data_json(found.data)})
    elif failed:
        raise UserError(f"{id} failed: {found.data.decode('utf-8', 'replace')}", 1)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(found.data if found.data.endswith(b"\n") else found.data + b"\n")
        sys.stdout.buffer.flush()
    return 1 if failed else 0


async def state(session: Session, path: PathArgument, id: IdArgument) -> None:
    """Print where a task stands: unknown, pending, running, done or failed.

    [bold]Example[/bold]

      corekit task state /app task-0000000003
    """
    found = (await _board(session, path).state(id)).value
    session.answer({"id": id, "state": found}, found)


async def cancel(session: Session, path: PathArgument, id: IdArgument) -> int:
    """Remove a task that is not finished; the command that works on it is ended. Exit code 1 if there is none.

    [bold]Example[/bold]

      corekit task cancel /app task-0000000003
    """
    if not await _board(session, path).cancel(id):
        raise UserError(f"there is no unfinished task {id} in {path}", 1)
    session.answer({"id": id, "cancelled": True})
    return 0


async def show(session: Session, path: PathArgument) -> None:
    """List tasks, with their states, and workers.

    [bold]Example[/bold]

      corekit task list /app
    """
    from corekit.client.paths import join
    from corekit.errors import NoNodeError

    zk, board = session.zk, _board(session, path)

    async def names(of: str) -> list[str]:
        try:
            return sorted(await zk.children(of))
        except NoNodeError:
            return []

    running = {
        task: worker for worker in await names(board.assigned) for task in await names(join(board.assigned, worker))
    }
    rows: list[dict[str, Any]] = [
        {"id": task, "state": "running" if task in running else "pending", "worker": running.get(task, "")}
        for task in await names(board.tasks)
    ]
    for task in await names(board.results):
        found = await board.peek(task)
        if found is not None:
            rows.append({"id": task, "state": found.state.value, "worker": found.worker})
    if session.json:
        session.answer({"tasks": rows, "workers": await names(board.workers)})
    else:
        print_table(("task", "state", "worker"), [tuple(str(value) for value in row.values()) for row in rows])


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("master", rich_help_panel="Recipes")(command(master, defaults=HOLDERS))
    app.command("worker", rich_help_panel="Recipes")(command(worker, defaults=HOLDERS))
    group = typer.Typer(no_args_is_help=True, help="Tasks for workers.")
    for name, function in (
        ("submit", submit),
        ("result", result),
        ("state", state),
        ("cancel", cancel),
        ("list", show),
    ):
        group.command(name)(command(function))
    app.add_typer(group, name="task", rich_help_panel="Recipes")
