"""A client for the tests: the standard library's, and streams of events."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from corekit.testing.process import ServerProcess


def port_of(server: ServerProcess) -> int:
    """Where a server with the plugin `http` speaks HTTP; protocols listen in the order of their names."""
    where = server.wait_for("corekit listens on ").split("corekit listens on ")[1]
    server.wait_for("plugins: ")
    return int(where.split(",")[0].rpartition(":")[2])


def zookeeper_port_of(server: ServerProcess) -> int:
    """Where it speaks ZooKeeper's protocol."""
    where = server.wait_for("corekit listens on ").split("corekit listens on ")[1]
    return int(where.split(",")[1].rpartition(":")[2])


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """A connection that is kept open."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def __call__(self, method: str, target: str, body: bytes | dict[str, Any] = b"", **headers: str) -> Reply:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, quote(target, safe="/?=&%"), data, names)
        answer = self.connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


class Events:
    """A stream of events, after its `ready`."""

    def __init__(self, port: int, path: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.request("GET", f"/watch{path}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.getheader("content-type") == "text/event-stream"
        self.ready = self.next()
        assert self.ready[0] == "ready"

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self.connection.close()

    def next(self) -> tuple[str, dict[str, str]]:
        """Name and data of the next event."""
        name = self._line()
        while name.startswith(":") or not name:
            name = self._line()
        data = self._line()
        assert self._line() == ""
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def _line(self) -> str:
        line = self.answer.readline()
        assert line, "the stream ended"
        return line.decode().rstrip("\n")
