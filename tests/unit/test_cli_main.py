"""The command line as a process: exit codes, messages, commands of plugins."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from corekit import __version__
from corekit.cli.connection import run_async
from corekit.cli.main import BUILT_IN, build, needs_plugins
from corekit.errors import ConnectionLossError, UserError
from corekit.limits import API_VERSION

Run = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = f"""
kind = "command"
api_version = {API_VERSION}
from corekit.hooks import hookimpl
import typer

@hookimpl
def register_commands(app):
    @app.command()
    def hello(name: str):
        "Say hello."
        print("hello", name)

    @app.command()
    def version():
        "A name that is taken."

    config = typer.Typer()
    app.add_typer(config, name="config")

    @config.command()
    def praise(key: str):
        "Get a value."
        print("value of", key)

    @config.command()
    def show():
        "A name that is taken."
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `corekit` in an empty directory with the plugins of `stranger`."""

    def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
        environ |= {"PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "200", "TERM": "dumb", **variables}
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "corekit", *arguments],
            cwd=work,
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run_command


def install(tmp_path: Path, name: str, source: str) -> None:
    site = tmp_path / "site"
    info = site / f"corekit_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}_plugin.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: corekit-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[corekit]\n{name} = {name}_plugin\n")


def test_version(run: Run) -> None:
    for arguments in (["version"], ["--version"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith(f"corekit {__version__} (Python 3.")
        assert done.stderr == ""


def test_help_teaches(run: Run) -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    for text in ("corekit serve --config zoo.cfg", "--data-dir", "--client-port", "--plugins", "--set", "KEY=VALUE"):
        assert text in done.stdout
    listed = run("--help").stdout
    assert all(name in listed for name in BUILT_IN)
    assert run().stdout.strip() == listed.strip()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "--config", "none.cfg"], "corekit: configuration file none.cfg does not exist\n"),
        (
            ["serve", "--set", "tickTime=x"],
            "corekit: --set tickTime: tickTime=x is not accepted; accepted is an integer",
        ),
        (["serve", "--set", "tickTime"], "corekit: --set tickTime is not accepted; accepted is --set KEY=VALUE\n"),
        (["serve", "--client-port", "x"], "corekit: --client-port: clientPort=x is not accepted"),
        (["serve", "--plugins", "memroy"], "corekit: there is no plugin memroy. Did you mean memory? Installed are: "),
        (["serve", "-p", "memory,rocks"], "corekit: memory and rocks are both of kind storage"),
        (["serve", "-p", "no:tcp"], "corekit: no transport is left: tcp is excluded"),
        (["config", "show", "--config", "none.cfg"], "corekit: configuration file none.cfg does not exist\n"),
        (["plugins", "--set", "qq"], "corekit: --set qq is not accepted"),
        (["-H", "h1:2181", "get", "/a"], "corekit: -H comes after the command: corekit get -H ... /path"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(run: Run, arguments: list[str], text: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(text)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([KeyboardInterrupt(), ConnectionLossError(), ConnectionLossError()], 130),
        ([ConnectionLossError(), ExceptionGroup("", [BrokenPipeError(), ConnectionLossError()])], 141),
        ([ConnectionLossError(), ConnectionLossError()], 69),
    ],
)
def test_of_several_errors_the_one_that_brought_about_the_others_is_told(errors: list[Exception], code: int) -> None:
    async def fail() -> None:
        raise BaseExceptionGroup("tasks", errors)

    with pytest.raises((typer.Exit, UserError)) as caught:
        run_async(fail)
    assert caught.value.exit_code == code


def test_wrong_use_is_exit_code_2(run: Run) -> None:
    assert run("serve", "--no-such-option").returncode == 2
    assert run("no-such-command").returncode == 2


def test_a_broken_plugin_stops_serve_with_its_name(run: Run, tmp_path: Path) -> None:
    install(tmp_path, "sqlite", "raise ImportError('no sqlite here')")
    done = run("serve", "--plugins", "sqlite")
    assert done.returncode == 2
    expected = "corekit: plugin sqlite (corekit-sqlite 1.0) cannot be imported: ImportError: no sqlite here\n"
    assert done.stderr == expected


def test_plugins_add_commands_and_extend_groups(run: Run, tmp_path: Path) -> None:
    install(tmp_path, "greeter", COMMANDS)
    done = run("hello", "world")
    assert (done.returncode, done.stdout) == (0, "hello world\n")
    assert run("config", "praise", "k").stdout == "value of k\n"
    assert "hello" in run("--help").stdout
    group = run("config", "--help").stdout
    assert "show" in group
    assert "praise" in group


def test_a_command_whose_name_is_taken_is_left_out_and_said_so(run: Run, tmp_path: Path) -> None:
    install(tmp_path, "greeter", COMMANDS)
    done = run("hello", "world")
    taken = [line for line in done.stderr.splitlines() if "name is taken" in line]
    assert taken == [
        "corekit: warning: the command version of greeter_plugin is left out: the name is taken",
        "corekit: warning: the command config show of greeter_plugin is left out: the name is taken",
    ]
    assert run("version").stdout.startswith("corekit ")


def test_a_plugin_that_fails_takes_no_other_command_away(run: Run, tmp_path: Path) -> None:
    install(tmp_path, "greeter", COMMANDS)
    install(tmp_path, "broken", "kind = 'command'\nraise RuntimeError('oops')")
    install(
        tmp_path,
        "raiser",
        f"from corekit.hooks import hookimpl\nkind = 'command'\napi_version = {API_VERSION}\n"
        "@hookimpl\ndef register_commands(app): raise KeyError('x')\n",
    )
    done = run("hello", "you")
    assert (done.returncode, done.stdout) == (0, "hello you\n")
    assert "warning: plugin broken (corekit-broken 1.0) cannot be imported: RuntimeError: oops" in done.stderr
    assert "warning: plugin raiser (corekit-raiser 1.0) failed in register_commands: KeyError: 'x'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["serve"], False),
        (["serve", "--config", "x"], False),
        (["version"], False),
        (["--version"], False),
        (["config", "show"], False),
        (["config", "get"], True),
        (["config"], True),
        (["config", "--help"], True),
        (["--help"], True),
        ([], True),
        (["lock", "acquire"], True),
    ],
)
def test_plugins_are_looked_for_only_when_needed(arguments: list[str], needed: bool) -> None:
    assert needs_plugins(arguments) is needed


def test_what_is_built_in_is_known_as_such() -> None:
    app = build()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert commands | set(groups) == set(BUILT_IN)
    for name, group in groups.items():
        assert group is not None
        inner = {command.name or command.callback.__name__ for command in group.registered_commands if command.callback}
        assert inner == BUILT_IN[name]


# ------------------------------------------------------------------------------------------- listings
def test_plugins_as_json(run: Run, tmp_path: Path) -> None:
    install(tmp_path, "broken", "raise RuntimeError('oops')")
    done = run("plugins", "--json", "-p", "memory", "--set", "tickTime=5")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert found["memory"] == {
        "name": "memory",
        "kind": "storage",
        "version": __version__,
        "package": "corekit",
        "module": "corekit.builtin.memory",
        "hooks": ["make_storage"],
        "used": True,
        "why": "named",
        "error": None,
    }
    assert found["rocks"]["used"] is False
    assert found["rocks"]["why"] == "another storage is named"
    assert "oops" in found["broken"]["error"]


def test_plugins_into_a_pipe_are_lines_with_tabs(run: Run) -> None:
    rows = [line.split("\t") for line in run("plugins").stdout.splitlines()]
    assert ["yes", "tcp", "transport", f"corekit {__version__}", "default transport", "make_transport"] in rows


def test_config_show(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "zoo.cfg").write_text(
        "tickTime=500\nDigestAuthenticationProvider.superDigest=super:hash\nserver.1=a:1:2\n"
        "plugin.token.secret=hunter2\nplugin.token.days=3\nfoo=1\n"
    )
    done = run("config", "show", "-c", "zoo.cfg", "--json", "-s", "skipACL=yes", COREKIT_INIT_LIMIT="7")
    shown = json.loads(done.stdout)
    assert shown["config_file"] == "zoo.cfg"
    assert shown["warnings"] == ["zoo.cfg:6: unknown key foo"]
    settings = shown["settings"]
    assert settings["tick_time_ms"] == {"key": "tickTime", "value": 500, "origin": "zoo.cfg:1"}
    assert settings["init_limit"] == {"key": "initLimit", "value": 7, "origin": "$COREKIT_INIT_LIMIT"}
    assert settings["skip_acl"] == {"key": "skipACL", "value": True, "origin": "--set skipACL"}
    assert settings["super_digest"]["value"] == "********"
    assert settings["servers"]["value"] == {"server.1": "a:1:2:participant"}
    assert settings["plugin_options"]["value"] == {"plugin.token.secret": "********", "plugin.token.days": "3"}
    assert settings["max_cnxns"]["origin"] == "default"
    assert "hunter2" not in done.stdout + done.stderr
    assert "super:hash" not in done.stdout + done.stderr

    plain = run("config", "show", "-c", "zoo.cfg", "--changed")
    lines = plain.stdout.splitlines()
    assert "tick_time_ms\ttickTime\t500\tzoo.cfg:1" in lines
    assert "four_letter_words" not in plain.stdout
    assert plain.stderr == "corekit: warning: zoo.cfg:6: unknown key foo\n"


def test_what_config_show_prints_can_be_set_again(run: Run) -> None:
    """Every shown value is accepted under the setting's own name, so the listing teaches the syntax."""
    rows = [line.split("\t") for line in run("config", "show").stdout.splitlines()]
    assignments = [f"--set={name}={value}" for name, key, value, _ in rows if key and value]
    assert len(assignments) > 90
    assert run("config", "show", *assignments).returncode == 0
