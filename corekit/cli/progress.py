"""A progress bar on stderr for long work; nothing if stderr is no terminal or JSON is wanted."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

SHOWN_FROM = 200  # items; less is done before a bar could be seen


class Progress:
    """`with Progress("copying", 1000) as progress: progress.advance()`."""

    def __init__(self, what: str, total: int, quiet: bool = False, shown_from: int = SHOWN_FROM) -> None:
        self._what = what
        self._total = total
        self._shown = not quiet and total >= shown_from and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total)
        return self

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
