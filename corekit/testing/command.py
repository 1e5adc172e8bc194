"""Conformance suite for plugins that add commands: what people expect of each command of `corekit`.

Use: subclass `CommandSuite` in a test file and set `module`; pytest collects the rest.

    class TestMine(CommandSuite):
        module = "my_package"

Rules that it checks
- Every command says in one line what it is for, and answers `--help`.
- No command takes the name of another.
- Adding commands is cheap: it happens for every `corekit --help`, so what a command needs is imported when it runs.

Not here: what the commands do; `process.py` has a server to try them on.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.main import get_command

# Imported only by commands that run: each costs every `corekit --help` a tenth of a second.
HEAVY = ("trio", "anyio", "corekit.client", "corekit.server", "rocksdict", "cryptography", "rich.console")


class CommandSuite:
    """The suite. Subclass it in a test file, see above.

    Attributes:
        module: the plugin's module.
        attribute: of the module, if the plugin is an object in it.
    """

    module: ClassVar[str]
    attribute: ClassVar[str] = ""

    def plugin(self) -> Any:
        """The plugin."""
        module = import_module(self.module)
        return getattr(module, self.attribute) if self.attribute else module

    def app(self) -> typer.Typer:
        """An application with the plugin's commands and nothing else."""
        app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
        app.callback()(_nothing)
        self.plugin().register_commands(app)
        return app

    def commands(self) -> list[tuple[str, Any]]:
        """(name, command) of all commands and groups, those inside of groups too."""
        found: list[tuple[str, Any]] = []

        def walk(prefix: str, group: Any) -> None:
            for name, command in group.commands.items():
                found.append((f"{prefix}{name}", command))
                if hasattr(command, "commands"):
                    walk(f"{prefix}{name} ", command)

        walk("", get_command(self.app()))
        return found

    def test_it_adds_commands(self) -> None:
        assert self.commands(), "register_commands added nothing"

    def test_every_command_says_what_it_is_for(self) -> None:
        for name, command in self.commands():
            if hasattr(command, "commands"):
                continue  # a group may extend one that has its help already
            assert (command.get_short_help_str() or "").strip(), f"{name} has no help: write a docstring"

    def test_every_command_answers_help(self) -> None:
        group = get_command(self.app())
        for name, _ in self.commands():
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    code = group.main([*name.split(), "--help"], prog_name="corekit", standalone_mode=False)
                except Exception as error:
                    raise AssertionError(f"{name} --help raises {error!r}") from error
            assert not code, f"{name} --help: {out.getvalue()}"
            assert "--help" in out.getvalue(), f"{name} --help prints no help"

    def test_no_command_takes_the_name_of_another(self) -> None:
        """Looks at what is installed; a plugin that is not passes."""
        done = subprocess.run([sys.executable, "-m", "corekit", "--help"], capture_output=True, text=True, check=False)
        mine = self.module.partition(".")[0]
        assert [line for line in done.stderr.splitlines() if "the name is taken" in line and mine in line] == []

    def test_adding_commands_imports_nothing_heavy(self) -> None:
        code = (
            "import sys, typer, importlib\n"
            "app, before = typer.Typer(), set(sys.modules)\n"
            f"plugin = importlib.import_module({self.module!r})\n"
            f"plugin = getattr(plugin, {self.attribute!r}) if {self.attribute!r} else plugin\n"
            "plugin.register_commands(app)\n"
            "print(*(set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        heavy = sorted(set(done.stdout.split()) & set(HEAVY))
        assert not heavy, f"adding the commands imports {', '.join(heavy)}: import what a command needs inside it"


def _nothing() -> None:
    """Commands of a plugin."""
