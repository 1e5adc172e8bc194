"""One znode as a state machine, for the checker: which answers are possible in a state, and what the state is then.

States are ABSENT, (value, version), or ANYTHING; a value or version that is not known is ANY. A state that is not
fully known stands for all that fit it: an operation narrows it down to those in which its answer is possible, as far as
that can be written down, so that what is impossible here is impossible in each of them. Pure.

Source: ZooKeeper `PrepRequestProcessor`, `DataTree`: a new znode has version 0, each set adds one.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from corekit.testing.linear.history import (
    BAD_VERSION,
    CREATE,
    DELETE,
    GET,
    NO_NODE,
    NODE_EXISTS,
    NOT_EMPTY,
    OK,
    SET,
    UNKNOWN,
    Operation,
)


class _Mark(Enum):
    IMPOSSIBLE = "impossible"
    ANYTHING = "anything"
    ANY = "any"
    OTHER = "other"


IMPOSSIBLE: Final = _Mark.IMPOSSIBLE
ANYTHING: Final = _Mark.ANYTHING  # absent, or present with any value and version
ANY: Final = _Mark.ANY  # any value, any version
OTHER: Final = _Mark.OTHER  # a value that no read of the history returned
ABSENT: Final = None

State = Any  # None, _Mark.ANYTHING, or (value, version)


def step(state: State, operation: Operation, written: Any) -> State:
    """The state after an operation with its answer; IMPOSSIBLE if it cannot have been answered so.

    Args:
        operation: one with an unknown outcome is taken as one that happened.
        written: its value, or OTHER.
    """
    result, kind = operation.result, operation.kind
    if result == NO_NODE:
        return ABSENT if state is ABSENT or state is ANYTHING else IMPOSSIBLE
    if kind == CREATE and result != NODE_EXISTS:
        return (written, 0) if state is ABSENT or state is ANYTHING else IMPOSSIBLE
    if state is ABSENT:
        return IMPOSSIBLE
    value: Any
    version: Any
    value, version = (ANY, ANY) if state is ANYTHING else state
    if result == BAD_VERSION:
        return IMPOSSIBLE if operation.expect in (-1, version) else (value, version)
    if result in (NODE_EXISTS, NOT_EMPTY):
        return (value, version)
    if kind in (SET, DELETE):
        if operation.expect >= 0:
            if version is not ANY and version != operation.expect:
                return IMPOSSIBLE
            version = operation.expect
        if kind == DELETE:
            return ABSENT
        after = ANY if version is ANY else version + 1
        if operation.version is not None:
            if operation.version < 1 or (after is not ANY and after != operation.version):
                return IMPOSSIBLE
            after = operation.version
        return (written, after)
    if operation.version is not None:
        if version is not ANY and version != operation.version:
            return IMPOSSIBLE
        version = operation.version
    if kind == GET:
        if value is not ANY and value != written:
            return IMPOSSIBLE
        value = written
    return (value, version)


def version_before(operation: Operation) -> int | None:
    """The highest version at which the operation can have its answer, if its answer says."""
    if operation.result != OK or operation.kind == CREATE:
        return None
    if operation.version is not None:
        return operation.version - 1 if operation.kind == SET else operation.version
    return operation.expect if operation.expect >= 0 else None


def version_after(operation: Operation) -> int:
    """The highest version that the znode may have to reach for the operation to have its answer; -1 if none says."""
    if operation.kind == CREATE or operation.result not in (OK, BAD_VERSION, UNKNOWN):
        return -1
    if operation.version is not None:
        return operation.version
    return operation.expect if operation.kind == DELETE and operation.result != BAD_VERSION else operation.expect + 1


def state_text(state: State) -> str:
    """For people."""
    if state is ANYTHING:
        return "anything"
    if state is ABSENT:
        return "absent"
    value, version = state
    shown = (
        "some value" if value is ANY else "a value that no read here returned" if value is OTHER else value_text(value)
    )
    return shown if version is ANY else f"{shown}, version {version}"


def value_text(value: str | None) -> str:
    """A value in quotes, shortened."""
    if value is None:
        return "null"
    return f'"{value}"' if len(value) <= 40 else f'"{value[:37]}..."'
