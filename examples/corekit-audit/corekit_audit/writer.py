"""From the queue to the file, in a thread, in batches; a disk that refuses is tried again and breaks nothing.

Rules
- Events leave the queue only when their lines can be written, so a short outage of the disk loses nothing; a long one
  loses what the queue has no room for, and how much stands in the log afterwards.
- A server that stops writes what is queued first, for at most a few seconds.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from corekit.api import Gateway
from corekit_audit.file import RotatingFile
from corekit_audit.lines import lines
from corekit_audit.observer import AuditObserver

_EVERY_S = 0.1
_BATCH_EVENTS = 200
_LAST_S = 5.0


class Writer:
    """Writes what an observer has queued.

    Args:
        redact: fields that are not to be written.
    """

    def __init__(
        self, observer: AuditObserver, file: RotatingFile, redact: frozenset[str], logger: logging.Logger
    ) -> None:
        self._observer = observer
        self._file = file
        self._redact = redact
        self._log = logger
        self._lines: deque[bytes] = deque()
        self._written = 0
        self._error: str | None = None
        self._one = threading.Lock()  # a write that a hanging disk holds may still be there at the end

    async def run(self, gateway: Gateway) -> None:
        """Write until cancelled; a `Service`."""
        try:
            while True:
                await trio.sleep(_EVERY_S)
                await trio.to_thread.run_sync(self.write, abandon_on_cancel=True)
        finally:
            with trio.move_on_after(_LAST_S) as scope:
                scope.shield = True
                await trio.to_thread.run_sync(self.write, abandon_on_cancel=True)

    def write(self) -> None:
        """Write everything that is queued, or as much as the disk takes. Blocks."""
        with self._one:
            self._write()

    def _write(self) -> None:
        try:
            while self._lines or self._take():
                for _ in range(self._file.append(self._lines)):
                    self._lines.popleft()
                    self._written += 1
        except OSError as error:
            if self._error is None:
                self._log.error("audit log %s cannot be written: %s", self._file.path, error.strerror)
            self._error = error.strerror or str(error)
            return
        if self._error is not None:
            self._error = None
            self._log.info("audit log %s is written again", self._file.path)

    def _take(self) -> bool:
        for when, event in self._observer.take(_BATCH_EVENTS):
            self._lines.extend(lines(when, event, self._redact))
        return bool(self._lines)

    def status(self) -> Mapping[str, Any]:
        """For the admin port."""
        return {
            "file": self._file.path,
            "written": self._written,
            "waiting": len(self._observer) + len(self._lines),
            "dropped": self._observer.dropped,
            "last_error": self._error,
        }
