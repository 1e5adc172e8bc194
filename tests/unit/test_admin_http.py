"""The HTTP server of the admin port over an in-memory stream: well-behaved clients, hostile ones, slow ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from corekit import limits
from corekit.api import Peer
from corekit.server import http
from corekit.server.http import HttpServer, Request, Response, as_json, text

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


async def echo(request: Request) -> Response:
    """Everything that was understood."""
    if request.path == "/boom":
        raise RuntimeError("secret of the server")
    fields = {"method": request.method, "path": request.path, "query": request.query, "body": request.body}
    return as_json(200, fields)


@asynccontextmanager
async def client(*, loopback: bool = True, idle_s: float = 30) -> AsyncIterator[Stream]:
    server = HttpServer(echo, idle_timeout_s=idle_s, loopback=loopback)
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, far, Peer("127.0.0.1", 1))
        yield near
        await near.aclose()


class Answers:
    """Reads answers off a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.connection = h11.Connection(h11.CLIENT)

    async def ask(self, data: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Send raw bytes; status, headers and body of the answer."""
        self.connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        self.connection.send(h11.EndOfMessage())
        await self.stream.send_all(data)
        body = b""
        status, headers = 0, {}
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                self.connection.receive_data(bytes(await self.stream.receive_some(65536)))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self.connection.their_state is h11.DONE and self.connection.our_state is h11.DONE:
                    self.connection.start_next_cycle()
                return status, headers, body
            else:
                raise AssertionError(f"unexpected {event!r}")


def get(target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.append("Host: localhost:8080")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


async def until_end(stream: Stream) -> bytes:
    data = b""
    while more := await stream.receive_some(65536):
        data += more
    return data


@pytest.mark.trio
async def test_requests_on_one_connection() -> None:
    async with client() as stream:
        answers = Answers(stream)
        status, headers, body = await answers.ask(get("/a%20b/c?x=1&y=&x=2&z=%C3%BC"))
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "method": "GET",
            "path": "/a b/c",
            "query": {"x": "1", "y": "", "z": "ü"},
            "body": "",
        }
        status, _, body = await answers.ask(get("/p", method="POST", body=b"hello"))
        assert json.loads(body) == {"method": "POST", "path": "/p", "query": {}, "body": "hello"}
        assert body.startswith(b'{\n  "method" : "POST",\n')


@pytest.mark.trio
async def test_head_has_the_length_but_no_body() -> None:
    async with client() as stream:
        await stream.send_all(get("/x", "Connection: close", method="HEAD"))
        answer = await until_end(stream)
        assert b"Content-Length: 7" in answer
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.trio
async def test_a_request_in_single_bytes_and_two_at_once() -> None:
    async with client() as stream:
        answers = Answers(stream)
        data = get("/slow")
        for at in range(len(data) - 1):
            await stream.send_all(data[at : at + 1])
        status, _, body = await answers.ask(data[-1:])
        assert (status, json.loads(body)["path"]) == (200, "/slow")
        await stream.send_all(get("/1") + get("/2", "Connection: close"))
        both = await until_end(stream)
        assert both.index(b'"/1"') < both.index(b'"/2"')


@pytest.mark.trio
async def test_expect_100_continue() -> None:
    async with client() as stream:
        await stream.send_all(get("/p", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"hi")
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.trio
async def test_a_handler_that_raises_tells_the_client_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with client() as stream:
        answers = Answers(stream)
        status, _, body = await answers.ask(get("/boom"))
        assert (status, body) == (500, b"internal error, see the server's log\n")
        assert (await answers.ask(get("/next")))[0] == 200
    assert "secret of the server" in caplog.text


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x00\x00\x2d garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"ruok\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000, b"431"),
        (get("//[/"), b"400"),
        (get("/?" + "&".join(f"{n}=" for n in range(101))), b"400"),
        (
            get("/", f"Content-Length: {limits.ADMIN_REQUEST_BODY_BYTES_MAX + 1}", method="POST") + bytes(1 << 21),
            b"413",
        ),
        (get("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", b"400"),
    ],
)
@pytest.mark.trio
async def test_bad_requests_are_refused_and_the_connection_closed(data: bytes, status: bytes) -> None:
    async with client() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(send)
        answer = await until_end(stream)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Traceback" not in answer


@pytest.mark.trio
async def test_slow_clients_are_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with client(idle_s=5) as stream:
        began = trio.current_time()
        assert await until_end(stream) == b""
        assert trio.current_time() - began == pytest.approx(5)
    async with client(idle_s=5) as stream:
        began = trio.current_time()
        await stream.send_all(b"GET / HT")
        assert await until_end(stream) == b""
        assert trio.current_time() - began == pytest.approx(limits.ADMIN_REQUEST_TIMEOUT_MS / 1000)


@pytest.mark.trio
async def test_a_connection_has_a_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ADMIN_REQUESTS_PER_CONNECTION", 2)
    async with client() as stream:
        await stream.send_all(get("/1") + get("/2") + get("/3"))
        assert (await until_end(stream)).count(b"HTTP/1.1 200") == 2


@pytest.mark.trio
async def test_a_client_that_is_gone_is_no_error() -> None:
    for data in (b"", b"GET", get("/p", "Content-Length: 10", method="POST"), get("/x")):
        async with client() as stream:
            await stream.send_all(data)


@pytest.mark.parametrize(
    ("header", "loopback", "allowed"),
    [
        *(("Host: localhost:8080", True, True), ("Host: 127.0.0.1:8080", True, True), ("Host: [::1]:8080", True, True)),
        *(("Host: evil.example", True, False), ("Host: 192.0.2.1", True, False), ("Host: [", True, False)),
        *(("Host: zk.example", False, True), ("Sec-Fetch-Site: cross-site", False, False)),
        *(("Sec-Fetch-Site: same-site", True, False), ("Sec-Fetch-Site: same-origin", True, True)),
        ("Sec-Fetch-Site: none", True, True),
    ],
)
@pytest.mark.trio
async def test_web_pages_do_not_reach_through_a_browser(header: str, loopback: bool, allowed: bool) -> None:
    async with client(loopback=loopback) as stream:
        status, _, _ = await Answers(stream).ask(get("/x", header))
        assert status == (200 if allowed else 403)


def test_what_json_can_not_write_by_itself() -> None:
    body = as_json(200, {"paths": {b"/a".decode(): (b"/\xff", {1})}, "e": ValueError("x")}).body
    assert json.loads(body) == {"paths": {"/a": ["/\ufffd", [1]]}, "e": "x"}
    assert text(404, "no").body == b"no\n"
