"""Telling observers what happens.

An event that no observer has a method for costs one look at an empty list. An observer that raises is unbound from
every event, so that none is left half alive, and the request goes on; the shell logs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from corekit.api import Identity, Observer, Write
from corekit.codec import ops
from corekit.model import stat
from corekit.model.tree import Change
from corekit.replica.connection import Connection

Methods = list[Callable[..., None]]

_RESULT: Final = 13  # bytes of one result of a failed multi: MultiHeader (type, done, error), error code


class Observing:
    """The observers of one server.

    Attributes:
        failures: observers that raised and were unbound, with the error, for the shell to log and take away.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.session_opened = _overridden(observers, "session_opened")
        self.session_closed = _overridden(observers, "session_closed")
        self.committed = _overridden(observers, "committed")
        self.request_failed = _overridden(observers, "request_failed")
        self.connection_opened = _overridden(observers, "connection_opened")
        self.connection_closed = _overridden(observers, "connection_closed")
        self.write_answered = _overridden(observers, "write_answered")
        self.failures: list[tuple[Observer, Exception]] = []
        self._asked: deque[tuple[int, Sequence[Identity], int, bytes, int]] = deque()

    def tell(self, methods: Methods, *arguments: object) -> None:
        """Call the methods of one event."""
        for method in list(methods):
            try:
                method(*arguments)
            except Exception as error:  # an observer must never break a request
                self._unbind(method.__self__, error)  # type: ignore[attr-defined]  # it is a bound method

    def _unbind(self, observer: Observer, error: Exception) -> None:
        for methods in (
            self.session_opened,
            self.session_closed,
            self.committed,
            self.request_failed,
            self.connection_opened,
            self.connection_closed,
            self.write_answered,
        ):
            methods[:] = [one for one in methods if getattr(one, "__self__", None) is not observer]
        self.failures.append((observer, error))

    def refused(self, connection: Connection, op: int, body: bytes, code: int) -> None:
        """A write was refused before it became a transaction."""
        self.tell(self.request_failed, connection.session_id, op, code)
        if self.write_answered:
            write = Write(connection.session_id, connection.peer, connection.identities, op, body, code)
            self.tell(self.write_answered, write)

    def prepared(self, zxid: int, connection: Connection, op: int, body: bytes, code: int, reply: bytes) -> None:
        """A write became a transaction that will get this answer: tell of it if it is a refusal."""
        code = refusal(op, code, reply)
        if code:
            self.tell(self.request_failed, connection.session_id, op, code)
        if self.write_answered:
            self._asked.append((zxid, connection.identities, op, body, code))

    def decided(self, zxid: int, connection: Connection, entry: bytes, before: Mapping[bytes, int]) -> None:
        """The transaction of `prepared` is committed."""
        while self._asked and self._asked[0][0] < zxid:
            self._asked.popleft()  # of a leadership that was lost
        if self._asked and self._asked[0][0] == zxid:
            _, identities, op, body, code = self._asked.popleft()
            self.answered(connection, identities, (op, body, code), zxid, entry, before)

    def answered(
        self,
        connection: Connection,
        identities: Sequence[Identity],
        asked: tuple[int, bytes, int],
        zxid: int,
        entry: bytes,
        before: Mapping[bytes, int],
    ) -> None:
        """A write is committed; `asked` is its operation, body and code."""
        write = Write(connection.session_id, connection.peer, identities, *asked, zxid, entry, before)
        self.tell(self.write_answered, write)

    def forget(self) -> None:
        """Nothing that was prepared is decided here."""
        self._asked.clear()


def refusal(op: int, code: int, reply: bytes) -> int:
    """The error code that an answer comes to, or 0. A multi is refused inside of its body."""
    at = 0
    while op == ops.MULTI and code == 0 and reply[at : at + 5] == b"\xff\xff\xff\xff\0":
        code = int.from_bytes(reply[at + 9 : at + _RESULT], "big", signed=True)
        at += _RESULT
    return code


def versions(nodes: Mapping[bytes, bytes], changes: Iterable[Change]) -> dict[bytes, int]:
    """The data version of the znodes that are about to be changed."""
    return {change[1]: stat.version_of(nodes[change[1]]) for change in changes if change[1] in nodes}


def _overridden(observers: Sequence[Observer], name: str) -> Methods:
    """The bound methods of those observers that define `name` themselves."""
    return [getattr(o, name) for o in observers if getattr(type(o), name) is not getattr(Observer, name)]
