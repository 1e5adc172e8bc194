"""Which pages are made, and their Python blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.docs import cli_page, hooks_page, plugins_page, recipes_page

DOCS = Path(__file__).parents[2] / "docs"
MADE: dict[str, Callable[[], str]] = {
    "cli.md": cli_page.page,
    "hooks.md": hooks_page.page,
    "plugins.md": plugins_page.page,
    "recipes.md": recipes_page.page,
}


def write() -> None:
    """Write the pages that are made from the code."""
    for name, make in MADE.items():
        (DOCS / name).write_text(make(), "utf-8")


def blocks(name: str) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the number of its first line."""
    text = (DOCS / name).read_text("utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]
