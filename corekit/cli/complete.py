"""Paths of znodes as arguments: checked when they are parsed, and completed by asking the ensemble.

The same completion serves the shells of the operating system (through typer) and `corekit shell`. It never prints and
never raises: without an ensemble there is simply nothing to offer.
"""

from __future__ import annotations

from typing import Annotated

import typer

SECONDS = 1.0  # a person waits for the answer


def checked_path(value: str | None) -> str | None:
    """A path as it was typed, without a slash at its end.

    Raises:
        typer.BadParameter: no server would accept it.
    """
    if value is None or value == "/":
        return value
    from corekit.client.paths import path_bytes
    from corekit.model.paths import is_valid

    path = value.rstrip("/") or "/"
    if not path.startswith("/"):
        raise typer.BadParameter(f"Path must start with / character: {value}")
    if path != "/" and not is_valid(path_bytes(path)):
        raise typer.BadParameter(f"Invalid path: {value!r}")
    return path


def complete_path(ctx: typer.Context, incomplete: str) -> list[str]:
    """Paths that begin so, from the ensemble that the command line names."""
    import anyio

    from corekit.cli.connection import Target

    given = {name: value for name, value in ctx.params.items() if name in Target.__dataclass_fields__ and value}
    target = Target(**{**given, "timeout": SECONDS})

    async def ask() -> list[str]:
        with anyio.move_on_after(SECONDS):
            async with target.connect() as zk:
                return await complete(zk, incomplete)
        return []

    try:
        return anyio.run(ask, backend="trio")
    except Exception:  # no server or no right: completion offers nothing, and says nothing into the line
        return []


async def complete(zk: object, incomplete: str) -> list[str]:
    """Paths of znodes that begin with `incomplete`; one that has children ends with a slash if it is the only one."""
    from corekit.client import Client
    from corekit.client.paths import join
    from corekit.errors import KeeperError

    assert isinstance(zk, Client)
    above, _, begin = incomplete.rpartition("/")
    try:
        found = sorted(name for name in await zk.children(above or "/") if name.startswith(begin))
        paths = [join(above or "/", name) for name in found]
        if len(paths) == 1 and await zk.children(paths[0]):
            paths.append(paths[0] + "/")
    except KeeperError:
        return []
    return paths


PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", autocompletion=complete_path, callback=checked_path, show_default=False)
]
