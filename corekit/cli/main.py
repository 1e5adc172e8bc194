"""The command `corekit`: its own commands, and those of plugins.

Rules
- Plugins are looked for only when a command is asked for that is not built in, or when all commands are listed, so that
  `corekit serve` starts fast and imports nothing that it does not use.
- A `UserError` is one line on stderr and its exit code, never a traceback. A plugin that fails is told in one line and
  takes away nothing but its own commands.
- What a command needs is imported inside it; the commands on znodes (`verbs.py`) are imported one by one, when they
  are asked for.

Not here: what the commands do (one module each).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from corekit import __version__
from corekit.cli.config_cmd import config_app
from corekit.cli.connection import command as connected
from corekit.cli.options import JsonOption
from corekit.cli.plugins_cmd import plugins
from corekit.cli.serve import serve
from corekit.cli.verbs import VERBS, Where, register
from corekit.errors import UserError

# Commands that need no plugin to be known; a group names those of its own.
BUILT_IN: dict[str, frozenset[str] | None] = {
    "serve": None,
    "plugins": None,
    "version": None,
    "config": frozenset({"show", "ensemble"}),
    "plugin": frozenset({"new", "test"}),
    "ensemble": frozenset({"create", "up"}),
    "shell": None,
    "status": None,
    "check": None,
    "sim": None,
    **{name: None for name, verb in VERBS.items() if Where.ONCE in verb.where},
}

_EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 69 no server, 74 outcome unknown, 77 no permission; serve: 3 data "
    "directory, 14 port in use, 20 disk failed, 21 damage; locks: 70 lost while held, 75 not acquired."
)


def _version_option(value: bool) -> None:
    if value:
        version()
        raise typer.Exit


def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version_option, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A coordination server that ZooKeeper clients cannot tell from Apache ZooKeeper, and tools around it.

    Start a server: corekit serve
    """


def version(json: JsonOption = False) -> None:
    """Print the version of corekit, of Python, and of the plugin API.

    [bold]Example[/bold]

      corekit version --json
    """
    if json:
        from corekit.cli.output import print_json

        print_json(versions())
    else:
        print(version_text())


def versions() -> dict[str, str | int]:
    """What matters in a report of a fault: versions, and whether the modules on the way of a request are compiled."""
    from importlib.util import find_spec
    from platform import python_version

    from corekit.limits import API_VERSION

    compiled = find_spec("corekit._compiled__mypyc") is not None
    return {"corekit": __version__, "python": python_version(), "plugin_api": API_VERSION, "compiled": compiled}


def version_text() -> str:
    """`versions` for people."""
    found = versions()
    kind = "compiled" if found["compiled"] else "not compiled"
    return f"corekit {found['corekit']} (Python {found['python']}, plugin API {found['plugin_api']}, {kind})"


def build(only: str | None = None) -> typer.Typer:
    """The application with the commands that are built in.

    Args:
        only: the command that will run; the modules of other commands on znodes are then not imported.
    """
    app = typer.Typer(
        name="corekit",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    app.command(rich_help_panel="Server")(serve)
    app.command(rich_help_panel="Server")(plugins)
    app.add_typer(config_app(), name="config", rich_help_panel="Server")
    if only in (None, "plugin"):
        from corekit.cli.plugin_cmd import plugin_app

        app.add_typer(plugin_app, name="plugin", rich_help_panel="Server")
    if only in (None, "ensemble"):
        from corekit.cli.ensemble_cmd import ensemble_app

        app.add_typer(ensemble_app, name="ensemble", rich_help_panel="Server")
    if only in (None, "sim"):
        from corekit.cli.sim_cmd import sim

        app.command(rich_help_panel="Server")(sim)
    app.command(rich_help_panel="Server")(version)
    if only is None or only in ("status", "shell"):
        from corekit.cli.shell import shell
        from corekit.cli.status import status

        app.command(rich_help_panel="Ensemble")(connected(status))
        # What follows a command of the shell is that command's, with its options.
        app.command(rich_help_panel="Ensemble", context_settings={"allow_interspersed_args": False})(connected(shell))
    if only in (None, "check"):
        from corekit.cli.check_cmd import check

        app.command(rich_help_panel="Ensemble")(connected(check))
    for name in VERBS if only is None else {only} & set(VERBS):
        register(app, name, Where.ONCE)
    return app


def needs_plugins(arguments: Sequence[str]) -> bool:
    """Whether this command line can only be understood with the commands of plugins."""
    if any(name.startswith("_COREKIT_COMPLETE") for name in os.environ):
        return True
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        return "--version" not in arguments
    if words[0] not in BUILT_IN:
        return True
    inner = BUILT_IN[words[0]]
    return inner is not None and (len(words) == 1 or words[1] not in inner)


def add_plugin_commands(app: typer.Typer) -> list[str]:
    """Let plugins add their commands. Returns a line for each that could not.

    A group that exists already (`config`) is extended; a command that exists already is refused.
    """
    from corekit.plugins import register_commands

    problems = register_commands(app)
    _merge(app, "", problems)
    return problems


def _merge(app: typer.Typer, path: str, problems: list[str]) -> None:
    groups: dict[str, typer.Typer] = {}
    kept_groups = []
    for group in app.registered_groups:
        inner = group.typer_instance
        name = group.name or (inner.info.name if inner is not None else None) or ""
        if inner is None or not isinstance(name, str) or name not in groups:
            kept_groups.append(group)
            if inner is not None and isinstance(name, str):
                groups[name] = inner
        else:
            groups[name].registered_commands.extend(inner.registered_commands)
            groups[name].registered_groups.extend(inner.registered_groups)
    app.registered_groups[:] = kept_groups
    taken = set(groups)
    kept_commands = []
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__.replace("_", "-") if command.callback else "")
        if name in taken:
            owner = getattr(command.callback, "__module__", "?")
            problems.append(f"the command {path}{name} of {owner} is left out: the name is taken")
        else:
            taken.add(name)
            kept_commands.append(command)
    app.registered_commands[:] = kept_commands
    for name, inner in groups.items():
        _merge(inner, f"{path}{name} ", problems)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale that knows less than UTF-8 is no mistake
    try:
        if words and words[0].split("=")[0] in ("-H", "--hosts", "--timeout", "--auth", "--json"):
            raise UserError(f"{words[0]} comes after the command: corekit get {words[0]} ... /path; see corekit --help")
        all_commands = needs_plugins(words)
        app = build(None if all_commands else next((word for word in words if not word.startswith("-")), ""))
        if all_commands:
            for problem in add_plugin_commands(app):
                print(f"corekit: warning: {problem}", file=sys.stderr)
        command = typer.main.get_command(app)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since `corekit.__main__`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command(words, prog_name="corekit")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends with 1 then; see `connection.failure`
            sys.exit(128 + signal.SIGPIPE)
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        print(f"corekit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
