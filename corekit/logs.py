"""Structured logs on the standard `logging`: a message, and values in `extra=`.

    log.info("session expired", extra={"session": "0x100", "timeout_ms": 4000})

Two forms: for people (one line, values as `key=value`, colours on a terminal) and JSON (one object a line).

Rules
- One record is one line, except for a traceback in the form for people. Control characters from outside are escaped, so
  that nobody can write lines into the log.
- Logs go to stderr; stdout belongs to commands.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r'[^\s"=]+')


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    """UTC with milliseconds, as RFC 3339 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _value(value: object) -> str:
    text = _escape(str(value))
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'


class HumanFormatter(logging.Formatter):
    """`2026-01-31T09:00:00.000Z INFO     server  started  znodes=5`."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        level = f"{record.levelname:<8}"
        colour = _COLOURS.get(record.levelname)
        if self._colours and colour is not None:
            level = f"\x1b[{colour}m{level}\x1b[0m"
        name = record.name.removeprefix("corekit.")
        values = "".join(f" {key}={_value(value)}" for key, value in _extras(record).items())
        line = f"{_time(record)} {level} {name}: {_escape(record.getMessage())}{values}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the extra values, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update((key, value) for key, value in _extras(record).items() if key not in entry)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def setup(form: str = "human", level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (stderr if None). Replaces what an earlier call set up.

    Args:
        form: `human` or `json`.
        level: least important level that is shown: debug, info, warning, error.
    """
    target = sys.stderr if stream is None else stream
    colours = target.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter() if form == "json" else HumanFormatter(colours))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other libraries: only what needs attention
    logging.getLogger("corekit").setLevel(level.upper())
    logging.captureWarnings(True)
