"""What writes come to, from ZooKeeper's documentation: one after the other, on the state before them, all or nothing.

M1  a multi is carried out as a whole or not at all, and its answer says for every part what it came to
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from corekit import errors
from corekit.codec import ops
from corekit.codec.records import (
    ACL,
    CheckVersionRequest,
    CreateRequest,
    DeleteRequest,
    ErrorResponse,
    Id,
    MultiResponse,
    PathResponse,
    Record,
    SetDataRequest,
    StatResponse,
)
from corekit.testing.sim.znodes import State

OPEN = [ACL(31, Id(b"world", b"anyone"))]
_SEQUENTIAL = (ops.PERSISTENT_SEQUENTIAL, ops.EPHEMERAL_SEQUENTIAL)


class Write(NamedTuple):
    """A write, or a part of a multi.

    Attributes:
        version: that setData, delete and check ask for; -1 takes any.
        flags: of create.
    """

    op: int
    path: bytes
    value: bytes = b""
    version: int = -1
    flags: int = 0

    def record(self) -> Record:
        """The body of the request."""
        if self.op == ops.SET_DATA:
            return SetDataRequest(self.path, self.value, self.version)
        if self.op == ops.DELETE:
            return DeleteRequest(self.path, self.version)
        if self.op == ops.CHECK:
            return CheckVersionRequest(self.path, self.version)
        return CreateRequest(self.path, self.value, OPEN, self.flags)


def outcome(writes: Sequence[Write], at: Callable[[bytes], State | None]) -> tuple[int, int, dict[bytes, int]]:
    """What writes come to as a whole.

    Args:
        at: a znode before them.

    Returns:
        How many can be carried out; the code of the first that cannot, or 0; the version of each znode behind them.
    """
    versions: dict[bytes, int | None] = {}

    def version(path: bytes) -> int | None:
        if path not in versions:
            state = at(path)
            versions[path] = None if state is None else state.version
        return versions[path]

    for done, write in enumerate(writes):
        now = version(write.path)
        if write.op == ops.CREATE:
            if version(write.path[: write.path.rfind(b"/")] or b"/") is None and write.path.count(b"/") > 1:
                return done, errors.NO_NODE, {}
            if write.flags in _SEQUENTIAL:
                continue
            if now is not None:
                return done, errors.NODE_EXISTS, {}
            versions[write.path] = 0
        elif now is None:
            return done, errors.NO_NODE, {}
        elif write.version not in (-1, now):
            return done, errors.BAD_VERSION, {}
        elif write.op != ops.CHECK:
            versions[write.path] = None if write.op == ops.DELETE else now + 1
    return len(writes), 0, {path: now for path, now in versions.items() if now is not None}


def wrong(
    writes: Sequence[Write], answer: MultiResponse, paths: Sequence[bytes], at: Callable[[bytes], State | None]
) -> str:
    """What is wrong with the answer to a multi, or "".

    Args:
        paths: of the parts in the transaction.
        at: a znode before it.
    """
    done, code, _ = outcome(writes, at)
    if len(answer.results) != len(writes):
        return f"{len(answer.results)} results for {len(writes)} parts"
    if code:
        wanted = [0] * done + [code] + [errors.RUNTIME_INCONSISTENCY] * (len(writes) - done - 1)
        found = [body.err if isinstance(body, ErrorResponse) else None for _, body in answer.results]
        return "" if found == wanted else f"was told the codes {found}, they are {wanted}"
    for number, (write, (_, body)) in enumerate(zip(writes, answer.results, strict=True)):
        if isinstance(body, ErrorResponse):
            return f"was told the code {body.err} of part {number}, which can be carried out"
        if isinstance(body, PathResponse) and body.path != paths[number]:
            return f"was told the name {body.path!r} of part {number}, it is {paths[number]!r}"
        if isinstance(body, StatResponse):
            version = outcome(writes[: number + 1], at)[2][write.path]
            if body.stat.version != version:
                return f"was told version {body.stat.version} of {write.path!r}, it is {version}"
    return ""
