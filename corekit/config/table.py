"""The form of one entry of the settings table. The entries themselves stand in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from corekit.config.known import PENDING
from corekit.config.parsers import Parser

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting.

    Attributes:
        field: name in `Settings`, upper case after `COREKIT_` as a variable.
        keys: as written in `zoo.cfg`; the first is shown to people.
        parse: text to value.
        default: value without any configuration.
        doc: one line for people.
        zoo_env: the variable of the official container image, if it has one.
        secret: the value is never shown.
        pending: why it is not acted on, "" if it is.
        parse_own: for text given under the field's own name, if its unit differs from that of the keys.
    """

    field: str
    keys: tuple[str, ...]
    parse: Parser[Any]
    default: Any
    doc: str
    zoo_env: str = ""
    secret: bool = False
    pending: str = ""
    parse_own: Parser[Any] | None = None

    def parser(self, key: str) -> Parser[Any]:
        """The parser of text that was given under `key`."""
        return self.parse_own if self.parse_own is not None and key == self.field else self.parse

    @property
    def env(self) -> str:
        """The variable that sets it."""
        return f"COREKIT_{self.field.upper()}"


def setting(
    default: T,
    keys: str,
    parse: Parser[T],
    doc: str,
    *,
    zoo_env: str = "",
    secret: bool = False,
    parse_own: Parser[T] | None = None,
) -> T:
    """A field of `Settings` with its table entry; `keys` are separated by blanks."""

    def entry(name: str, value: Any) -> Setting:
        return Setting(name, tuple(keys.split()), parse, value, doc, zoo_env, secret, PENDING.get(name, ""), parse_own)

    return field(default=default, repr=not secret, metadata={"setting": entry})
