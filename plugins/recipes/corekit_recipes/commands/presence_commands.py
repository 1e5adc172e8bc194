"""`corekit group` and `corekit service`: say that something is there while it runs, and see what is."""

from __future__ import annotations

import json as jsons
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import JsonOption, Session, Target, command, run_async
from corekit.cli.output import print_json, print_json_line, print_table
from corekit.errors import UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.holding import Held, Hold, Rules, hold
from corekit_recipes.commands.lock_commands import CommandArgument

if TYPE_CHECKING:
    from corekit.client import Client
    from corekit_recipes.group import Member
    from corekit_recipes.service import Instance

BaseOption = Annotated[
    str, typer.Option("--base", "-b", envvar="COREKIT_SERVICES", metavar="PATH", help="Where services are registered.")
]
CountOption = Annotated[int | None, typer.Option("--count", "-n", min=1, metavar="N", help="End after N lists.")]


# --------------------------------------------------------------------------------------------- group
def group_join(
    target: Target,
    path: PathArgument,
    command: CommandArgument = None,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="Who we are.", show_default="host:pid")] = "",
    json: JsonOption = False,
) -> int:
    """Be a member of a group while a command runs, or until Ctrl-C.

    [bold]Examples[/bold]

      corekit group join /workers --name host1 -- ./work.sh

      corekit group join /workers
    """
    who = name or f"{socket.gethostname()}:{os.getpid()}"

    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.group import Group

        @asynccontextmanager
        async def be_there(seconds: float | None) -> AsyncIterator[Held]:
            async with Group(zk, path).join(who.encode()) as here:
                yield Held(None, {"COREKIT_GROUP": path, "COREKIT_MEMBER": here.path})

        return be_there

    return hold(target, path, take, command or (), Rules(name=who, json=json))


async def group_list(session: Session, path: PathArgument) -> None:
    """List the members of a group, in the order in which they joined.

    [bold]Example[/bold]

      corekit group list /workers
    """
    from corekit_recipes.group import Group

    _show_members(await Group(session.zk, path).members(fresh=True), session.json)


def _show_members(members: list[Member], json: bool) -> None:
    if json:
        print_json([_member(member) for member in members])
    else:
        rows = [(member.name, f"0x{_unsigned(member.session_id):x}", member.id) for member in members]
        print_table(("name", "session", "id"), rows)


def _member(member: Member) -> dict[str, Any]:
    session = f"0x{_unsigned(member.session_id):x}"
    return {"name": member.name, "id": member.id, "token": member.token, "session": session}


def _unsigned(number: int) -> int:
    return number & (1 << 64) - 1


def group_watch(target: Target, path: PathArgument, count: CountOption = None, json: JsonOption = False) -> int:
    """Print the members of a group on one line, now and after every change.

    [bold]Example[/bold]

      corekit group watch /workers
    """

    async def watch() -> int:
        from corekit_recipes.group import Group

        async with target.connect_for_long(None) as zk:
            left = count
            async for members in Group(zk, path).follow():
                if json:
                    print_json_line([_member(member) for member in members])
                else:
                    print(" ".join(member.name for member in members) or "-")
                sys.stdout.flush()
                left = None if left is None else left - 1
                if left == 0:
                    break
        return 0

    return run_async(lambda: Attendant(regular=True).run(watch))


# ------------------------------------------------------------------------------------------- service
class Strategy(StrEnum):
    """How `service pick` picks."""

    RANDOM = "random"
    LEAST_LOADED = "least-loaded"
    RENDEZVOUS = "rendezvous"


def service_register(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS:PORT")],
    command: CommandArgument = None,
    id: Annotated[str, typer.Option("--id", metavar="TEXT", help="Of the instance.", show_default="a new one")] = "",
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="JSON", help='More about it; {"load": 3, "weight": 2} is used by `pick`.'),
    ] = None,
    base: BaseOption = "/services",
    json: JsonOption = False,
) -> int:
    """Register an instance of a service while a command runs, or until Ctrl-C.

    [bold]Example[/bold]

      corekit service register api 10.0.0.1:8080 -- ./api --port 8080
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise UserError(f"{address} is not ADDRESS:PORT")
    if "/" in name or not name or "/" in id:
        raise UserError("names and ids are parts of a path: no slash, not empty")
    try:
        more = None if payload is None else jsons.loads(payload)
    except ValueError as error:
        raise UserError(f"--payload is not JSON: {error}") from error

    def take(zk: Client, identifier: str, margin: float) -> Hold:
        from corekit_recipes.service import Instance, Services

        given = {"id": id} if id else {}
        instance = Instance(name, host.strip("[]"), int(port), payload=more, **given)

        @asynccontextmanager
        async def be_there(seconds: float | None) -> AsyncIterator[Held]:
            async with Services(zk, base).register(instance):
                yield Held(None, {"COREKIT_SERVICE": name, "COREKIT_INSTANCE": instance.id})

        return be_there

    return hold(target, f"{base}/{name}", take, command or (), Rules(json=json))


async def service_list(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    base: BaseOption = "/services",
) -> None:
    """List the services, or the instances of one.

    [bold]Examples[/bold]

      corekit service list

      corekit service list api --json
    """
    from corekit_recipes.service import Services

    services = Services(session.zk, base)
    names = await services.names() if name is None else [name]
    found = {one: await services.instances(one) for one in names}
    if session.json:
        session.answer({one: [_instance(instance) for instance in instances] for one, instances in found.items()})
        return
    rows = [
        (
            one,
            instance.endpoint,
            instance.id,
            "" if instance.payload is None else jsons.dumps(instance.payload),
        )
        for one, instances in found.items()
        for instance in instances
    ]
    print_table(("service", "address", "id", "payload"), rows)


def _instance(instance: Instance) -> dict[str, Any]:
    return {"address": instance.address, "port": instance.port, "id": instance.id, "payload": instance.payload}


def service_watch(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    base: BaseOption = "/services",
    count: CountOption = None,
    json: JsonOption = False,
) -> int:
    """Print the addresses of a service on one line, now and after every change.

    [bold]Example[/bold]

      corekit service watch api
    """

    async def watch() -> int:
        from corekit_recipes.service import Services

        async with target.connect_for_long(None) as zk:
            left = count
            async for instances in Services(zk, base).follow(name):
                if json:
                    print_json_line([_instance(instance) for instance in instances])
                else:
                    print(" ".join(instance.endpoint for instance in instances) or "-")
                sys.stdout.flush()
                left = None if left is None else left - 1
                if left == 0:
                    break
        return 0

    return run_async(lambda: Attendant(regular=True).run(watch))


async def service_pick(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    strategy: Annotated[Strategy, typer.Option("--strategy", "-s", help="How to pick.")] = Strategy.RANDOM,
    key: Annotated[
        str | None,
        typer.Option("--key", "-k", metavar="TEXT", help="The same key gets the same instance (rendezvous)."),
    ] = None,
    base: BaseOption = "/services",
) -> int:
    """Print the address of one instance of a service. Ends with 1 if there is none.

    [bold]Examples[/bold]

      curl "http://$(corekit service pick api)/"

      corekit service pick cache --key user42
    """
    from corekit_recipes.service import Pool, Services, at_random, least_loaded, rendezvous

    chosen = Strategy.RENDEZVOUS if key is not None else strategy
    function = {
        Strategy.RANDOM: at_random,
        Strategy.LEAST_LOADED: least_loaded,
        Strategy.RENDEZVOUS: rendezvous,
    }[chosen]
    pool = Pool(name, function)
    pool.update(await Services(session.zk, base).instances(name))
    if not pool.instances:
        raise UserError(f"no instance of {name} is registered in {base}", 1)
    instance = pool.pick(key=key)
    session.answer(_instance(instance), instance.endpoint)
    return 0


def add(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(no_args_is_help=True, help="Groups: who is here.")
    for name, function in (("join", group_join), ("list", group_list), ("watch", group_watch)):
        group.command(name)(command(function))
    app.add_typer(group, name="group", rich_help_panel="Recipes")
    service = typer.Typer(no_args_is_help=True, help="Services: where they run, and which instance to use.")
    for name, action in (
        ("register", service_register),
        ("list", service_list),
        ("watch", service_watch),
        ("pick", service_pick),
    ):
        service.command(name)(command(action))
    app.add_typer(service, name="service", rich_help_panel="Recipes")
