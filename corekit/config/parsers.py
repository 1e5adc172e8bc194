"""Text to value, one parser for each form that a setting can take.

A parser raises `ValueError` for text that it does not accept and says in `accepts` what it does accept; the caller
adds key, value and place. ZooKeeper's own rules hold: a boolean is `true` or `false` (any case), some keys also take
`yes` and `no`. Not here: which setting uses which parser (`settings.py`), layers and messages (`load.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """Turns text into a value; `accepts` completes the sentence "accepted is ..."."""

    parse: Callable[[str], T]
    accepts: str

    def __call__(self, text: str) -> T:
        """The value of `text`.

        Raises:
            ValueError: the text is not accepted.
        """
        return self.parse(text.strip())


class TooLargeError(ValueError):
    """A number that ZooKeeper's 32 bits do not hold, and that its protocol could not carry."""

    def __init__(self) -> None:
        super().__init__(f"the largest number is {_INTEGER_MAX}")


_INTEGER_MAX = 0x7FFFFFFF


def _integer(text: str) -> int:
    # int() would also take 1_000 and digits of other scripts. Java takes 0xfffff where it reads a system property.
    base = 16 if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", text) else 10
    if base == 10 and not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(text)
    if len(text) > 20 or int(text, base) > _INTEGER_MAX:
        raise TooLargeError
    return int(text, base)


def integer(lowest: int | None = None, highest: int | None = None, also: int | None = None) -> Parser[int]:
    """A decimal integer from `lowest` to `highest`; `also` is a value outside that range that means "off"."""

    def parse(text: str) -> int:
        value = _integer(text)
        if value == also:
            return value
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            raise ValueError(text)
        return value

    accepts = "an integer"
    if lowest is not None and highest is not None:
        accepts += f" from {lowest} to {highest}"
    elif lowest is not None:
        accepts += f" of {lowest} or more"
    return Parser(parse, accepts if also is None else f"{accepts}, or {also}")


def at_least(lowest: int) -> Parser[int]:
    """An integer; a smaller one is raised to `lowest`, as ZooKeeper does for some keys."""
    return Parser(lambda text: max(lowest, _integer(text)), f"an integer (below {lowest} counts as {lowest})")


def decimal() -> Parser[float]:
    """A decimal number such as 0.33."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", text):
            raise ValueError(text)
        return float(text)

    return Parser(parse, "a decimal number")


def _words(words: dict[str, bool], accepts: str) -> Parser[bool]:
    def parse(text: str) -> bool:
        value = words.get(text.lower())
        if value is None:
            raise ValueError(text)
        return value

    return Parser(parse, accepts)


boolean = _words({"true": True, "false": False}, "true or false")
yes_no = _words({"true": True, "false": False, "yes": True, "no": False}, "yes, no, true or false")

text: Parser[str] = Parser(lambda value: value, "text")


def _address(value: str) -> str:
    """An IPv6 address may stand in brackets, as in Java."""
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value


address: Parser[str] = Parser(_address, "an address")
port = integer(0, 65535)
port_or_off = integer(0, 65535, also=-1)
millis = integer(0)


def choice(*words: str) -> Parser[str]:
    """One of some words, in any case; the value is the word as given here."""
    table = {word.lower(): word for word in words}

    def parse(value: str) -> str:
        found = table.get(value.lower())
        if found is None:
            raise ValueError(value)
        return found

    return Parser(parse, " or ".join(words))


def _split(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


names: Parser[tuple[str, ...]] = Parser(lambda value: tuple(_split(value)), "a list of names with commas between")
name_set: Parser[frozenset[str]] = Parser(lambda value: frozenset(_split(value)), "a list of words with commas, or *")

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "": 3_600_000}


def _hours(value: str) -> int:
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d|)", value.lower())
    if match is None:
        raise ValueError(value)
    return int(match[1]) * _UNITS_MS[match[2]]


hours_ms: Parser[int] = Parser(_hours, "hours, or a number with the unit ms, s, m, h or d")


_UNITS_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def _bytes(value: str) -> int:
    match = re.fullmatch(r"([0-9]+)\s*([kmg]?)(i?b)?", value.lower())
    if match is None:
        raise ValueError(value)
    return int(match[1]) * _UNITS_BYTES[match[2]]


size_bytes: Parser[int] = Parser(_bytes, "bytes, or a number with the unit k, m or g")


def _metrics(value: str) -> str:
    name = value.rsplit(".", 1)[-1].removesuffix("MetricsProvider").lower()
    if name not in ("default", "prometheus", "null"):
        raise ValueError(value)
    return name


metrics_provider: Parser[str] = Parser(
    _metrics, "DefaultMetricsProvider, PrometheusMetricsProvider or NullMetricsProvider, with or without its package"
)
