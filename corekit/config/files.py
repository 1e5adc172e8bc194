"""Reading configuration files: Java properties (`zoo.cfg`) and TOML.

Both give the same flat list of entries: key, text, place. Nothing is interpreted here.
Source of the syntax: `java.util.Properties.load`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from corekit.errors import ConfigError


class Entry(NamedTuple):
    """One `key = text` and where it was given: `zoo.cfg:12`, `$ZOO_TICK_TIME`, `--client-port`."""

    key: str
    text: str
    origin: str


_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def read_file(path: str) -> list[Entry]:
    """All entries of a configuration file, in order; the suffix `.toml` means TOML, anything else properties.

    Raises:
        ConfigError: the file cannot be read or its syntax is wrong.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from None
    toml = os.path.splitext(path)[1].lower() == ".toml"
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if toml:
            line = data[: error.start].count(b"\n") + 1
            raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
        content = data.decode("iso-8859-1")  # what Java takes every properties file for
    return parse_toml(content, path) if toml else parse_properties(content, path)


def parse_properties(content: str, name: str) -> list[Entry]:
    """Entries of Java-properties text. Escapes, continuation lines and all three separators are understood.

    Raises:
        ConfigError: a `\\u` escape without four hexadecimal digits, as in Java.
    """
    entries: list[Entry] = []
    for number, line in _logical_lines(content):
        end = 0
        while end < len(line) and line[end] not in "=:" + _BLANK:
            end += 2 if line[end] == "\\" else 1
        end = min(end, len(line))
        rest = line[end:].lstrip(_BLANK)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANK)
        place = f"{name}:{number}"
        # ZooKeeper trims values, so blanks at the end of a line never count.
        entries.append(Entry(_unescape(line[:end], place), _unescape(rest, place).strip(), place))
    return entries


def _logical_lines(content: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continuation lines joined, comments and blank lines dropped."""
    joined = ""
    start = 0
    for number, natural in enumerate(content.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = natural.lstrip(_BLANK)
        if not joined and (not line or line[0] in "#!"):
            start = 0
            continue
        start = start or number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            joined += line[:-1]
            continue
        yield start, joined + line
        joined, start = "", 0
    if start:
        yield start, joined


def _unescape(text: str, place: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    i = 0
    while i < len(text):
        char = text[i]
        i += 1
        if char != "\\" or i == len(text):
            out.append(char if char != "\\" else "")
            continue
        char = text[i]
        i += 1
        if char == "u":
            digits = text[i : i + 4]
            if len(digits) < 4 or any(d not in "0123456789abcdefABCDEF" for d in digits):
                raise ConfigError(
                    f"{place}: \\u must be followed by four hexadecimal digits (write \\\\ for a backslash)"
                )
            out.append(chr(int(digits, 16)))
            i += 4
        else:
            out.append(_ESCAPES.get(char, char))
    return "".join(out)


def parse_toml(content: str, name: str) -> list[Entry]:
    """Entries of TOML text: tables become dotted keys, lists become comma-separated text.

    Raises:
        ConfigError: the TOML is malformed, or holds a date or a list of tables.
    """
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from None
    return list(_flatten(document, "", name))


def _flatten(table: dict[str, Any], prefix: str, name: str) -> Iterator[Entry]:
    for key, value in table.items():
        dotted = prefix + key
        place = f"{name}: {dotted}"
        if isinstance(value, dict):
            yield from _flatten(value, dotted + ".", name)
        elif isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            yield Entry(dotted, ",".join(_toml_text(item, place) for item in value), place)
        else:
            yield Entry(dotted, _toml_text(value, place), place)


def _toml_text(value: object, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise ConfigError(f"{place}: a {type(value).__name__} is not a setting's value; use text, a number or true/false")
