"""One HTTP connection: bytes to requests (h11), requests to the kernel, answers and events to bytes.

Rules
- One request at a time; what a client sends before it has the answer waits unread.
- A request without the header `Session` uses the connection's own link into the kernel: it reads without a session, and
  gets one with its first write, which ends with the connection. Another `Authorization` gets another link, so that
  nobody inherits what somebody else behind the same proxy has proved.
- Heads, bodies, streams and idle connections are bounded.

Not here: what requests mean (`routes.py`), ports and the clock (`protocol.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from corekit.api import ClientSession, Gateway, Peer
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import AddWatchRequest, PathRequest, WhoAmIResponse
from corekit.errors import AUTH_FAILED
from corekit_http.forms import (
    JSON,
    Answer,
    Problem,
    Request,
    as_json,
    check_method,
    field_of,
    hexed,
    parse_json,
    refused,
    text,
)
from corekit_http.link import Link, TooLarge
from corekit_http.routes import MULTI, OPENAPI, SESSION, WATCH, Call, call_of, path_below
from corekit_http.sessions import Failed, HttpSession

if TYPE_CHECKING:
    from corekit_http.protocol import HttpProtocol

HEAD_BYTES_MAX = 16 * 1024
PARAMETERS_MAX = 16
IDLE_MS = 30_000  # without a request, and from the first byte of a request to its last
KEEP_ALIVE_MS = 15_000  # of a stream

_EVENTS = {
    ops.EVENT_NODE_CREATED: "created",
    ops.EVENT_NODE_DELETED: "deleted",
    ops.EVENT_NODE_DATA_CHANGED: "changed",
}


class HttpConnection:
    """One client connection.

    Attributes:
        heard_ms: when a request last began or ended, or something was last sent on a stream.
        streams: it sends events, and takes no request any more.
    """

    def __init__(
        self, protocol: HttpProtocol, gateway: Gateway, peer: Peer, woken: Callable[[ClientSession], None]
    ) -> None:
        self._protocol = protocol
        self._gateway = gateway
        self._peer = peer
        self._woken = woken
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._out: list[bytes] = []
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._busy = False  # a request waits for its answer
        self._answered = False  # one was complete
        self._login = ""  # the `Authorization` of the own link
        self._number = 0  # of the present request
        self._waits: tuple[HttpSession, Failed] | None = None  # to be told if that session is lost
        self.heard_ms = protocol.now_ms()
        self.streams = False
        self.closing: str | None = None
        self._link = self._new_link()

    def _new_link(self) -> Link:
        return Link(self._gateway, self._peer, lambda: self._woken(self), self._lost, self._seen)

    # ------------------------------------------------------------------------------------ ClientSession
    def received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.streams and data:
            self.closing = "bytes came on a stream"
        if self.closing is not None:
            return
        if data:
            self._http.receive_data(data)
        while not self._busy and self.closing is None and self._read():
            pass

    def end_of_input(self) -> None:
        """The client sends no more."""
        if self.closing is None:
            self.closing = "client closed the connection"

    def take(self) -> list[bytes]:
        """What to send. What the kernel has for this client is looked at here, between two turns of its own."""
        self._link.step()
        if self._waits is not None:
            self._waits[0].link.step()
        out, self._out = self._out, []
        return out

    def paused(self) -> bool:
        """Wait for the answer, or for the server to catch up; a stream is read from, to see its end."""
        return not self.streams and (self._busy or self._link.overloaded)

    def established(self) -> bool:
        """Whether it has shown that it speaks HTTP."""
        return self._answered

    def closed(self, why: str) -> None:
        """The socket is gone."""
        self.closing = self.closing or why
        self._busy = False
        self._forget_session()
        self._protocol.leave(self._link)
        self._protocol.gone(self)

    # ------------------------------------------------------------------------------------------ reading
    def _read(self) -> bool:
        """The next part of a request, if there is one."""
        try:
            event = self._next_event()
            if event is h11.NEED_DATA and self._http.they_are_waiting_for_100_continue:
                self._emit(h11.InformationalResponse(status_code=100, headers=[]))
            if isinstance(event, h11.Request):
                self.heard_ms = self._protocol.now_ms()
                self._head = event
                self._body.clear()
                self._check_size(self._announced(event))
            elif isinstance(event, h11.Data):
                self._body += event.data
                self._check_size(len(self._body))
            elif isinstance(event, h11.EndOfMessage):
                self._answered = True
                self._request()
            elif isinstance(event, h11.ConnectionClosed):
                self.closing = "client closed the connection"
            else:
                return False
        except h11.RemoteProtocolError as error:
            self._refuse_rest(Problem(error.error_status_hint, str(error)))
        except Problem as problem:
            self._refuse_rest(problem)
        return True

    def _next_event(self) -> object:
        try:
            return self._http.next_event()
        except ValueError:  # of a Content-Length with thousands of digits
            raise Problem(400, "a number is too large") from None

    def _announced(self, head: h11.Request) -> int:
        return next((int(value) for name, value in head.headers if name == b"content-length"), 0)

    def _check_size(self, size: int) -> None:
        assert self._head is not None
        limit = self._gateway.frame_bytes_max
        if self._head.target.startswith(MULTI.encode()):
            limit *= 2  # data may be in base64
        if size > limit:
            raise Problem(413, f"a body may have {limit} bytes (jute.maxbuffer)")

    def _refuse_rest(self, problem: Problem) -> None:
        """The request is not read to its end, so nothing can follow it."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(problem.answer(), last=True)
        self.closing = f"bad request: {problem}"

    def _parsed(self) -> Request:
        head = self._head
        assert head is not None
        try:
            target = urlsplit(head.target.decode("ascii", "replace"))
            path = unquote(target.path, errors="strict")
            pairs = parse_qsl(target.query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
        except ValueError:
            raise Problem(
                400, f"the address is none, is no UTF-8, or has more than {PARAMETERS_MAX} parameters"
            ) from None
        if "%2f" in target.path.lower():
            raise Problem(400, "a name of a znode has no slash")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        query: dict[str, str] = {}
        for key, value in pairs:
            query.setdefault(key, value)
        request = Request(head.method.decode("ascii"), path, query, headers, bytes(self._body))
        if _foreign(request, self._peer):
            raise Problem(403, "requests from web pages of other sites are refused")
        return request

    # ---------------------------------------------------------------------------------------- handling
    def _request(self) -> None:
        """A request is complete: hand it on."""
        self._busy = True
        self._number += 1
        try:
            request = self._parsed()
            if request.path == OPENAPI:
                check_method(request.method, "GET")
                self._send(Answer(200, self._protocol.openapi, JSON))
            elif request.path == SESSION:
                self._session_request(request)
            elif request.path.startswith(WATCH):
                self._watch(request)
            else:
                self._tree_request(request)
        except Problem as problem:
            self._send(problem.answer())
        except TooLarge:
            limit = self._gateway.frame_bytes_max
            self._send(Problem(413, f"a request may have {limit} bytes (jute.maxbuffer)").answer())

    def _tree_request(self, request: Request) -> None:
        call = call_of(request)
        if call.ephemeral and "session" not in request.headers:
            raise Problem(400, f"what is ephemeral needs a session: POST {SESSION}, and the header Session")
        link = self._link_for(request, writes=call.writes)
        if link is not None:
            self._ask(link, call)

    def _answering(self) -> Callable[[Answer], None]:
        """Answers the present request, once; nothing happens if it was answered meanwhile or the client is gone."""
        mine = self._number

        def answer(answer: Answer) -> None:
            if self._busy and mine == self._number:
                self._send(answer)

        return answer

    def _ask(self, link: Link, call: Call) -> None:
        answer = self._answering()

        def done(code: int, zxid: int, body: Reader) -> None:
            answer(refused(code, path=call.path).answer() if code else call.render(body, zxid))

        if call.fresh:
            link.ask(ops.SYNC, PathRequest(call.path.encode()).encode(), lambda code, zxid, body: None)
        link.ask(call.op, call.record.encode(), done)

    def _link_for(self, request: Request, *, writes: bool) -> Link | None:
        """Where a request goes, logged in; None if that failed, which is answered then."""
        login = request.headers.get("authorization", "")
        credentials = _credentials(login) if login else None
        token = request.headers.get("session")
        if token is not None:
            session = self._protocol.sessions.find(token, self._gateway, self._peer)
            if session.link.ended is not None:
                code, why = session.link.ended
                raise refused(code, detail=why)
            self._wait_for(session)
            if credentials is not None and login not in session.logins:
                session.logins.add(login)
                session.link.login(*credentials)
            return session.link if self._busy else None
        if login != self._login:
            self._protocol.leave(self._link)
            self._login, self._link = login, self._new_link()
            self._link.admit()
            if credentials is not None:
                self._link.login(*credentials)
        elif not self._link.has_session:
            self._link.admit()
        if writes and self.closing is None and not self._link.has_session:
            self._link.attach(self._protocol.timeout_ms)
        return self._link if self.closing is None else None

    def _wait_for(self, session: HttpSession) -> None:
        """Be told if the session's link is lost before this request has its answer."""
        answer = self._answering()

        def failed(code: int, why: str) -> None:
            answer(refused(code, detail=why).answer())

        session.waiting[failed] = lambda: self._woken(self)
        self._waits = (session, failed)

    def _forget_session(self) -> None:
        if self._waits is not None:
            session, failed = self._waits
            session.waiting.pop(failed, None)
            self._waits = None

    def _lost(self, code: int, why: str) -> None:
        """The kernel closed the own link."""
        if self.streams:
            self._event("end", {"why": why})
            self._emit(h11.EndOfMessage())
        elif self._busy:
            self._send(refused(code, detail=why).answer(), last=True)
        if self.closing is None:
            self.closing = why

    # ----------------------------------------------------------------------------------------- sessions
    def _session_request(self, request: Request) -> None:
        check_method(request.method, "POST", "GET", "PUT", "DELETE")
        if request.method == "POST":
            self._open_session(request)
            return
        if "session" not in request.headers:
            raise Problem(400, "the header Session is missing")
        asked = ops.CLOSE_SESSION if request.method == "DELETE" else ops.WHO_AM_I  # any request keeps it alive
        link = self._link_for(request, writes=True)
        if link is not None:
            answer = self._answering()
            told = _identities if request.method == "GET" else lambda body: Answer(204)
            link.ask(asked, b"", lambda code, zxid, body: answer(refused(code).answer() if code else told(body)))

    def _open_session(self, request: Request) -> None:
        timeout = field_of(parse_json(request.body or b"{}"), "timeout_ms", int, 10_000)
        if not 0 < timeout < 1 << 31:
            raise Problem(400, f"{timeout} is no timeout")
        login = request.headers.get("authorization", "")
        credentials = _credentials(login) if login else None
        session = self._protocol.sessions.new(self._gateway, self._peer)
        self._wait_for(session)
        mine = self._number

        def opened(code: int, zxid: int, body: Reader) -> None:
            told = session.opened()
            if self._busy and mine == self._number:
                self._send(as_json(201, told, Location=SESSION))
            else:
                self._protocol.sessions.forget(session)  # who asked for it is gone
                self._protocol.leave(session.link)

        session.link.attach(timeout)
        if credentials is not None:
            session.logins.add(login)
            session.link.login(*credentials)
        session.link.ask(ops.WHO_AM_I, b"", opened)

    # ------------------------------------------------------------------------------------------ streams
    def _watch(self, request: Request) -> None:
        path = path_below(WATCH, request.path)
        check_method(request.method, "GET")
        if "session" in request.headers:
            raise Problem(400, "a watch belongs to its stream, not to a session")
        if not self._protocol.may_stream():
            raise Problem(429, "too many streams")
        link = self._link_for(request, writes=False)
        if link is not None:
            body = AddWatchRequest(path.encode(), ops.WATCH_PERSISTENT_RECURSIVE).encode()
            link.ask(ops.ADD_WATCH, body, lambda code, zxid, _: self._watching(code, zxid))

    def _watching(self, code: int, zxid: int) -> None:
        if self.closing is not None:
            return
        if code:
            self._send(refused(code).answer())
            return
        self.streams = True
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("Connection", "close")]
        self._emit(h11.Response(status_code=200, headers=headers))
        self._event("ready", {"zxid": hexed(zxid)})

    def _seen(self, kind: int, path: bytes, zxid: int) -> None:
        if self.streams and self.closing is None:
            told = {"path": path.decode("utf-8", "replace"), "zxid": hexed(zxid)}
            self._event(_EVENTS.get(kind, f"type-{kind}"), told)

    def _event(self, name: str, value: dict[str, Any]) -> None:
        self.heard_ms = self._protocol.now_ms()
        self._emit(h11.Data(data=f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()))

    def look_after(self, now_ms: int) -> None:
        """Called from time to time: say on a stream that it lives, close what is idle."""
        silent_ms = now_ms - self.heard_ms
        if self.streams and self.closing is None and silent_ms >= KEEP_ALIVE_MS:
            self.heard_ms = now_ms
            self._emit(h11.Data(data=b": still here\n\n"))
            self._woken(self)
        elif not self.streams and not self._busy and self.closing is None and silent_ms >= IDLE_MS:
            self.closing = "idle"
            self._woken(self)

    # ---------------------------------------------------------------------------------------- answering
    def _emit(self, event: h11.Event) -> None:
        self._out.append(self._http.send(event) or b"")

    def _send(self, answer: Answer, *, last: bool = False) -> None:
        """The answer to the present request."""
        self._busy = False
        self._forget_session()
        self.heard_ms = self._protocol.now_ms()
        headers = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), *answer.headers.items()]
        if answer.status not in (204, 304):
            headers += [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        if last:
            headers.append(("Connection", "close"))
        head = self._head is not None and self._head.method == b"HEAD"
        self._emit(h11.Response(status_code=answer.status, headers=headers))
        if not head and answer.body and answer.status not in (204, 304):
            self._emit(h11.Data(data=answer.body))
        self._emit(h11.EndOfMessage())
        self._head = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._http.our_state is h11.MUST_CLOSE:
            self.closing = self.closing or "the client asked for it"
        self._woken(self)


def _credentials(login: str) -> tuple[str, bytes]:
    """Scheme and data of an `auth` packet, from the header `Authorization`.

    Raises:
        Problem: it is not Basic (scheme `digest`), Bearer (scheme `token`) or `ZooKeeper SCHEME BASE64`.
    """
    kind, _, rest = login.strip().partition(" ")
    try:
        if kind.lower() == "basic":
            return "digest", base64.b64decode(rest, validate=True)
        if kind.lower() == "bearer":
            return "token", rest.strip().encode("latin-1")
        if kind.lower() == "zookeeper":
            scheme, _, data = rest.strip().partition(" ")
            return scheme, base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "the header Authorization is not base64") from None
    raise Problem(401, f"{kind} is not known; known are Basic, Bearer and ZooKeeper", code=AUTH_FAILED)


def _identities(body: Reader) -> Answer:
    known = WhoAmIResponse.decode(body).client_info or ()
    return as_json(200, {"identities": [f"{text(one.auth_scheme)}:{text(one.user)}" for one in known]})


def _foreign(request: Request, peer: Peer) -> bool:
    """Whether a browser sends this on behalf of a page that is not ours (`Sec-Fetch-Site`, `Origin`), or was tricked
    with a name that points at this machine (`Host` on a loopback connection)."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    host = request.headers.get("host", "")
    try:
        if "origin" in request.headers and urlsplit(request.headers["origin"]).netloc != host:
            return True
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return True
    return _loopback(peer.address) and name not in ("", "localhost") and not _loopback(name)


def _loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
