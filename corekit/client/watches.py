"""Watches of one session: who waits for which path, what an event means for them, and how they are put back.

Rules
- The registry knows server paths (UTF-8 bytes with the chroot); a watch turns them into the client's text itself.
- A one-shot watch is registered when the reply that set it arrives, fires once, and is forgotten. It is forgotten
  earlier when its user drops it (a wait that was cancelled, a loop that was left): only one with a `then` is held.
- A persistent watch stays until closed. After a reconnection it reports RESYNC, because the server replays nothing
  for it; one-shot watches are replayed by the server (`setWatches`).
- When the session is lost or closed, every watch ends with that error.

Source: `ZKWatchManager.materialize`, `ClientCnxn.SendThread.primeConnection`. Not here: requests (`session.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TypeVar
from weakref import ref

import anyio

from corekit.client.paths import path_text
from corekit.client.types import EventType, WatchEvent
from corekit.codec import ops, records

EVENTS = {kind.value: kind for kind in EventType}
# Lists of a setWatches packet are cut at this many bytes of paths, far below any server's packet limit.
RESTORE_BYTES_MAX = 128 * 1024
QUEUE_MAX = 4096

DATA, EXIST, CHILD, PERSISTENT, RECURSIVE = range(5)
T = TypeVar("T")


class Watch:
    """A one-shot watch: `event = await watch`.

    Awaiting raises the error that ended the session (`SessionExpiredError`, `ClientClosedError`) instead, if that
    comes first. Any number of tasks may await it, also after it has fired.
    """

    __slots__ = ("__weakref__", "_arrived", "_error", "_event", "_skip", "kind", "path", "then")

    def __init__(self, path: bytes, kind: int, skip: int, then: Callable[[WatchEvent], None] | None = None) -> None:
        self.path = path
        self.kind = kind
        self.then = then  # called at once with the event; must not block
        self._skip = skip
        self._event: WatchEvent | None = None
        self._error: Exception | None = None
        self._arrived: anyio.Event | None = None

    @property
    def fired(self) -> bool:
        """Whether awaiting it returns (or raises) at once."""
        return self._event is not None or self._error is not None

    def deliver(self, kind: EventType, path: bytes, zxid: int) -> None:
        """The registry's: the event came."""
        if not self.fired:
            self._event = event = WatchEvent(kind, path_text(path, self._skip), zxid)
            self._wake()
            if self.then is not None:
                self.then(event)

    def end(self, error: Exception) -> None:
        """The registry's: no event will come."""
        if not self.fired:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    async def wait(self) -> WatchEvent:
        """The event, as soon as it is there."""
        if not self.fired:
            if self._arrived is None:
                self._arrived = anyio.Event()
            await self._arrived.wait()
        if self._error is not None:
            raise self._error
        assert self._event is not None
        return self._event

    def __await__(self) -> Generator[object, None, WatchEvent]:
        return self.wait().__await__()


class WatchStream:
    """Events of a persistent watch: `async for event in stream`. Made by `Client.watch`.

    Holds up to 4096 events; a reader that is slower finds one RESYNC event in their place.
    """

    __slots__ = ("_arrived", "_error", "_events", "_skip", "kind", "path")

    def __init__(self, path: bytes, kind: int, skip: int) -> None:
        self.path = path
        self.kind = kind
        self._skip = skip
        self._events: deque[WatchEvent] = deque()
        self._error: Exception | None = None
        self._arrived = anyio.Event()

    def deliver(self, kind: EventType, path: bytes, zxid: int) -> None:
        """The registry's: an event came."""
        if self._error is None:
            if len(self._events) >= QUEUE_MAX:
                self._events.clear()
                kind, path, zxid = EventType.RESYNC, self.path, -1
            self._events.append(WatchEvent(kind, path_text(path, self._skip), zxid))
            self._arrived.set()

    def end(self, error: Exception) -> None:
        """The registry's: no more events will come. Those already here are still given."""
        if self._error is None:
            self._error = error
            self._arrived.set()

    def pending(self) -> int:
        """How many events wait to be read."""
        return len(self._events)

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._events:
            if self._error is not None:
                raise self._error
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._events.popleft()


class _Held:
    """A one-shot watch in the registry: of one that nobody holds elsewhere only `dropped` hears."""

    __slots__ = ("kind", "path", "watch")

    def __init__(self, watch: Watch, dropped: deque[_Held]) -> None:
        self.kind = watch.kind
        self.path = watch.path
        self.watch: Callable[[], Watch | None]
        if watch.then is not None:
            self.watch = lambda: watch
        else:
            self.watch = ref(watch, lambda _: dropped.append(self))


class WatchRegistry:
    """All watches of one session."""

    def __init__(self) -> None:
        self._once: tuple[dict[bytes, list[_Held]], ...] = ({}, {}, {})  # DATA, EXIST, CHILD
        self._dropped: deque[_Held] = deque()  # filled at any moment, by the garbage collector
        self._lasting: dict[int, dict[bytes, list[WatchStream]]] = {PERSISTENT: {}, RECURSIVE: {}}

    def __len__(self) -> int:
        self._sweep()
        once = sum(len(watches) for table in self._once for watches in table.values())
        return once + sum(len(streams) for table in self._lasting.values() for streams in table.values())

    def add(self, watch: Watch) -> None:
        """A reply has set this one-shot watch."""
        self._sweep()
        self._once[watch.kind].setdefault(watch.path, []).append(_Held(watch, self._dropped))

    def forget(self, watch: Watch) -> None:
        """Nobody waits for this one-shot watch any more. The server may keep it; its event will be ignored."""
        for held in self._once[watch.kind].get(watch.path, ()):
            if held.watch() is watch:
                _remove(self._once[watch.kind], watch.path, held)
                return

    def _sweep(self) -> None:
        while self._dropped:
            held = self._dropped.popleft()
            _remove(self._once[held.kind], held.path, held)

    def add_stream(self, stream: WatchStream) -> None:
        """A reply has set this persistent watch."""
        self._lasting[stream.kind].setdefault(stream.path, []).append(stream)

    def forget_stream(self, stream: WatchStream) -> bool:
        """The stream is closed; returns whether the server's watch has no other user and should be removed."""
        _remove(self._lasting[stream.kind], stream.path, stream)
        self._sweep()
        if any(stream.path in table for table in self._once):
            return False
        return not any(stream.path in table for table in self._lasting.values())

    def fire(self, event: int, path: bytes, zxid: int) -> None:
        """A notification came: tell everyone it concerns."""
        kind = EVENTS.get(event)
        if kind is None or kind is EventType.RESYNC:
            return
        data, exist, child = self._once
        ended: list[_Held] = []
        if kind is not EventType.CHILDREN_CHANGED:
            ended += data.pop(path, ())
            ended += exist.pop(path, ())
        if kind in (EventType.CHILDREN_CHANGED, EventType.DELETED):
            ended += child.pop(path, ())
        for held in ended:
            if (watch := held.watch()) is not None:
                watch.deliver(kind, path, zxid)
        for stream in self._lasting[PERSISTENT].get(path, ()):
            stream.deliver(kind, path, zxid)
        recursive = self._lasting[RECURSIVE]
        if recursive and kind is not EventType.CHILDREN_CHANGED:
            for above in _self_and_ancestors(path):
                for stream in recursive.get(above, ()):
                    stream.deliver(kind, path, zxid)

    def restore(self, relative_zxid: int) -> Iterator[tuple[int, bytes]]:
        """The packets that put all watches back on a new connection, as (operation, body)."""
        self._sweep()
        lists: list[list[bytes]] = [[], [], [], [], []]
        size = 0
        tables: list[dict[bytes, list[_Held]] | dict[bytes, list[WatchStream]]] = [*self._once]
        tables += [self._lasting[PERSISTENT], self._lasting[RECURSIVE]]
        for number, table in enumerate(tables):
            for path in table:
                lists[number].append(path)
                size += len(path) + 4
                if size >= RESTORE_BYTES_MAX:
                    yield _restore_packet(relative_zxid, lists)
                    lists = [[], [], [], [], []]
                    size = 0
        if size:
            yield _restore_packet(relative_zxid, lists)

    def resync(self) -> None:
        """The connection was replaced: persistent watches may have missed events."""
        for table in self._lasting.values():
            for path, streams in table.items():
                for stream in streams:
                    stream.deliver(EventType.RESYNC, path, -1)

    def end(self, make_error: Callable[[], Exception]) -> None:
        """The session is over for all of them."""
        for once in self._once:
            for watches in once.values():
                for held in watches:
                    if (watch := held.watch()) is not None:
                        watch.end(make_error())
            once.clear()
        for lasting in self._lasting.values():
            for streams in lasting.values():
                for stream in streams:
                    stream.end(make_error())
            lasting.clear()


def _remove(table: dict[bytes, list[T]], path: bytes, watch: T) -> None:
    watches = table.get(path, [])
    if watch in watches:
        watches.remove(watch)
        if not watches:
            del table[path]


def _self_and_ancestors(path: bytes) -> Iterator[bytes]:
    yield path
    while len(path) > 1:
        path = path[: path.rindex(b"/")] or b"/"
        yield path


def _restore_packet(relative_zxid: int, lists: list[list[bytes]]) -> tuple[int, bytes]:
    """The older operation unless a persistent watch needs the newer one, so that old servers are served too."""
    data, exist, child, persistent, recursive = lists
    if persistent or recursive:
        return ops.SET_WATCHES2, records.SetWatches2(relative_zxid, *lists).encode()
    return ops.SET_WATCHES, records.SetWatches(relative_zxid, data, exist, child).encode()
