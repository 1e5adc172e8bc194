"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corekit.errors import ConfigError

if TYPE_CHECKING:
    from corekit.config import Entry, Loaded

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="zoo.cfg, or TOML if the name ends in .toml.",
        readable=False,  # not looked at here: the loader says what is wrong, in one line
        show_default=False,
    ),
]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", "-d", metavar="DIR", help="Where data is kept.", show_default=False)
]
ClientPortOption = Annotated[
    str | None,
    typer.Option("--client-port", metavar="PORT", help="Port for clients; 0 picks a free one.", show_default=False),
]
PluginsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugins",
        "-p",
        metavar="NAMES",
        help="Plugins to use, with commas between; no:NAME excludes one. May be repeated.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Any setting, by its zoo.cfg key or its own name. May be repeated.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def entries(
    data_dir: str | None, client_port: str | None, plugins: list[str] | None, assignments: list[str] | None
) -> list[Entry]:
    """What the options say, in the order in which it counts.

    Raises:
        ConfigError: an assignment has no `=`.
    """
    from corekit.config import Entry

    found: list[Entry] = []
    for assignment in assignments or ():
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {assignment} is not accepted; accepted is --set KEY=VALUE")
        found.append(Entry(key.strip(), value, f"--set {key.strip()}"))
    if data_dir is not None:
        found.append(Entry("dataDir", data_dir, "--data-dir"))
    if client_port is not None:
        found.append(Entry("clientPort", client_port, "--client-port"))
    names = [name.strip() for part in plugins or () for name in part.split(",") if name.strip()]
    wanted = [name for name in names if not name.startswith("no:")]
    excluded = [name.removeprefix("no:") for name in names if name.startswith("no:")]
    if "" in excluded:
        raise ConfigError("--plugins no: is not accepted; accepted is no:NAME")
    if wanted:
        found.append(Entry("plugins", ",".join(wanted), "--plugins"))
    if excluded:
        found.append(Entry("plugins.excluded", ",".join(excluded), "--plugins"))
    return found


def load_settings(
    config: Path | None,
    data_dir: str | None,
    client_port: str | None,
    plugins: list[str] | None,
    assignments: list[str] | None,
) -> Loaded:
    """Effective settings for a command.

    Raises:
        ConfigError: something in them cannot be used.
    """
    from corekit.config import load

    return load(config, options=entries(data_dir, client_port, plugins, assignments))
