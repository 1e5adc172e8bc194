"""Conformance suite for observers: they see everything that can happen and raise nothing.

Use: subclass `ObserverSuite` in a test file and override `make_observer`; pytest collects the rest.

    class TestMine(ObserverSuite):
        def make_observer(self) -> Observer:
            return MyObserver()

Rules that it checks
- No event makes it raise: one that raises is unbound, and misses everything from then on.
- It changes nothing: the server answers the same with it and without it.
- What was committed is told in the order of the zxids, so it must not be confused by refused or nested transactions.

Not here: what it does with what it sees.
"""

from __future__ import annotations

from struct import Struct

from corekit.api import Observer, Peer
from corekit.codec import ops
from corekit.codec.records import (
    ACL,
    CheckVersionRequest,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    Id,
    MultiHeader,
    SetACLRequest,
    SetDataRequest,
)
from corekit.contracts import breaches
from corekit.replica.connection import Connection
from corekit.testing.memory_server import MemoryServer

_HELLO = Struct(">iqiqi")
_ALL = [ACL(31, Id(b"world", b"anyone"))]


def _requests() -> list[tuple[int, bytes]]:
    """One of everything that changes something, in all its forms, and refusals of each."""
    multi = b"".join(
        MultiHeader(op, False, -1).encode() + body
        for op, body in (
            (ops.CREATE, CreateRequest(b"/m", b"1", _ALL, 0).encode()),
            (ops.CHECK, CheckVersionRequest(b"/m", 0).encode()),
            (ops.SET_DATA, SetDataRequest(b"/m", None, 0).encode()),
            (ops.DELETE, DeleteRequest(b"/m", 1).encode()),
        )
    )
    end = MultiHeader(-1, True, -1).encode()
    failed = MultiHeader(ops.DELETE, False, -1).encode() + DeleteRequest(b"/none", -1).encode()
    return [
        (ops.CREATE, CreateRequest(b"/a", b"1", _ALL, 0).encode()),
        (ops.CREATE, CreateRequest(b"/a", b"1", _ALL, 0).encode()),
        (ops.CREATE, CreateRequest("/\u00fcml\u00e4ut \u65e5".encode(), None, _ALL, 0).encode()),
        (ops.CREATE2, CreateRequest(b"/s-", b"\xff\0", _ALL, 2).encode()),
        (ops.CREATE, CreateRequest(b"/e", b"", _ALL, 1).encode()),
        (ops.CREATE_CONTAINER, CreateRequest(b"/c", b"", _ALL, 4).encode()),
        (ops.CREATE_TTL, CreateTTLRequest(b"/t", b"", _ALL, 5, 1000).encode()),
        (ops.SET_DATA, SetDataRequest(b"/a", b"x" * 100_000, -1).encode()),
        (ops.SET_DATA, SetDataRequest(b"/a", None, -1).encode()),
        (ops.SET_DATA, SetDataRequest(b"/a", b"", 99).encode()),
        (ops.SET_ACL, SetACLRequest(b"/a", [ACL(1, Id(b"ip", b"127.0.0.1")), *_ALL], -1).encode()),
        (ops.MULTI, multi + end),
        (ops.MULTI, failed + multi + end),
        (ops.MULTI, end),
        (ops.DELETE, DeleteRequest(b"/a", -1).encode()),
        (ops.DELETE, DeleteRequest(b"/a", -1).encode()),
        (ops.CREATE, b"\0\0\0\x7f"),
    ]


class ObserverSuite:
    """The suite. Subclass it in a test file, see above."""

    def make_observer(self) -> Observer:
        """An observer."""
        raise NotImplementedError("override make_observer()")

    def test_fulfils_the_contract(self) -> None:
        observer = self.make_observer()
        assert isinstance(observer, Observer)
        assert breaches(observer, Observer) == []

    def test_it_sees_something(self) -> None:
        names = [name for name in vars(Observer) if not name.startswith("_")]
        kind = type(self.make_observer())
        assert any(getattr(kind, name) is not getattr(Observer, name) for name in names), (
            f"it overrides none of {', '.join(names)}"
        )

    def test_nothing_that_happens_makes_it_raise(self) -> None:
        observer = self.make_observer()
        server = _Server([observer])
        server.live()
        assert server.failures == [], f"it was unbound: {server.failures}"

    def test_the_server_answers_the_same_with_it(self) -> None:
        alone, observed = _Server([]), _Server([self.make_observer()])
        alone.live()
        observed.live()
        assert alone.answers == observed.answers

    def test_two_servers_may_run_in_one_process(self) -> None:
        one, two = _Server([self.make_observer()]), _Server([self.make_observer()])
        one.live()
        two.live()
        assert one.failures == two.failures == []


class _Server:
    """A server, and two clients that do everything."""

    def __init__(self, observers: list[Observer]) -> None:
        self._server = MemoryServer({"extendedTypesEnabled": "true", "maxSessionTimeout": "40000"}, observers=observers)
        self.answers: list[bytes] = []

    @property
    def failures(self) -> list[str]:
        """Errors of observers that were unbound."""
        return [repr(error) for _, error in self._server.kernel.replica.observing.failures]

    def _connect(self, peer: Peer) -> Connection:
        kernel = self._server.kernel
        connection = kernel.connect(peer, lambda _: None)
        hello = _HELLO.pack(0, 0, 10_000, 0, 16) + bytes(17)
        self._server.turn(lambda: kernel.attach(connection, hello))
        self._server.settle()
        connection.out = []
        return connection

    def _call(self, connection: Connection, op: int, body: bytes = b"") -> None:
        frame = (1).to_bytes(4, "big") + op.to_bytes(4, "big", signed=True) + body
        data = len(frame).to_bytes(4, "big") + frame
        self._server.turn(lambda: self._server.kernel.feed(connection, data))
        self._server.settle()
        self.answers.append(b"".join(connection.out))
        connection.out = []

    def live(self) -> None:
        """A day in the life of a server."""
        one, two = self._connect(Peer("127.0.0.1", 1)), self._connect(Peer("unix"))
        for op, body in _requests():
            self._call(one, op, body)
        self._call(one, ops.CLOSE_SESSION)
        self._server.kernel.disconnect(one)
        self._server.kernel.disconnect(two)
        self._server.later(60_000)
        three = self._connect(Peer("::1", 3, tls=True, identities=(("x509", "CN=somebody"),)))
        self._server.turn(lambda: self._server.kernel.suspend("a test"))
        self._server.kernel.disconnect(three)
