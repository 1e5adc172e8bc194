"""The form of the code: headers, sizes, docstrings, leftovers."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tidy.source import Source, product, suite

# What to aim at is 450 and 70; what lies between is for a reviewer to judge.
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 90
SELF_EXPLAINING = {"corekit.codec.records"}  # ZooKeeper's own record names and fields, nothing to add
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
EVERY_FILE = [*product(), *suite()]


def header(source: Source) -> Iterator[str]:
    if source.text.strip() and not ast.get_docstring(source.tree):
        yield f"{source.path}:1: begin with a docstring: what the file is for, its rules, what is not in it"


def sizes(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{source.path}: {lines} lines; look for two roles in it and give each a file"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{source.path}:{node.lineno}: {node.name} has {length} lines; look for two roles in it"


def docstrings(source: Source) -> Iterator[str]:
    """Public classes and functions of a module; methods that implement a contract have its docstring."""
    if source.module in SELF_EXPLAINING:
        return
    for node in source.tree.body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            yield f"{source.path}:{node.lineno}: {node.name} is public: say what it is for, its units, what it raises"


def leftovers(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if source.path.startswith("tests/tidy/"):
            return
        if LEFTOVER.search(line):
            yield f"{source.path}:{number}: do it, open an issue, or leave it out"


def prints(source: Source) -> Iterator[str]:
    if source.module.startswith(("corekit.cli", "corekit_recipes", "corekit.testing")):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            to_stderr = any(word.arg == "file" for word in node.keywords)
            if not to_stderr:
                yield f"{source.path}:{node.lineno}: print() belongs to commands; use `logging` with `extra=`"


def sleeps(source: Source) -> Iterator[str]:
    """A test that sleeps to wait for something is slow when it passes and wrong when it fails."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep"):
            inside = _enclosing_loop(source.tree, node)
            if not inside:
                yield f"{source.path}:{node.lineno}: poll with a deadline, or use trio's autojump clock"


def _enclosing_loop(tree: ast.Module, wanted: ast.Call) -> bool:
    """Whether the call is part of a loop: then it is the pause between two looks."""
    return any(
        any(child is wanted for child in ast.walk(loop))
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While | ast.For)
    )


@pytest.mark.parametrize("rule", [header, sizes, leftovers], ids=lambda rule: rule.__name__)
def test_every_file(rule) -> None:
    found = [fault for source in EVERY_FILE for fault in rule(source)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", [docstrings, prints], ids=lambda rule: rule.__name__)
def test_every_shipped_file(rule) -> None:
    found = [fault for source in product() for fault in rule(source)]
    assert not found, "\n" + "\n".join(found)


def test_no_test_waits_by_sleeping() -> None:
    # Those of `cluster` let faults last for a while, which is what they are about; they wait for nothing that way.
    found = [fault for source in suite() for fault in sleeps(source) if not fault.lstrip().startswith("tests/cluster/")]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (header, "import os\n"),
        (sizes, "x = 1\n" * 601),
        (sizes, "def f():\n" + "    x = 1\n" * 90),
        (docstrings, "class A:\n    pass\n"),
        (docstrings, "async def a():\n    pass\n"),
        (leftovers, "x = 1  # TO" + "DO later\n"),
        (prints, "def f():\n    print('x')\n"),
        (sleeps, "def f():\n    time.sleep(1)\n"),
    ],
)
def test_a_fault_is_found(rule, text: str) -> None:
    assert len(list(rule(Source("x.py", "corekit.server.x", text)))) == 1


def test_a_pause_in_a_loop_is_no_fault() -> None:
    text = "while not ready():\n    time.sleep(0.1)\n"
    assert list(sleeps(Source("x.py", "tests.x", text))) == []
