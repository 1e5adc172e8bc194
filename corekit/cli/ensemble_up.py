"""`corekit ensemble up`: run the servers of a trial ensemble in one terminal, with a line for each.

Rules
- A server that ends is not started again: its line says how it ended. Started by hand (its script `start`), it is
  seen again, because what a line says comes from the server's client port.
- Whatever happens here, no server that was started here is left behind.
- Servers run as what their files say: variables that would change all of them alike are kept away.

Not here: what is asked of a server (`status.py`), the files (`ensemble_create.py`).
"""

from __future__ import annotations

import json as json_module
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from corekit.cli.connection import JsonOption, run_async
from corekit.cli.ensemble_create import DEFAULT_DIRECTORY, EnsembleDirOption
from corekit.errors import EXIT_OK, EXIT_UNEXPECTED, UserError

if TYPE_CHECKING:
    from corekit.cli.status import ServerStatus
    from corekit.client.hosts import Host

LOOK_SECONDS = 0.5  # between two looks at all servers
ASK_SECONDS = 2.0  # for the answer of one server
STOP_SECONDS = 15.0  # after SIGTERM; then SIGKILL
TITLES = ("server", "process", "role", "epoch", "zxid", "lag", "connections", "")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Running:
    """One server: its process, and what it last said of itself.

    Attributes:
        stopped_by_us: it was asked to stop, so its end is no failure.
    """

    number: int
    config: Path
    host: Host
    process: subprocess.Popen[bytes] | None = None
    stopped_by_us: bool = False
    status: ServerStatus | None = None
    told: tuple[object, ...] = field(default=())

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self.config.parent / "server.log"

    @property
    def exit_code(self) -> int | None:
        """How its process ended; None while it runs."""
        return None if self.process is None else self.process.poll()

    def failed(self) -> bool:
        """Whether it ended by itself, or badly."""
        return self.exit_code is not None and (not self.stopped_by_us or self.exit_code != EXIT_OK)

    def start(self, environ: dict[str, str]) -> None:
        """Start the process, in a group of its own: Ctrl-C is for `up`, which stops them in good order."""
        with open(self.log_path, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "corekit", "serve", "--config", str(self.config)],
                cwd=self.config.parent,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def ask_to_stop(self) -> None:
        """SIGTERM, if it runs."""
        if self.process is not None and self.exit_code is None:
            self.stopped_by_us = True
            self.process.terminate()

    def last_words(self) -> str:
        """What its log ends with, if it ended itself."""
        if (self.exit_code or 0) < 0:
            return ""
        try:
            with open(self.log_path, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def up(directory: EnsembleDirOption = DEFAULT_DIRECTORY, json: JsonOption = False) -> None:
    """Run the servers that [bold]corekit ensemble create[/bold] wrote, with a line for each, until Ctrl-C.

    A server that ends stays down, and its line says why: kill one and see what the others do, then start it again with
    the script DIR/serverN/start in another terminal. Each writes its log to DIR/serverN/server.log.

    With --json, or when the output is no terminal, a line is printed whenever a server changes.

    Ends with 0 if all servers were stopped from here in good order, with 1 if one ended by itself.

    [bold]Examples[/bold]

      corekit ensemble up

      corekit ensemble up --dir trial --json | jq -r '"\\(.server) \\(.role)"'
    """
    servers = find(directory)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
    try:
        for server in servers:
            server.start(environ)
        run_async(lambda: _watch(servers, json))
    except OSError as error:
        raise UserError(f"cannot start the servers of {directory}: {error}") from error
    finally:
        stop(servers)
    failed = [server for server in servers if server.failed()]
    for server in failed:
        words = server.last_words() or f"see {server.log_path}"
        print(f"corekit: server.{server.number} {_process(server)}: {words}", file=sys.stderr)
    raise typer.Exit(EXIT_UNEXPECTED if failed else EXIT_OK)


def find(directory: Path) -> list[Running]:
    """The servers in a directory.

    Raises:
        UserError: there are none, or one of their files cannot be used.
    """
    from corekit.client.hosts import Host
    from corekit.config import load

    found = []
    for config in directory.absolute().glob("server*/zoo.cfg"):
        name = re.fullmatch(r"server(\d+)", config.parent.name)
        if name is None:
            continue
        settings = load(config, environ={}).settings
        number = int(name[1])
        own = next((spec for spec in settings.servers if spec.sid == settings.my_id), None)
        if own is None or settings.my_id != number:
            raise UserError(f"{config.parent} is the directory of server {number}, but its myid says {settings.my_id}")
        host = own.client_host or settings.client_port_address or own.address.host
        port = own.client_port if own.client_port >= 0 else settings.client_port
        found.append(Running(number, config, Host(host, port)))
    if not found:
        raise UserError(f"{directory} holds no ensemble; write one: corekit ensemble create --dir {directory}")
    return sorted(found, key=lambda server: server.number)


# --------------------------------------------------------------------------------------------- watching
async def _watch(servers: list[Running], json: bool) -> None:
    """Show the servers until somebody wants them to stop, or all of them have ended."""
    import anyio

    async with anyio.create_task_group() as tasks:

        async def wait_for_signal() -> None:
            with anyio.open_signal_receiver(*_STOPS) as signals:
                async for _ in signals:
                    break
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait_for_signal)
        if json or not sys.stdout.isatty():
            await _lines(servers, json)
        else:
            await _screen(servers)
        tasks.cancel_scope.cancel()


async def _look(servers: list[Running]) -> bool:
    """Ask all servers how they are; False once none of them runs."""
    import anyio

    from corekit.cli.status import ask, set_lags

    async def look_at(server: Running) -> None:
        server.status = await ask(server.host, ASK_SECONDS, None)

    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(look_at, server)
    set_lags([server.status for server in servers if server.status is not None])
    return any(server.exit_code is None for server in servers)


async def _lines(servers: list[Running], json: bool) -> None:
    """A line for each change of process or role."""
    import anyio

    while True:
        running = await _look(servers)
        for server in servers:
            new = (_role(server), server.exit_code)
            if new != server.told:
                server.told = new
                print(json_module.dumps(_object(server)) if json else "\t".join(_row(server)), flush=True)
        if not running:
            return
        await anyio.sleep(LOOK_SECONDS)


async def _screen(servers: list[Running]) -> None:
    """A table that changes in place."""
    import anyio
    from rich.console import Group
    from rich.live import Live

    from corekit.cli.output import shown_table

    hosts = ",".join(str(server.host) for server in servers)
    hint = f"clients: -H {hosts}    logs: {servers[0].config.parent.parent}/server*/server.log    Ctrl-C stops all"
    running = True
    with Live(auto_refresh=False, screen=False) as live:
        while running:
            running = await _look(servers)
            table = shown_table(TITLES, map(_row, servers))
            live.update(Group(time.strftime("%H:%M:%S"), table, hint), refresh=True)
            await anyio.sleep(LOOK_SECONDS)


def _role(server: Running) -> str:
    one = server.status
    if one is None or not one.reachable:
        return "starting" if server.exit_code is None else "-"
    return one.role or "looking"


def _process(server: Running) -> str:
    code = server.exit_code
    if code is None:
        return "-" if server.process is None else str(server.process.pid)
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _reason(server: Running) -> str:
    if server.exit_code is not None:
        again = "runs again, not from here" if server.status is not None and server.status.reachable else ""
        return again or server.last_words()
    return server.status.reason if server.status is not None and server.status.reachable else ""


def _row(server: Running) -> tuple[str, ...]:
    one = server.status
    zxid = None if one is None else one.zxid
    lag = None if one is None else one.lag
    connections = None if one is None else one.connections
    return (
        str(server.number),
        _process(server),
        _role(server),
        "-" if one is None or one.epoch is None else str(one.epoch),
        "-" if zxid is None else f"0x{zxid:x}",
        "-" if lag is None else str(lag),
        "-" if connections is None else str(connections),
        _reason(server),
    )


def _object(server: Running) -> dict[str, Any]:
    one = server.status
    zxid = None if one is None else one.zxid
    return {
        "server": server.number,
        "client": str(server.host),
        "pid": server.process.pid if server.process is not None and server.exit_code is None else None,
        "exit_code": server.exit_code,
        "role": None if _role(server) == "-" else _role(server),
        "epoch": None if one is None else one.epoch,
        "zxid": None if zxid is None else f"0x{zxid:x}",
        "lag": None if one is None else one.lag,
        "reason": _reason(server) or None,
    }


# --------------------------------------------------------------------------------------------- stopping
def stop(servers: list[Running]) -> None:
    """SIGTERM to all that run, SIGKILL to those that do not end by it. Further signals do not interrupt this."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPS}
    try:
        for server in servers:
            server.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for server in servers:
            if server.process is None:
                continue
            try:
                server.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
