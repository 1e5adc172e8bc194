"""The group `corekit ensemble`: an ensemble on one machine, for trying things out."""

from __future__ import annotations

import typer

from corekit.cli.ensemble_create import create
from corekit.cli.ensemble_up import up

ensemble_app = typer.Typer(no_args_is_help=True, help="Write and run a trial ensemble on this machine.")
ensemble_app.command()(create)
ensemble_app.command()(up)
