"""A ZooKeeper client of a few hundred lines on a plain socket, sharing no code with the project.

It exists to check the wire independently: every layout below is written down from the protocol, with `struct` only.
Blocking, one socket, one thread. Watch events that arrive while a reply is awaited are kept in `events`.

Not here: reconnects, pings by themselves, chroots, thread safety.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

# Operation codes
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = range(1, 10)
PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = range(11, 19)
CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL, MULTI_READ = range(19, 23)
AUTH, SET_WATCHES, SASL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = range(100, 108)
CREATE_SESSION, CLOSE_SESSION, ERROR = -10, -11, -1

# Special xids
XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8

# Create flags
PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, TTL_SEQUENTIAL = range(7)

OPEN_ACL: tuple[tuple[int, str, str], ...] = ((31, "world", "anyone"),)


class RawError(Exception):
    """The server closed, or answered against the protocol."""


class Closed(RawError):
    """The server closed the connection."""


# Writing


def int32(value: int) -> bytes:
    return struct.pack(">i", value)


def int64(value: int) -> bytes:
    return struct.pack(">q", value if value < 1 << 63 else value - (1 << 64))


def boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def buffer(value: bytes | None) -> bytes:
    return int32(-1) if value is None else int32(len(value)) + value


def text(value: str | None) -> bytes:
    return buffer(None if value is None else value.encode("utf-8", "surrogatepass"))


def vector(items: Sequence[T] | None, write: Callable[[T], bytes]) -> bytes:
    return int32(-1) if items is None else int32(len(items)) + b"".join(write(item) for item in items)


def acl_list(acl: Sequence[tuple[int, str, str]] | None) -> bytes:
    return vector(acl, lambda entry: int32(entry[0]) + text(entry[1]) + text(entry[2]))


def create_body(
    path: str,
    data: bytes | None = b"",
    flags: int = 0,
    acl: Sequence[tuple[int, str, str]] | None = OPEN_ACL,
    ttl: int | None = None,
) -> bytes:
    """Request body of create, create2, createContainer and (with `ttl` in ms) createTTL."""
    body = text(path) + buffer(data) + acl_list(acl) + int32(flags)
    return body if ttl is None else body + int64(ttl)


def multi_body(operations: Iterable[tuple[int, bytes]]) -> bytes:
    """Request body of multi and multiRead from (opcode, request body) pairs."""
    parts = [int32(op) + b"\x00" + int32(-1) + body for op, body in operations]
    return b"".join(parts) + int32(-1) + b"\x01" + int32(-1)


def frame(body: bytes) -> bytes:
    return int32(len(body)) + body


def connect_request(
    timeout_ms: int = 10_000,
    session_id: int = 0,
    password: bytes | None = bytes(16),
    last_zxid: int = 0,
    read_only: bool | None = False,
) -> bytes:
    """The framed ConnectRequest; `read_only` None leaves the last byte out, as clients before 3.4 do."""
    body = int32(0) + int64(last_zxid) + int32(timeout_ms) + int64(session_id) + buffer(password)
    return frame(body if read_only is None else body + boolean(read_only))


# Reading


class Reader:
    """Reads jute fields from bytes; raises `RawError` when the bytes end too soon."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise RawError(f"{count} bytes wanted at offset {self.at} of {len(self.data)}: {self.data.hex()}")
        self.at += count
        return self.data[self.at - count : self.at]

    def int32(self) -> int:
        return int(struct.unpack(">i", self.take(4))[0])

    def int64(self) -> int:
        return int(struct.unpack(">q", self.take(8))[0])

    def boolean(self) -> bool:
        return self.take(1) != b"\x00"

    def buffer(self) -> bytes | None:
        length = self.int32()
        return None if length == -1 else self.take(length)

    def text(self) -> str:
        data = self.buffer()
        if data is None:
            raise RawError("null where text was expected")
        return data.decode("utf-8", "surrogatepass")

    def vector(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(max(0, self.int32()))]

    def texts(self) -> list[str]:
        return self.vector(self.text)

    def acl_entry(self) -> tuple[int, str, str]:
        return self.int32(), self.text(), self.text()

    def acl(self) -> list[tuple[int, str, str]]:
        return self.vector(self.acl_entry)

    def stat(self) -> Stat:
        return Stat(*struct.unpack(">qqqqiiiqiiq", self.take(68)))

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def end(self) -> None:
        """Raise when bytes are left over."""
        if self.at != len(self.data):
            raise RawError(f"{len(self.data) - self.at} bytes left over: {self.data[self.at :].hex()}")


@dataclass(frozen=True)
class Stat:
    """The eleven fields in wire order."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


@dataclass(frozen=True)
class Event:
    type: int
    state: int
    path: str
    zxid: int


@dataclass(frozen=True)
class Reply:
    """A reply header and the bytes after it."""

    xid: int
    zxid: int
    err: int
    body: bytes

    def reader(self) -> Reader:
        """A reader over the body; raises `RawError` when the reply is an error."""
        if self.err != 0:
            raise RawError(f"error {self.err}")
        return Reader(self.body)


@dataclass(frozen=True)
class Session:
    """What the ConnectResponse said; `timeout_ms` 0 means refused."""

    protocol: int
    timeout_ms: int
    session_id: int
    password: bytes
    read_only: bool | None


class RawClient:
    """One connection. `timeout` bounds every socket operation, in seconds."""

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.events: list[Event] = []
        self.session: Session | None = None
        self.xid = 0
        self._received = b""

    # Frames

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive_frame(self) -> bytes:
        """The next frame's body; raises `Closed` when the server closes, `TimeoutError` when nothing comes."""
        header = self._receive(4)
        return self._receive(struct.unpack(">i", header)[0])

    def is_closed_by_server(self, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds for the server to close; frames that come before are dropped."""
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                self.sock.settimeout(max(0.01, deadline - time.monotonic()))
                self.receive_frame()
        except Closed:
            return True
        except TimeoutError:
            return False
        return False

    def _receive(self, count: int) -> bytes:
        if count < 0:
            raise RawError(f"frame length {count}")
        while len(self._received) < count:
            try:
                chunk = self.sock.recv(max(65536, count - len(self._received)))
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Closed(f"closed with {len(self._received)} bytes of an unfinished frame")
            self._received += chunk
        data, self._received = self._received[:count], self._received[count:]
        return data

    # Session

    def handshake(
        self,
        timeout_ms: int = 10_000,
        session_id: int = 0,
        password: bytes | None = bytes(16),
        last_zxid: int = 0,
        read_only: bool | None = False,
    ) -> Session:
        """Open (or take up again) a session; the caller looks at `timeout_ms` for a refusal."""
        self.send_bytes(connect_request(timeout_ms, session_id, password, last_zxid, read_only))
        reader = Reader(self.receive_frame())
        protocol, negotiated, granted, secret = reader.int32(), reader.int32(), reader.int64(), reader.buffer()
        mirrored = None if read_only is None else reader.boolean()
        reader.end()
        self.session = Session(protocol, negotiated, granted, secret or b"", mirrored)
        return self.session

    def close_session(self) -> Reply:
        """closeSession; the server closes the connection after its reply."""
        return self.call(CLOSE_SESSION, b"")

    # Requests

    def send(self, opcode: int, body: bytes, xid: int | None = None) -> int:
        """Send a request without waiting; returns its xid."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send_bytes(frame(int32(xid) + int32(opcode) + body))
        return xid

    def receive(self) -> Reply | Event:
        """The next reply or watch event."""
        reader = Reader(self.receive_frame())
        xid, zxid, err = reader.int32(), reader.int64(), reader.int32()
        if xid != XID_EVENT:
            return Reply(xid, zxid, err, reader.rest())
        event = Event(reader.int32(), reader.int32(), reader.text(), zxid)
        reader.end()
        return event

    def reply(self) -> Reply:
        """The next reply; events on the way go to `events`."""
        while True:
            got = self.receive()
            if isinstance(got, Reply):
                return got
            self.events.append(got)

    def call(self, opcode: int, body: bytes = b"", xid: int | None = None) -> Reply:
        """Send a request and return its reply; raises `RawError` when another xid comes back."""
        sent = self.send(opcode, body, xid)
        reply = self.reply()
        if reply.xid != sent:
            raise RawError(f"reply to xid {reply.xid} where {sent} was due")
        return reply

    def wait_event(self) -> Event:
        """The oldest event not yet taken; waits for one (bounded by the socket timeout)."""
        if self.events:
            return self.events.pop(0)
        got = self.receive()
        if isinstance(got, Reply):
            raise RawError(f"a reply to xid {got.xid} where an event was due")
        return got

    def ping(self) -> Reply:
        return self.call(PING, b"", XID_PING)

    def auth(self, scheme: str, credentials: bytes) -> Reply:
        return self.call(AUTH, int32(0) + text(scheme) + buffer(credentials), XID_AUTH)

    def create(
        self,
        path: str,
        data: bytes | None = b"",
        flags: int = 0,
        acl: Sequence[tuple[int, str, str]] | None = OPEN_ACL,
    ) -> Reply:
        return self.call(CREATE, create_body(path, data, flags, acl))

    def create2(
        self,
        path: str,
        data: bytes | None = b"",
        flags: int = 0,
        acl: Sequence[tuple[int, str, str]] | None = OPEN_ACL,
        ttl: int | None = None,
    ) -> Reply:
        """create2, or createTTL with `ttl` in ms, or createContainer with the container flag."""
        opcode = CREATE_TTL if ttl is not None else CREATE_CONTAINER if flags == CONTAINER else CREATE2
        return self.call(opcode, create_body(path, data, flags, acl, ttl))

    def delete(self, path: str, version: int = -1) -> Reply:
        return self.call(DELETE, text(path) + int32(version))

    def exists(self, path: str, watch: bool = False) -> Reply:
        return self.call(EXISTS, text(path) + boolean(watch))

    def get(self, path: str, watch: bool = False) -> Reply:
        return self.call(GET_DATA, text(path) + boolean(watch))

    def set(self, path: str, data: bytes | None, version: int = -1) -> Reply:
        return self.call(SET_DATA, text(path) + buffer(data) + int32(version))

    def children(self, path: str, watch: bool = False) -> Reply:
        return self.call(GET_CHILDREN, text(path) + boolean(watch))

    def children2(self, path: str, watch: bool = False) -> Reply:
        return self.call(GET_CHILDREN2, text(path) + boolean(watch))

    def get_acl(self, path: str) -> Reply:
        return self.call(GET_ACL, text(path))

    def set_acl(self, path: str, acl: Sequence[tuple[int, str, str]] | None, version: int = -1) -> Reply:
        return self.call(SET_ACL, text(path) + acl_list(acl) + int32(version))

    def sync(self, path: str) -> Reply:
        return self.call(SYNC, text(path))

    def multi(self, operations: Iterable[tuple[int, bytes]]) -> Reply:
        return self.call(MULTI, multi_body(operations))

    def add_watch(self, path: str, mode: int) -> Reply:
        return self.call(ADD_WATCH, text(path) + int32(mode))

    def remove_watches(self, path: str, kind: int) -> Reply:
        return self.call(REMOVE_WATCHES, text(path) + int32(kind))

    def set_watches(self, relative_zxid: int, *lists: Sequence[str], opcode: int = SET_WATCHES) -> Reply:
        body = int64(relative_zxid) + b"".join(vector(paths, text) for paths in lists)
        return self.call(opcode, body, XID_SET_WATCHES)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def multi_results(reply: Reply) -> list[tuple[int, int, Any]]:
    """Decode a multi or multiRead reply into (type, err, value): path, (path, Stat), Stat, children, data or None."""
    reader = reply.reader()
    results: list[tuple[int, int, Any]] = []
    while True:
        kind, done, err = reader.int32(), reader.boolean(), reader.int32()
        if done:
            reader.end()
            return results
        value: Any = None
        if kind == CREATE:
            value = reader.text()
        elif kind == CREATE2:
            value = (reader.text(), reader.stat())
        elif kind == SET_DATA:
            value = reader.stat()
        elif kind == GET_CHILDREN:
            value = reader.texts()
        elif kind == GET_DATA:
            value = (reader.buffer(), reader.stat())
        elif kind == ERROR:
            err = reader.int32()
        elif kind not in (DELETE, CHECK):
            raise RawError(f"result of type {kind}")
        results.append((kind, err, value))
