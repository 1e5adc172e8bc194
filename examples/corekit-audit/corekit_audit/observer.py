"""The observer: puts what happens into a queue with a bound, and does nothing else on the event loop.

Rules
- An event is queued as it is; decoding and writing are the business of the writer's thread.
- Above the bound events are dropped and counted; the writer puts the count into the log.
- Of transactions only those are queued that no client asked for: the others come as answered writes.

Not here: what a line looks like (`lines.py`), files (`file.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from corekit.api import Observer, Peer, Write
from corekit.codec import ops

_OVERHEAD_BYTES = 500  # of a queued event besides what it holds
_CXID, _TYPE = slice(8, 12), slice(28, 32)  # in a transaction's header
_CLOSE_SESSION, _DELETE_CONTAINER = (
    op.to_bytes(4, "big", signed=True) for op in (ops.CLOSE_SESSION, ops.DELETE_CONTAINER)
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A client opened a session."""

    session_id: int
    timeout_ms: int
    peer: Peer


@dataclass(frozen=True, slots=True)
class Unasked:
    """A transaction that no client asked for."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many events were not kept."""

    count: int


Event = Opened | Unasked | Write | Dropped


class AuditObserver(Observer):
    """The observer. See `corekit.api.Observer`.

    Args:
        wall_ms: the clock, milliseconds since 1970.
        bytes_max: what the queue may hold, about.
    """

    def __init__(self, wall_ms: Callable[[], int], bytes_max: int) -> None:
        self._wall_ms = wall_ms
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, Event, int]] = deque()
        self._bytes = 0
        self._missing = 0
        self.dropped = 0

    def session_opened(self, session_id: int, timeout_ms: int, peer: Peer) -> None:
        """A client of this server has a session."""
        self._put(Opened(session_id, timeout_ms, peer), 0)

    def committed(self, zxid: int, entry: bytes) -> None:
        """Sessions that expire, containers that go; on every server of an ensemble."""
        kind = entry[_TYPE]
        if kind == _DELETE_CONTAINER or (kind == _CLOSE_SESSION and entry[_CXID] == bytes(4)):
            self._put(Unasked(entry), len(entry))

    def write_answered(self, write: Write) -> None:
        """A client of this server changed something, or was refused."""
        self._put(write, len(write.body) + len(write.entry))

    def _put(self, event: Event, size: int) -> None:
        size += _OVERHEAD_BYTES
        with self._lock:
            if self._bytes + size > self._bytes_max:
                self._missing += 1
                self.dropped += 1
                return
            now = self._wall_ms()
            if self._missing:
                self._queue.append((now, Dropped(self._missing), 0))
                self._missing = 0
            self._queue.append((now, event, size))
            self._bytes += size

    def take(self, most: int) -> list[tuple[int, Event]]:
        """The oldest events with their time (milliseconds since 1970); for the writer's thread."""
        with self._lock:
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self._bytes -= sum(size for _, _, size in taken)
            if not self._queue and self._missing:
                taken.append((self._wall_ms(), Dropped(self._missing), 0))
                self._missing = 0
        return [(when, event) for when, event, _ in taken]

    def __len__(self) -> int:
        return len(self._queue)
