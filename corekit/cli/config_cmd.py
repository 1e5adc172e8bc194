"""`corekit config show`: the effective settings and where each came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from corekit.cli.connection import command
from corekit.cli.ensemble_config import config as ensemble
from corekit.cli.options import (
    ClientPortOption,
    ConfigOption,
    DataDirOption,
    JsonOption,
    PluginsOption,
    SetOption,
    load_settings,
)

_HIDDEN = "********"
_SECRET_OPTION = re.compile("passw|secret|token|key|credential", re.IGNORECASE)


def config_app() -> typer.Typer:
    """The group `config`, a new one each time because plugins add to it."""
    app = typer.Typer(no_args_is_help=True, help="Settings of the server, and the members of the ensemble.")
    app.command("ensemble")(command(ensemble))
    app.command()(show)
    return app


def show(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    client_port: ClientPortOption = None,
    plugins: PluginsOption = None,
    assignments: SetOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from the defaults.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the settings that a server with these options would have, and where each came from.

    [bold]Examples[/bold]

      corekit config show --config zoo.cfg --changed

      corekit config show --set tickTime=500 --json
    """
    from corekit.cli.output import print_json, print_table, warn
    from corekit.config import SETTINGS

    loaded = load_settings(config, data_dir, client_port, plugins, assignments)
    shown = {
        name: (printable(name, getattr(loaded.settings, name)), origin)
        for name, origin in loaded.origins.items()
        if not changed or origin != "default"
    }
    if json:
        settings = {
            name: {"key": SETTINGS[name].keys[0] if name in SETTINGS else None, "value": value, "origin": origin}
            for name, (value, origin) in shown.items()
        }
        print_json({"config_file": loaded.config_file, "settings": settings, "warnings": loaded.warnings})
        return
    rows = [
        (name, SETTINGS[name].keys[0] if name in SETTINGS else "", _text(value), origin)
        for name, (value, origin) in shown.items()
    ]
    print_table(("setting", "zoo.cfg key", "value", "from"), rows)
    for text in loaded.warnings:
        warn(text)


def printable(name: str, value: Any) -> Any:
    """A setting's value in JSON's types; what is secret is masked."""
    from corekit.config import SETTINGS

    if name in SETTINGS and SETTINGS[name].secret:
        return _HIDDEN if value else ""
    if name == "servers":
        return {f"server.{server.sid}": server.text() for server in value}
    if name == "groups":
        return {f"group.{group}": ":".join(str(sid) for sid in sorted(sids)) for group, sids in value.items()}
    if name == "weights":
        return {f"weight.{sid}": weight for sid, weight in value.items()}
    if name == "plugin_options":
        return {
            f"plugin.{plugin}.{key}": _HIDDEN if _SECRET_OPTION.search(key) else text
            for plugin, options in value.items()
            for key, text in options.items()
        }
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}={text}" for key, text in value.items())
    return str(value)
