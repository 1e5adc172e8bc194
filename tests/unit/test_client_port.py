"""The client port on real sockets, with sessions of the tests' own."""

from __future__ import annotations

import socket
import struct
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
    """Remembers its sessions with what wakes them."""

    def __init__(self) -> None:
        self.sessions: list[tuple[Session, Callable[[object], None]]] = []

    def open(self, peer: Peer, wake: Callable[[object], None]) -> Session:
        session = Session()
        self.sessions.append((session, wake))
        return session


async def _receive(client: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the server closes."""
    got = b""
    with trio.fail_after(20):
        while len(got) < size:
            await trio.lowlevel.wait_readable(client)
            more = client.recv(size - len(got))
            if not more:
                break
            got += more
    return got


def test_many_clients_in_one_turn_have_each_its_own_answer() -> None:
    """More than fit into one call; some have gone, some have asked for the end, all others are then woken together."""
    many, size = 200, 20_000

    async def main() -> None:
        port = FastPort(lambda: None, lambda: False, Admission(0, 0, 1000))
        protocol = Protocol()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(many)
            listener.setblocking(False)
            port.listen(listener, protocol)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(port.run)
                clients = []
                for _ in range(many):
                    client = socket.create_connection(listener.getsockname())
                    client.setblocking(False)
                    client.send(b"1")
                    assert await _receive(client, 1) == b"."
                    clients.append(client)
                for number, client in enumerate(clients):  # no checkpoint here: all of it is one turn's
                    if number % 50 == 10:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        client.close()  # a reset
                    elif number % 50 == 20:
                        client.send(b"end")
                    else:
                        client.send(b"%d" % (size + number))
                for number, client in enumerate(clients):
                    if number % 50 == 20:
                        assert await _receive(client, 100) == b"last"
                    elif number % 50 != 10:
                        assert await _receive(client, size + number) == b"." * (size + number)
                assert len(port) == many - 8
                assert port.dropped == 8
                for number, (session, wake) in enumerate(protocol.sessions):
                    session.out.append(b"event %3d" % number)
                    wake(session)
                    wake(session)
                port.send_woken()
                for number, client in enumerate(clients):
                    if number % 50 not in (10, 20):
                        assert await _receive(client, 9) == b"event %3d" % number
                for client in clients:
                    client.close()
                nursery.cancel_scope.cancel()
            port.close()

    trio.run(main)


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
