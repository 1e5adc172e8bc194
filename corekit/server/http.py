"""A small HTTP/1.1 server for the admin and metrics ports: h11 for the protocol, trio for the waiting.

Rules
- Everything a client can make large or slow has a bound in `limits.py`: head, body, time for a request, time to read
  the answer, requests and idle time of a connection.
- A client never sees a traceback; what a handler raises is logged and answered with 500.
- A web page that a browser shows must not reach through to it: see `_foreign`.

Not here: what the paths mean (`admin.py`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

from corekit.api import Peer
from corekit.limits import (
    ADMIN_REQUEST_BODY_BYTES_MAX,
    ADMIN_REQUEST_HEAD_BYTES_MAX,
    ADMIN_REQUEST_TIMEOUT_MS,
    ADMIN_REQUESTS_PER_CONNECTION,
    ADMIN_WRITE_TIMEOUT_MS,
)

log = logging.getLogger("corekit.admin")

_RECV_BYTES = 65536
_PARAMETERS_MAX = 100


@dataclass(slots=True)
class Request:
    """A request, read completely.

    Attributes:
        path: without the query, percent signs decoded.
        query: the first value of each parameter.
        headers: names in lower case.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    peer: Peer


@dataclass(slots=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


def text(status: int, message: str) -> Response:
    """A plain text answer, one line."""
    return Response(status, f"{message}\n".encode())


def as_json(status: int, fields: Mapping[str, Any]) -> Response:
    """A JSON answer, indented as ZooKeeper's; `bytes` are taken as UTF-8."""
    body = json.dumps(fields, indent=2, separators=(",", " : "), default=_plain)
    return Response(status, body.encode(), "application/json")


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


class HttpServer:
    """Serves connections with one handler.

    Args:
        handler: answers requests.
        idle_timeout_s: a connection without a request is closed after this time.
        loopback: listens on a loopback address only, so a `Host` header that names anything else is a trick.
    """

    def __init__(self, handler: Handler, *, idle_timeout_s: float, loopback: bool) -> None:
        self._handler = handler
        self._idle_timeout_s = idle_timeout_s
        self._loopback = loopback

    async def serve(self, stream: trio.abc.Stream, peer: Peer) -> None:
        """One connection, until it ends. Closes the stream; raises nothing of the connection's making."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=ADMIN_REQUEST_HEAD_BYTES_MAX)
        try:
            for _ in range(ADMIN_REQUESTS_PER_CONNECTION):
                if not await self._cycle(connection, stream, peer):
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.LocalProtocolError) as error:
            log.debug("admin connection from %s ended: %r", peer.address, error)
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await stream.aclose()

    async def _cycle(self, connection: h11.Connection, stream: trio.abc.Stream, peer: Peer) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request = await self._read(connection, stream, peer)
        except h11.RemoteProtocolError as error:
            await self._send(connection, stream, text(error.error_status_hint, str(error)), close=True)
            return False
        if request is None:
            return False
        if isinstance(request, Response):
            await self._send(connection, stream, request, close=True)
            return False
        await self._send(connection, stream, await self._answer(request), head=request.method == "HEAD")
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return False
        connection.start_next_cycle()
        return True

    async def _answer(self, request: Request) -> Response:
        if _foreign(request, self._loopback):
            return text(403, "requests from web pages of other sites are refused")
        try:
            return await self._handler(request)
        except Exception:  # one request must not end the port
            log.exception("admin request %s %s failed", request.method, request.path)
            return text(500, "internal error, see the server's log")

    async def _read(self, connection: h11.Connection, stream: trio.abc.Stream, peer: Peer) -> Request | Response | None:
        """The next request; a response if it is refused before it is complete; None if the client is gone or idle."""
        if connection.trailing_data[0] == b"":
            with trio.move_on_after(self._idle_timeout_s):
                data = await stream.receive_some(_RECV_BYTES)
                if not data:
                    return None
                connection.receive_data(bytes(data))
            if connection.trailing_data[0] == b"":
                return None
        with trio.fail_after(ADMIN_REQUEST_TIMEOUT_MS / 1000):
            event = await _event(connection, stream)
            if not isinstance(event, h11.Request):
                return None
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
            body = bytearray()
            while not isinstance(part := await _event(connection, stream), h11.EndOfMessage):
                if not isinstance(part, h11.Data):
                    return None
                body += part.data
                if len(body) > ADMIN_REQUEST_BODY_BYTES_MAX:
                    return text(413, f"a body may have {ADMIN_REQUEST_BODY_BYTES_MAX} bytes")
        try:
            target = urlsplit(event.target.decode("latin-1"))
            pairs = parse_qsl(target.query, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
        except ValueError:
            return text(400, f"not a usable address, or more than {_PARAMETERS_MAX} parameters")
        query: dict[str, str] = {}
        for key, value in pairs:
            query.setdefault(key, value)
        method = event.method.decode("ascii")
        return Request(method, unquote(target.path), query, headers, bytes(body), peer)

    async def _send(
        self,
        connection: h11.Connection,
        stream: trio.abc.Stream,
        response: Response,
        *,
        head: bool = False,
        close: bool = False,
    ) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers.items(),
        ]
        if close:
            headers.append(("Connection", "close"))
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        data = connection.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if not head:
            data += connection.send(h11.Data(data=response.body)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
        with trio.fail_after(ADMIN_WRITE_TIMEOUT_MS / 1000):
            await stream.send_all(data)


async def _event(connection: h11.Connection, stream: trio.abc.Stream) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            more = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
            await stream.send_all(more or b"")
        connection.receive_data(bytes(await stream.receive_some(_RECV_BYTES)))


def _foreign(request: Request, loopback: bool) -> bool:
    """Whether a browser sends this on behalf of a page that is not ours.

    Commands such as `srst` are GET and need no login, so a page could call them with an image tag (`Sec-Fetch-Site`
    tells), or read them by pointing a name of its own at 127.0.0.1 (the `Host` header tells).
    """
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    if not loopback:
        return False
    name = ""
    try:
        name = urlsplit(f"//{request.headers.get('host', 'localhost')}").hostname or ""
        return not ip_address(name).is_loopback
    except ValueError:
        return name != "localhost" and not name.endswith(".localhost")
