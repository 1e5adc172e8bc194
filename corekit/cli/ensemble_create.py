"""`corekit ensemble create`: the files of an ensemble on one machine, for trying things out.

    DIR/server1/zoo.cfg      the same members in each file
    DIR/server1/data/myid
    DIR/server1/start        a script that runs this server in the foreground

Rules
- Nothing is written before everything is known to fit: the directory is empty and every port is free.
- The files are ordinary: what is learnt from them holds for an ensemble on three machines.

Not here: running it (`ensemble_up.py`), an ensemble on several machines (docs/ensembles.md).
"""

from __future__ import annotations

import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from corekit.cli.connection import JsonOption
from corekit.errors import UserError

DEFAULT_DIRECTORY = Path("corekit-ensemble")
SERVERS_MAX = 15
FREE_PORTS = (10_000, 32_000)  # below those that systems give to outgoing connections

Ports = tuple[int, int, int]  # for clients, followers, elections

EnsembleDirOption = Annotated[
    Path, typer.Option("--dir", "-d", metavar="DIR", help="Where the files of the ensemble are.")
]


@dataclass(frozen=True)
class Member:
    """One server to be written.

    Attributes:
        directory: everything of it, absolute.
    """

    number: int
    host: str
    client_port: int
    quorum_port: int
    election_port: int
    observer: bool
    directory: Path

    @property
    def config(self) -> Path:
        """Its `zoo.cfg`."""
        return self.directory / "zoo.cfg"

    @property
    def client(self) -> str:
        """Where its clients connect."""
        return f"{_bracket(self.host)}:{self.client_port}"

    def line(self) -> str:
        """Its `server.N` line."""
        role = ":observer" if self.observer else ""
        ports = f"{self.quorum_port}:{self.election_port}"
        return f"server.{self.number}={_bracket(self.host)}:{ports}{role};{self.client}"


def create(
    servers: Annotated[
        int,
        typer.Option("--servers", "-n", min=1, max=SERVERS_MAX, help="How many vote; 3 bear the loss of 1."),
    ] = 3,
    observers: Annotated[
        int, typer.Option("--observers", min=0, max=SERVERS_MAX, help="How many more only serve clients.")
    ] = 0,
    directory: EnsembleDirOption = DEFAULT_DIRECTORY,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="The address of this machine.")] = "127.0.0.1",
    client_port: Annotated[
        int, typer.Option("--client-port", metavar="PORT", min=1, max=65535, help="Of server 1; then one up for each.")
    ] = 2181,
    quorum_port: Annotated[
        int, typer.Option("--quorum-port", metavar="PORT", min=1, max=65535, help="The same for followers.")
    ] = 2888,
    election_port: Annotated[
        int, typer.Option("--election-port", metavar="PORT", min=1, max=65535, help="The same for elections.")
    ] = 3888,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Take any free ports instead of the numbers above.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the files of an ensemble on this machine, for trying things out.

    Each server gets a zoo.cfg, a data directory with its myid, and a script that starts it. Run them all with
    [bold]corekit ensemble up[/bold].

    [bold]Examples[/bold]

      corekit ensemble create --servers 3 --dir trial

      corekit ensemble create --servers 5 --observers 1 --free-ports

      corekit ensemble create --client-port 12181 --quorum-port 12888 --election-port 13888
    """
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is not empty; name another directory with --dir")
    numbers = range(1, servers + observers + 1)
    firsts = {"--client-port": client_port, "--quorum-port": quorum_port, "--election-port": election_port}
    ports = _any_ports(host, len(numbers)) if free_ports else _these_ports(host, firsts, len(numbers))
    members = [
        Member(n, host, *three, n > servers, directory / f"server{n}") for n, three in zip(numbers, ports, strict=True)
    ]
    try:
        for member in members:
            _write(member, members)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or directory}: {error.strerror}") from error
    _tell(directory, members, json)


# --------------------------------------------------------------------------------------------- ports
def _these_ports(host: str, firsts: dict[str, int], count: int) -> list[Ports]:
    """The ports of all servers, if they are free.

    Raises:
        UserError: one of them is not, or is given twice, or is no port.
    """
    given: set[int] = set()
    for option, first in firsts.items():
        for number, port in enumerate(range(first, first + count), start=1):
            if port > 65535:
                raise UserError(f"{option} {first}: server {number} would get {port}, which is no port")
            if port in given:
                raise UserError(f"{option} {first}: port {port} would be used twice; keep them {count} apart")
            reason = _why_not(host, port)
            if reason:
                raise UserError(f"port {port}, for server {number}, {reason}; try another {option}, or --free-ports")
            given.add(port)
    client, quorum, election = firsts.values()
    return [(client + n, quorum + n, election + n) for n in range(count)]


def _any_ports(host: str, count: int) -> list[Ports]:
    """Free ports, none twice."""
    import random

    candidates = random.SystemRandom().sample(range(*FREE_PORTS), FREE_PORTS[1] - FREE_PORTS[0])
    free = (port for port in candidates if not _why_not(host, port))
    try:
        return [(next(free), next(free), next(free)) for _ in range(count)]
    except StopIteration:
        raise UserError(f"there are not enough free ports between {FREE_PORTS[0]} and {FREE_PORTS[1]}") from None


def _why_not(host: str, port: int) -> str:
    """Why a port cannot be listened on, or nothing.

    Raises:
        UserError: the host is not this machine.
    """
    import errno

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}") from error
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                hint = "for servers on several machines see docs/ensembles.md"
                raise UserError(f"--host {host} is no address of this machine; {hint}") from error
            return "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return ""


# --------------------------------------------------------------------------------------------- files
def _write(member: Member, members: list[Member]) -> None:
    data = member.directory / "data"
    data.mkdir(parents=True)
    (data / "myid").write_text(f"{member.number}\n", "ascii")
    # This directory is empty because it is new: a majority of such servers may begin without the others.
    (data / "initialize").touch()
    member.config.write_text(_config(data, member, members), "utf-8")
    start = member.directory / "start"
    start.write_text(f"#!/bin/sh\nexec {shlex.join(_command(member))}\n", "utf-8")
    start.chmod(0o755)


def _config(data: Path, member: Member, members: list[Member]) -> str:
    role = ["peerType=observer"] if member.observer else []
    lines = [
        "tickTime=2000",
        "initLimit=10",
        "syncLimit=5",
        f"dataDir={data}",
        *role,
        "4lw.commands.whitelist=conf,isro,mntr,ruok,srvr,stat",
        "# One port for all servers of a machine cannot work: give each its own with admin.serverPort.",
        "admin.enableServer=false",
        *(one.line() for one in members),
    ]
    return "\n".join(lines) + "\n"


def _command(member: Member) -> list[str]:
    return [sys.executable, "-m", "corekit", "serve", "--config", str(member.config)]


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tell(directory: Path, members: list[Member], json: bool) -> None:
    from corekit.cli.output import print_json, print_table

    hosts = ",".join(member.client for member in members)
    if json:
        servers: list[dict[str, Any]] = [
            {
                "number": member.number,
                "role": "observer" if member.observer else "participant",
                "client": member.client,
                "quorum_port": member.quorum_port,
                "election_port": member.election_port,
                "config": str(member.config),
                "start": _command(member),
            }
            for member in members
        ]
        print_json({"directory": str(directory), "hosts": hosts, "servers": servers})
        return
    print_table(
        ("server", "clients", "start it alone"),
        [(str(member.number), member.client, f"corekit serve --config {member.config}") for member in members],
    )
    print(f"\nAll of them: corekit ensemble up --dir {shlex.quote(str(directory))}")
    print(f"Clients:     corekit status -H {hosts}")
