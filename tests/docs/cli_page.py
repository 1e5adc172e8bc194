"""`docs/cli.md`: a written beginning (`cli_head.md`), then every command as its own `--help` describes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from corekit.cli.connection import PANEL
from corekit.cli.main import add_plugin_commands, build
from corekit.cli.verbs import VERBS, Where, register

HEAD = Path(__file__).parent / "cli_head.md"


def once() -> Any:
    """The whole `corekit`, with the commands of plugins."""
    app = build()
    assert add_plugin_commands(app) == []
    return typer.main.get_command(app)


def in_shell() -> Any:
    """The commands of `corekit shell` that are not commands of their own."""
    app = typer.Typer()
    app.callback()(lambda: None)
    for name, verb in VERBS.items():
        if Where.ONCE not in verb.where:
            register(app, name, Where.SHELL)
    return typer.main.get_command(app)


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is not a group, with its names."""
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*names, name))
        elif not found.hidden:
            yield (*names, name), found


def plain(help_text: str) -> str:
    """Help without rich's marks."""
    return re.sub(r"\[/?(bold|dim|italic)\]", "", help_text).replace("\\[", "[")


def split(help_text: str) -> tuple[str, list[str], str]:
    """What stands before the examples, the command lines, and what follows."""
    before, _, rest = plain(help_text).partition("Example")
    lines = rest.splitlines()[1:]
    found = [line.strip() for line in lines if line.startswith("  ") and line.strip()]
    after = [line for line in lines if line.strip() and not line.startswith("  ")]
    return before.strip(), found, "\n".join(after)


def options(command: Any) -> list[Any]:
    """The options that are the command's own: not those of the connection."""
    found = [one for one in command.params if any(name.startswith("-") for name in one.opts)]
    theirs = connection_options(command)
    return [one for one in found if one not in theirs and not getattr(one, "hidden", False)]


def connection_options(command: Any) -> list[Any]:
    """The options of the connection."""
    return [one for one in command.params if getattr(one, "rich_help_panel", None) == PANEL]


def usage(names: tuple[str, ...], command: Any, program: str) -> str:
    """The first line about a command."""
    arguments = []
    for one in command.params:
        if (one.opts and one.opts[0].startswith("-")) or getattr(one, "hidden", False):
            continue
        shown = one.metavar or one.name.upper()
        arguments.append(shown if one.required or shown.startswith("[") else f"[{shown}]")
    return " ".join([*([program] if program else []), *names, "[OPTIONS]", *arguments])


def option_lines(params: list[Any]) -> list[str]:
    """One line an option."""
    lines = []
    for one in params:
        names = ", ".join(f"`{name}`" for name in sorted(one.opts, key=len, reverse=True))
        value = "" if getattr(one, "is_flag", False) else f" {one.metavar or _kind(one)}"
        default = one.default if not callable(one.default) else None
        default = getattr(default, "value", default)
        shown = getattr(one, "show_default", True)
        notes = []
        if isinstance(shown, str):
            notes.append(f"default: {shown}")
        elif shown and default not in (None, False, "", ()):
            notes.append(f"default: {default:g}" if isinstance(default, float) else f"default: {default}")
        if one.envvar:
            notes.append(f"environment: `{one.envvar}`")
        note = f" ({'; '.join(notes)})" if notes else ""
        lines.append(f"- {names}{value.replace('|', ' or ')}: {plain(one.help or '').strip()}{note}")
    return lines


def _kind(option: Any) -> str:
    kinds = {"int": "N", "float": "NUMBER", "str": "TEXT", "text": "TEXT"}
    choices = getattr(option.type, "choices", None)
    return "|".join(choices) if choices else kinds.get(option.type.name.partition(" ")[0], "VALUE")


def section(names: tuple[str, ...], command: Any, program: str) -> list[str]:
    """Everything about one command."""
    before, examples, after = split(command.help or "")
    lines = [f"### {' '.join(names)}", "", f"    {usage(names, command, program)}", "", before, ""]
    lines += ["Examples:", "", *(f"    {example}" for example in examples), "", *([after, ""] if after else [])]
    own = option_lines(options(command))
    if own:
        lines += [*own, ""]
    return lines


def page() -> str:
    """The whole of `docs/cli.md`."""
    root = once()
    found = dict(commands(root))
    lines = [HEAD.read_text("utf-8").rstrip(), "", "## Options of the connection", ""]
    lines += ["All commands that speak to an ensemble have these. `lock acquire` and other commands that wait use"]
    lines += ["`--timeout` for their own wait.", ""]
    lines += [*option_lines(connection_options(found["ls",])), ""]
    panels: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for names, command in found.items():
        panel = root.commands[names[0]].rich_help_panel
        panels.setdefault(str(panel), []).append((names, command))
    for panel, inside in panels.items():
        lines += [f"## {panel}", ""]
        for names, command in inside:
            lines += section(names, command, "corekit")
    lines += ["## Only in the shell", ""]
    for names, command in commands(in_shell()):
        lines += section(names, command, "")
    return "\n".join(lines).rstrip() + "\n"
