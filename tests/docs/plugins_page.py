"""`docs/plugins.md`: a written page (`plugins_head.md`) in which comments stand for what the code says.

    <!-- api_version -->, <!-- kinds -->      the version of the contract, the rows of the table of kinds
    <!-- storage/__init__.py -->              a file of the scaffold, as `plugin new notebook --kind storage` writes it
    <!-- storage/storage.py head record -->   parts of one: imports and constants (`head`), functions, classes

So the storage that the page explains is the one that `plugin new` writes, and that passes its tests.
"""

from __future__ import annotations

import ast
import re
import tempfile
from pathlib import Path

from corekit.cli.plugin_cmd import write
from corekit.hooks import KINDS
from corekit.limits import API_VERSION
from corekit.plugins.choose import DEFAULTS
from corekit.plugins.wiring import CONTRACTS

HEAD = Path(__file__).parent / "plugins_head.md"
NAME = "notebook"
PLACE = re.compile(r"<!-- ([\w./]+)((?: \w+)*) -->")


def page() -> str:
    """The whole of `docs/plugins.md`."""
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory)
        write(written, NAME, "storage")
        return PLACE.sub(lambda place: _fill(written, place[1], place[2].split()), HEAD.read_text("utf-8"))


def _fill(written: Path, what: str, parts: list[str]) -> str:
    if what == "api_version":
        return str(API_VERSION)
    if what == "kinds":
        return "\n".join(_row(kind) for kind in KINDS)
    folder, _, file = what.partition("/")
    path = written / file if folder == "common" else written / f"corekit_{NAME}" / file
    text = path.read_text("utf-8")
    return (_parts(text, parts) if parts else text).strip("\n")


def _row(kind: str) -> str:
    hook, one = KINDS[kind]
    contract = CONTRACTS.get(kind)
    made = f"[{contract.__name__}](hooks.md#{contract.__name__.lower()})" if contract is not None else _OTHERS[kind]
    default = "`zab` in an ensemble, else `solo`" if kind == "consensus" else f"`{DEFAULTS.get(kind, 'none')}`"
    default = default.replace("`none`", "none")
    number = "exactly one" if one else _NUMBERS.get(kind, "any number")
    return f"| {kind} | `{hook or 'register_commands'}` | {made} | {number} | {default} |"


_OTHERS = {
    "observer": "[Observer](hooks.md#observer)",
    "service": "`Service`: a background task",
    "command": "commands of `corekit`",
    "recipe": "a library on top of the client, and its commands",
}
_NUMBERS = {"protocol": "one or more", "command": "not run by servers", "recipe": "not run by servers"}


def _parts(text: str, parts: list[str]) -> str:
    """Pieces of a module, in the order of the module; `Storage` is the class whose name ends so."""
    lines = text.splitlines()
    found = []
    nodes = ast.parse(text).body
    first = next(node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))
    for part in parts:
        if part == "head":
            begin = next(node.lineno for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
            found.append("\n".join(lines[begin - 1 : first.lineno - 1]).strip("\n"))
            continue
        node = next(
            node for node in nodes
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in (part, f"{NAME.capitalize()}{part}")
        )  # fmt: skip
        found.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
    return "\n\n\n".join(found)
