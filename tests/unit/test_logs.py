"""Structured logs: what a line looks like in both forms."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from corekit import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("corekit").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def written(form: str, level: str = "debug") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    logs.setup(form, level, stream)
    return logging.getLogger("corekit.server"), stream


def test_a_line_for_people() -> None:
    log, stream = written("human")
    log.info("session %s", "expired", extra={"session": "0x1", "why": "no ping", "n": 3, "empty": "", "q": 'a"b'})
    line = stream.getvalue()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO     server: session expired ", line)
    assert line.endswith(' session=0x1 why="no ping" n=3 empty="" q="a\\"b"\n')


def test_a_line_of_json() -> None:
    log, stream = written("json")
    log.warning("slow", extra={"ms": 12, "path": b"/a", "message_id": 1})
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "logger": "corekit.server",
        "message": "slow",
        "ms": 12,
        "path": "b'/a'",
        "message_id": 1,
    }


@pytest.mark.parametrize("form", ["human", "json"])
def test_nobody_can_write_lines_into_the_log(form: str) -> None:
    log, stream = written(form)
    log.info("name %s", "a\nb\x1b[31m\r\u2028c", extra={"value": "x\ny\x00"})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u2028]", text)


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_traceback_is_kept(form: str) -> None:
    log, stream = written(form)
    try:
        raise ValueError("inner")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "ValueError: inner" in text
    if form == "json":
        assert "ValueError: inner" in json.loads(text)["traceback"]


def test_levels() -> None:
    log, stream = written("human", "warning")
    log.info("hidden")
    log.warning("shown")
    logging.getLogger("other").info("hidden too")
    logging.getLogger("other").warning("shown too")
    assert len(stream.getvalue().splitlines()) == 2


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def line(**variables: str) -> str:
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        stream = Terminal()
        logs.setup("human", "info", stream)
        logging.getLogger("corekit.x").error("bad")
        return stream.getvalue()

    assert "\x1b[31mERROR" in line(TERM="xterm")
    assert "\x1b" not in line(TERM="dumb")
    assert "\x1b" not in line(TERM="xterm", NO_COLOR="1")
    _, stream = written("human")
    logging.getLogger("corekit.x").error("bad")
    assert "\x1b" not in stream.getvalue()


def test_setting_up_twice_writes_once() -> None:
    written("human")
    log, stream = written("human")
    log.info("once")
    assert len(stream.getvalue().splitlines()) == 1
