"""What time, a lost quorum and clients that go away do: with a kernel in memory, where nothing happens by itself."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from urllib.parse import quote

import pytest
from corekit_http import conformance, connection
from corekit_http.conformance import request
from corekit_http.protocol import HttpProtocol

from corekit.testing.memory_server import Line, MemoryServer
from corekit.testing.protocol import Answer


class Server:
    """A kernel with the protocol on it."""

    def __init__(self, **settings: str) -> None:
        self.memory = MemoryServer(settings)
        self.protocol = HttpProtocol(self.memory.context("http"), "127.0.0.1", 0)
        self.memory.run(self.protocol)

    def line(self) -> Line:
        return Line(self.memory, self.protocol)

    def call(self, method: str, target: str, body: bytes = b"", **headers: str) -> str:
        """On a connection of its own; status line, headers and body as text."""
        line = self.line()
        line.send(request(method, target, body, **headers))
        self.memory.settle()
        line.close()
        self.memory.settle()
        return line.got.decode()

    def status(self, *arguments: str, **headers: str) -> str:
        return self.call(*arguments, **headers).split()[1]

    def session(self, timeout_ms: int = 10_000) -> str:
        made = self.call("POST", "/session", b'{"timeout_ms": %d}' % timeout_ms)
        token: str = json.loads(made.partition("\r\n\r\n")[2])["session"]
        return token

    def later(self, ms: int) -> None:
        """Time passes, for the service too."""
        for _ in range(ms // 1000):
            self.memory.later(1000)
            self.memory.turn(self.protocol.look_around)
            self.memory.settle()

    @property
    def connections(self) -> int:
        """In the kernel."""
        return len(self.memory.kernel.replica.connections)


def test_a_session_lives_as_long_as_it_is_heard_of() -> None:
    server = Server()
    token = server.session()
    assert server.status("POST", "/tree/here?ephemeral", Session=token) == "201"
    for _ in range(5):
        server.later(8000)
        assert server.status("PUT", "/session", Session=token) == "204"
    server.later(8000)
    assert server.status("GET", "/tree/here") == "200"
    server.later(8000)
    assert server.status("GET", "/tree/here") == "404"
    assert server.memory.sessions == set()
    assert (len(server.protocol.sessions), server.connections) == (0, 0)
    assert server.status("PUT", "/session", Session=token) == "410"


def test_a_session_that_expires_under_a_request_answers_it() -> None:
    server = Server()
    token = server.session()
    server.memory.later(15_000)  # nobody has looked yet
    assert server.memory.sessions == set()
    assert server.status("GET", "/tree/", Session=token) == "410"


def test_who_left_before_the_session_was_open_leaves_none() -> None:
    server = Server()
    line = server.line()
    line.send(request("POST", "/session"))
    line.close()
    server.later(1000)
    assert server.memory.sessions == set()
    assert (len(server.protocol.sessions), server.connections) == (0, 0)


def test_the_session_of_a_connection_ends_with_it() -> None:
    server = Server()
    line = server.line()
    line.send(request("POST", "/tree/a"))
    server.memory.settle()
    assert len(server.memory.sessions) == 1
    line.close()
    server.memory.settle()
    assert server.memory.sessions == set()
    assert server.connections == 0


def test_the_session_of_a_connection_does_not_expire_before_it() -> None:
    server = Server()
    line = server.line()
    line.send(request("POST", "/tree/a"))
    server.memory.settle()
    server.later(connection.IDLE_MS - 2000)
    line.send(request("PUT", "/tree/a", b"1"))
    server.later(connection.IDLE_MS - 2000)
    assert not line.why
    assert len(server.memory.sessions) == 1
    server.later(4000)
    assert line.why == "idle"
    assert server.memory.sessions == set()


def test_a_write_whose_fate_is_unknown_says_so() -> None:
    server = Server()
    line, stream = server.line(), server.line()
    line.send(request("POST", "/tree/a"))
    stream.send(request("GET", "/watch/a"))
    server.memory.settle()
    line.send(request("PUT", "/tree/a", b"1"))
    server.memory.turn(lambda: server.memory.kernel.suspend("a test"))
    last = line.got.decode().rpartition("HTTP/1.1 ")[2]
    assert last.startswith("503")
    assert json.loads(last.partition("\r\n\r\n")[2])["detail"] == "a test"
    assert "connection: close" in last.lower()
    assert line.why
    assert b'event: end\ndata: {"why": "a test"}' in stream.got
    assert stream.got.endswith(b"\r\n0\r\n\r\n"), "the stream is ended in good order"
    assert stream.why


def test_a_write_is_not_refused_for_lack_of_a_session_that_is_on_its_way() -> None:
    server = Server()
    line = server.line()
    line.send(request("POST", "/tree/a") + request("PUT", "/tree/a", b"1") + request("GET", "/tree/a"))
    server.memory.settle()
    found, _ = conformance.TestHttp().parse(line.got)
    assert found == [Answer("reply"), Answer("reply"), Answer("reply", data=b"1")]


def test_a_stream_that_is_silent_says_that_it_lives() -> None:
    server = Server()
    stream = server.line()
    stream.send(request("GET", "/watch/"))
    assert b"event: ready" in stream.got
    server.later(3 * connection.KEEP_ALIVE_MS)
    assert stream.got.count(b": still here\n\n") in (2, 3)
    assert not stream.why
    stream.send(b"GET")
    assert stream.why == "bytes came on a stream"


def test_an_idle_connection_is_closed_and_so_is_half_a_request() -> None:
    server = Server()
    idle, half = server.line(), server.line()
    idle.send(request("GET", "/tree/"))
    half.send(request("GET", "/tree/")[:10])
    server.later(connection.IDLE_MS - 2000)
    assert not idle.why
    server.later(4000)
    assert (idle.why, half.why) == ("idle", "idle")
    assert server.connections == 0


def test_streams_and_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corekit_http.protocol.STREAMS_MAX", 2)
    server = Server(maxClientCnxns="3")
    streams = [server.line() for _ in range(3)]
    for stream in streams:
        stream.send(request("GET", "/watch/"))
    assert [stream.got.split()[1] for stream in streams] == [b"200", b"200", b"429"]
    assert [server.status("POST", "/session") for _ in range(4)] == ["201", "201", "201", "429"]


def test_the_server_waits_for_a_client_that_may_send_its_body() -> None:
    server = Server()
    line = server.line()
    whole = request("POST", "/tree/a", b"data", Expect="100-continue")
    line.send(whole[:-4])
    assert line.got.startswith(b"HTTP/1.1 100 ")
    line.send(whole[-4:])
    server.memory.settle()
    assert b"HTTP/1.1 201 " in line.got


def requests(rng: Random) -> bytes:
    """A request in good form, with something strange in it."""
    strange = [
        *("", "/", "//", "/a", "/a/b", "/\u00e9", "/zookeeper", "/a/../b", "/%00", "/%ff", "?", "9" * 30, "9" * 5000),
        *("-1", "1e999", "0x1", "null", "[]", "{}", "true", '"0"', '"', "*", "\u00ff", ":", "a:b:c", "world:anyone:r"),
    ]
    pick = lambda: rng.choice(strange)  # noqa: E731
    names = ("stat", "children", "acl", "fresh", "ephemeral", "sequential", "container", "ttl")
    query = "&".join(f"{rng.choice(names)}={pick()}" for _ in range(rng.randrange(3)))
    place = rng.choice(("/tree", "/tree/a", "/multi", "/session", "/watch", "/openapi.json"))
    place += pick() if rng.random() < 0.4 else ""
    target = quote(place, safe="/%") + ("?" + quote(query, safe="=&%") if query else "")
    values: list[object] = [None, True, -1, 2**31, 2**63, 10**30, 1.5, "", "a", "/a", "\ud800", [], {}, [1], ["a:b:r"]]
    fields = ("op", "path", "data", "base64", "version", "acl", "ttl", "ephemeral", "sequential", "container")
    part = {name: rng.choice(values) for name in fields if rng.random() < 0.3}
    part.setdefault("op", rng.choice(("create", "set", "delete", "check")))
    if rng.random() < 0.8:
        part["path"] = rng.choice(("/a", "/b", "/a/b-"))
    value = rng.choice(
        [{"ops": [part] * rng.randrange(3)}, {"acl": rng.choice(values)}, {"timeout_ms": rng.choice(values)}]
    )
    headers = ("If-Match", "If-None-Match", "Acl", "Session", "Authorization", "Origin", "Expect", "Host")
    more = {rng.choice(headers): pick() for _ in range(rng.randrange(3))}
    head = [f"{rng.choice(('GET', 'PUT', 'POST', 'DELETE', 'HEAD'))} {target} HTTP/1.1"]
    body = json.dumps(value).encode()
    head += [
        f"{name}: {text}" for name, text in {"Host": "localhost", "Content-Length": str(len(body)), **more}.items()
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def test_whatever_is_asked_is_answered_and_is_no_error_of_ours() -> None:
    server = Server(extendedTypesEnabled="true")
    statuses: Counter[str] = Counter()
    for seed in range(3000):
        line = server.line()
        line.send(requests(Random(seed)))
        server.memory.settle()
        assert line.got.startswith(b"HTTP/1.1 "), seed
        statuses[line.got.split()[1].decode()] += 1
        line.close()
    assert "500" not in statuses
    assert {"200", "201", "204", "400", "403", "404", "405", "409"} <= set(statuses), statuses
    server.memory.settle()
    server.later(60_000)
    assert (len(server.protocol.sessions), server.connections) == (0, 0)
