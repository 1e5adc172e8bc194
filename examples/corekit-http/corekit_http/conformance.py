"""What `corekit plugin test http` and the tests run: the conformance suite of corekit."""

from __future__ import annotations

from urllib.parse import quote

from corekit.api import ClientProtocol
from corekit.hooks import Context
from corekit.testing.protocol import Answer, ProtocolSuite
from corekit_http.protocol import HttpProtocol


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as sent."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class TestHttp(ProtocolSuite):
    """What the server relies on."""

    garbage = (
        b"GET /tree/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /multi HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n[[[[[[[[[",
        b"GET /tree/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /watch/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET",
        b"PUT /session HTTP/1.1\r\nHost: localhost\r\nSession: 0x1-1-" + b"0" * 32 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000,
        b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /tree/ HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET /tree/ HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
        b"POST /tree/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /tree/a?ttl=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b'PUT /tree/a HTTP/1.1\r\nHost: localhost\r\nIf-Match: "' + b"9" * 5000 + b'"\r\n\r\n',
        b"PUT /tree/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: ZooKeeper\r\n\r\n",
    )

    def make_protocol(self, context: Context) -> ClientProtocol:
        return HttpProtocol(context, "127.0.0.1", 0)

    def create(self, path: str, data: bytes) -> bytes:
        return request("POST", quote(f"/tree{path}"), data)

    def get(self, path: str) -> bytes:
        return request("GET", quote(f"/tree{path}"))

    def set(self, path: str, data: bytes) -> bytes:
        return request("PUT", quote(f"/tree{path}"), data)

    def parse(self, data: bytes) -> tuple[list[Answer], bytes]:
        found = []
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            size = int(headers.get("content-length", "0"))
            if len(rest) < size:
                break
            told = rest[:size] if headers.get("content-type") == "application/octet-stream" else b""
            found.append(Answer("reply", status.split()[1] < "400", told))
            data = rest[size:]
        return found, data
