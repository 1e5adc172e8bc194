"""`corekit barrier` and `corekit counter`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import JsonOption, Session, Target, command, run_async
from corekit.cli.output import print_json
from corekit.errors import EXIT_NOT_ACQUIRED, UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.lock_commands import WaitOption

if TYPE_CHECKING:
    from corekit_recipes.counter import Counter


# ------------------------------------------------------------------------------------------- barrier
async def barrier_close(session: Session, path: PathArgument) -> None:
    """Close a barrier: whoever waits for it now waits until it is released.

    [bold]Example[/bold]

      corekit barrier close /deploy
    """
    from corekit_recipes.barrier import Barrier

    await Barrier(session.zk, path).close()
    session.answer({"path": path, "closed": True})


async def barrier_release(session: Session, path: PathArgument) -> None:
    """Open a barrier: everyone who waits goes on.

    [bold]Example[/bold]

      corekit barrier release /deploy
    """
    from corekit_recipes.barrier import Barrier

    was_closed = await Barrier(session.zk, path).open()
    session.answer({"path": path, "was_closed": was_closed}, None if was_closed else f"{path} was open")


def barrier_wait(target: Target, path: PathArgument, timeout: WaitOption = None, json: JsonOption = False) -> int:
    """Wait while a barrier is closed. Ends with 75 if it is not released in time.

    [bold]Example[/bold]

      corekit barrier wait /deploy --timeout 600 && ./start.sh
    """

    async def wait() -> int:
        import anyio

        from corekit_recipes.barrier import Barrier

        with anyio.move_on_after(timeout) as limit:
            async with target.connect_for_long(timeout) as zk:
                await Barrier(zk, path).wait()
        if limit.cancelled_caught:
            raise UserError(f"{path} was not released within {timeout:g} s", EXIT_NOT_ACQUIRED)
        if json:
            print_json({"path": path, "released": True})
        return 0

    return run_async(lambda: Attendant().run(wait))


# ------------------------------------------------------------------------------------------- counter
class Form(StrEnum):
    """How the number is written in the znode."""

    TEXT = "text"
    INT32 = "int32"
    INT64 = "int64"


FormOption = Annotated[
    Form,
    typer.Option("--form", help="text as kazoo's Counter, int32 as Curator's SharedCount, int64 as its AtomicLong."),
]


def _counter(session: Session, path: str, form: Form) -> Counter:
    from corekit_recipes.counter import Counter
    from corekit_recipes.counter import Form as Written

    return Counter(session.zk, path, form=Written[form.name])


async def counter_get(session: Session, path: PathArgument, form: FormOption = Form.TEXT) -> None:
    """Print the value of a counter; 0 if nobody has counted yet.

    [bold]Example[/bold]

      corekit counter get /builds
    """
    value = await _counter(session, path, form).value(fresh=True)
    session.answer({"path": path, "value": value}, str(value))


async def counter_add(
    session: Session,
    path: PathArgument,
    step: Annotated[int, typer.Argument(metavar="[N]", help="What to add; -5 subtracts.")] = 1,
    form: FormOption = Form.TEXT,
) -> None:
    """Add to a counter, exactly once, and print the new value.

    [bold]Examples[/bold]

      corekit counter add /builds

      corekit counter add /stock -5
    """
    value = await _counter(session, path, form).add(step)
    session.answer({"path": path, "value": value}, str(value))


async def counter_set(
    session: Session,
    path: PathArgument,
    value: Annotated[int, typer.Argument(metavar="N")],
    form: FormOption = Form.TEXT,
) -> None:
    """Set a counter.

    [bold]Example[/bold]

      corekit counter set /builds 0
    """
    await _counter(session, path, form).set(value)
    session.answer({"path": path, "value": value})


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    barrier = typer.Typer(no_args_is_help=True, help="Barriers: many wait until one opens.")
    for name, function in (("close", barrier_close), ("release", barrier_release), ("wait", barrier_wait)):
        barrier.command(name)(command(function))
    app.add_typer(barrier, name="barrier", rich_help_panel="Recipes")
    counter = typer.Typer(no_args_is_help=True, help="Counters.")
    for name, action in (("get", counter_get), ("add", counter_add), ("set", counter_set)):
        below_zero = {"ignore_unknown_options": True}  # so that -5 is a number
        counter.command(name, context_settings=below_zero)(command(action))
    app.add_typer(counter, name="counter", rich_help_panel="Recipes")
