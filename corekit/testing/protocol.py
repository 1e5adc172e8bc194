"""Conformance suite for client protocols: what the server and its other clients rely on, in whatever language.

Use: subclass `ProtocolSuite` in a test file and say how a client speaks; pytest collects the rest.

    class TestMine(ProtocolSuite):
        def make_protocol(self, context: Context) -> ClientProtocol:
            return MyProtocol(context)

        def create(self, path: str, data: bytes) -> bytes:
            return b"PUT %s %d\\n%s" % (path.encode(), len(data), data)
        ...
        def parse(self, data: bytes) -> tuple[list[Answer], bytes]:
            ...

The protocol stands in front of a real kernel in memory (`memory_server.py`), where a write is durable when the test
says so. What a language cannot say (watches, sessions) is left out: the method is not overridden, its tests are
skipped and say which.

Rules that it checks
- Bytes may be cut anywhere and come all at once; the answers are the same, in the order of the requests.
- No answer before the write is durable; an event before any answer that shows its change.
- Whatever a client sends, only `ProtocolError` is raised, nothing grows without bound, and nobody else notices.
- A paused session is not fed; a session that is over says so in `closing`; a closed one leaves nothing behind.

Not here: what requests mean (`tests/unit/test_replica.py`), sockets (`transport.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import pytest

from corekit.api import ClientProtocol, ClientSession
from corekit.contracts import breaches
from corekit.hooks import Context
from corekit.limits import CLIENT_OUT_PAUSE_BYTES
from corekit.testing.memory_server import Line, MemoryServer

_LIMIT = 20_000  # jute.maxbuffer in these tests
_OUTSTANDING = 20  # globalOutstandingLimit
_LONGEST_SESSION_MS = 60_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client reads from what it received, one for each thing said to it.

    Attributes:
        kind: `hello` (a session was opened or refused), `reply` or `event`.
        ok: it was done; False for an error.
        data: of the znode, in the reply to a get.
        path: of the znode, in an event.
    """

    kind: str
    ok: bool = True
    data: bytes = b""
    path: str = ""


class Client:
    """A client on one connection."""

    def __init__(self, suite: ProtocolSuite, server: MemoryServer, protocol: ClientProtocol) -> None:
        self.server = server
        self.line = Line(server, protocol)
        self._suite = suite
        self._rest = b""
        self._read = 0

    def send(self, *requests: bytes) -> None:
        """Send, in one piece."""
        self.line.send(b"".join(requests))

    def answers(self) -> list[Answer]:
        """What has come since the last call."""
        data = self._rest + self.line.got[self._read :]
        self._read = len(self.line.got)
        found, self._rest = self._suite.parse(data)
        return found

    def call(self, request: bytes) -> Answer:
        """Send a request and make it durable; its reply."""
        self.send(request)
        self.server.settle()
        replies = [answer for answer in self.answers() if answer.kind == "reply"]
        assert len(replies) == 1, f"one request, {len(replies)} replies"
        return replies[0]


class ProtocolSuite:
    """The suite. Subclass it in a test file, see above.

    Attributes:
        garbage: byte strings that no client sends, besides the usual ones.
        pipelines: a client may send a request before it has the answer to the last one.
    """

    garbage: ClassVar[Sequence[bytes]] = ()
    pipelines: ClassVar[bool] = True

    # ------------------------------------------------------------------------------------- the language
    def make_protocol(self, context: Context) -> ClientProtocol:
        """A protocol, not bound."""
        raise NotImplementedError("override make_protocol()")

    def hello(self) -> bytes:
        """What a client says first; empty if requests come at once."""
        return b""

    def goodbye(self) -> bytes:
        """Ends the session."""
        pytest.skip("goodbye is not overridden")

    def create(self, path: str, data: bytes) -> bytes:
        """Create a persistent znode that everybody may use."""
        raise NotImplementedError("override create()")

    def get(self, path: str) -> bytes:
        """Read a znode."""
        raise NotImplementedError("override get()")

    def set(self, path: str, data: bytes) -> bytes:
        """Write a znode, whatever its version."""
        raise NotImplementedError("override set()")

    def ephemeral(self, path: str) -> bytes:
        """Create a znode that ends with the session of this connection."""
        pytest.skip("ephemeral is not overridden")

    def watch(self, path: str) -> bytes:
        """Read a znode and ask to be told of its next change, on this connection."""
        pytest.skip("watch is not overridden")

    def parse(self, data: bytes) -> tuple[list[Answer], bytes]:
        """What a client reads from these bytes, and the bytes of an answer that is not complete."""
        raise NotImplementedError("override parse()")

    # ------------------------------------------------------------------------------------------ helpers
    def serve(self, **settings: str) -> tuple[MemoryServer, ClientProtocol]:
        """A server, and the protocol bound to it."""
        given = {
            "jute.maxbuffer": str(_LIMIT),
            "globalOutstandingLimit": str(_OUTSTANDING),
            "maxSessionTimeout": str(_LONGEST_SESSION_MS),
            **settings,
        }
        server = MemoryServer(given)
        protocol = self.make_protocol(server.context())
        protocol.bind(server.kernel)
        return server, protocol

    def connect(self, server: MemoryServer, protocol: ClientProtocol) -> Client:
        """A client that is ready to send requests."""
        client = Client(self, server, protocol)
        if self.hello():
            client.send(self.hello())
        server.settle()
        assert not client.line.why, f"the connection of a client was closed: {client.line.why}"
        greetings = client.answers()
        assert all(answer.kind == "hello" and answer.ok for answer in greetings)
        assert len(greetings) == bool(self.hello()), "one hello, one answer"
        return client

    def pair(self, **settings: str) -> tuple[MemoryServer, Client, Client]:
        """A server with two clients."""
        server, protocol = self.serve(**settings)
        return server, self.connect(server, protocol), self.connect(server, protocol)

    def _needs_pipelines(self) -> None:
        if not self.pipelines:
            pytest.skip("pipelines is False")

    # ----------------------------------------------------------------------------------------- contract
    def test_fulfils_the_contract(self) -> None:
        server, protocol = self.serve()
        assert breaches(protocol, ClientProtocol) == []
        assert isinstance(protocol.name, str)
        assert protocol.name
        client = self.connect(server, protocol)
        assert breaches(client.line.session, ClientSession) == []
        assert client.line.session.closing is None

    def test_it_says_where_it_wants_to_listen(self) -> None:
        _, protocol = self.serve()
        for address, port, _ in protocol.listeners():
            assert isinstance(address, str)
            assert isinstance(port, int)
            assert 0 <= port < 65536, "no port: leave the listener out"

    # ----------------------------------------------------------------------------------------- requests
    def test_what_one_writes_another_reads(self) -> None:
        _, one, two = self.pair()
        assert one.call(self.create("/a", b"1")).ok
        assert two.call(self.get("/a")) == Answer("reply", True, b"1")
        assert two.call(self.set("/a", b"22")).ok
        assert one.call(self.get("/a")).data == b"22"

    def test_a_refusal_is_an_answer(self) -> None:
        _, one, _ = self.pair()
        assert not one.call(self.get("/none")).ok
        assert not one.call(self.create("/none/below", b"")).ok
        assert one.call(self.create("/a", b"")).ok
        assert not one.call(self.create("/a", b"")).ok
        assert not one.line.why, "a refused request is no reason to close"

    def test_any_bytes_are_data(self) -> None:
        _, one, two = self.pair()
        for number, data in enumerate((b"", b"\0", bytes(range(256)), b"\r\n\r\n", b"\xff" * 3, b"x" * 9000)):
            assert one.call(self.create(f"/d{number}", data)).ok
            assert two.call(self.get(f"/d{number}")).data == data

    def test_any_text_is_a_name(self) -> None:
        _, one, two = self.pair()
        for name in ("/with space", "/\u00fcml\u00e4ut", "/\u65e5\u672c", "/a?b=c&d#e", "/100%", "/'\"\\"):
            assert one.call(self.create(name, name.encode())).ok, name
            assert two.call(self.get(name)).data == name.encode(), name

    def test_nothing_is_acknowledged_before_it_is_durable(self) -> None:
        server, one, two = self.pair()
        one.send(self.create("/a", b"1"))
        assert one.answers() == []
        two.send(self.get("/a"))
        assert [answer.ok for answer in two.answers()] == [False], "a write that is not decided is not seen"
        server.settle()
        assert [answer.ok for answer in one.answers()] == [True]

    # ------------------------------------------------------------------------------------ cuts, pipelining
    def _script(self) -> list[bytes]:
        """Requests, the last of which reads what the others have written."""
        return [self.create("/p", b"1"), self.get("/p"), self.set("/p", b"two"), self.get("/none"), self.get("/p")]

    def _due(self) -> list[tuple[bool, bytes]]:
        return [(True, b""), (True, b"1"), (True, b""), (False, b""), (True, b"two")]

    def _check_script(self, client: Client, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            client.send(piece)
        client.server.settle()
        assert not client.line.why, f"the connection was closed: {client.line.why}"
        got = client.answers()
        expected = [Answer("hello")] * bool(self.hello())
        assert got[: len(expected)] == expected
        replies = got[len(expected) :]
        assert [answer.kind for answer in replies] == ["reply"] * 5
        assert [answer.ok for answer in replies] == [ok for ok, _ in self._due()]
        assert [answer.data for answer in replies if answer.data] == [b"1", b"two"]

    def test_requests_may_come_all_at_once(self) -> None:
        self._needs_pipelines()
        client = Client(self, *self.serve())
        self._check_script(client, [self.hello() + b"".join(self._script())])

    def test_requests_may_be_cut_anywhere(self) -> None:
        self._needs_pipelines()
        stream = self.hello() + b"".join(self._script())
        for at in range(1, len(stream)):
            client = Client(self, *self.serve())
            self._check_script(client, [stream[:at], stream[at:]])

    def test_requests_may_come_byte_by_byte(self) -> None:
        self._needs_pipelines()
        client = Client(self, *self.serve())
        stream = self.hello() + b"".join(self._script())
        self._check_script(client, [stream[at : at + 1] for at in range(len(stream))])

    def test_requests_may_come_in_any_pieces(self) -> None:
        self._needs_pipelines()
        stream = self.hello() + b"".join(self._script())
        for seed in range(50):
            rng = Random(seed)
            cuts = sorted(rng.randrange(len(stream)) for _ in range(rng.randrange(1, 10)))
            pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
            self._check_script(Client(self, *self.serve()), pieces)

    def test_one_request_may_be_cut_anywhere(self) -> None:
        """For a client that waits for each answer, too."""
        _, one, two = self.pair()
        assert one.call(self.create("/a", b"")).ok
        size = len(self.set("/a", b"%08d" % 0))
        for at in range(1, size):
            request = self.set("/a", b"%08d" % at)
            one.send(request[:at])
            assert one.answers() == [], "an answer to half a request"
            assert one.call(request[at:]).ok
            assert two.call(self.get("/a")).data == b"%08d" % at

    def test_answers_come_in_the_order_of_the_requests(self) -> None:
        self._needs_pipelines()
        server, one, _ = self.pair()
        for number in range(10):
            assert one.call(self.create(f"/n{number}", b"%d" % number)).ok
        one.send(*(self.get(f"/n{number}") for number in range(10)), self.set("/n3", b"x"), self.get("/n3"))
        one.send(self.get("/n4"))
        server.settle()
        got = [answer.data for answer in one.answers()]
        assert got[:10] == [b"%d" % number for number in range(10)]
        assert got[11:] == [b"x", b"4"], "a read sees the writes that the same client sent before it"

    def test_half_a_request_of_one_delays_nobody_else(self) -> None:
        _, one, two = self.pair()
        request = self.create("/a", b"1")
        one.send(request[: len(request) // 2])
        assert two.call(self.create("/b", b"2")).ok
        assert two.call(self.get("/b")).data == b"2"
        assert one.call(request[len(request) // 2 :]).ok

    # -------------------------------------------------------------------------------------------- events
    def test_an_event_comes_before_the_answer_that_shows_the_change(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.create("/a", b"old")).ok
        assert two.call(self.watch("/a")).data == b"old"
        one.send(self.set("/a", b"new"))
        two.send(self.get("/a"))
        server.sync()
        two.send(self.get("/a"))
        server.settle()
        kinds = [(answer.kind, answer.data or answer.path.encode()) for answer in two.answers()]
        assert kinds == [("reply", b"old"), ("event", b"/a"), ("reply", b"new")]

    def test_an_event_is_sent_to_a_client_that_is_silent(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.create("/a", b"")).ok
        assert two.call(self.watch("/a")).ok
        before = len(two.line.got)
        assert one.call(self.set("/a", b"1")).ok
        assert len(two.line.got) > before, "woken was not called, or take gave nothing"
        assert [(answer.kind, answer.path) for answer in two.answers()] == [("event", "/a")]
        assert one.call(self.set("/a", b"2")).ok
        assert two.answers() == [], "told once, asked once"
        server.settle()

    # ------------------------------------------------------------------------------------ back-pressure
    def test_a_client_with_too_much_in_flight_is_held_back(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.create("/a", b"")).ok
        most = 0
        sent = 5 * _OUTSTANDING if self.pipelines else 1
        for number in range(sent):
            one.send(self.set("/a", b"%d" % number))
            most = max(most, server.outstanding)
        assert most <= _OUTSTANDING + 1, f"{most} writes in flight, the limit is {_OUTSTANDING}"
        if self.pipelines:
            assert one.line.pauses, "paused was never True"
        assert two.call(self.get("/a")).ok
        server.settle()
        replies = one.answers()
        assert [answer.ok for answer in replies] == [True] * sent, "requests that had to wait were lost"
        assert two.call(self.get("/a")).data == b"%d" % (sent - 1)

    def test_being_called_without_bytes_is_harmless(self) -> None:
        _, one, _ = self.pair()
        one.send(b"")
        request = self.create("/a", b"1")
        one.send(request[:-1])
        one.send(b"")
        assert one.answers() == []
        assert one.call(request[-1:]).ok
        one.send(b"")
        assert one.answers() == []

    def test_large_answers_go_on_for_ever(self) -> None:
        """Whoever takes what the kernel has for a client sets `GatewayConnection.owed` to 0."""
        _, one, _ = self.pair()
        data = b"x" * (_LIMIT - 2000)
        assert one.call(self.create("/a", data)).ok
        for _ in range(2 * CLIENT_OUT_PAUSE_BYTES // len(data)):
            assert one.call(self.get("/a")).data == data

    # ------------------------------------------------------------------------------- garbage, too much
    def _noise(self) -> Iterator[bytes]:
        yield from self.garbage
        yield from (
            b"\0" * 64,
            b"\xff" * 64,
            b"\x7f\xff\xff\xff" * 4,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01",
        )
        rng = Random(11)
        valid = [self.hello() or b"?", self.create("/g", b"x" * 20), self.get("/g"), self.set("/g", b"y")]
        for _ in range(200):
            yield bytes(rng.randrange(256) for _ in range(rng.randrange(1, 80)))
            mutated = bytearray(b"".join(rng.choice(valid) for _ in range(3)))
            for _ in range(rng.randrange(1, 4)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            yield bytes(mutated)

    def _bother(self, line: Line, data: bytes, rng: Random) -> None:
        """Send garbage in pieces; anything but a ProtocolError is raised here."""
        at = 0
        while at < len(data) and not line.why:
            size = rng.choice((1, 3, 1000))
            line.send(data[at : at + size])
            at += size
        line.server.settle()

    @pytest.mark.parametrize("after_hello", [False, True])
    def test_garbage_hurts_nobody(self, after_hello: bool) -> None:
        server, protocol = self.serve()
        good = self.connect(server, protocol)
        assert good.call(self.create("/good", b"0")).ok
        before = len(server.kernel.replica.connections)
        rng = Random(12)
        for number, data in enumerate(self._noise()):
            bad = Client(self, server, protocol)
            if after_hello and self.hello():
                bad.send(self.hello())
                server.settle()
            self._bother(bad.line, data, rng)
            if rng.random() < 0.5:
                bad.line.end()
            bad.line.close()
            if number % 40 == 0:
                assert good.call(self.set("/good", b"%d" % number)).ok
                assert good.call(self.get("/good")).data == b"%d" % number
        assert good.call(self.get("/good")).ok
        assert server.lines == [good.line]
        assert len(server.kernel.replica.connections) == before, "connections are left behind in the kernel"

    def test_a_request_that_is_too_large_is_refused(self) -> None:
        """And it is not collected first: memory belongs to everybody."""
        server, one, two = self.pair()
        request = self.create("/big", b"x" * (50 * _LIMIT))
        taken = 0
        answers: list[Answer] = []
        while taken < len(request) and not one.line.why and not answers:
            one.send(request[taken : taken + 1000])
            taken += 1000
            server.settle()
            answers = one.answers()
        assert one.line.why or not answers[0].ok, "it was accepted"
        assert taken <= 3 * _LIMIT, f"{taken} bytes of a request were taken, the limit is {_LIMIT}"
        assert not two.call(self.get("/big")).ok

    # ------------------------------------------------------------------------------------------- the end
    def test_a_client_that_sends_no_more_is_let_go(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.create("/a", b"")).ok
        one.line.end()
        server.settle()
        assert one.line.why, "after end_of_input, `closing` must be set"
        half = self.get("/a")[:-1]
        two.send(half)
        two.line.end()
        server.settle()
        assert two.line.why
        assert server.lines == []

    def test_a_client_that_says_nothing_is_let_go(self) -> None:
        server, protocol = self.serve()
        client = Client(self, server, protocol)
        client.line.end()
        server.settle()
        assert client.line.why, "after end_of_input, `closing` must be set"

    def test_a_connection_that_is_gone_leaves_nothing_behind(self) -> None:
        server, one, two = self.pair()
        one.send(self.create("/a", b"1"))
        one.line.close()
        server.settle()
        assert two.call(self.get("/a")).data == b"1", "what was sent is done, although nobody is there for the answer"
        two.line.close()
        assert not server.kernel.replica.connections, "`disconnect` was not called"

    def test_the_session_of_a_client_that_is_gone_ends_in_time(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.ephemeral("/e")).ok
        one.line.close()
        assert two.call(self.get("/e")).ok, "a session outlives its connection: its client may come back"
        two.line.close()
        server.later(2 * _LONGEST_SESSION_MS)
        assert server.sessions == set()
        assert b"/e" not in server.kernel.replica.tree.nodes

    def test_goodbye_ends_the_session_at_once(self) -> None:
        server, one, two = self.pair()
        assert one.call(self.create("/a", b"")).ok
        before = len(server.sessions)
        one.send(self.goodbye())
        server.settle()
        assert one.line.why, "after its session, a connection is closed"
        assert len(server.sessions) == before - 1
        assert two.call(self.get("/a")).ok

    def test_a_server_that_stops_serving_sends_its_clients_away(self) -> None:
        server, one, two = self.pair()
        one.send(self.create("/a", b"1"))
        server.turn(lambda: server.kernel.suspend("a test"))
        assert one.line.why, "`closing` of the connection in the kernel was not passed on"
        assert two.line.why

    def test_no_client_is_served_by_a_server_that_does_not_serve(self) -> None:
        server, protocol = self.serve()
        server.kernel.suspend("a test")
        client = Client(self, server, protocol)
        if not client.line.why:
            client.send(self.hello(), self.get("/"))
            server.settle()
            assert client.line.why or not any(answer.ok for answer in client.answers())
