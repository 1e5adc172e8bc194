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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corekit.cli.options import JsonOption, SetOption, entries
from corekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

    import pytest

    from corekit.plugins.discover import Found

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
    json: JsonOption = False,
) -> None:
    """Write a complete package with a plugin that works, and tests that pass.

    [bold]Examples[/bold]

      corekit plugin new sqlite --kind storage

      cd corekit-sqlite && pip install -e '.\\[test]' && pytest && corekit serve --plugins sqlite
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name} is no name for a plugin; accepted are lower case letters, digits, and dashes between")
    _check_free(name)
    where = directory or Path(f"corekit-{name}")
    try:
        empty = not where.exists() or not any(where.iterdir())
    except OSError as error:
        raise UserError(f"cannot write {where}: {error.strerror}; name another directory with --dir") from None
    if not empty:
        raise UserError(f"{where} is not empty; name another directory with --dir")
    written = write(where, name, kind)
    if json:
        from corekit.cli.output import print_json

        print_json({"name": name, "kind": kind, "directory": str(where), "files": written, "use": _use(name, kind)})
        return
    for path in written:
        print(where / path)
    print(f"\nNext: cd {where} && pip install -e '.[test]' && pytest && {_use(name, kind)}")


def _check_free(name: str) -> None:
    """No other package may bring a plugin of this name: nobody could use either."""
    from corekit.plugins.discover import installed

    taken = installed().get(name)
    if taken is not None and taken.package != f"corekit-{name}":
        raise UserError(f"there is a {taken} already, and a name stands for one plugin; choose another name")


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
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Run the conformance suite of its kind on an installed plugin.

    One line for each promise of the contract. The exit code is 0 if all are kept, 1 if one is broken, and 2 if there
    is nothing to test.

    [bold]Examples[/bold]

      corekit plugin test rocks

      corekit plugin test sqlite --verbose

      corekit plugin test sqlite --json

      corekit plugin test badge -s plugin.badge.secret=xyz   [dim]# if it does not bring its own tests[/dim]
    """
    try:
        import pytest  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise UserError("corekit plugin test needs pytest: pip install 'corekit[test]'") from None
    settings = [(key, value) for key, value, _ in entries(None, None, None, assignments)]
    raise typer.Exit(run_suite(name, settings, verbose=verbose, json=json))


def run_suite(name: str, settings: Sequence[tuple[str, str]] = (), *, verbose: bool = False, json: bool = False) -> int:
    """Run the tests of a plugin and print a report; 0 if none failed.

    Args:
        settings: by key; for a plugin without tests of its own.

    Raises:
        PluginError: there is nothing to test.
    """
    import tempfile

    import pytest

    from corekit.plugins.discover import find, installed, load
    from corekit.testing.plugin import tests_of

    one = find(name, installed())
    load(one)
    tests = tests_of(name, settings)
    report = _Report(one, verbose=verbose, json=json)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "test_plugin.py"
        file.write_text(
            f"from corekit.testing import plugin\nglobals().update(plugin.tests_of({name!r}, {settings!r}))\n"
        )
        report.say(f"{one}, kind {one.kind}: {', '.join(sorted(_shown(key) for key in tests))}")
        arguments = ["-p", "no:terminal", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", directory, str(file)]
        code = pytest.main([*arguments, "--basetemp", f"{directory}/data"], plugins=[report])
    return report.finish(int(code))


def _shown(name: str) -> str:
    return name.removeprefix("Test").removeprefix("test").strip("_").replace("_", " ")


@dataclass(slots=True)
class _Result:
    """What became of one test: `ok`, `skip` (why in `note`) or `FAIL` (`error` in short, `details` in full)."""

    suite: str
    promise: str
    result: str
    note: str = ""
    error: str = ""
    details: str = ""


class _Report:
    """A plugin of pytest that prints one line a test, as a sentence; or everything at the end, as JSON."""

    def __init__(self, one: Found, *, verbose: bool, json: bool) -> None:
        self._one = one
        self._verbose = verbose
        self._json = json
        self._results: list[_Result] = []
        self._broken: list[str] = []

    def say(self, line: str) -> None:
        """For people."""
        if not self._json:
            print(line, flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        if report.when != "call" and report.passed:
            return
        suite, promise = _sentence(report.nodeid)
        result = _Result(suite, promise, "ok" if report.passed else "skip" if report.skipped else "FAIL")
        if report.skipped and isinstance(report.longrepr, tuple):
            result.note = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            result.error = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
            result.details = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
            if report.when != "call":
                result.note = f"while it was set {'up' if report.when == 'setup' else 'down'}"
        self._results.append(result)
        self.say(f"  {result.result:<4}  {promise}" + (f" ({result.note})" if result.note else ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """The tests could not be collected."""
        if report.failed:
            self._broken.append(str(report.longrepr))

    def finish(self, code: int) -> int:
        """The end of the report; the exit code."""
        failed = [result for result in self._results if result.result == "FAIL"]
        for result in failed:
            self.say(f"\nFAIL  {result.promise}")
            self.say(result.details if self._verbose else f"      {result.error}")
        for text in self._broken:
            self.say(f"\nFAIL  {text}")
        kept = not (failed or self._broken or code)
        counts = {word: sum(result.result == word for result in self._results) for word in ("ok", "FAIL", "skip")}
        verdict = "keeps its contract" if kept else "breaks its contract"
        self.say(f"\n{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} left out: the plugin {verdict}")
        if failed and not self._verbose:
            self.say("More with --verbose.")
        if self._json:
            self._print_json(kept)
        return 0 if kept else 1

    def _print_json(self, kept: bool) -> None:
        from corekit.cli.output import print_json

        promises = [
            {
                "suite": result.suite,
                "promise": result.promise,
                "result": {"ok": "kept", "FAIL": "broken", "skip": "left out"}[result.result],
                "note": result.note or None,
                "error": (result.details if self._verbose else result.error) or None,
            }
            for result in self._results
        ]
        one = self._one
        head = {"name": one.name, "kind": one.kind, "package": one.package, "version": one.version}
        print_json(head | {"keeps_its_contract": kept, "promises": promises, "errors": self._broken})


def _sentence(nodeid: str) -> tuple[str, str]:
    """`...::TestMine::test_what_was_synced_survives[3]` -> (`Mine`, `what was synced survives [3]`)."""
    before, _, name = nodeid.rpartition("::")
    words, bracket, parameters = name.partition("[")
    suite = before.rpartition("::")[2] if "::" in before else ""
    return _shown(suite), _shown(words) + (f" {bracket}{parameters}" if bracket else "")
