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


async def printwatches(
    session: Session, wanted: Annotated[str | None, typer.Argument(metavar="[on|off]", show_default=False)] = None
) -> None:
    """Say whether events of watches are printed, or change it.

    [bold]Example[/bold]

      printwatches off
    """
    if wanted is None:
        print(f"printwatches is {'on' if session.shell.print_watches else 'off'}")
    elif wanted in ("on", "off"):
        session.shell.print_watches = wanted == "on"
    else:
        raise UserError("printwatches takes on or off")
