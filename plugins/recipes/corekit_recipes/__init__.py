"""Locks, elections, queues and the other recipes, and the commands of `corekit` that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corekit.hooks import hookimpl
from corekit.limits import API_VERSION

if TYPE_CHECKING:
    import typer

kind = "recipe"
api_version = API_VERSION


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add `corekit lock` and its kin. See `corekit_recipes.commands`."""
    from corekit_recipes.commands import add

    add(app)
