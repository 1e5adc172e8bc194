"""The commands of `corekit` that use the recipes. See docs/cli.md.

Importing them must be cheap, since every `corekit --help` does; recipes are imported when a command runs.
"""

from __future__ import annotations

import typer

from corekit_recipes.commands import (
    lock_commands,
    presence_commands,
    queue_commands,
    setting_commands,
    simple_commands,
    task_commands,
)


def add(app: typer.Typer) -> None:
    """Add all of them to an application."""
    for module in (
        lock_commands,
        queue_commands,
        simple_commands,
        presence_commands,
        setting_commands,
        task_commands,
    ):
        module.add(app)
