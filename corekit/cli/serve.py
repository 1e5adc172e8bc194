"""`corekit serve`: run a server in the foreground."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corekit.cli.options import (
    ClientPortOption,
    ConfigOption,
    DataDirOption,
    JsonOption,
    PluginsOption,
    SetOption,
    load_settings,
)

if TYPE_CHECKING:
    from corekit.server.server import Started


def serve(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    client_port: ClientPortOption = None,
    plugins: PluginsOption = None,
    assignments: SetOption = None,
    log_format: Annotated[
        Literal["human", "json"] | None, typer.Option("--log-format", help="Form of the log.", show_default=False)
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option("--log-level", help="Least important level that is logged.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a server until Ctrl-C or SIGTERM.

    Without any option it serves on port 2181 and keeps its data in ./corekit-data.

    With --json, one line on standard output says where it listens, once it serves; the log is JSON too, unless
    --log-format says otherwise.

    [bold]Examples[/bold]

      corekit serve

      corekit serve --data-dir /var/lib/corekit --client-port 2182

      corekit serve --config zoo.cfg --set maxClientCnxns=0

      corekit serve --plugins memory            [dim]# nothing is written to disk[/dim]

      corekit serve -p no:digest --log-format json

      corekit serve --client-port 0 --json | jq -r ".listens[]"

    Settings are taken from: defaults, the file, ZOO_* variables, COREKIT_* variables, options; the later wins.
    See what that adds up to with [bold]corekit config show[/bold], and which plugins run with
    [bold]corekit plugins[/bold].
    """
    assignments = list(assignments or ())
    if json and log_format is None:
        log_format = "json"
    for name, value in (("log.format", log_format), ("log.level", log_level)):
        if value is not None:
            assignments.append(f"{name}={value}")
    loaded = load_settings(config, data_dir, client_port, plugins, assignments)

    import logging

    from corekit import logs
    from corekit.plugins import wire

    logs.setup(loaded.settings.log_format, loaded.settings.log_level)
    for text in loaded.warnings:
        logging.getLogger("corekit.config").warning(text)
    parts = wire(loaded.settings)

    from corekit.server.server import run

    tell = _tell_json if json else _tell_log if loaded.settings.log_format == "json" else _tell
    raise typer.Exit(run(loaded, parts, tell))


def _tell(started: Started) -> None:
    listens = ", ".join(started.listens) or "no port for clients"
    with contextlib.suppress(OSError):  # a log that is full is no reason not to serve
        if started.admin:
            print(f"admin and metrics on {', '.join(started.admin)}", file=sys.stderr)
        print(f"corekit listens on {listens}, data in {started.data_dir}", file=sys.stderr)
        print(f"plugins: {', '.join(started.plugins)}", file=sys.stderr, flush=True)


def _tell_log(started: Started) -> None:
    """What reads a log of JSON lines on stderr is given nothing else."""
    import logging
    from dataclasses import asdict

    logging.getLogger("corekit.server").info("listening", extra=asdict(started))


def _tell_json(started: Started) -> None:
    import os
    from dataclasses import asdict

    from corekit.cli.output import print_json_line

    print_json_line({"pid": os.getpid(), **asdict(started)})
