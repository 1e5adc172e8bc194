"""`corekit lock`, `rwlock`, `semaphore` and `elect`: run a command while something is held, and see who holds it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import JsonOption, Session, Target, command
from corekit.cli.output import print_table
from corekit.errors import EXIT_NOT_ACQUIRED, KeeperError, UserError
from corekit_recipes.commands.holding import Hold, Rules, granted, hold

if TYPE_CHECKING:
    from corekit.client import Client
    from corekit_recipes.lock import Entry

# A session that lives through the failure of a server, with time left to end the command.
HOLDERS = {"session_timeout": 20.0}

CommandArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- COMMAND...]", help="What to run meanwhile; without it, hold until Ctrl-C."),
]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        "-w",
        min=0.0,
        metavar="SECONDS",
        help="Give up after SECONDS (default: never).",
        show_default=False,
    ),
]
TryOption = Annotated[bool, typer.Option("--try", help="Do not wait at all.")]
ConflictOption = Annotated[
    int, typer.Option("--conflict-exit-code", "-E", metavar="N", help="Exit code when it is not acquired.")
]
GraceOption = Annotated[
    float | None,
    typer.Option(
        "--grace",
        min=0.0,
        metavar="SECONDS",
        help="From SIGTERM to SIGKILL when it is lost (default: 15 % of the session timeout).",
        show_default=False,
    ),
]
NameOption = Annotated[
    str, typer.Option("--name", metavar="TEXT", help="Who we are, for `show`.", show_default="host:pid command")
]
LayoutOption = Annotated[
    str, typer.Option("--layout", metavar="kazoo|curator", help="Whose znodes to write.", show_default=True)
]


def _rules(
    timeout: float | None, try_once: bool, conflict: int, grace: float | None, name: str, json: bool, stay: bool = False
) -> Rules:
    if try_once and timeout:
        raise UserError("--try and --timeout exclude each other")
    if not 0 <= conflict < 256:
        raise UserError(f"--conflict-exit-code {conflict}: an exit code is a number from 0 to 255")
    return Rules(wait=0 if try_once else timeout, conflict=conflict, grace=grace, name=name, stay=stay, json=json)


def _layout(name: str) -> Any:
    from corekit_recipes.naming import Layout

    try:
        return Layout(name)
    except ValueError:
        raise UserError(f"--layout {name}: layouts are kazoo and curator") from None


# ---------------------------------------------------------------------------------------------- lock
def acquire(
    target: Target,
    path: PathArgument,
    command: CommandArgument = None,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    permits: Annotated[
        int, typer.Option("--permits", "-n", min=1, metavar="N", help="Let N hold it at once: a semaphore.")
    ] = 1,
    conflict: ConflictOption = EXIT_NOT_ACQUIRED,
    grace: GraceOption = None,
    name: NameOption = "",
    layout: LayoutOption = "kazoo",
    json: JsonOption = False,
) -> int:
    """Run a command while a lock is held; or hold it until Ctrl-C.

    The command finds COREKIT_LOCK_PATH, COREKIT_LOCK_NODE, COREKIT_LOCK_TOKEN (a fencing token: it rises with every
    holder) and COREKIT_SESSION in its environment. If the lock may be lost, it is ended first: SIGTERM, then SIGKILL
    for its whole process group, before another holder can have the lock.

    Exit codes: the command's own; 75 not acquired; 70 lost while held.

    [bold]Examples[/bold]

      corekit lock acquire /locks/backup -- backup.sh --full

      corekit lock acquire /locks/backup --try -- backup.sh || echo "somebody else does it"

      corekit lock acquire /locks/build -n 3 --timeout 60 -- make
    """
    rules = _rules(timeout, try_once, conflict, grace, name, json)

    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.lock import Lock
        from corekit_recipes.semaphore import Semaphore

        if permits > 1:
            return granted(
                path, Semaphore(zk, path, permits, identifier=identifier, layout=_layout(layout), margin=margin).hold
            )
        return granted(path, Lock(zk, path, identifier=identifier, layout=_layout(layout), margin=margin).hold)

    _layout(layout)
    return hold(target, path, take, command or (), rules)


async def lock_list(session: Session, path: PathArgument = "/") -> int:
    """List the locks below a path, with their holders. Ends with 3 if something could not be read.

    [bold]Example[/bold]

      corekit lock list /locks
    """
    from corekit.cli.nodes import below
    from corekit.cli.tree_find import told
    from corekit_recipes.lock import entries
    from corekit_recipes.naming import line

    found = []
    refused: list[KeeperError] = []
    async for here, children in below(session.zk, path, None, refused):
        if line(children.names):
            contenders = await entries(session.zk, here)
            if contenders:
                found.append((here, contenders))
    if session.json:
        session.answer([{"path": here, "holder": _object(who[0]), "waiting": len(who) - 1} for here, who in found])
        return told(refused)
    rows = [
        (here, who[0].identifier, _since(who[0]), f"0x{_unsigned(who[0].session_id):x}", str(len(who) - 1))
        for here, who in found
    ]
    print_table(("lock", "holder", "since", "session", "waiting"), rows)
    return told(refused)


async def lock_show(session: Session, path: PathArgument) -> int:
    """Show who holds a lock and who waits for it, in order. Ends with 1 if nobody does.

    [bold]Example[/bold]

      corekit lock show /locks/backup
    """
    from corekit_recipes.lock import entries

    found = await entries(session.zk, path)
    _show(session, found, lambda at: "holds" if at == 0 else "waits")
    return 0 if found else 1


async def lock_break(
    session: Session,
    path: PathArgument,
    node: Annotated[
        str | None, typer.Option("--node", metavar="ZNODE", help="This contender, as `lock show` names it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove the holder of a lock by force, so that the next one gets it.

    A holder that lives is told, and ends what it runs; the next one does not wait for that. Use it when the holder
    is certainly dead and its session will not expire soon.

    [bold]Example[/bold]

      corekit lock break /locks/backup
    """
    from corekit_recipes.lock import Lock

    lock = Lock(session.zk, path)
    found = [entry for entry in await lock.contenders() if node in (None, entry.path)]
    if not found:
        raise UserError(f"nobody holds {path}" if node is None else f"there is no contender {node} of {path}", 1)
    if not yes and not _confirmed(f"Remove {found[0].identifier or found[0].path} from {path}?"):
        raise UserError("nothing was removed; --yes does it without asking", 1)
    gone = await lock.evict(found[0].path)
    session.answer(gone and _object(gone), f"removed {found[0].identifier or found[0].path}" if gone else "it is gone")
    return 0


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(session: Session, found: list[Entry], state: Callable[[int], str]) -> None:
    if session.json:
        session.answer([{"state": state(at), **_object(entry)} for at, entry in enumerate(found)])
        return
    rows = [
        (
            state(at),
            entry.identifier,
            _since(entry),
            str(entry.token),
            f"0x{_unsigned(entry.session_id):x}",
            entry.path,
        )
        for at, entry in enumerate(found)
    ]
    print_table(("", "who", "since", "token", "session", "znode"), rows)


def _object(entry: Entry) -> dict[str, Any]:
    return {
        "znode": entry.path,
        "identifier": entry.identifier,
        "token": entry.token,
        "session": f"0x{_unsigned(entry.session_id):x}",
        "since": entry.since_ms,
    }


def _unsigned(number: int) -> int:
    return number & (1 << 64) - 1


def _since(entry: Entry) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.since_ms / 1000))


# -------------------------------------------------------------------------------------------- rwlock
def rwlock_read(
    target: Target,
    path: PathArgument,
    command: CommandArgument = None,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    conflict: ConflictOption = EXIT_NOT_ACQUIRED,
    grace: GraceOption = None,
    name: NameOption = "",
    layout: LayoutOption = "kazoo",
    json: JsonOption = False,
) -> int:
    """Run a command while a lock is held for reading, beside other readers. See `corekit lock acquire`.

    [bold]Example[/bold]

      corekit rwlock read /locks/table -- report.sh
    """
    return _rwlock(target, path, command, _rules(timeout, try_once, conflict, grace, name, json), layout, False)


def rwlock_write(
    target: Target,
    path: PathArgument,
    command: CommandArgument = None,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    conflict: ConflictOption = EXIT_NOT_ACQUIRED,
    grace: GraceOption = None,
    name: NameOption = "",
    layout: LayoutOption = "kazoo",
    json: JsonOption = False,
) -> int:
    """Run a command while a lock is held for writing, alone. See `corekit lock acquire`.

    [bold]Example[/bold]

      corekit rwlock write /locks/table -- migrate.sh
    """
    return _rwlock(target, path, command, _rules(timeout, try_once, conflict, grace, name, json), layout, True)


def _rwlock(target: Target, path: str, command: list[str] | None, rules: Rules, layout: str, writes: bool) -> int:
    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.rwlock import ReadWriteLock

        lock = ReadWriteLock(zk, path, identifier=identifier, layout=_layout(layout), margin=margin)
        return granted(path, lock.write if writes else lock.read)

    _layout(layout)
    return hold(target, path, take, command or (), rules)


async def rwlock_show(session: Session, path: PathArgument) -> int:
    """Show everyone in line for a read/write lock, in order. Ends with 1 if nobody is.

    [bold]Example[/bold]

      corekit rwlock show /locks/table
    """
    from corekit.client.paths import name
    from corekit_recipes.lock import entries
    from corekit_recipes.naming import parse

    found = await entries(session.zk, path)
    places = [parse(name(entry.path)) for entry in found]
    kinds = ["reads" if place is not None and place.reads else "writes" for place in places]
    first_writer = kinds.index("writes") if "writes" in kinds else len(kinds)
    holders = max(1, first_writer)

    def state(at: int) -> str:
        return f"{kinds[at]}" if at < holders else f"waits ({kinds[at]})"

    _show(session, found, state)
    return 0 if found else 1


# ----------------------------------------------------------------------------------------- semaphore
def semaphore_acquire(
    target: Target,
    path: PathArgument,
    permits: Annotated[int, typer.Option("--permits", "-n", min=1, metavar="N", help="How many may hold it at once.")],
    command: CommandArgument = None,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    conflict: ConflictOption = EXIT_NOT_ACQUIRED,
    grace: GraceOption = None,
    name: NameOption = "",
    layout: LayoutOption = "kazoo",
    json: JsonOption = False,
) -> int:
    """Run a command while one of N permits is held. See `corekit lock acquire`.

    [bold]Example[/bold]

      corekit semaphore acquire /limits/downloads -n 3 -- wget https://example.org/big
    """
    rules = _rules(timeout, try_once, conflict, grace, name, json)

    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.semaphore import Semaphore

        return granted(
            path, Semaphore(zk, path, permits, identifier=identifier, layout=_layout(layout), margin=margin).hold
        )

    _layout(layout)
    return hold(target, path, take, command or (), rules)


async def semaphore_show(session: Session, path: PathArgument, layout: LayoutOption = "kazoo") -> int:
    """Show who holds permits of a semaphore. Ends with 1 if nobody does.

    [bold]Example[/bold]

      corekit semaphore show /limits/downloads
    """
    from corekit_recipes.semaphore import Semaphore

    found = await Semaphore(session.zk, path, 1, layout=_layout(layout)).holders()
    _show(session, found, lambda at: "holds")
    return 0 if found else 1


# --------------------------------------------------------------------------------------------- elect
def elect(
    target: Target,
    path: PathArgument,
    command: CommandArgument = None,
    timeout: WaitOption = None,
    try_once: TryOption = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="When leadership is lost, stand for election again instead of ending.")
    ] = False,
    conflict: ConflictOption = EXIT_NOT_ACQUIRED,
    grace: GraceOption = None,
    name: NameOption = "",
    layout: LayoutOption = "kazoo",
    json: JsonOption = False,
) -> int:
    """Run a command as the leader: wait to be elected, run it, resign when it ends.

    COREKIT_LOCK_TOKEN is the term: it rises with every leader. Everything else is as with `corekit lock acquire`.

    [bold]Examples[/bold]

      corekit elect /leaders/scheduler -- scheduler --port 8080

      corekit elect /leaders/scheduler --stay -- scheduler
    """
    rules = _rules(timeout, try_once, conflict, grace, name, json, stay)

    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.election import Election

        return granted(path, Election(zk, path, identifier=identifier, layout=_layout(layout), margin=margin).lead)

    _layout(layout)
    return hold(target, path, take, command or (), rules)


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    groups: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
        "lock": (
            "Locks: run commands one at a time, on however many machines.",
            {"acquire": acquire, "list": lock_list, "show": lock_show, "break": lock_break},
        ),
        "rwlock": (
            "Locks that many may hold for reading, or one for writing.",
            {"read": rwlock_read, "write": rwlock_write, "show": rwlock_show},
        ),
        "semaphore": ("At most N at once.", {"acquire": semaphore_acquire, "show": semaphore_show}),
    }
    for group_name, (text, functions) in groups.items():
        group = typer.Typer(no_args_is_help=True, help=text)
        for name, function in functions.items():
            group.command(name)(command(function, defaults=HOLDERS))
        app.add_typer(group, name=group_name, rich_help_panel="Recipes")
    app.command("elect", rich_help_panel="Recipes")(command(elect, defaults=HOLDERS))
