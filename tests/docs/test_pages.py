"""The pages of docs/ say what is true: made pages are up to date, examples run, commands are as described."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from corekit.client import connect
from tests.conftest import Site, running_site
from tests.docs import cli_page
from tests.docs.pages import DOCS, MADE, blocks

ONCE = dict(cli_page.commands(cli_page.once()))
SHELL = dict(cli_page.commands(cli_page.in_shell()))
# What prints no data: it runs until it is stopped, hands its terminal over, or answers by its exit code.
WITHOUT_JSON = {"serve", "shell", "config exec", "worker", "plugin new", "plugin test"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("corekit", tmp_path_factory.mktemp("docs"), {"extendedTypesEnabled": "true"}) as running:
        yield running


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_pages_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == MADE[name](), "run `python -m tests.docs`"


@pytest.mark.parametrize("name", ["client.md", "recipes.md"])
def test_the_python_blocks_run(name: str, site: Site) -> None:
    """All blocks of a page are one coroutine, so that later ones may build on earlier ones."""
    found = blocks(name)
    assert len(found) > 8
    lines = ["async def page(zk, hosts):"]
    for first, block in found:
        lines += [""] * (first - 1 - len(lines))  # so that line numbers are those of the page
        lines += textwrap.indent(block, "    ").splitlines()
    text = "\n".join(lines)
    names: dict[str, Any] = {}
    exec(compile(text, str(DOCS / name), "exec"), names)

    async def run() -> None:
        with anyio.fail_after(60):
            async with connect(f"{site.hosts}/{name}") as zk:
                await zk.ensure("/")
                await names["page"](zk, f"{site.hosts}/{name}")

    anyio.run(run, backend="trio")


@pytest.mark.parametrize("names", sorted(ONCE), ids=" ".join)
def test_a_command_has_examples_that_it_takes(names: tuple[str, ...]) -> None:
    command = ONCE[names]
    name = " ".join(names)
    _, examples, _ = cli_page.split(command.help or "")
    if name == "getEphemerals":  # a session of its own has none: shown as typed in the shell
        examples = [f"corekit {example}" for example in examples]
    ours = [example for example in examples if f"corekit {name}" in example]
    assert ours, f"corekit {name} --help has no example of it"
    for example in ours:
        before, _, text = example.partition(f"corekit {name}")
        if before.endswith("$("):
            text = text.partition(")")[0]
        words = shlex.split(text, comments=True)
        end = next((at for at, word in enumerate(words) if word in ("|", "||", "&&", ">")), len(words))
        command.make_context(names[-1], words[:end])


def test_what_prints_data_prints_json() -> None:
    without = {" ".join(names) for names, command in ONCE.items() if "--json" not in all_options(command)}
    assert without == WITHOUT_JSON


def test_what_speaks_to_an_ensemble_can_be_told_where_and_how() -> None:
    for names, command in ONCE.items():
        options = all_options(command)
        if "--hosts" in options:
            assert {"-H", "--timeout", "--auth", "--session-timeout", "--tls-ca", "--read-only"} <= options, names


def test_every_command_of_the_shell_has_an_example() -> None:
    for names, command in SHELL.items():
        _, examples, _ = cli_page.split(command.help or "")
        assert any(names[0] in example for example in examples), names


# What `help` of ZooKeeper's zkCli.sh (3.8 and 3.9) lists; those of the line editor are in `shell.LINE_COMMANDS`.
ZKCLI = {
    "addWatch": "-m",
    "addauth": "",
    "config": "-c -w -s",
    "create": "-s -e -c -t",
    "delete": "-v",
    "deleteall": "-b",
    "delquota": "-n -b -N -B",
    "get": "-s -w",
    "getAcl": "-s",
    "getAllChildrenNumber": "",
    "getEphemerals": "",
    "listquota": "",
    "ls": "-s -w -R",
    "printwatches": "",
    "reconfig": "-s -v -file -members -add -remove",
    "removewatches": "-c -d -a -l",
    "set": "-s -v",
    "setAcl": "-s -v -R",
    "setquota": "-n -b -N -B",
    "stat": "-w",
    "sync": "",
    "whoami": "",
}


def test_all_commands_and_options_of_zkcli_are_there() -> None:
    from corekit.cli.shell import LINE_COMMANDS

    known = {name: command for (name, *_), command in {**ONCE, **SHELL}.items()} | {"config": SHELL["config",]}
    for name, options in ZKCLI.items():
        assert set(options.split()) <= all_options(known[name]), name
    assert {"close", "connect", "history", "quit", "redo", "version"} <= set(LINE_COMMANDS)


def all_options(command: Any) -> set[str]:
    return {name for one in command.params for name in one.opts if name.startswith("-")}


def test_links_lead_somewhere() -> None:
    import re

    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert Path(page.parent, target).exists(), f"{page.name} links to {target}"
