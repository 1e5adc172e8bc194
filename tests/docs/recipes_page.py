"""`docs/recipes.md`: a written page (`recipes_head.md`) in which `<!-- NAME -->` stands for the docstring of a recipe.

What a recipe promises is then said in one place, beside the code that keeps it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

HEAD = Path(__file__).parent / "recipes_head.md"
RECIPES = Path(__file__).parents[2] / "plugins" / "recipes" / "corekit_recipes"
PLACE = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
# Modules that are parts of recipes.
PARTS = {"__init__", "contender", "naming", "presence", "master", "worker"}


def modules() -> set[str]:
    """The recipes: one module each."""
    return {file.stem for file in RECIPES.glob("*.py")} - PARTS


def described(module: str) -> str:
    """The docstring of a recipe's module as Markdown: its paragraphs as a list, without the first line."""
    text = ast.get_docstring(ast.parse((RECIPES / f"{module}.py").read_text("utf-8")))
    assert text, module
    _, _, body = text.partition("\n")
    lines = []
    for line in body.strip().splitlines():
        begin = re.match(r"([A-Z][\w, ]{3,60}?)(: | \()", line)
        heading = begin is not None and begin[1].split(",")[0].split()[0] in ("Promises", "Failures", "Cost", "Znodes")
        if heading:
            assert begin is not None
            lines.append(f"- **{begin[1]}**{line[len(begin[1]) :]}")
        else:
            lines.append(f"  {line}" if line and lines and lines[-1].startswith(("-", "  ")) else line)
    return "\n".join(lines)


def page() -> str:
    """The whole of `docs/recipes.md`."""
    text = HEAD.read_text("utf-8")
    missing = modules() - set(PLACE.findall(text))
    assert not missing, f"recipes without a place in {HEAD.name}: {sorted(missing)}"
    return PLACE.sub(lambda place: described(place[1]), text)
