"""Commands that read znodes: ls, get, stat, getAcl and their kin, with the options and the output of `zkCli.sh`.

With `-w` the shell prints the event when it comes; a command of its own waits for it, prints it and ends.
"""

from __future__ import annotations

import base64
from typing import Annotated

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.errors import UserError

StatOption = Annotated[bool, typer.Option("-s", "--stat", help="Print the Stat too.")]
WatchOption = Annotated[bool, typer.Option("-w", "--watch", help="Watch for the next change.")]
OldWatchArgument = Annotated[str | None, typer.Argument(metavar="watch", hidden=True)]


async def ls(
    session: Session,
    path: PathArgument = "/",
    old_watch: OldWatchArgument = None,
    stat: StatOption = False,
    watch: WatchOption = False,
    recursive: Annotated[bool, typer.Option("-R", "--recursive", help="All znodes below, one a line.")] = False,
) -> None:
    """List the children of a znode.

    [bold]Examples[/bold]

      corekit ls /

      corekit ls -s /app          [dim]# with the Stat[/dim]

      corekit ls -R /app --json
    """
    from corekit.cli.text import list_text, stat_json, stat_lines

    watch = watch or _old_form(old_watch, "ls")
    zk = session.zk
    if recursive:
        paths = [here async for here, _ in zk.walk(path)]
        paths.sort(key=lambda here: here.split("/"))
        session.answer(paths, "\n".join(paths))
        return
    if watch:
        children, changed = await zk.children_watch(path)
    else:
        children = await zk.children_stat(path)
    names = sorted(children.names)
    lines = [list_text(names), *(stat_lines(children.stat) if stat else ())]
    value = {"path": path, "children": names, "stat": stat_json(children.stat)} if stat else names
    session.answer(value, "\n".join(lines))
    if watch:
        await session.wait_for(path, changed)


async def get(
    session: Session,
    path: PathArgument,
    old_watch: OldWatchArgument = None,
    stat: StatOption = False,
    watch: WatchOption = False,
    base64_output: Annotated[bool, typer.Option("-b", "--base64", help="Print the data in base64.")] = False,
    hexadecimal: Annotated[bool, typer.Option("-x", "--hexdump", help="Print the data as a hex dump.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only the bytes, without a new line.")] = False,
) -> None:
    """Print the data of a znode.

    [bold]Examples[/bold]

      corekit get /app/config

      corekit get -s /app/config

      corekit get --raw /app/logo > logo.png
    """
    import sys

    from corekit.cli.text import data_json, data_text, hex_dump, stat_json, stat_text
    from corekit.client import op

    if base64_output + hexadecimal + raw > 1:
        raise UserError("-b, -x and --raw exclude each other")
    zk = session.zk
    watch = watch or _old_form(old_watch, "get")
    if watch:
        _, changed = await zk.get_watch(path)
    data, found = await zk.call(op.get_nullable(path))
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(data or b"")
        sys.stdout.buffer.flush()
    elif session.json:
        shown = {"base64": base64.b64encode(data or b"").decode()} if base64_output else data_json(data)
        session.answer({"path": path, **shown, "stat": stat_json(found)})
    else:
        if base64_output:
            print(base64.b64encode(data or b"").decode())
        else:
            print(hex_dump(data or b"") if hexadecimal else data_text(data))
        if stat:
            print(stat_text(found))
    if watch:
        await session.wait_for(path, changed)


async def stat(
    session: Session, path: PathArgument, old_watch: OldWatchArgument = None, watch: WatchOption = False
) -> None:
    """Print the Stat of a znode.

    [bold]Example[/bold]

      corekit stat /app
    """
    from corekit.cli.text import stat_json, stat_text
    from corekit.errors import NoNodeError

    if watch or _old_form(old_watch, "stat"):
        found, changed = await session.zk.exists_watch(path)
    else:
        found, changed = await session.zk.exists(path), None
    if found is not None:
        session.answer(stat_json(found), stat_text(found))
    elif changed is None or session.shell is not None:
        raise NoNodeError(path=path)
    if changed is not None:
        await session.wait_for(path, changed)


async def get_acl(session: Session, path: PathArgument, stat: StatOption = False) -> None:
    """Print the access control list of a znode.

    [bold]Example[/bold]

      corekit getAcl -s /app
    """
    from corekit.cli.text import acl_json, acl_lines, stat_json, stat_lines

    entries, found = await session.zk.get_acl(path)
    value = {"path": path, "acl": acl_json(entries), **({"stat": stat_json(found)} if stat else {})}
    session.answer(value, "\n".join([*acl_lines(entries), *(stat_lines(found) if stat else ())]))


async def sync(session: Session, path: PathArgument) -> None:
    """Let the server catch up with the leader, so that the next read shows what was written before.

    [bold]Example[/bold]

      corekit sync /app
    """
    await session.zk.sync(path)
    session.answer({"path": path, "synced": True}, "Sync is OK")


async def get_all_children_number(session: Session, path: PathArgument) -> None:
    """Print how many znodes are below a path.

    [bold]Example[/bold]

      corekit getAllChildrenNumber /app
    """
    count = await session.zk.count_descendants(path)
    session.answer({"path": path, "count": count}, str(count))


async def get_ephemerals(
    session: Session,
    prefix: PathArgument = "/",
) -> None:
    """List the ephemeral znodes of this session.

    [bold]Example[/bold]

      getEphemerals /app          [dim]# in corekit shell; a session of its own has none[/dim]
    """
    from corekit.cli.text import list_text

    found = sorted(await session.zk.ephemerals(prefix))
    session.answer(found, list_text(found))


async def whoami(session: Session) -> None:
    """Print the identities that the server knows this connection by.

    [bold]Example[/bold]

      corekit whoami --auth digest:ada:s3cret
    """
    found = await session.zk.who_am_i()
    lines = ["Auth scheme: User", *(f"{one.scheme}: {one.id}" for one in found)]
    session.answer([{"scheme": one.scheme, "id": one.id} for one in found], "\n".join(lines))


def _old_form(word: str | None, name: str) -> bool:
    """`ls path watch` and the like, which zkCli still takes."""
    if word is None:
        return False
    if word not in ("watch", "true", "1"):
        raise UserError(f"{name} takes one path; {word!r} is too much")
    from corekit.cli.output import warn

    warn(f"'{name} path [watch]' has been deprecated. Please use '{name} [-w] path' instead.")
    return True
