"""Commands on two trees: cp and diff, within an ensemble or between two. Not atomic; see `nodes`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session, one_is_an_answer
from corekit.cli.nodes import Node, below, moved, read_all, relative
from corekit.cli.progress import Progress
from corekit.cli.tree_import import Existing, Importer
from corekit.client import Client
from corekit.errors import UserError

ToOption = Annotated[
    str | None,
    typer.Option(
        "--to-hosts", metavar="HOST:PORT,...", help="The second path is in this ensemble.", show_default=False
    ),
]


@asynccontextmanager
async def _other(session: Session, hosts: str | None) -> AsyncIterator[Client]:
    if hosts is None:
        yield session.zk
        return
    async with replace(session.target, hosts=hosts).connect() as zk:
        yield zk


async def cp(
    session: Session,
    source: PathArgument,
    target: PathArgument,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Everything below too.")] = False,
    existing: Annotated[
        Existing, typer.Option("--existing", help="What to do with znodes that exist and differ.")
    ] = Existing.FAIL,
    acl: Annotated[bool, typer.Option("--acl/--no-acl", help="Copy access control lists.")] = True,
    to_hosts: ToOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Copy a znode, or a tree with -r. Ephemeral znodes are left out.

    [bold]Examples[/bold]

      corekit cp /app/config /app/config.old

      corekit cp -r /app /app --to-hosts other:2181

      corekit cp -r /a /b --existing overwrite --dry-run
    """
    if to_hosts is None and (target == source or (recursive and f"{target}/".startswith(source.rstrip("/") + "/"))):
        raise UserError(f"{target} is {source}, or lies in it")
    paths = [
        here
        async for here, children in below(session.zk, source, None if recursive else 0)
        if not children.stat.ephemeral_owner
    ]
    if not paths:
        raise UserError(f"{source} is ephemeral: it cannot be copied", 1)
    async with _other(session, to_hosts) as zk:
        importer = Importer(zk, existing, acl, dry_run, bool(session.target.credentials()))
        with Progress("copying", len(paths), session.json) as progress:
            nodes = [node._replace(path=moved(node.path, source, target)) async for node in read_all(session.zk, paths)]
            await importer.run(nodes, progress)
    importer.report(session)


async def diff(
    session: Session,
    left: PathArgument,
    right: PathArgument,
    acl: Annotated[bool, typer.Option("--acl", help="Compare access control lists too.")] = False,
    to_hosts: ToOption = None,
) -> int:
    """Compare two trees of znodes. Ends with 0 if they are equal, 1 if they differ, 2 if they cannot be compared.

    Lines begin with < (only left), > (only right) or ! (other data, or another ACL).

    [bold]Examples[/bold]

      corekit diff /app /app.old

      corekit diff / / --to-hosts other:2181 --acl
    """
    with one_is_an_answer():
        async with _other(session, to_hosts) as zk:
            ours, theirs = await _contents(session.zk, left), await _contents(zk, right)
    differences = []
    for path in sorted(ours.keys() | theirs.keys(), key=lambda path: path.split("/")):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            differences.append((">" if one is None else "<", path, ["znode"]))
            continue
        what = ["data"] if one.data != other.data else []
        what += ["acl"] if acl and set(one.acl) != set(other.acl) else []
        if what:
            differences.append(("!", path, what))
    if session.json:
        session.answer([{"sign": sign, "path": path or "/", "differs": what} for sign, path, what in differences])
    else:
        for sign, path, what in differences:
            print(f"{sign} {path or '/'}{'' if sign != '!' else '  (' + ', '.join(what) + ')'}")
    return 1 if differences else 0


async def _contents(zk: Client, base: str) -> dict[str, Node]:
    paths = [here async for here, _ in below(zk, base)]
    return {relative(node.path, base): node async for node in read_all(zk, paths)}
