"""Telling observers what happens.

An event that no observer has a method for costs one look at an empty list. An observer that raises is unbound from
every event, so that none is left half alive, and the request goes on; the shell logs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corekit.api import Observer
from corekit.codec import ops

Methods = list[Callable[..., None]]

_RESULT = 13  # bytes of one result of a failed multi: MultiHeader (type, done, error), error code


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
        self.failures: list[tuple[Observer, Exception]] = []

    def tell(self, methods: Methods, *arguments: object) -> None:
        """Call the methods of one event."""
        for method in list(methods):
            try:
                method(*arguments)
            except Exception as error:  # an observer must never break a request
                self._unbind(method.__self__, error)  # type: ignore[attr-defined]

    def _unbind(self, observer: Observer, error: Exception) -> None:
        for methods in (
            self.session_opened,
            self.session_closed,
            self.committed,
            self.request_failed,
            self.connection_opened,
            self.connection_closed,
        ):
            methods[:] = [one for one in methods if getattr(one, "__self__", None) is not observer]
        self.failures.append((observer, error))

    def answered(self, session_id: int, op: int, code: int, body: bytes) -> None:
        """A write got this answer: tell of it if it is a refusal. A multi is refused inside of its body."""
        if op == ops.MULTI and code == 0:
            at = 0
            while code == 0 and body[at : at + 5] == b"\xff\xff\xff\xff\0":
                code = int.from_bytes(body[at + 9 : at + _RESULT], "big", signed=True)
                at += _RESULT
        if code:
            self.tell(self.request_failed, session_id, op, code)


def _overridden(observers: Sequence[Observer], name: str) -> Methods:
    """The bound methods of those observers that define `name` themselves."""
    return [getattr(o, name) for o in observers if getattr(type(o), name) is not getattr(Observer, name)]
