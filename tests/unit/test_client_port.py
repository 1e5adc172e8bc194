"""The client port on real sockets, with sessions of the tests' own."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from corekit.api import Peer
from corekit.server.admission import Admission
from corekit.server.client_port import FastPort


class Session:
    """Answers `N` with N bytes, and `end` with `last`, which is the end."""

    def __init__(self) -> None:
        self.closing: str | None = None
        self.out: list[bytes] = []

    def received(self, data: bytes) -> None:
        if data == b"end":
            self.out.append(b"last")
            self.closing = "it was asked to"
        else:
            self.out.append(b"." * int(data))

    def take(self) -> list[bytes]:
        out, self.out = self.out, []
        return out

    def end_of_input(self) -> None:
        self.closing = "the client went"

    def paused(self) -> bool:
        return False

    def closed(self, why: str) -> None:
        self.out.clear()


class Protocol:
    def open(self, peer: Peer, wake: Callable[[object], None]) -> Session:
        return Session()


def test_the_last_answer_of_a_client_that_was_behind_is_sent() -> None:
    """It asks for the end while it takes what was unsent: the server finds both in one event."""

    async def main() -> None:
        port = FastPort(lambda: None, lambda: False, Admission(0, 0, 1000))
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            port.listen(listener, Protocol())

            async def ask(size: int) -> tuple[socket.socket, int]:
                """A client that has asked and read nothing, and how much of its answer was sent."""
                before = port.bytes_sent
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(listener.getsockname())
                client.sendall(b"%d" % size)
                await trio.lowlevel.wait_readable(client)
                return client, port.bytes_sent - before

            async with trio.open_nursery() as nursery:
                nursery.start_soon(port.run)
                probe, fits = await ask(500_000)
                probe.close()
                client, sent = await ask(fits + 1000)
                assert sent < fits + 1000
                client.settimeout(10)
                answer = bytearray()
                while (
                    len(answer) < sent
                ):  # no checkpoint here: the port sees nothing of this until the request is there
                    answer += client.recv(1 << 20)
                client.sendall(b"end")
                client.setblocking(False)
                while not answer.endswith(b"last"):
                    await trio.lowlevel.wait_readable(client)
                    more = client.recv(1 << 20)
                    assert more, "closed without the last answer"
                    answer += more
                client.close()
                nursery.cancel_scope.cancel()
            port.close()
        assert len(answer) == fits + 1000 + len(b"last")

    trio.run(main)
