"""The ensemble's own membership: `config` and `reconfig`, with the options and the output of `zkCli.sh`.

`config` is a command of the shell; `corekit config ensemble` is the same from outside.

Sources: ZooKeeper `GetConfigCommand`, `ReconfigCommand`, `ConfigUtils.getClientConfigStr`.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from corekit.cli.connection import Session
from corekit.cli.output import warn
from corekit.errors import UserError

CONFIG = "/zookeeper/config"


async def config(
    session: Session,
    client_hosts: Annotated[bool, typer.Option("-c", help="Only the version and the addresses for clients.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Watch for the next change.")] = False,
    stat: Annotated[bool, typer.Option("-s", "--stat", help="Print the Stat too.")] = False,
) -> None:
    """Print the members of the ensemble, as the ensemble has agreed on them.

    [bold]Examples[/bold]

      corekit config ensemble

      corekit config ensemble -c        [dim]# a connect string[/dim]
    """
    from corekit.cli.text import data_text, stat_json, stat_text
    from corekit.client.op import get_config

    found = await session.zk.call(get_config())
    text = client_text(data_text(found.data)) if client_hosts else data_text(found.data)
    lines = [text, *([stat_text(found.stat)] if stat else ())]
    value = {"config": data_text(found.data), "clients": client_text(data_text(found.data)).partition(" ")[2]}
    session.answer({**value, "stat": stat_json(found.stat)}, "\n".join(lines))
    if not found.data:
        warn("the configuration is empty: a server that runs alone agrees with nobody")
    if watch:
        if "/" in session.target.hosts.rstrip("/"):
            raise UserError(f"-w needs a connection without a chroot (-H {session.target.hosts})")
        _, changed = await session.zk.get_watch(CONFIG)
        await session.wait_for(CONFIG, changed)


async def reconfig(
    session: Session,
    stat: Annotated[bool, typer.Option("-s", "--stat", help="Print the Stat too.")] = False,
    version: Annotated[
        str, typer.Option("-v", "--version", metavar="HEX", help="Only if the configuration has this version.")
    ] = "-1",
    file: Annotated[
        str | None, typer.Option("--file", "-file", metavar="FILE", help="New members, one server.N line each.")
    ] = None,
    members: Annotated[
        str | None, typer.Option("--members", "-members", metavar="LIST", help="New members: server.N=...,...")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", "-add", metavar="LIST", help="Members to add or change.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", "-remove", metavar="IDS", help="Members to remove, as 3,4.")
    ] = None,
) -> None:
    """Change the members of the ensemble, step by step or all at once.

    [bold]Examples[/bold]

      corekit reconfig --add "server.4=h4:2888:3888:observer;2181"

      corekit reconfig --remove 4

      corekit reconfig --members "server.1=h1:2888:3888;2181,server.2=h2:2888:3888;2181"
    """
    from corekit.cli.text import data_text, stat_json, stat_text

    whole = file is not None or members is not None
    if (whole and (add or remove)) or (file is not None and members is not None):
        raise UserError("give all members (--file or --members), or changes (--add, --remove)")
    if not whole and not add and not remove:
        raise UserError("reconfig needs --add, --remove, --members or --file")
    try:
        config_id = int(version, 16)
    except ValueError:
        raise UserError(f"--version {version}: a version is a hexadecimal number") from None
    found = await session.zk.reconfig(
        joining=",".join(add) if add else None,
        leaving=",".join(remove) if remove else None,
        members=_from_file(file) if file is not None else members,
        config_id=config_id,
    )
    text = f"Committed new configuration:\n{data_text(found.data)}"
    value = {"config": data_text(found.data), "stat": stat_json(found.stat)}
    session.answer(value, f"{text}\n{stat_text(found.stat)}" if stat else text)


def _from_file(name: str) -> str:
    """The `server.N=...` lines of a file, joined by commas."""
    try:
        with open(name, encoding="utf-8") as source:
            lines = [line.strip() for line in source]
    except OSError as error:
        raise UserError(f"--file {name}: {error.strerror}") from error
    found = [line for line in lines if line.startswith("server.")]
    if not found:
        raise UserError(f"--file {name}: no line server.N=host:port:port;port in it")
    return ",".join(found)


def client_text(config_text: str) -> str:
    """The version and the client addresses in a configuration: `100000000 h1:2181,h2:2181`."""
    version = ""
    hosts = []
    for line in config_text.splitlines():
        key, _, value = line.partition("=")
        if key == "version":
            version = value
        elif key.startswith("server.") and ";" in value:
            address, client = value.split("|")[0].split(";", 1)
            own = re.match(r"\[[^]]*\]|[^:]*", address)
            host, _, port = client.strip().rpartition(":")
            if host in ("", "0.0.0.0", "[::]"):
                host = own.group() if own else ""
            hosts.append(f"{host}:{port}")
    return f"{version} {','.join(hosts)}"
