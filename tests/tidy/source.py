"""The project's Python files as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN_ROOTS = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: relative to the project.
        module: dotted name; a package is named without `__init__`.
        text: its content.
    """

    path: str
    module: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


@dataclass(frozen=True)
class Import:
    """One imported module: `from a.b import c` counts as `a.b.c`, since c may be a module."""

    module: str
    line: int
    for_types: bool  # under `if TYPE_CHECKING:`, so never executed


def read(path: Path, base: Path) -> Source:
    parts = path.relative_to(base).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path.relative_to(ROOT).as_posix(), module, path.read_text("utf-8"))


def product() -> list[Source]:
    """Every file that is shipped: corekit and the plugins."""
    found = [read(path, ROOT) for path in sorted((ROOT / "corekit").rglob("*.py"))]
    for root in PLUGIN_ROOTS:
        found += [read(path, root) for path in sorted(root.rglob("*.py")) if "tests" not in path.parts]
    return found


def suite() -> list[Source]:
    """Every file of the test suite."""
    return [read(path, ROOT) for path in sorted((ROOT / "tests").rglob("*.py"))]


def imports(source: Source) -> Iterator[Import]:
    """Every import of a file, those inside functions too."""
    yield from _imports(source.tree.body, False)


def _imports(body: list[ast.stmt], for_types: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, for_types)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write the full name of a module, not a relative one"
            for name in node.names:
                yield Import(f"{node.module}.{name.name}", node.lineno, for_types)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(node.body, True)
            yield from _imports(node.orelse, for_types)
        else:
            for block in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(node, block, []), for_types)
            for handler in getattr(node, "handlers", []):
                yield from _imports(handler.body, for_types)
            for case in getattr(node, "cases", []):
                yield from _imports(case.body, for_types)
