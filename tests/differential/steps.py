"""The records of a differential run: requests and steps, concrete enough to be played again from a list.

Rules: a step holds everything it needs (bytes and symbolic marks for what differs between servers), so a run can be
replayed, cut down and printed. Nothing here talks to a server or uses randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support import rawzk
from tests.support.rawzk import int64, text, vector

# A body that depends on the server: it is called with the function that turns a relative zxid into the server's own.
Body = bytes | Callable[[Callable[[int], int]], bytes]

READS = frozenset(
    {
        rawzk.EXISTS,
        rawzk.GET_DATA,
        rawzk.GET_ACL,
        rawzk.GET_CHILDREN,
        rawzk.GET_CHILDREN2,
        rawzk.SYNC,
        rawzk.PING,
        rawzk.CHECK_WATCHES,
        rawzk.MULTI_READ,
        rawzk.GET_EPHEMERALS,
        rawzk.GET_ALL_CHILDREN_NUMBER,
        rawzk.WHO_AM_I,
    }
)
OPCODE_NAMES = {
    value: name.lower()
    for name, value in vars(rawzk).items()
    if name.isupper() and isinstance(value, int) and not name.startswith("XID_")
    if name
    not in {"PERSISTENT", "EPHEMERAL", "SEQUENTIAL", "EPHEMERAL_SEQUENTIAL", "CONTAINER", "TTL", "TTL_SEQUENTIAL"}
}


@dataclass(slots=True)
class Request:
    """One request of a client.

    Attributes:
        opcode, body: as sent; a callable body gets the zxid mapping of the server.
        label: what a reader of a mismatch wants to see.
        path: the znode it is about, for filtering the context ("" when none or several).
        xid: None lets the connection count.
        locks: it may give a node an ACL other than world:anyone:all.
        alone: it may end the connection or is answered out of order, so it is never pipelined.
        checked: it may end the connection, so a ping looks whether it did.
    """

    opcode: int
    body: Body
    label: str
    path: str = ""
    xid: int | None = None
    locks: bool = False
    alone: bool = False
    checked: bool = False

    def encode(self, own_zxid: Callable[[int], int]) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body(own_zxid)

    def __str__(self) -> str:
        return f"{OPCODE_NAMES.get(self.opcode, self.opcode)} {self.label}"


@dataclass(slots=True)
class Step:
    """One move of one client ("lane").

    Kinds: `call` (requests, pipelined), `open` (a new session, ending an older one uncleanly when there is one),
    `reattach` (the same session on a new connection; `variant` says what is wrong with it), `close` (closeSession,
    after the given requests), `expire` (vanish and wait until the session's ephemerals are gone).
    """

    kind: str
    lane: int
    requests: list[Request] = field(default_factory=list)
    variant: str = ""
    timeout_ms: int = 30_000
    read_only: bool | None = False

    def __str__(self) -> str:
        what = "; ".join(str(request) for request in self.requests)
        if self.kind in ("open", "reattach"):
            what = f"{self.variant} timeout={self.timeout_ms} readOnly={self.read_only}"
        return f"lane {self.lane} {self.kind}: {what}"


def set_watches_body(relative: int, lists: Sequence[Sequence[str | None] | None]) -> Body:
    """Body of setWatches (3 lists) or setWatches2 (5 lists); `relative` is mapped to the server's zxids."""
    tail = b"".join(vector(paths, text) for paths in lists)
    return lambda own_zxid: int64(own_zxid(relative)) + tail
