"""Histories: what clients asked of single znodes, when, and what they were told. Pure.

A file has one JSON object a line, one line an operation, in any order (docs/checking.md is the reference):

    {"client": "c1", "op": "set", "key": "/k", "value": "c1-7", "call": 0.120, "return": 0.134, "result": "ok",
     "version": 4, "zxid": 77}

Rules
- All times are of one clock. An operation takes effect at one moment between `call` and `return`, both included.
- `result` is "unknown" where no answer came: it happened at any time after `call`, or never. `return` is left out then.
- Znodes are persistent, only the operations below change them, and nobody else does while the history is recorded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from corekit.errors import UserError

GET, EXISTS, SET, CREATE, DELETE = "get", "exists", "set", "create", "delete"
OK, NO_NODE, NODE_EXISTS, BAD_VERSION, NOT_EMPTY = "ok", "no-node", "node-exists", "bad-version", "not-empty"
UNKNOWN = "unknown"

ANSWERS: dict[str, frozenset[str]] = {
    GET: frozenset({OK, NO_NODE, UNKNOWN}),
    EXISTS: frozenset({OK, NO_NODE, UNKNOWN}),
    SET: frozenset({OK, NO_NODE, BAD_VERSION, UNKNOWN}),
    CREATE: frozenset({OK, NODE_EXISTS, NO_NODE, UNKNOWN}),
    DELETE: frozenset({OK, NO_NODE, BAD_VERSION, NOT_EMPTY, UNKNOWN}),
}
READS = frozenset({GET, EXISTS})
_FIELDS = frozenset({"client", "op", "key", "value", "expect", "call", "return", "result", "version", "zxid", "plain"})


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation. Compared by identity.

    Attributes:
        number: its line in the history, from 1.
        client: who asked; a client has one operation on its way at a time, or its reads are not `plain`.
        kind: get, exists, set, create, delete.
        value: what was written, or what a get returned; None is null data.
        expect: the version that a set or delete requires; -1 takes any.
        call, end: seconds; `end` is infinite where the outcome is unknown.
        version: the znode's version (dataVersion) in the answer to get, exists and set; None if it is not known.
        zxid: of the znode's last change (mzxid) as the answer tells it, or None.
        plain: a read without `sync` before it, which may be answered from the past.
    """

    number: int
    client: str
    kind: str
    key: str
    call: float
    end: float
    result: str
    value: str | None = None
    expect: int = -1
    version: int | None = None
    zxid: int | None = None
    plain: bool = False

    @property
    def known(self) -> bool:
        """Whether there was an answer."""
        return self.result != UNKNOWN

    @property
    def changes(self) -> bool:
        """Whether it may have changed the znode."""
        return self.kind not in READS and self.result in (OK, UNKNOWN)

    def record(self) -> dict[str, Any]:
        """As it stands in a file."""
        found: dict[str, Any] = {"client": self.client, "op": self.kind, "key": self.key}
        if self.kind in (SET, CREATE) or (self.kind == GET and self.result == OK):
            found["value"] = self.value
        if self.expect >= 0:
            found["expect"] = self.expect
        found["call"] = self.call
        if self.known:
            found["return"] = self.end
        found["result"] = self.result
        for name, value in (("version", self.version), ("zxid", self.zxid)):
            if value is not None:
                found[name] = value
        if self.plain:
            found["plain"] = True
        return found


def dump(operations: Iterable[Operation]) -> Iterator[str]:
    """The lines of a file, without ends of line."""
    for operation in operations:
        yield json.dumps(operation.record(), ensure_ascii=False)


def load(lines: Iterable[str], name: str = "history") -> list[Operation]:
    """Read a history.

    Args:
        name: of the file, for messages.

    Raises:
        UserError: a line is none; the message names it and what is wrong.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_operation(number, json.loads(line)))
        except ValueError as error:
            raise UserError(f"{name}, line {number}: {error} (the format is in docs/checking.md)") from None
    if not found:
        raise UserError(f"{name} holds no operation")
    return found


def _operation(number: int, record: Any) -> Operation:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if unknown := sorted(record.keys() - _FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}")
    kind = record.get("op")
    if kind not in ANSWERS:
        raise ValueError(f'"op" is {kind!r}; known are {", ".join(ANSWERS)}')
    result = record.get("result")
    if result not in ANSWERS[kind]:
        raise ValueError(f'"result" of a {kind} is {result!r}; known are {", ".join(sorted(ANSWERS[kind]))}')
    has_value = kind in (SET, CREATE) or (kind == GET and result == OK)
    if has_value and "value" not in record:
        raise ValueError(f'a {kind} needs a "value" (null for null data)')
    call = _number(record, "call")
    end = math.inf if result == UNKNOWN else _number(record, "return")
    if end < call:
        raise ValueError('"return" is before "call"')
    if record.get("plain") and kind not in READS:
        raise ValueError('only reads are "plain"')
    return Operation(
        number=number,
        client=_text(record, "client"),
        kind=kind,
        key=_text(record, "key"),
        call=call,
        end=end,
        result=result,
        value=_value(record["value"]) if has_value else None,
        expect=_integer(record, "expect", -1) if kind in (SET, DELETE) else -1,
        version=_integer(record, "version", None) if result == OK and kind != DELETE else None,
        zxid=_integer(record, "zxid", None) if result == OK else None,
        plain=bool(record.get("plain")),
    )


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'"{name}" is {value!r}, not a time in seconds')
    return value


def _integer(record: dict[str, Any], name: str, default: Any) -> Any:
    value = record.get(name, default)
    if value is not default and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f'"{name}" is {value!r}, not an integer')
    return value


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'"{name}" is {value!r}, not a text')
    return str(value)


def _value(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f'"value" is {value!r}, not a text or null')
    return value
