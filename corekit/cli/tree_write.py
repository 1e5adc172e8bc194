"""Commands that change znodes: create, set, delete, deleteall, setAcl, with `zkCli.sh`'s options and output."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import Annotated

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.errors import EXIT_UNEXPECTED, NO_NODE, UNIMPLEMENTED, KeeperError, UserError

TTL_MS_MAX = 0xFF_FFFF_FFFF  # EphemeralType.TTL.maxValue()

StatOption = Annotated[bool, typer.Option("-s", "--stat", help="Print the Stat too.")]
VersionOption = Annotated[
    int, typer.Option("-v", "--version", metavar="N", help="Only if the version is N (-1: any).", show_default=False)
]
FileOption = Annotated[
    str | None,
    typer.Option("--file", metavar="FILE", help="Take the data from a file (-: standard input).", show_default=False),
]
Base64Option = Annotated[bool, typer.Option("-b", "--base64", help="The data is given in base64.")]


async def create(
    session: Session,
    path: PathArgument,
    data: Annotated[str | None, typer.Argument(show_default=False)] = None,
    acl: Annotated[str | None, typer.Argument(metavar="[ACL]", help="scheme:who:perms,...", show_default=False)] = None,
    sequential: Annotated[bool, typer.Option("-s", "--sequential", help="The server appends ten digits.")] = False,
    ephemeral: Annotated[bool, typer.Option("-e", "--ephemeral", help="It goes when the session ends.")] = False,
    container: Annotated[bool, typer.Option("-c", "--container", help="It goes after its last child.")] = False,
    ttl: Annotated[
        int | None,
        typer.Option("-t", "--ttl", metavar="MS", help="It goes MS milliseconds after its last change."),
    ] = None,
    parents: Annotated[bool, typer.Option("-p", "--parents", help="Create missing parents.")] = False,
    file: FileOption = None,
    base64_input: Base64Option = False,
) -> None:
    """Create a znode.

    [bold]Examples[/bold]

      corekit create /app

      corekit create -p /app/config/color blue

      corekit create -s /app/job- "some work"

      corekit create /app/secret x digest:ada:HASH=:cdrwa,world:anyone:r
    """
    from corekit.client import OPEN, parse_acl

    if container and (ephemeral or sequential):
        raise UserError("-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.")
    if ttl is not None and (ephemeral or container):
        raise UserError(f"TTLs cannot be used with {'Ephemeral' if ephemeral else 'Container'} znodes")
    if ttl is not None and not 0 < ttl <= TTL_MS_MAX:
        raise UserError(f"-t {ttl}: ttl must be positive and cannot be larger than: {TTL_MS_MAX}")
    try:
        created = await session.zk.create(
            path,
            read_data(data, file, base64_input),
            ephemeral=ephemeral,
            sequential=sequential,
            container=container,
            ttl=None if ttl is None else ttl / 1000,
            acl=OPEN if acl is None else parse_acl(acl),
            parents=parents,
        )
    except KeeperError as error:
        if error.code == NO_NODE and not parents:
            above = path.rpartition("/")[0] or f"the chroot of -H {session.target.hosts}"
            raise UserError(f"Node does not exist: {above} (-p creates missing parents)", EXIT_UNEXPECTED) from error
        if error.code == UNIMPLEMENTED and ttl is not None:
            text = "the servers have no TTL znodes; extendedTypesEnabled=true in their configuration allows them"
            raise UserError(text, EXIT_UNEXPECTED) from error
        raise
    session.answer({"path": created.path}, f"Created {created.path}")


async def set_data(
    session: Session,
    path: PathArgument,
    data: Annotated[str | None, typer.Argument(show_default=False)] = None,
    stat: StatOption = False,
    version: VersionOption = -1,
    file: FileOption = None,
    base64_input: Base64Option = False,
) -> None:
    """Replace the data of a znode.

    [bold]Examples[/bold]

      corekit set /app/config/color red

      corekit set -v 3 /app/config/color green      [dim]# only if nobody was faster[/dim]

      corekit set /app/logo --file logo.png
    """
    from corekit.cli.text import stat_json, stat_text

    if data is None and file is None:
        raise UserError("set needs the data: set PATH DATA, or set PATH --file FILE")
    found = await session.zk.set(path, read_data(data, file, base64_input), version)
    session.answer(stat_json(found), stat_text(found) if stat else None)


async def delete(session: Session, path: PathArgument, version: VersionOption = -1) -> None:
    """Delete a znode that has no children.

    [bold]Example[/bold]

      corekit delete /app/config/color
    """
    await session.zk.delete(path, version)
    session.answer({"deleted": 1})


async def deleteall(
    session: Session,
    path: PathArgument,
    batch: Annotated[
        int, typer.Option("-b", "--batch", metavar="SIZE", min=1, help="How many deletes are in flight at once.")
    ] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many znodes would be deleted.")] = False,
) -> None:
    """Delete a znode and everything below it. Of / everything goes but the servers' own /zookeeper.

    [bold]Examples[/bold]

      corekit deleteall /app --dry-run

      corekit deleteall /app
    """
    from corekit.cli.nodes import below, own

    if own(path):
        raise UserError(f"{path} is the servers' own: it is not deleted as a tree (delete removes single znodes)")
    if dry_run:
        count = len([here async for here, _ in below(session.zk, path) if here != "/"])
        session.answer({"would_delete": count}, f"{count} znodes would be deleted")
        return
    count = await session.zk.delete_tree(path, flight=batch)
    session.answer({"deleted": count})


async def set_acl(
    session: Session,
    path: PathArgument,
    acl: Annotated[str, typer.Argument(metavar="ACL", help="scheme:who:perms,...")],
    stat: StatOption = False,
    version: VersionOption = -1,
    recursive: Annotated[bool, typer.Option("-R", "--recursive", help="Also everything below.")] = False,
) -> int:
    """Replace the access control list of a znode. Permissions are letters out of cdrwa.

    [bold]Examples[/bold]

      corekit setAcl /app world:anyone:r,auth::cdrwa --auth digest:ada:s3cret

      corekit setAcl -R /app world:anyone:cdrwa
    """
    from corekit.cli.connection import describe
    from corekit.cli.text import stat_json, stat_text
    from corekit.client import op, parse_acl
    from corekit.errors import KeeperError, NoNodeError

    entries = parse_acl(acl)
    if not recursive:
        found = await session.zk.set_acl(path, entries, version)
        session.answer(stat_json(found), stat_text(found) if stat else None)
        return 0
    paths = sorted([here async for here, _ in session.zk.walk(path)], key=len, reverse=True)
    failed = 0
    async for result in session.zk.stream((op.set_acl(here, entries, version) for here in paths), errors=True):
        if isinstance(result, KeeperError) and not isinstance(result, NoNodeError):
            failed += 1
            print(f"corekit: {describe(result)}", file=sys.stderr)
    session.answer({"set": len(paths) - failed, "failed": failed})
    return 1 if failed else 0


def read_data(text: str | None, file: str | None, is_base64: bool) -> bytes | None:
    """The data that the arguments give; None for no data at all.

    Raises:
        UserError: data is given twice, a file cannot be read, or it is not base64.
    """
    if text is not None and file is not None:
        raise UserError("data is given twice: as an argument and with --file")
    if file == "-":
        data: bytes | None = sys.stdin.buffer.read()
    elif file is not None:
        try:
            with open(file, "rb") as source:
                data = source.read()
        except OSError as error:
            raise UserError(f"--file {file}: {error.strerror}") from error
    else:
        data = None if text is None else text.encode("utf-8", "surrogateescape")
    if not is_base64 or data is None:
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UserError(f"the data is not base64: {error}") from error
