"""`corekit config get|set|watch|exec`: settings that programs share, kept in the ensemble.

Not here: the settings of a server (`corekit config show`).
"""

from __future__ import annotations

import json as jsons
import math
import re
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from corekit.cli.connection import JsonOption, Session, Target, command, run_async
from corekit.cli.output import print_table
from corekit.errors import UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.guard import Guard, Job
from corekit_recipes.commands.holding import find_command, run_under

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from corekit.client import Client

BaseOption = Annotated[
    str, typer.Option("--base", "-b", envvar="COREKIT_CONFIG_BASE", metavar="PATH", help="Where the settings are.")
]
KeyArgument = Annotated[str | None, typer.Argument(metavar="[KEY]", show_default=False)]
CountOption = Annotated[int | None, typer.Option("--count", "-n", min=1, metavar="N", help="End after N states.")]
SETTLE_SECONDS = 0.2  # changes that come together restart the command once


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


async def config_get(session: Session, key: KeyArgument = None, base: BaseOption = "/config") -> int:
    """Print a setting, or all of them. Ends with 1 if it is not set.

    [bold]Examples[/bold]

      corekit config get db/url

      corekit config get --json
    """
    from corekit_recipes.config import ConfigCentre

    centre = ConfigCentre(session.zk, base)
    if key is not None:
        value = await centre.get(key, fresh=True)
        if value is None:
            raise UserError(f"{key} is not set in {base}", 1)
        session.answer({key: _text(value)}, _text(value))
        return 0
    settings = {name: _text(value) or "" for name, value in (await centre.all()).items()}
    if session.json:
        session.answer(settings)
    else:
        print_table(("key", "value"), list(settings.items()))
    return 0


async def config_set(
    session: Session,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY- removes one. All happens at once, or nothing.")
    ],
    base: BaseOption = "/config",
) -> None:
    """Set settings, all in one transaction.

    [bold]Examples[/bold]

      corekit config set db/url=postgres://db/ db/pool=10

      corekit config set feature/new-
    """
    from corekit_recipes.config import ConfigCentre

    settings: dict[str, bytes | None] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if separator:
            settings[key.strip("/")] = value.encode("utf-8", "surrogateescape")
        elif assignment.endswith("-"):
            settings[assignment[:-1].strip("/")] = None
        else:
            raise UserError(f"{assignment} is not KEY=VALUE (nor KEY- to remove it)")
    if "" in settings:
        raise UserError("a key is missing")
    await ConfigCentre(session.zk, base).publish(settings)
    session.answer({"set": {key: _text(value) for key, value in settings.items()}})


def config_watch(
    target: Target,
    key: KeyArgument = None,
    base: BaseOption = "/config",
    count: CountOption = None,
    json: JsonOption = False,
) -> int:
    """Print a setting, or all of them, now and after every change.

    [bold]Examples[/bold]

      corekit config watch db/url

      corekit config watch --json
    """

    async def watch() -> int:
        from corekit_recipes.config import ConfigCentre

        left = count
        async with target.connect_for_long(None) as zk:
            centre = ConfigCentre(zk, base)
            if key is not None:
                async for value in centre.follow(key):
                    print(
                        jsons.dumps({key: _text(value)}) if json else "-" if value is None else _text(value), flush=True
                    )
                    left = None if left is None else left - 1
                    if left == 0:
                        return 0
            async with centre.follow_all() as states:
                async for settings in states:
                    shown = {name: _text(value) for name, value in settings.items()}
                    line = " ".join(f"{name}={value}" for name, value in shown.items())
                    print(jsons.dumps(shown) if json else line or "-", flush=True)
                    left = None if left is None else left - 1
                    if left == 0:
                        break
        return 0

    return run_async(lambda: Attendant(regular=True).run(watch))


# ---------------------------------------------------------------------------------------------- exec
def config_exec(
    target: Target,
    run: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    base: BaseOption = "/config",
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Before the names of variables.")] = "",
    number: Annotated[
        str | None,
        typer.Option(
            "--signal", metavar="NAME", help="Send this (HUP) instead of a restart; it then reads for itself."
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0.0, metavar="SECONDS", help="From SIGTERM to SIGKILL.")
    ] = 10.0,
    json: JsonOption = False,
) -> int:
    """Run a command with the settings in its environment; restart it when they change.

    The setting db/url becomes the variable DB_URL. The exit code is the command's, once it ends by itself.

    With --json, what happens is told on standard error, a JSON value a line; standard output is the command's.

    [bold]Examples[/bold]

      corekit config exec -- ./server

      corekit config exec --base /config/api --prefix API_ --signal HUP -- nginx -g "daemon off;"
    """
    find_command(run)
    wanted = None if number is None else getattr(signal, f"SIG{number.upper().removeprefix('SIG')}", None)
    if number is not None and wanted is None:
        raise UserError(f"--signal {number}: there is no such signal")
    with Guard.fork() as guard:
        runner = _Exec(target, base, prefix, wanted, Job(run, grace=grace), guard, json)
        return run_async(lambda: Attendant((guard,)).run(runner.main))


def variable(prefix: str, key: str) -> str:
    """The name of the variable that a setting becomes."""
    return prefix + re.sub(r"[^A-Za-z0-9]+", "_", key).strip("_").upper()


class _Exec:
    """Runs the command, and again whenever the settings have changed."""

    def __init__(
        self, target: Target, base: str, prefix: str, number: int | None, job: Job, guard: Guard, json: bool
    ) -> None:
        self._target = target
        self._base = base
        self._prefix = prefix
        self._number = number
        self._job = job
        self._guard = guard
        self._json = json

    async def main(self) -> int:
        import anyio

        async with self._target.connect_for_long(None) as zk:
            send, receive = anyio.create_memory_object_stream[Mapping[str, bytes]](math.inf)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, zk, send)
                with send, receive:
                    code = await self._run(receive)
                tasks.cancel_scope.cancel()
        return code

    async def _follow(self, zk: Client, send: MemoryObjectSendStream[Mapping[str, bytes]]) -> None:
        from corekit_recipes.config import ConfigCentre

        async with ConfigCentre(zk, self._base).follow_all() as states:
            async for settings in states:
                send.send_nowait(dict(settings))

    async def _run(self, states: MemoryObjectReceiveStream[Mapping[str, bytes]]) -> int:
        """Start with the first state; with each newer one restart, or signal."""
        import anyio

        settings = await states.receive()
        while True:
            env = {variable(self._prefix, key): _text(value) or "" for key, value in settings.items()}
            newer: Mapping[str, bytes] | None = None

            async def restart(present: Mapping[str, bytes] = settings) -> None:
                """End the command once the settings have changed and settled."""
                nonlocal newer
                while True:
                    state = await states.receive()
                    await anyio.sleep(SETTLE_SECONDS)
                    while states.statistics().current_buffer_used:
                        state = states.receive_nowait()
                    if state == present:
                        continue
                    keys = sorted(key for key in {*state, *present} if state.get(key) != present.get(key))
                    if self._number is not None:
                        self._tell("signalled", signal=signal.Signals(self._number).name, changed=keys)
                        self._guard.signal(self._number)
                        present = state
                        continue
                    newer = state
                    if not self._json:
                        print("corekit: the settings have changed; restarting", file=sys.stderr)
                    self._tell("restarting", changed=keys)
                    self._guard.end()
                    return

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(restart)
                self._tell("starting", variables=sorted(env))
                code = await run_under(self._guard, Job(self._job.arguments, env, self._job.grace), None, 0)
                tasks.cancel_scope.cancel()
            self._tell("ended", exit_code=code)
            if newer is None:
                return code
            settings = newer

    def _tell(self, event: str, **more: object) -> None:
        if self._json:
            print(jsons.dumps({"event": event, **more}), file=sys.stderr, flush=True)


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(no_args_is_help=True)
    group.command("get", rich_help_panel="Settings that programs share")(command(config_get))
    group.command("set", rich_help_panel="Settings that programs share")(command(config_set))
    group.command("watch", rich_help_panel="Settings that programs share")(command(config_watch))
    group.command("exec", rich_help_panel="Settings that programs share")(command(config_exec))
    app.add_typer(group, name="config")
