"""The pages of docs/ say what is true: made pages are up to date, examples run, commands are as described."""

from __future__ import annotations

import doctest
import re
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
PAGES = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("corekit", tmp_path_factory.mktemp("docs"), {"extendedTypesEnabled": "true"}) as running:
        yield running


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_pages_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == MADE[name](), "run `make docs`"


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
    name = " ".join(names)
    _, examples, _ = cli_page.split(ONCE[names].help or "")
    if name == "getEphemerals":  # a session of its own has none: shown as typed in the shell
        examples = [f"corekit {example}" for example in examples]
    ours = [example for example in examples if f"corekit {name}" in example]
    assert ours, f"corekit {name} --help has no example of it"
    for example in ours:
        parse(example)


def parse(line: str) -> None:
    """Fail unless the `corekit` in a command line of a shell is used as it wants to be."""
    before, _, text = re.sub(r"\s+#\s.*", "", line).partition("corekit ")
    if before.endswith("$("):
        text = text.partition(")")[0]
    words = shlex.split(text)
    words = words[: next((at for at, word in enumerate(words) if word in ("|", "||", "&&", ">", "&")), len(words))]
    names = next((tuple(words[:size]) for size in (2, 1) if tuple(words[:size]) in ONCE), None)
    assert names is not None or words[:1] in (["--install-completion"], ["--version"]), f"no such command: {line}"
    if names is not None:
        ONCE[names].make_context(names[-1], words[len(names) :])


@pytest.mark.parametrize("page", sorted(page.name for page in PAGES))
def test_the_command_lines_of_a_page(page: str) -> None:
    text = next(one for one in PAGES if one.name == page).read_text("utf-8")
    text = re.sub(r"^(    )(?:[A-Z_]+=\S* )+corekit ", r"\1corekit ", text, flags=re.MULTILINE)  # variables before it
    lines = re.findall(r"^    (?:\$ )?(corekit [^\n]*)$", text, re.MULTILINE)
    for line in lines if page != "cli.md" else ():  # all of its lines are those of the commands' help
        if not line.startswith(("corekit listens", "corekit is ")):
            parse(line)


def test_the_python_of_the_readme(site: Site) -> None:
    text = (DOCS.parent / "README.md").read_text("utf-8").replace("127.0.0.1:2181", site.hosts)
    python = "\n".join(line if re.match(r"    (>>>|\.\.\.|[^$ ])", line) else "" for line in text.splitlines())
    test = doctest.DocTestParser().get_doctest(python, {}, "README.md", "README.md", 0)
    assert len(test.examples) > 6
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    try:
        runner.run(test, out=report.append, clear_globs=False)
    finally:
        test.globs["zk"].stop()
        test.globs["zk"].close()
    assert not report, "".join(report)


def test_every_command_prints_json() -> None:
    without = [
        " ".join(names) for names, command in [*ONCE.items(), *SHELL.items()] if "--json" not in all_options(command)
    ]
    assert without == []
    assert len(ONCE) > 70, "all commands were looked at"


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
    of_the_program = {"-server", "-timeout", "-r", "-secure", "-waitforconnection", "-client-configuration"}
    assert of_the_program <= all_options(ONCE["shell",])


def all_options(command: Any) -> set[str]:
    return {name for one in command.params for name in one.opts if name.startswith("-")}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert Path(page.parent, target).exists(), f"{page.name} links to {target}"
