"""`corekit status`: one table for all servers of an ensemble.

What each server says of itself comes from the four-letter words `srvr` and `mntr`; a server that does not answer them
(its whitelist) is asked for a session instead, which shows that it serves, and no more. Servers that are not named are
found in the ensemble's configuration, if it has their client addresses; members that cannot be shown are told of.
Numbers of different servers are of slightly different moments, so a lag of a
few transactions under load is nothing.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.connection import JsonOption, Target
from corekit.cli.output import print_json, print_json_line, print_table, shown_table, warn
from corekit.errors import EXIT_UNAVAILABLE

if TYPE_CHECKING:
    import ssl

    from corekit.client.hosts import Host

SECONDS = 3.0  # for each server
TITLES = ("server", "role", "epoch", "zxid", "lag", "connections", "latency ms", "znodes", "version", "")
_COUNTER = 0xFFFFFFFF


@dataclass
class ServerStatus:
    """What is known of one server.

    Attributes:
        role: leader, follower, observer, standalone, read-only; "serving" if it only grants sessions; else "".
        reason: why it does not serve, or what could not be found out.
        lag: transactions behind the newest server of the same epoch.
        latency_ms: mean and largest.
        more: all of `mntr`, without the prefix.
    """

    server: str
    role: str = ""
    reason: str = ""
    reachable: bool = False
    zxid: int | None = None
    lag: int | None = None
    connections: int | None = None
    latency_ms: tuple[float, float] | None = None
    znodes: int | None = None
    version: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def epoch(self) -> int | None:
        """The epoch that it is in. ZooKeeper tells it by the zxid only, which has it from the first write on."""
        if self.zxid is None:
            return None
        told = self.more.get("accepted_epoch", "")
        return max(self.zxid >> 32, int(told) if told.isdecimal() else 0)


@dataclass
class Ensemble:
    """What one look has found.

    Attributes:
        servers: those that were named, then those that the configuration has client addresses of.
        hidden: members without a client address in the configuration, if it has more members than `servers`.
    """

    servers: list[ServerStatus]
    hidden: list[str]

    def note(self) -> str | None:
        """One line on who is not shown; None if nobody is missing."""
        if not self.hidden:
            return None
        return (
            f"not every member is shown: the configuration has no client address of {', '.join(self.hidden)}; "
            "name all servers with -H, or write addresses as server.N=HOST:PORT:PORT;CLIENTPORT"
        )


async def status(
    target: Target,
    watch: Annotated[
        float | None, typer.Option("--watch", "-w", min=0.1, metavar="SECONDS", help="Again every SECONDS.")
    ] = None,
    listed: Annotated[bool, typer.Option("--listed", help="Only the servers named by -H.")] = False,
    json: JsonOption = False,
) -> int:
    """Show every server of the ensemble: its role, how far it is, how busy it is, or why it cannot be reached.

    Ends with 0 if all servers serve, with 1 if some do not, with 69 if none does.

    [bold]Examples[/bold]

      corekit status -H h1:2181,h2:2181,h3:2181

      corekit status --watch 2

      corekit status --json | jq ".servers[].role"
    """
    import anyio

    if watch is None:
        found = await look(target, listed)
        _print(found, json)
        return _code(found.servers)
    await _show_again(target, watch, listed, json)
    await anyio.lowlevel.checkpoint()
    return 0


async def _show_again(target: Target, seconds: float, listed: bool, json: bool) -> None:
    import time

    import anyio

    if json or not sys.stdout.isatty():
        while True:
            found = await look(target, listed)
            if json:
                print_json_line(_value(found))
            else:
                _print(found, json)
            sys.stdout.flush()
            await anyio.sleep(seconds)
    from rich.console import Group
    from rich.live import Live

    with Live(auto_refresh=False, screen=False) as live:
        while True:
            found = await look(target, listed)
            table = shown_table(TITLES, map(_row, found.servers))
            live.update(Group(time.strftime("%H:%M:%S"), table, *filter(None, [found.note()])), refresh=True)
            await anyio.sleep(seconds)


def _code(found: list[ServerStatus]) -> int:
    serving = sum(1 for one in found if one.role)
    return 0 if serving == len(found) else 1 if serving else EXIT_UNAVAILABLE


def _print(found: Ensemble, json: bool) -> None:
    note = found.note()
    if json:
        print_json(_value(found))
        return
    print_table(TITLES, map(_row, found.servers))
    if note is not None:
        sys.stdout.flush()
        warn(note)


def _value(found: Ensemble) -> dict[str, Any]:
    """What `--json` shows."""
    return {"servers": [_object(one) for one in found.servers], "not_shown": found.hidden}


def _object(one: ServerStatus) -> dict[str, Any]:
    return {
        "server": one.server,
        "role": one.role or None,
        "reachable": one.reachable,
        "reason": one.reason or None,
        "epoch": one.epoch,
        "zxid": None if one.zxid is None else f"0x{one.zxid:x}",
        "lag": one.lag,
        "connections": one.connections,
        "latency_avg_ms": one.latency_ms and one.latency_ms[0],
        "latency_max_ms": one.latency_ms and one.latency_ms[1],
        "znodes": one.znodes,
        "version": one.version or None,
        "mntr": one.more,
    }


def _row(one: ServerStatus) -> tuple[str, ...]:
    def shown(value: object) -> str:
        return "-" if value is None else str(value)

    latency = None if one.latency_ms is None else f"{one.latency_ms[0]:g} / {one.latency_ms[1]:g}"
    zxid = None if one.zxid is None else f"0x{one.zxid:x}"
    return (
        one.server,
        one.role or ("not serving" if one.reachable else "unreachable"),
        shown(one.epoch),
        shown(zxid),
        shown(one.lag),
        shown(one.connections),
        shown(latency),
        shown(one.znodes),
        one.version or "-",
        one.reason,
    )


# ------------------------------------------------------------------------------------------- asking
async def look(target: Target, listed: bool) -> Ensemble:
    """Ask all servers at once.

    Args:
        listed: only those that the target names, without looking for the others.
    """
    import anyio

    from corekit.client.hosts import parse_hosts

    hosts = parse_hosts(target.hosts)[0]
    seconds = SECONDS if target.timeout is None else target.timeout
    found: dict[Host, ServerStatus] = {}
    extra: list[Host] = []
    hidden: list[str] = []
    context = target.context()

    async def ask_one(host: Host) -> None:
        found[host] = await ask(host, seconds, context)

    async def search() -> None:
        text = await _configuration(target, seconds)
        extra.extend(await _not_named(text, hosts))
        members = re.findall(r"^(server\.\d+)=(.*)$", text, re.MULTILINE)
        if len(members) > len(hosts) + len(extra):
            hidden.extend(name for name, where in members if ";" not in where)

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(ask_one, host)
        if not listed:
            tasks.start_soon(search)
    async with anyio.create_task_group() as tasks:
        for host in extra:
            tasks.start_soon(ask_one, host)
    servers = [found[host] for host in (*hosts, *extra)]
    for one in servers:
        if one.role == "serving":
            await _by_session(one, target, seconds)
    set_lags(servers)
    return Ensemble(servers, hidden)


def set_lags(servers: list[ServerStatus]) -> None:
    """How far each is behind the newest of them."""
    newest = max((one.zxid for one in servers if one.zxid is not None), default=0)
    for one in servers:
        if one.zxid is not None and one.zxid >> 32 == newest >> 32:
            one.lag = (newest & _COUNTER) - (one.zxid & _COUNTER)


async def ask(host: Host, seconds: float, tls: ssl.SSLContext | None) -> ServerStatus:
    """What one server says to `srvr` and `mntr`."""
    from corekit.client.dial import DialError, four_letter, why

    one = ServerStatus(str(host))
    try:
        answer = await four_letter(host, b"srvr", seconds, tls)
        one.reachable = True
        if "not currently serving" in answer:
            one.reason = "it is not serving: no quorum, or an election is going on"
            return one
        if "Mode:" not in answer:
            one.role = "serving"  # to be seen by a session
            return one
        _take_srvr(one, answer)
        more = await four_letter(host, b"mntr", seconds, tls)
    except (*DialError, TimeoutError) as error:
        one.reason = why(error)
        return one
    for line in more.splitlines():
        name, separator, value = line.partition("\t")
        if separator:
            one.more[name.removeprefix("zk_")] = value
    return one


def _take_srvr(one: ServerStatus, answer: str) -> None:
    fields = dict(re.findall(r"^([^:\n]+): (.*)$", answer, re.MULTILINE))
    one.role = fields.get("Mode", "")
    one.version = fields.get("Zookeeper version", "").split(",")[0].split("--")[0]
    one.zxid = _number(fields.get("Zxid"), 16)
    one.connections = _number(fields.get("Connections"))
    one.znodes = _number(fields.get("Node count"))
    latency = fields.get("Latency min/avg/max", "").split("/")
    try:
        one.latency_ms = (float(latency[1]), float(latency[2]))
    except (IndexError, ValueError):
        pass


def _number(text: str | None, base: int = 10) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


async def _by_session(one: ServerStatus, target: Target, seconds: float) -> None:
    """A server that does not answer words: whether it grants a session, and how far it is."""
    from corekit.errors import CorekitError

    own = replace(target, hosts=one.server, timeout=seconds, read_only=True)
    one.reason = "four-letter words are not allowed (4lw.commands.whitelist)"
    try:
        async with own.connect() as zk:
            one.role = "serving" if zk.state.state.value == "connected" else "read-only"
            await zk.exists("/")
            one.zxid = zk.last_zxid
    except CorekitError as error:
        one.role, one.reason = "", str(error)


async def _configuration(target: Target, seconds: float) -> str:
    """The ensemble's own, one member a line; empty if nobody tells it."""
    from corekit.errors import CorekitError

    try:
        async with replace(target, timeout=seconds, read_only=True).connect() as zk:
            return (await zk.get_config()).data.decode("utf-8", "replace")
    except CorekitError:
        return ""


async def _not_named(text: str, hosts: list[Host]) -> list[Host]:
    """Client addresses of members that `hosts` does not name."""
    from corekit.cli.ensemble_config import client_text
    from corekit.client.hosts import parse_hosts

    listed = client_text(text).partition(" ")[2]
    known = {await _address(host) for host in hosts}
    return [host for host in (parse_hosts(listed)[0] if listed else ()) if await _address(host) not in known]


async def _address(host: Host) -> tuple[str, int]:
    """The host by number, so that two names of one server are the same."""
    import anyio

    try:
        found = await anyio.getaddrinfo(host.name, host.port)
    except OSError:
        return (host.name, host.port)
    return (str(found[0][4][0]), host.port)
