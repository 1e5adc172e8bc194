"""`corekit check`: is a recorded history linearizable? And `--record`: record one, on any server that speaks ZooKeeper.

Exit codes: 0 it is; 1 it is not; 2 wrong use, a file that is no history, or not decided with the effort allowed; those
of other commands when no server answers. The format of histories is in docs/checking.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corekit.cli.connection import Target, run_async
from corekit.cli.options import JsonOption
from corekit.cli.output import print_json
from corekit.errors import EXIT_OK, EXIT_UNEXPECTED, EXIT_USAGE, UserError

if TYPE_CHECKING:
    from corekit.testing.linear import Operation
    from corekit.testing.linear.record import Plan

SHOWN_MAX = 5  # violations explained; the others are counted
TICKS_A_SECOND = 25  # of the progress bar


def check(
    target: Target,
    history: Annotated[
        Path | None, typer.Argument(metavar="[HISTORY]", help="A file of JSON lines.", show_default=False)
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            "--record", metavar="HOST:PORT,...", help="Record a history on these servers first.", show_default=False
        ),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", "-t", min=0.1, help="How long to record.")] = 10.0,
    clients: Annotated[int, typer.Option("--clients", "-c", min=1, max=1000, help="Sessions that record.")] = 8,
    keys: Annotated[int, typer.Option("--keys", "-k", min=1, help="Znodes that they share at a time.")] = 4,
    reads: Annotated[
        Literal["sync", "plain"],
        typer.Option(
            help="sync: sync before each read, which must then be linearizable. plain: reads alone, which may be old, "
            "but in order for each client."
        ),
    ] = "sync",
    path: Annotated[str, typer.Option("--path", help="Where to work; made and removed.")] = "/corekit-check",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the recorded history goes (default: corekit-history-TIME.jsonl).",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--check/--no-check", help="Check what was recorded.")] = True,
    effort: Annotated[
        int, typer.Option("--effort", min=1, help="Million steps for each znode before it is left undecided.")
    ] = 5,
    json: JsonOption = False,
) -> int:
    """Check that a history of operations on znodes is linearizable, and show the smallest part that is not.

    A history says what clients asked, when, and what they were told (docs/checking.md). It may come from any server,
    also from Apache ZooKeeper; outcomes may be unknown where connections broke. Record while you make servers fail.

    [bold]Examples[/bold]

      corekit check --record 127.0.0.1:2181 --seconds 30

      corekit check --record zk1:2181,zk2:2181,zk3:2181 --reads plain -o tuesday.jsonl --no-check

      corekit check tuesday.jsonl --json
    """
    if (history is None) == (hosts is None):
        raise UserError("name a HISTORY to check, or servers to record one on: --record HOST:PORT")
    if hosts is not None:
        target.hosts = hosts
        from corekit.testing.linear.record import Plan

        root = f"{path.rstrip('/')}-{time.time_ns():x}"
        plan = Plan(root, seconds, clients, keys, reads == "plain", time.time_ns())
        history = output or Path(f"corekit-history-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
        _record(target, plan, history, json)
        if not verify:
            return EXIT_OK
    assert history is not None
    return _check(history, effort * 1_000_000, json)


def _record(target: Target, plan: Plan, file: Path, json: bool) -> None:
    import json as formats

    import anyio

    from corekit.cli.progress import Progress
    from corekit.testing.linear.record import Recorder

    async def main() -> None:
        with Progress("recording", max(1, int(plan.seconds * TICKS_A_SECOND)), quiet=json) as progress:
            async with anyio.create_task_group() as tasks:

                async def tick() -> None:
                    while True:
                        await anyio.sleep(1 / TICKS_A_SECOND)
                        progress.advance()

                tasks.start_soon(tick)
                await recorder.run()
                tasks.cancel_scope.cancel()

    try:
        with file.open("w", encoding="utf-8") as stream:

            def write(one: Operation) -> None:
                stream.write(formats.dumps(one.record(), ensure_ascii=False) + "\n")

            recorder = Recorder(lambda: target.connect_for_long(target.timeout), plan, write, target.connect)
            run_async(main)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error
    if not recorder.recorded:
        raise UserError(f"no operation was answered: {recorder.unsent} could not be sent or were refused")
    if not json:
        more = f" ({recorder.unsent:,} could not be sent)" if recorder.unsent else ""
        print(f"{recorder.recorded:,} operations in {file}{more}")


def _check(file: Path, effort: int, json: bool) -> int:
    from corekit.cli.check_report import as_json, report, summary
    from corekit.cli.progress import Progress
    from corekit.testing.linear import check as check_history
    from corekit.testing.linear.history import load

    try:
        with file.open(encoding="utf-8") as stream:
            operations = load(stream, str(file))
    except UnicodeDecodeError:
        raise UserError(f"{file} is no history: it is not UTF-8 (the format is in docs/checking.md)") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    with Progress("checking", len(operations), quiet=json) as progress:
        verdict = check_history(operations, effort=effort, progress=progress.advance)
    if json:
        print_json(as_json(verdict, str(file)))
    else:
        for violation in verdict.violations[:SHOWN_MAX]:
            print("\n".join(report(violation)), end="\n\n")
        print(summary(verdict))
        if verdict.undecided:
            print(f"Raise --effort for {', '.join(verdict.undecided[:SHOWN_MAX])}.")
    if verdict.violations:
        return EXIT_UNEXPECTED
    return EXIT_USAGE if verdict.undecided else EXIT_OK
