"""One of the two servers: its connections, and the translation of what it says into words both servers share.

What is translated: zxids become distances from the first zxid of the run, session ids become the names of the
clients that own them, times become a mark when they are the time of their zxid (ctime of czxid, mtime of mzxid, the
same for the same zxid and never falling) and stay visible when not. Lists whose order ZooKeeper leaves open (children,
ephemerals, whoAmI; all hash order in Java) are sorted. Nothing else is changed: leftover bytes and undecodable bodies
are kept as they are.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from tests.support import rawzk
from tests.support.rawzk import RawError, Reader, connect_request, frame, int32

Item = tuple[Any, ...]  # ("reply", xid, zxid, err, body) | ("event", type, state, path, zxid) | ("closed",)
CLOSED: Item = ("closed",)
ORIGIN = 1_000_000  # what the first zxid of a run is called, so that 0 and -1 keep their meaning
REPLY_SECONDS = 20.0


class Silent(Exception):
    """A server neither answered nor closed in time."""


class Side:
    """Names and times of one server."""

    def __init__(self, name: str, port: int, closes: bool = True) -> None:
        """`closes` False: it now and then forgets to close a connection when it should (Apache's NIO server)."""
        self.name = name
        self.closes = closes
        self.port = port
        self.version = ""
        self.base = 0
        self.sessions: dict[int, str] = {}
        self.times: dict[int, int] = {}

    @property
    def old(self) -> bool:
        """An Apache release before 3.9: its differences to the model are in `known`."""
        return self.version.startswith("3.8.")

    def learn(self) -> None:
        """Ask the release (`srvr`) and the present zxid, from which all others are counted."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=REPLY_SECONDS) as sock:
            sock.sendall(b"srvr")
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
        first = answer.decode("ascii", "replace").splitlines()[0]
        self.version = first.removeprefix("Zookeeper version: ").split("-")[0].split(",")[0]

    def own_zxid(self, shared: int) -> int:
        """The server's zxid for a shared one."""
        return shared if shared in (0, -1) else shared - ORIGIN + self.base

    def zxid(self, own: int) -> int:
        return own if own in (0, -1) else own - self.base + ORIGIN

    def session(self, own: int) -> object:
        return 0 if own == 0 else self.sessions.get(own, hex(own))

    def when(self, zxid: int, ms: int) -> object:
        known = self.times.setdefault(zxid, ms)
        return "then" if known == ms else f"{ms} instead of {known}"

    def times_fall(self) -> tuple[int, int] | None:
        """Two zxids whose times are in the wrong order, or None."""
        ordered = sorted(self.times.items())
        for (zxid, before), (later, after) in itertools.pairwise(ordered):
            if after < before:
                return zxid, later
        return None

    # Bodies

    def stat(self, reader: Reader) -> Item:
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid = struct.unpack(
            ">qqqqiiiqiiq", reader.take(68)
        )
        return (
            self.zxid(czxid),
            self.zxid(mzxid),
            self.when(czxid, ctime),
            self.when(mzxid, mtime),
            version,
            cversion,
            aversion,
            self.session(owner),
            length,
            children,
            self.zxid(pzxid),
        )

    def body(self, opcode: int, data: bytes) -> object:
        """A decoded reply body, or the bytes themselves when they do not decode."""
        decode = _BODIES.get(opcode)
        if decode is None:
            return data
        reader = Reader(data)
        try:
            value = decode(self, reader)
        except RawError:
            return data
        rest = reader.rest()
        return (value, "and", rest) if rest else value


def _text(reader: Reader) -> bytes | None:
    return reader.buffer()


def _sorted_texts(side: Side, reader: Reader) -> object:
    count = reader.int32()
    return None if count < 0 else sorted((_text(reader) or b"\xffnull") for _ in range(count))


def _acl(side: Side, reader: Reader) -> Item:
    count = reader.int32()
    entries = [(reader.int32(), _text(reader), _text(reader)) for _ in range(count)]
    # `auth` expands in the hash order of the connection's identities: runs of digest entries are sorted.
    at = 0
    while at < len(entries):
        end = at
        while end < len(entries) and entries[end][:2] == (entries[at][0], b"digest"):
            end += 1
        entries[at:end] = sorted(entries[at:end], key=repr)
        at = max(end, at + 1)
    return (count, *entries)


def _multi(side: Side, reader: Reader) -> object:
    results: list[Item] = []
    while True:
        kind, done, err = reader.int32(), reader.boolean(), reader.int32()
        if done:
            return (*results, (kind, err))
        if kind == rawzk.ERROR:
            results.append((kind, err, reader.int32()))
        elif kind in (rawzk.DELETE, rawzk.CHECK):
            results.append((kind, err))
        else:
            results.append((kind, err, _BODIES[kind](side, reader)))


def _clients(side: Side, reader: Reader) -> object:
    return sorted((_text(reader), _text(reader)) for _ in range(reader.int32()))


_BODIES: dict[int, Callable[[Side, Reader], object]] = {
    rawzk.CREATE: lambda side, reader: _text(reader),
    rawzk.CREATE2: lambda side, reader: (_text(reader), side.stat(reader)),
    rawzk.CREATE_CONTAINER: lambda side, reader: (_text(reader), side.stat(reader)),
    rawzk.CREATE_TTL: lambda side, reader: (_text(reader), side.stat(reader)),
    rawzk.EXISTS: lambda side, reader: side.stat(reader),
    rawzk.GET_DATA: lambda side, reader: (reader.buffer(), side.stat(reader)),
    rawzk.SET_DATA: lambda side, reader: side.stat(reader),
    rawzk.GET_ACL: lambda side, reader: (_acl(side, reader), side.stat(reader)),
    rawzk.SET_ACL: lambda side, reader: side.stat(reader),
    rawzk.GET_CHILDREN: _sorted_texts,
    rawzk.GET_CHILDREN2: lambda side, reader: (_sorted_texts(side, reader), side.stat(reader)),
    rawzk.MULTI: _multi,
    rawzk.MULTI_READ: _multi,
    rawzk.GET_EPHEMERALS: _sorted_texts,
    rawzk.WHO_AM_I: _clients,
}


class Connection:
    """A client's connection to one server. Replies are matched with requests by order."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.sock: socket.socket | None = None
        self.received = b""
        self.waiting: list[int] = []  # opcodes of the requests not yet answered
        self.session_id = 0
        self.password: bytes | None = bytes(16)

    @property
    def open(self) -> bool:
        return self.sock is not None

    def connect(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.side.port), timeout=REPLY_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.waiting = b"", []

    def drop(self) -> None:
        """Close without a word."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def handshake(
        self, owner: str, timeout_ms: int, session: int, password: bytes | None, last_zxid: int, read_only: bool | None
    ) -> Item:
        """Connect and ask for a session; the answer, with the session named `owner` from now on."""
        self.connect()
        self.send_bytes(connect_request(timeout_ms, session, password, last_zxid, read_only))
        data = self.frame()
        if data is None:
            return CLOSED
        reader = Reader(data)
        protocol, granted, session_id, secret = reader.int32(), reader.int32(), reader.int64(), reader.buffer()
        if granted:
            self.session_id, self.password = session_id, secret
            self.side.sessions.setdefault(session_id, owner)
        return ("session", protocol, granted, self.side.session(session_id), len(secret or b""), reader.rest())

    def send_bytes(self, data: bytes) -> None:
        assert self.sock is not None
        with contextlib.suppress(ConnectionError):  # a close is seen when reading
            self.sock.sendall(data)

    def send(self, requests: list[tuple[int, bytes, int]]) -> None:
        """Send (opcode, body, xid) requests in one write."""
        parts = []
        for opcode, body, xid in requests:
            parts.append(frame(int32(xid) + int32(opcode) + body))
            self.waiting.append(opcode)
        self.send_bytes(b"".join(parts))

    def frame(self) -> bytes | None:
        """The next frame, or None when the server closed."""
        header = self._take(4)
        return None if header is None else self._take(struct.unpack(">i", header)[0])

    def item(self) -> Item:
        """The next reply or event; `CLOSED` at the end."""
        data = self.frame()
        if data is None:
            self.drop()
            return CLOSED
        if len(data) < 16:
            return ("odd frame", data)
        side = self.side
        xid, zxid, err = struct.unpack(">iqi", data[:16])
        if xid == rawzk.XID_EVENT:
            reader = Reader(data[16:])
            return ("event", reader.int32(), reader.int32(), reader.buffer(), side.zxid(zxid), reader.rest())
        opcode = self.waiting.pop(0)
        # An error has no body, but Java's multiRead sends what it had read before a request it cannot decode.
        body = side.body(opcode, data[16:]) if err == 0 else b"" if opcode == rawzk.MULTI_READ else data[16:]
        return ("reply", xid, side.zxid(zxid), err, body)

    def until_answered(self) -> list[Item]:
        """Everything up to the reply of the last request sent, or up to the close."""
        items: list[Item] = []
        while self.waiting:
            item = self.item()
            items.append(item)
            if item == CLOSED:
                break
        return items

    def until_closed(self) -> list[Item]:
        """Everything up to the close. A server that is known to forget it is given a second."""
        items: list[Item] = []
        while self.sock is not None:
            if not self.waiting and not self.side.closes:
                self.sock.settimeout(1.0)
            try:
                items.append(self.item())
            except Silent:
                if self.side.closes or self.waiting:
                    raise
                items.append(CLOSED)
                self.drop()
        return items

    def _take(self, count: int) -> bytes | None:
        assert self.sock is not None
        if len(self.received) < count:
            parts, have = [self.received], len(self.received)
            deadline = time.monotonic() + REPLY_SECONDS
            while have < count:
                try:
                    chunk = self.sock.recv(max(65536, count - have))
                except ConnectionError:
                    chunk = b""
                except TimeoutError:
                    chunk = None
                if chunk is None or time.monotonic() > deadline:
                    raise Silent(f"{self.side.name}: no answer in {REPLY_SECONDS:g} s, waiting for {self.waiting}")
                if not chunk:
                    return None
                parts.append(chunk)
                have += len(chunk)
            self.received = b"".join(parts)
        data, self.received = self.received[:count], self.received[count:]
        return data
