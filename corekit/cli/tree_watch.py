"""Commands that watch: `watch` (live, until Ctrl-C), addWatch, and the shell's removewatches.

The shell's watches print each event as it comes, in zkCli's form; `Watches` holds them and the tasks that wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import anyio
import typer
from anyio.abc import TaskGroup

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.cli.output import print_json_line
from corekit.cli.text import EVENT_NAMES, data_json, event_json, event_text
from corekit.client import Client, EventType, Watch, WatchEvent, op
from corekit.client.watches import CHILD
from corekit.codec import ops
from corekit.errors import CorekitError, NoNodeError, NoWatcherError, UserError


async def watch(
    session: Session,
    path: PathArgument = "/",
    only: Annotated[bool, typer.Option("--only", "-o", help="Only this znode and its children, not the tree.")] = False,
    data: Annotated[bool, typer.Option("--data", "-d", help="Print the data after a change.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, metavar="N", help="End after N events.")] = None,
) -> None:
    """Print every change of a tree of znodes as it happens, until Ctrl-C.

    [bold]Examples[/bold]

      corekit watch /app --data

      corekit watch --only /app -n 1        [dim]# wait for one change[/dim]

      corekit watch /app --json | jq .path
    """
    seen = 0
    async with session.zk.watch(path, recursive=not only) as events:
        async for event in events:
            found = await _data_after(session.zk, event) if data else None
            if session.json:
                print_json_line({**event_json(event), **(found or {})})
            else:
                print(_line(event, found), flush=True)
            if event.type is not EventType.RESYNC:
                seen += 1
            if seen == count:
                return


async def _data_after(zk: Client, event: WatchEvent) -> dict[str, Any] | None:
    """The data now, which may be newer than the event."""
    if event.type not in (EventType.CREATED, EventType.DATA_CHANGED):
        return None
    try:
        return data_json((await zk.get(event.path)).data)
    except NoNodeError:
        return None


def _line(event: WatchEvent, data: dict[str, Any] | None) -> str:
    if event.type is EventType.RESYNC:
        return f"{_now()} Resync: the connection was replaced, changes may have been missed"
    zxid = f" 0x{event.zxid:x}" if event.zxid >= 0 else ""
    shown = "" if data is None else " " + str(data.get("data", data.get("base64", "")))
    return f"{_now()} {EVENT_NAMES[event.type]:<19} {event.path}{zxid}{shown}"


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"


# --------------------------------------------------------------------------------------- the shell's
class Mode(StrEnum):
    """Modes of addWatch, as zkCli names them."""

    PERSISTENT = "PERSISTENT"
    PERSISTENT_RECURSIVE = "PERSISTENT_RECURSIVE"


class Watches:
    """The watches that a shell has set, each with a task that prints its events."""

    def __init__(self, tasks: TaskGroup, zk: Client, show: Callable[[dict[str, Any], str], None]) -> None:
        self._tasks = tasks
        self._zk = zk
        self._show = show
        self._once: list[tuple[str, Watch, anyio.CancelScope]] = []
        self._lasting: list[tuple[str, bool, anyio.CancelScope, anyio.Event]] = []

    def expect(self, path: str, watch: Watch) -> None:
        """Print the event of a one-shot watch when it comes."""
        scope = anyio.CancelScope()
        entry = (path, watch, scope)
        self._once.append(entry)

        async def wait() -> None:
            with scope:
                try:
                    self.print(await watch)
                except CorekitError:
                    pass  # the end of the session is shown as such
            self._once.remove(entry)

        self._tasks.start_soon(wait)

    def print(self, event: WatchEvent) -> None:
        """Show one event."""
        if event.type is not EventType.RESYNC:
            self._show(event_json(event), event_text(EVENT_NAMES[event.type], event.path))

    async def add(self, path: str, recursive: bool) -> None:
        """Set a persistent watch."""
        await self._tasks.start(self._follow, path, recursive)

    async def _follow(self, path: str, recursive: bool, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        scope, ended = anyio.CancelScope(), anyio.Event()
        entry = (path, recursive, scope, ended)
        with scope:
            async with self._zk.watch(path, recursive=recursive) as events:
                self._lasting.append(entry)
                task_status.started()
                try:
                    async for event in events:
                        self.print(event)
                except CorekitError:
                    pass
                finally:
                    self._lasting.remove(entry)
        ended.set()

    async def remove(self, path: str, kinds: set[int]) -> list[str]:
        """Forget watches on a path, of these kinds (`ops.WATCHER_*`, each but ANY).

        Returns:
            The names of zkCli's events that tell of it.
        """
        told = []
        for here, watch, scope in list(self._once):
            kind = ops.WATCHER_CHILDREN if watch.kind == CHILD else ops.WATCHER_DATA
            if here == path and kind in kinds:
                self._zk.forget(watch)
                scope.cancel()
                told.append("ChildWatchRemoved" if kind == ops.WATCHER_CHILDREN else "DataWatchRemoved")
        for here, recursive, scope, ended in list(self._lasting):
            kind = ops.WATCHER_PERSISTENT_RECURSIVE if recursive else ops.WATCHER_PERSISTENT
            if here == path and kind in kinds:
                scope.cancel()
                await ended.wait()
                told.append("PersistentWatchRemoved")
        return told


async def add_watch(
    session: Session,
    path: PathArgument,
    mode: Annotated[
        Mode, typer.Option("-m", "--mode", case_sensitive=False, help="One znode, or everything below too.")
    ] = Mode.PERSISTENT_RECURSIVE,
) -> None:
    """Watch a znode and everything below it: in the shell until the watch is removed, otherwise until Ctrl-C.

    [bold]Example[/bold]

      corekit addWatch -m PERSISTENT /app
    """
    recursive = mode is Mode.PERSISTENT_RECURSIVE
    if session.shell is None:
        await watch(session, path, only=not recursive)
    else:
        await session.shell.watches.add(path, recursive)
        session.answer({"path": path, "mode": mode.value})


async def removewatches(
    session: Session,
    path: PathArgument,
    children: Annotated[bool, typer.Option("-c", help="Watches of children.")] = False,
    data: Annotated[bool, typer.Option("-d", help="Watches of data.")] = False,
    persistent: Annotated[bool, typer.Option("-p", help="Persistent watches of the znode.")] = False,
    recursive: Annotated[bool, typer.Option("-r", help="Persistent watches of the tree.")] = False,
    everything: Annotated[bool, typer.Option("-a", help="All watches (also if no kind is given).")] = False,
    local: Annotated[bool, typer.Option("-l", help="Forget them here even if the server cannot be asked.")] = False,
) -> None:
    """Remove the watches that this shell has set on a path.

    [bold]Example[/bold]

      removewatches /app
    """
    asked = {
        ops.WATCHER_CHILDREN: children,
        ops.WATCHER_DATA: data,
        ops.WATCHER_PERSISTENT: persistent,
        ops.WATCHER_PERSISTENT_RECURSIVE: recursive,
    }
    kinds = {kind for kind, wanted in asked.items() if wanted and not everything} or set(asked)
    if not session.zk.state.state.connected and not local:
        raise UserError(f"not connected, so the server would keep its watches on {path}; -l forgets them here", 1)
    told = await session.shell.watches.remove(path, kinds)
    if not told:
        raise NoWatcherError(path=path)
    once = kinds & {ops.WATCHER_CHILDREN, ops.WATCHER_DATA}
    if once and session.zk.state.state.connected:
        try:
            await session.zk.call(op.remove_watches(path, ops.WATCHER_ANY if len(once) == 2 else once.pop()))
        except NoWatcherError:
            pass  # they were persistent, and went with their streams
    for name in told:
        session.shell.show({"type": name, "path": path}, event_text(name, path))
    session.answer({"path": path, "removed": told})
