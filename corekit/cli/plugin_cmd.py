"""`corekit plugin`: begin a plugin (`new`), and see whether an installed one keeps its contract (`test`).

What `new` writes stands in `scaffold/`, one folder a kind and `common` for all. A file is text with `{{name}}` and the
like in it, and `.txt` behind its name; a file of a kind goes before one of the same name in `common`.

Not here: the list of plugins (`plugins_cmd.py`), the suites (`corekit.testing`).
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corekit.errors import UserError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import pytest

plugin_app = typer.Typer(no_args_is_help=True, help="Write plugins of your own and test them.")

Kind = Literal["storage", "consensus", "auth", "transport", "protocol", "recipe", "observer", "command"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TITLES: dict[str, str] = {
    "storage": "Storage",
    "consensus": "A consensus",
    "auth": "An authentication scheme",
    "transport": "A transport",
    "protocol": "A client protocol",
    "recipe": "A recipe",
    "observer": "An observer",
    "command": "A command",
}
_IN_TESTS = ("test_conformance.py",)
_AT_THE_TOP = ("pyproject.toml", "README.md", "gitignore")


@plugin_app.command()
def new(
    name: Annotated[str, typer.Argument(help="What --plugins calls it: lower case, digits and dashes.")],
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What it is to be.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where to write (default: ./corekit-NAME).")
    ] = None,
) -> None:
    """Write a complete package with a plugin that works, and tests that pass.

    [bold]Examples[/bold]

      corekit plugin new sqlite --kind storage

      cd corekit-sqlite && pip install -e '.\\[test]' && pytest && corekit serve --plugins sqlite
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name} is no name for a plugin; accepted are lower case letters, digits, and dashes between")
    where = directory or Path(f"corekit-{name}")
    if where.exists() and any(where.iterdir()):
        raise UserError(f"{where} is not empty; name another directory with --dir")
    written = write(where, name, kind)
    for path in written:
        print(where / path)
    print(f"\nNext: cd {where} && pip install -e '.[test]' && pytest && {_use(name, kind)}")


def write(where: Path, name: str, kind: str) -> list[str]:
    """Write the package of a plugin; the files, relative to `where`.

    Raises:
        UserError: the directory cannot be written.
    """
    from importlib.resources import files

    values = _values(name, kind)
    if values["module"] in sys.stdlib_module_names or keyword.iskeyword(values["module"]):
        raise UserError(f"{name} is no name for a plugin: {values['module']} has a meaning in Python")
    scaffold = files("corekit.cli") / "scaffold"
    found: dict[str, Traversable] = {}
    for folder in ("common", kind):
        found.update({item.name.removesuffix(".txt"): item for item in (scaffold / folder).iterdir()})
    written = {_place(file, values["module"]): _fill(item.read_text("utf-8"), values) for file, item in found.items()}
    written[f"{values['module']}/py.typed"] = ""
    try:
        for path, text in written.items():
            (where / path).parent.mkdir(parents=True, exist_ok=True)
            (where / path).write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {where}: {error.strerror}") from error
    return sorted(written)


def _values(name: str, kind: str) -> dict[str, str]:
    from corekit import __version__
    from corekit.limits import API_VERSION

    return {
        "name": name,
        "kind": kind,
        "title": _TITLES[kind],
        "package": f"corekit-{name}",
        "module": f"corekit_{name.replace('-', '_')}",
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "use": _use(name, kind),
        "api": str(API_VERSION),
        "corekit": __version__,
    }


def _use(name: str, kind: str) -> str:
    if kind in ("command", "recipe"):
        return f"corekit {name} --help"
    return f"corekit serve --plugins {name}" + (",zookeeper" if kind == "protocol" else "")


def _place(file: str, module: str) -> str:
    if file in _IN_TESTS:
        return f"tests/{file}"
    if file == "gitignore":
        return ".gitignore"
    return file if file in _AT_THE_TOP else f"{module}/{file}"


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


@plugin_app.command(name="test")
def try_out(
    name: Annotated[str, typer.Argument(help="An installed plugin, as --plugins calls it.")],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Whole tracebacks, and what was printed.")] = False,
) -> None:
    """Run the conformance suite of its kind on an installed plugin.

    [bold]Examples[/bold]

      corekit plugin test rocks

      corekit plugin test sqlite --verbose
    """
    try:
        import pytest  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise UserError("corekit plugin test needs pytest: pip install 'corekit[test]'") from None
    raise typer.Exit(run_suite(name, verbose=verbose))


def run_suite(name: str, *, verbose: bool = False) -> int:
    """Run the tests of a plugin and print a report; 0 if none failed.

    Raises:
        PluginError: there is nothing to test.
    """
    import tempfile

    import pytest

    from corekit.plugins.discover import find, installed, load
    from corekit.testing.plugin import tests_of

    one = find(name, installed())
    load(one)
    report = _Report(verbose)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "test_plugin.py"
        file.write_text(f"from corekit.testing import plugin\nglobals().update(plugin.tests_of({name!r}))\n")
        tests = tests_of(name)
        print(f"{one}, kind {one.kind}: {', '.join(sorted(_shown(key) for key in tests))}")
        arguments = ["-p", "no:terminal", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", directory, str(file)]
        code = pytest.main([*arguments, "--basetemp", f"{directory}/data"], plugins=[report])
    return report.finish(int(code))


def _shown(name: str) -> str:
    return name.removeprefix("Test").removeprefix("test").strip("_").replace("_", " ")


class _Report:
    """A plugin of pytest that prints one line a test, as a sentence."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._counts = {"ok": 0, "skip": 0, "FAIL": 0}
        self._failures: list[pytest.TestReport] = []
        self._broken: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        if report.when != "call" and report.passed:
            return
        word = "ok" if report.passed else "skip" if report.skipped else "FAIL"
        self._counts[word] += 1
        text = _sentence(report.nodeid)
        if report.skipped and isinstance(report.longrepr, tuple):
            text += f" ({report.longrepr[2].removeprefix('Skipped: ')})"
        if word == "FAIL":
            self._failures.append(report)
            text += "" if report.when == "call" else f" (while it was set {'up' if report.when == 'setup' else 'down'})"
        print(f"  {word:<4}  {text}", flush=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """The tests could not be collected."""
        if report.failed:
            self._broken.append(str(report.longrepr))

    def finish(self, code: int) -> int:
        """The end of the report; the exit code."""
        for failure in self._failures:
            print(f"\nFAIL  {_sentence(failure.nodeid)}")
            if self._verbose:
                print(failure.longreprtext, *(text for _, text in failure.sections), sep="\n")
            else:
                crash = getattr(failure.longrepr, "reprcrash", None)
                print(f"      {crash.path}:{crash.lineno}: {crash.message}" if crash else failure.longreprtext)
        for text in self._broken:
            print(f"\nFAIL  {text}")
        counts = self._counts
        verdict = "keeps its contract" if not (self._failures or self._broken or code) else "breaks its contract"
        print(f"\n{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} left out: the plugin {verdict}")
        if not self._verbose and self._failures:
            print("More with --verbose.")
        return 0 if not code and not self._broken else 1


def _sentence(nodeid: str) -> str:
    """`...::TestMine::test_what_was_synced_survives_a_crash[3]` -> `what was synced survives a crash [3]`."""
    name = nodeid.rpartition("::")[2]
    words, bracket, parameters = name.partition("[")
    return _shown(words) + (f" {bracket}{parameters}" if bracket else "")
