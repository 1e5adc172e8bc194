"""What operations return and what watches report: small records of text, bytes and numbers."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from corekit.codec import ops
from corekit.model.stat import Stat


class State(Enum):
    """Where the session stands."""

    CONNECTING = "connecting"  # no session yet; looking for a server
    ASSOCIATING = "associating"  # a server answered the dial; the session is being agreed
    CONNECTED = "connected"
    CONNECTED_READ_ONLY = "connected, read-only"  # the server has lost its quorum
    SUSPENDED = "suspended"  # the connection broke; the session may still be alive
    LOST = "lost"  # a server said that the session has expired: ephemerals and watches are gone
    AUTH_FAILED = "authentication failed"  # final
    CLOSED = "closed"  # final

    @property
    def connected(self) -> bool:
        """Whether reads are answered now."""
        return self is State.CONNECTED or self is State.CONNECTED_READ_ONLY


class StateChange(NamedTuple):
    """A state with the reason why it came, the server concerned and the session (0: none)."""

    state: State
    reason: str
    server: str
    session_id: int


class EventType(Enum):
    """What a watch saw."""

    CREATED = ops.EVENT_NODE_CREATED
    DELETED = ops.EVENT_NODE_DELETED
    DATA_CHANGED = ops.EVENT_NODE_DATA_CHANGED
    CHILDREN_CHANGED = ops.EVENT_NODE_CHILDREN_CHANGED
    RESYNC = 0  # events may have been missed (reconnection, or a reader too slow): read again what you need


class WatchEvent(NamedTuple):
    """A change seen by a watch. `zxid` is the change's own where the server tells it (3.9 and later), else -1."""

    type: EventType
    path: str
    zxid: int


class Data(NamedTuple):
    """A znode's data and its Stat."""

    data: bytes
    stat: Stat


class Children(NamedTuple):
    """The names of a znode's children (not their paths, in no order) and its Stat."""

    names: list[str]
    stat: Stat


class Created(NamedTuple):
    """The path of a new znode, with the sequence number if one was asked for, and its Stat.

    As a result of a multi it has no Stat (None) for plain nodes: servers send it for container and TTL nodes only.
    """

    path: str
    stat: Stat


class Identity(NamedTuple):
    """Somebody the server takes this connection for."""

    scheme: str
    id: str


__all__ = ["Children", "Created", "Data", "EventType", "Identity", "Stat", "State", "StateChange", "WatchEvent"]
