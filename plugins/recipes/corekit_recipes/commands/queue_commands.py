"""`corekit queue`: put items into a queue, take them out, look at them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import JsonOption, Session, Target, command, run_async
from corekit.cli.output import print_json_line, print_table
from corekit.errors import EXIT_NOT_ACQUIRED, UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.holding import Held, Hold, Rules, hold, variables
from corekit_recipes.commands.lock_commands import HOLDERS, GraceOption, WaitOption

if TYPE_CHECKING:
    from corekit.client import Client

ClaimOption = Annotated[
    bool, typer.Option("--claim", "-c", help="A queue whose items come back when their worker dies (LockingQueue).")
]
TryOption = Annotated[bool, typer.Option("--try", help="Do not wait at all.")]


async def put(
    session: Session,
    path: PathArgument,
    items: Annotated[list[str] | None, typer.Argument(metavar="[ITEM...]", show_default=False)] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="One item: the content of a file (-: standard input).")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="One item for each line of standard input.")] = False,
    claim: ClaimOption = False,
    priority: Annotated[
        int | None, typer.Option("--priority", "-p", min=0, max=999, metavar="N", help="Lower is taken first (100).")
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", min=0.0, metavar="SECONDS", help="Due later (a queue of its own kind).")
    ] = None,
) -> None:
    """Put items into a queue.

    [bold]Examples[/bold]

      corekit queue put /jobs one two three

      find . -name "*.png" | corekit queue put /jobs --lines --claim

      corekit queue put /later "wake up" --delay 60
    """
    from corekit.cli.tree_write import read_data
    from corekit_recipes.claim_queue import ClaimQueue
    from corekit_recipes.delay_queue import DelayQueue
    from corekit_recipes.priority_queue import PriorityQueue
    from corekit_recipes.queue import PRIORITY, Queue

    data = [item.encode("utf-8", "surrogateescape") for item in items or ()]
    if file is not None:
        data.append(read_data(None, file, False) or b"")
    if lines:
        data += sys.stdin.buffer.read().splitlines()
    if not data:
        raise UserError("queue put needs items: as arguments, with --file or with --lines")
    if delay is not None and (claim or priority is not None):
        raise UserError("--delay goes with neither --claim nor --priority")
    urgency = PRIORITY if priority is None else priority
    for at in range(0, len(data), 100):  # so many in one transaction
        part = data[at : at + 100]
        if delay is not None:
            for item in part:
                await DelayQueue(session.zk, path).put(item, delay=delay)
        elif claim:
            await ClaimQueue(session.zk, path).put_all(part, urgency)
        elif priority is not None:
            await PriorityQueue(session.zk, path).put_all(part, urgency)
        else:
            await Queue(session.zk, path).put_all(part)
    session.answer({"put": len(data)})


def take(
    target: Target,
    path: PathArgument,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="Gets the item on standard input (needs --claim)."),
    ] = None,
    claim: ClaimOption = False,
    delayed: Annotated[bool, typer.Option("--delayed", help="A queue that was filled with --delay.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, metavar="N", help="How many.")] = 1,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    grace: GraceOption = None,
    json: JsonOption = False,
) -> int:
    """Take items out of a queue and print them; or run a command with each.

    With a command the item is removed only if the command succeeds; otherwise, or if this machine dies, it comes back.
    The command finds COREKIT_ITEM, COREKIT_LOCK_TOKEN and COREKIT_SESSION in its environment.

    Exit codes: 75 nothing came in time; with a command, that of the first that fails (no other item is taken then),
    and 70 if the item was lost meanwhile.

    [bold]Examples[/bold]

      corekit queue take /jobs --timeout 10

      corekit queue take /jobs --claim --follow -- ./work.sh
    """
    if claim and delayed:
        raise UserError("--claim and --delayed exclude each other")
    if try_once and timeout:
        raise UserError("--try and --timeout exclude each other")
    wait = 0.0 if try_once else timeout
    if not run:
        if claim:
            raise UserError("--claim needs a command: the item is removed when the command has succeeded")
        attendant = Attendant()
        return run_async(lambda: attendant.run(lambda: _print_items(target, path, delayed, count, follow, wait, json)))
    if not claim:
        raise UserError("a command needs --claim: the items of other queues cannot come back when it fails")

    def claimed(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.claim_queue import ClaimQueue

        queue = ClaimQueue(zk, path, margin=margin)

        @asynccontextmanager
        async def hold_item(seconds: float | None) -> AsyncIterator[Held]:
            async with queue.claim(seconds) as item:
                env = {**variables(path, item.grant), "COREKIT_ITEM": item.name}
                yield Held(item.grant, env, item.data, must_succeed=True)

        return hold_item

    return hold(target, path, claimed, run, Rules(wait=wait, grace=grace, times=None if follow else count))


async def _print_items(
    target: Target, path: str, delayed: bool, count: int, follow: bool, wait: float | None, json: bool
) -> int:
    from corekit.cli.text import data_json
    from corekit_recipes.delay_queue import DelayQueue
    from corekit_recipes.queue import Queue

    async with target.connect_for_long(wait or None) as zk:
        queue = DelayQueue(zk, path) if delayed else Queue(zk, path)
        taken = 0
        while follow or taken < count:
            item = await queue.try_take() if wait == 0 else await queue.take(wait)
            if item is None:
                return EXIT_NOT_ACQUIRED
            taken += 1
            if json:
                print_json_line(data_json(item))
            else:
                sys.stdout.buffer.write(item + b"\n")
            sys.stdout.flush()
    return 0


async def show(
    session: Session,
    path: PathArgument,
    claim: ClaimOption = False,
) -> None:
    """List the items of a queue, next first.

    [bold]Example[/bold]

      corekit queue list /jobs --claim
    """
    from corekit.cli.nodes import Node, read_data
    from corekit.cli.text import data_json
    from corekit.client.paths import join
    from corekit.errors import NoNodeError
    from corekit_recipes.queue import in_order

    zk = session.zk
    base = join(path, "entries") if claim else path
    try:
        children = await zk.children(base)
        taken = set(await zk.children(join(path, "taken"))) if claim else set()
    except NoNodeError:
        children, taken = [], set()
    delayed = sorted(name for name in children if name.startswith("due-"))
    names = [*in_order(children), *delayed]
    found: list[dict[str, Any]] = []
    async for node in read_data(zk, [join(base, name) for name in names]):
        if isinstance(node, Node):
            name = node.path.rpartition("/")[2]
            found.append({"name": name, "size": len(node.data or b""), "taken": name in taken, **data_json(node.data)})
    if session.json:
        session.answer(found)
        return
    rows = [
        (
            item["name"],
            "taken" if item["taken"] else "",
            str(item["size"]),
            str(item.get("data", item.get("base64")))[:60],
        )
        for item in found
    ]
    print_table(("item", "", "bytes", "data"), rows)


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(no_args_is_help=True, help="Queues: hand items from some processes to others.")
    group.command("put")(command(put))
    group.command("take")(command(take, defaults=HOLDERS))
    group.command("list")(command(show))
    app.add_typer(group, name="queue", rich_help_panel="Recipes")
