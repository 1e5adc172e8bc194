"""What people ask about plugins: a list of them, and the commands that they add to the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from corekit.config import Settings
from corekit.errors import PluginError
from corekit.hooks import PluginInfo
from corekit.plugins.choose import choose, default_name
from corekit.plugins.discover import Found, find, installed, load, peek_kind
from corekit.plugins.wiring import caller, new_manager

if TYPE_CHECKING:
    import typer


def describe(settings: Settings, environ: Mapping[str, str] | None = None) -> list[PluginInfo]:
    """Every installed plugin and whether a server with these settings would use it. Imports them all."""
    found = installed(environ)
    named, excluded = set(settings.plugins), set(settings.plugins_excluded)
    infos: list[PluginInfo] = []
    for name in sorted(found):
        one, error = found[name], ""
        try:
            load(find(name, found))
        except PluginError as problem:
            error = str(problem)
        infos.append(one.info(used=False, why="", error=error))
    named_kinds = {info.kind for info in infos if info.name in named}
    return [_judge(info, settings, named, named_kinds, excluded) for info in infos]


def check_choice(settings: Settings, environ: Mapping[str, str] | None = None) -> None:
    """Whether a server with these settings finds its plugins.

    Raises:
        PluginError: it does not; says why.
    """
    choose(settings, installed(environ))


def _judge(
    info: PluginInfo, settings: Settings, named: set[str], named_kinds: set[str], excluded: set[str]
) -> PluginInfo:
    default = default_name(info.kind, settings)
    if info.error:
        return replace(info, why="named, but broken" if info.name in named else "broken")
    if info.name in excluded:
        return replace(info, why="excluded")
    if info.name in named:
        return replace(info, used=True, why="named")
    if info.kind in ("command", "recipe"):
        return replace(info, used=True, why="its commands are used when it is installed")
    if info.name == default:
        if info.kind in named_kinds:
            return replace(info, why=f"another {info.kind} is named")
        return replace(info, used=True, why=f"default {info.kind}")
    return replace(info, why="not named")


def register_commands(app: typer.Typer, environ: Mapping[str, str] | None = None) -> list[str]:
    """Let the installed plugins of kind `command` and `recipe` add to the command line.

    Returns:
        A text for each plugin that could not: a broken plugin must not take the other commands away.
    """
    problems: list[str] = []
    usable: list[Found] = []
    found = installed(environ)
    for name in sorted(found):
        if peek_kind(found[name].point.module) not in ("command", "recipe", None):
            continue
        try:
            one = find(name, found)
            load(one)
        except PluginError as error:
            problems.append(str(error))
            continue
        if one.kind in ("command", "recipe") and "register_commands" in one.hooks:
            usable.append(one)
    manager = new_manager(usable, os.environ if environ is None else environ)
    for one in usable:
        try:
            caller(manager, "register_commands", one)(app=app)
        except Exception as error:
            problems.append(f"{one} failed in register_commands: {type(error).__name__}: {error}")
    return problems
