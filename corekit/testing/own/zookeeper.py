"""ZooKeeper's client protocol: how a client speaks."""

from __future__ import annotations

from struct import Struct

from corekit.api import ClientProtocol
from corekit.builtin.zookeeper import ZooKeeperProtocol
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import ACL, CreateRequest, DataResponse, Id, PathWatchRequest, SetDataRequest, WatcherEvent
from corekit.hooks import Context
from corekit.testing.protocol import Answer, ProtocolSuite

_HELLO = Struct(">iqiqi")
_HEAD = Struct(">iqi")
_ALL = [ACL(31, Id(b"world", b"anyone"))]

# The xid tells what the answer holds.
_PLAIN, _DATA = 1, 2


def framed(data: bytes) -> bytes:
    """With its length before it."""
    return len(data).to_bytes(4, "big") + data


def request(xid: int, op: int, body: bytes = b"") -> bytes:
    """A request as sent."""
    return framed(xid.to_bytes(4, "big") + op.to_bytes(4, "big", signed=True) + body)


class TestZooKeeper(ProtocolSuite):
    """What the server relies on."""

    garbage = (b"ruok", b"mntr", b"stat\n", b"srvrx", b"isro", b"stmk", b"\0\0\0\x2d" + bytes(45), b"\0\0\0\0")
    kind: type[ZooKeeperProtocol] = ZooKeeperProtocol

    def make_protocol(self, context: Context) -> ClientProtocol:
        return self.kind(context)

    def hello(self) -> bytes:
        return framed(_HELLO.pack(0, 0, 10_000, 0, 16) + bytes(17))

    def goodbye(self) -> bytes:
        return request(_PLAIN, ops.CLOSE_SESSION)

    def create(self, path: str, data: bytes) -> bytes:
        return request(_PLAIN, ops.CREATE, CreateRequest(path.encode(), data, _ALL, 0).encode())

    def ephemeral(self, path: str) -> bytes:
        return request(_PLAIN, ops.CREATE, CreateRequest(path.encode(), b"", _ALL, 1).encode())

    def get(self, path: str) -> bytes:
        return request(_DATA, ops.GET_DATA, PathWatchRequest(path.encode(), False).encode())

    def watch(self, path: str) -> bytes:
        return request(_DATA, ops.GET_DATA, PathWatchRequest(path.encode(), True).encode())

    def set(self, path: str, data: bytes) -> bytes:
        return request(_PLAIN, ops.SET_DATA, SetDataRequest(path.encode(), data, -1).encode())

    def parse(self, data: bytes) -> tuple[list[Answer], bytes]:
        found = []
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
            size = int.from_bytes(data[:4], "big")
            found.append(self._answer(data[4 : 4 + size]))
            data = data[4 + size :]
        return found, data

    def _answer(self, frame: bytes) -> Answer:
        if len(frame) == 37 and frame[:4] == bytes(4):  # the only frame that begins with the protocol version 0
            return Answer("hello", frame[8:16] != bytes(8))
        xid, _, code = _HEAD.unpack_from(frame)
        if xid == -1:
            return Answer("event", path=(WatcherEvent.decode(Reader(frame[16:])).path or b"").decode())
        body = DataResponse.decode(Reader(frame[16:])).data or b"" if xid == _DATA and code == 0 else b""
        return Answer("reply", code == 0, body)
