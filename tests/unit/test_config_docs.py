"""docs/configuration.md holds a row for every setting and every key without effect, saying what the code does.

When this fails, the message holds the rows to put there.
"""

from pathlib import Path

from corekit.config import SETTINGS, Setting
from corekit.config.known import NOT_HONOURED

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def shown_default(known: Setting) -> str:
    value = known.default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | tuple | frozenset) and not value:
        return ""
    return str(value)


def row(known: Setting) -> str:
    """One setting as a row of a table."""
    keys = ", ".join(f"`{key}`" for key in known.keys)
    image = f" `{known.zoo_env}`" if known.zoo_env else ""
    doc = known.doc[0].upper() + known.doc[1:] + "."
    if known.pending:
        doc += f" **No effect yet:** {known.pending}."
    return f"| {keys} | `{known.field}`{image} | {shown_default(known)} | {doc} |"


def row_without_effect(key: str) -> str:
    return f"| `{key}{'*' if key.endswith('.') else ''}` | {NOT_HONOURED[key]} |"


def test_the_documentation_has_every_row() -> None:
    lines = set(DOCUMENT.read_text("utf-8").splitlines())
    wanted = [*map(row, SETTINGS.values()), *map(row_without_effect, NOT_HONOURED)]
    missing = [line for line in wanted if line not in lines]
    assert not missing, "missing in docs/configuration.md:\n" + "\n".join(missing)


def test_the_documentation_has_no_row_of_something_that_is_gone() -> None:
    wanted = {*map(row, SETTINGS.values()), *map(row_without_effect, NOT_HONOURED)}
    text = DOCUMENT.read_text("utf-8")
    settings = text[text.index("## All settings") : text.index("## Variables")]
    rows = [line for line in settings.splitlines() if line.startswith("| `")]
    assert [line for line in rows if line not in wanted] == []
