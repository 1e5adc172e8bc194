"""A whole server in one process, without a socket: trio, storage in memory, the transport in memory."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from struct import Struct
from typing import Any

import pytest
import trio

from corekit.builtin.memory_transport import MemoryTransport
from corekit.codec import ops
from corekit.codec.records import ACL, CreateRequest, Id, PathWatchRequest, SetDataRequest
from corekit.config import load
from corekit.errors import UserError
from corekit.plugins import wire
from corekit.server.server import Server, Started

_HELLO = Struct(">iqiqi")
_HEAD = Struct(">iqi")
_ALL = [ACL(31, Id(b"world", b"anyone"))]


class Client:
    """Frames over a stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._data = b""
        self.xid = 0

    async def hello(self) -> int:
        """Open a session; its id."""
        body = _HELLO.pack(0, 0, 10_000, 0, 16) + bytes(17)
        await self.stream.send_all(len(body).to_bytes(4, "big") + body)
        return int.from_bytes((await self.frame())[8:16], "big")

    async def frame(self) -> bytes:
        while len(self._data) < 4 or len(self._data) < 4 + int.from_bytes(self._data[:4], "big"):
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError
            self._data += data
        size = int.from_bytes(self._data[:4], "big")
        frame, self._data = self._data[4 : 4 + size], self._data[4 + size :]
        return frame

    async def call(self, op: int, body: bytes) -> tuple[int, int, bytes]:
        """(xid, error code, body) of the next frame."""
        self.xid += 1
        frame = self.xid.to_bytes(4, "big") + op.to_bytes(4, "big") + body
        await self.stream.send_all(len(frame).to_bytes(4, "big") + frame)
        return await self.answer()

    async def answer(self) -> tuple[int, int, bytes]:
        frame = await self.frame()
        xid, _, code = _HEAD.unpack_from(frame)
        return xid, code, frame[16:]


@asynccontextmanager
async def serving(told: list[Started], **more: str) -> AsyncIterator[Server]:
    options = {"plugins": "memory,memory-transport", "admin.enableServer": "false", "4lw.commands.whitelist": "*"}
    loaded = load(environ={}, options=[(key, value, "test") for key, value in (options | more).items()])
    server = Server(loaded, wire(loaded.settings, environ={}), told.append)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            yield server
            server.stop("test")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A server tunes the collector for itself; other tests share the process."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_two_clients_and_a_watch() -> None:
    told: list[Started] = []

    async def main() -> None:
        async with serving(told, clientPort="2181") as server:
            assert server.view.client_port == 2181
            one = Client(await MemoryTransport().connect("", 2181))
            two = Client(await MemoryTransport().connect("any name", 2181))
            assert await one.hello() != await two.hello()
            assert (await one.call(ops.CREATE, CreateRequest(b"/a", b"1", _ALL, 0).encode()))[1] == 0
            _, code, body = await two.call(ops.GET_DATA, PathWatchRequest(b"/a", True).encode())
            assert code == 0
            assert body[4:5] == b"1"
            assert (await one.call(ops.SET_DATA, SetDataRequest(b"/a", b"2", 0).encode()))[1] == 0
            assert (await two.answer())[0] == -1
            word = await MemoryTransport().connect("", 2181)
            await word.send_all(b"ruok")
            assert await word.receive_some(100) == b"imok"
            with trio.move_on_after(5):
                await word.receive_some(1)

    trio.run(main)
    (started,) = told
    assert (started.listens, started.admin) == (["memory::2181"], [])
    assert started.plugins == ["digest", "memory", "memory-transport", "solo", "zookeeper"]


def test_a_port_of_zero_is_chosen_and_told() -> None:
    async def main() -> None:
        async with serving([], clientPort="0", clientPortAddress="localhost") as server:
            client = Client(await MemoryTransport().connect("localhost", server.view.client_port))
            assert await client.hello()

    trio.run(main)


def test_clients_are_sent_away_when_the_server_stops() -> None:
    async def main() -> None:
        async with serving([], clientPort="2181"):
            client = Client(await MemoryTransport().connect("", 2181))
            await client.hello()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client.frame()
        with pytest.raises(ConnectionRefusedError):
            await MemoryTransport().connect("", 2181)

    trio.run(main)


def test_a_name_in_use_stops_the_start() -> None:
    async def main() -> None:
        await MemoryTransport().listen("", 2181)
        async with serving([], clientPort="2181"):
            pass

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    assert "memory::2181" in str(error)


def test_what_one_client_does_to_its_connection_hurts_nobody() -> None:
    """Garbage, a reset, a client that leaves in the middle: on any stream, not only on plain sockets."""

    async def main() -> None:
        async with serving([], clientPort="2181") as server:
            good = Client(await MemoryTransport().connect("", 2181))
            await good.hello()
            for data in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x2d" + bytes(9)):
                bad = await MemoryTransport().connect("", 2181)
                await bad.send_all(data)
                with trio.move_on_after(0.05):
                    await bad.receive_some(1000)
                await bad.aclose()
            rude = Client(await MemoryTransport().connect("", 2181))
            await rude.hello()
            await rude.stream.send_all(b"\x7f\xff\xff\xff" * 4)
            await rude.stream.aclose()
            assert (await good.call(ops.GET_DATA, PathWatchRequest(b"/", False).encode()))[1] == 0
            assert not server.admission.overdue()

    trio.run(main)
