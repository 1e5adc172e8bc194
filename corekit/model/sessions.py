"""Sessions: ids, passwords and expiry, as ZooKeeper does them, so that a session can move between servers of both
kinds.

A session is touched by writing the current time into it (`heard_ms`); the expiry buckets are looked at once a tick
and move sessions that were heard since, so that a request costs one attribute store. Sources: `SessionTrackerImpl`,
`ExpiryQueue`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

_MASK64: Final = (1 << 64) - 1
_SECRET: Final = 0xB3415C00  # ZooKeeper's `superSecret`
_MULTIPLIER, _ADDEND, _MASK48 = 0x5DEECE66D, 0xB, (1 << 48) - 1
_PASSWORD: Final = Struct("<IIII")


def password(session_id: int) -> bytes:
    """The 16-byte password of a session (`ZooKeeperServer.generatePasswd`: `Random(id ^ secret).nextBytes`)."""
    state = ((session_id & _MASK64) ^ _SECRET ^ _MULTIPLIER) & _MASK48
    words = []
    for _ in range(4):
        state = (state * _MULTIPLIER + _ADDEND) & _MASK48
        words.append(state >> 16)
    return _PASSWORD.pack(*words)


def first_session_id(server_id: int, clock_ms: int) -> int:
    """Where a server begins to count its session ids (`SessionTrackerImpl.initializeNextSessionId`), signed 64-bit."""
    value = ((clock_ms << 24) & _MASK64) >> 8 | ((server_id & 0xFF) << 56)
    if value == 1 << 63:  # would look like a container's owner
        value += 1
    return value - (1 << 64) if value >> 63 else value


class Session:
    """One session as its server knows it.

    Attributes:
        id: signed 64-bit.
        timeout_ms: negotiated by the latest connection.
        heard_ms: when its client was last heard, on the clock given to the tracker.
        closing: a closeSession is proposed; nothing more is accepted.
        owner: the connection of this server that uses it, or None.
        local: known to this server only (local sessions).
        home: number of the server where its client is connected, as far as the leader knows; None: not known.
    """

    __slots__ = ("bucket", "closing", "heard_ms", "home", "id", "local", "owner", "timeout_ms")

    def __init__(self, session_id: int, timeout_ms: int, now_ms: int) -> None:
        self.id = session_id
        self.timeout_ms = timeout_ms
        self.heard_ms = now_ms
        self.closing = False
        self.owner: object | None = None
        self.home: int | None = None
        self.local = False
        self.bucket = 0


class SessionTracker:
    """The sessions of an ensemble (on the leader) or of a server on its own, with their expiry."""

    def __init__(self, tick_ms: int, first_id: int) -> None:
        self.tick_ms = tick_ms
        self.sessions: dict[int, Session] = {}
        self._buckets: dict[int, set[int]] = {}
        self._next_id = first_id

    def new_id(self) -> int:
        """A session id that was not given out before."""
        value = self._next_id
        while value in self.sessions:  # the clock that ids start from may have been set back
            value += 1
        self._next_id = value + 1
        return value

    def add(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """Track a session; one that is known already is touched."""
        session = self.sessions.get(session_id)
        if session is None:
            session = self.sessions[session_id] = Session(session_id, timeout_ms, now_ms)
            self._enqueue(session)
        else:
            session.heard_ms = now_ms
        return session

    def remove(self, session_id: int) -> None:
        """The session is closed."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._dequeue(session)

    def clear(self) -> None:
        """Forget every session (another state takes the place of this one)."""
        self.sessions.clear()
        self._buckets.clear()

    def retime(self, session: Session, timeout_ms: int, now_ms: int) -> None:
        """A new connection negotiated another timeout."""
        self._dequeue(session)
        session.timeout_ms = timeout_ms
        session.heard_ms = now_ms
        self._enqueue(session)

    def expired(self, now_ms: int) -> list[int]:
        """Sessions whose time is over now. Call about once a tick; each is returned once, then waits for `remove`."""
        due = []
        for bucket in sorted(b for b in self._buckets if b <= now_ms):
            for session_id in sorted(self._buckets.pop(bucket)):
                session = self.sessions[session_id]
                if session.closing:
                    continue
                if self._bucket(session) > bucket:
                    self._enqueue(session)
                else:
                    due.append(session_id)
        return due

    def restart(self, now_ms: int) -> None:
        """Start every clock anew: after recovery, a new leader gives each session its full time."""
        self._buckets.clear()
        for session in self.sessions.values():
            session.heard_ms = now_ms
            session.closing = False
            self._enqueue(session)

    def buckets(self) -> Iterator[tuple[int, list[int]]]:
        """(expiry time in ms, session ids) in order of time, as they stand now (`dump`)."""
        real: dict[int, list[int]] = {}
        for session in self.sessions.values():
            real.setdefault(self._bucket(session), []).append(session.id)
        yield from sorted(real.items())

    def _bucket(self, session: Session) -> int:
        return ((session.heard_ms + session.timeout_ms) // self.tick_ms + 1) * self.tick_ms

    def _enqueue(self, session: Session) -> None:
        session.bucket = self._bucket(session)
        self._buckets.setdefault(session.bucket, set()).add(session.id)

    def _dequeue(self, session: Session) -> None:
        bucket = self._buckets.get(session.bucket)
        if bucket is not None:
            bucket.discard(session.id)
            if not bucket:
                del self._buckets[session.bucket]
