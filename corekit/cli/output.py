"""Printing for people and for programs: tables on a terminal, tab-separated lines into a pipe, JSON when asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    print(_dumped(value, 2))


def print_json_line(value: Any) -> None:
    """JSON on one line of stdout, at once: for what prints again and again."""
    print(_dumped(value), flush=True)


def _dumped(value: Any, indent: int | None = None) -> str:
    in_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(value, indent=indent, ensure_ascii=not in_unicode)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; otherwise one line a row, tabs between the columns, no titles."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console

    Console().print(shown_table(titles, rows))


def shown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table for a rich console."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"corekit: warning: {text}", file=sys.stderr)


def reader_left() -> None:
    """After a `BrokenPipeError` of our output (`| head`): what is still printed goes nowhere, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_warnings() -> None:
    """Let what libraries log as a warning or worse be one line on stderr, without a traceback."""
    import logging

    class OneLine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            warn(record.getMessage() + (f": {error}" if error else ""))

    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(OneLine(logging.WARNING))
