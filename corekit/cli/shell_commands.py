"""Commands of `corekit shell` only, which change its session: addauth, printwatches. See `shell.py` for the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from corekit.cli.connection import Session
from corekit.errors import UserError


async def addauth(
    session: Session,
    scheme: Annotated[str, typer.Argument(metavar="SCHEME")],
    credentials: Annotated[str, typer.Argument(metavar="[AUTH]", show_default=False)] = "",
) -> None:
    """Authenticate this session.

    [bold]Example[/bold]

      addauth digest ada:s3cret
    """
    await session.zk.add_auth(scheme, credentials)
    session.answer({"added": scheme})


async def printwatches(
    session: Session, wanted: Annotated[str | None, typer.Argument(metavar="[on|off]", show_default=False)] = None
) -> None:
    """Say whether events of watches are printed, or change it.

    [bold]Example[/bold]

      printwatches off
    """
    if wanted not in (None, "on", "off"):
        raise UserError("printwatches takes on or off")
    if wanted is not None:
        session.shell.print_watches = wanted == "on"
    state = "on" if session.shell.print_watches else "off"
    session.answer({"printwatches": state}, f"printwatches is {state}" if wanted is None else None)
