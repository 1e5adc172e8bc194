"""Conformance suite for transports: what the server relies on, whatever carries the bytes.

Use: subclass `TransportSuite` in a test file and override `make_transport` and what else differs from TCP; pytest
collects the rest.

    class TestMine(TransportSuite):
        def make_transport(self) -> Transport:
            return MyTransport()

        def address(self, tmp_path: Path) -> tuple[str, int]:
            return str(tmp_path / "socket"), 0

        def target(self, described: str, address: tuple[str, int]) -> tuple[str, int]:
            return address

Rules that it checks
- Streams and listeners keep trio's own rules for them (`trio.testing.check_two_way_stream`).
- An address in use, or one that cannot be bound, is a `UserError` that names it; nobody there is an `OSError`.
- Whatever a client does, `peer` tells who it is and raises nothing.
- A listener that is closed is gone: its address is free, its connections live on.

Not here: how fast it is; what a server does with a connection (`corekit.testing.protocol`).
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from corekit.api import Peer, Transport
from corekit.contracts import breaches
from corekit.errors import UserError

_BULK = bytes(range(256)) * 4096  # 1 MB


async def read_exactly(stream: Any, size: int) -> bytes:
    """That many bytes."""
    found = b""
    while len(found) < size:
        data = await stream.receive_some(65536)
        assert data, f"the stream ended after {len(found)} of {size} bytes"
        found += data
    return found


async def _read_to_end(stream: Any) -> bytes:
    found = b""
    while data := await stream.receive_some(65536):
        found += data
    return found


class TransportSuite:
    """The suite. Subclass it in a test file, see above.

    Attributes:
        tls: it can encrypt; one that cannot must say so when it is asked to.
        patience_s: how long a test may take.
    """

    tls: ClassVar[bool] = True
    patience_s: ClassVar[float] = 20.0

    def make_transport(self) -> Transport:
        """A transport."""
        raise NotImplementedError("override make_transport()")

    def address(self, tmp_path: Path) -> tuple[str, int]:
        """Where to listen; a port of 0 is to pick a free one."""
        return "127.0.0.1", 0

    def another_address(self, tmp_path: Path) -> tuple[str, int]:
        """Where to listen beside the first."""
        return self.address(tmp_path)

    def target(self, described: str, address: tuple[str, int]) -> tuple[str, int]:
        """Where to connect to, given what `describe` says of a listener and the address it was made for."""
        return address[0], address[1] or int(described.rpartition(":")[2])

    # ------------------------------------------------------------------------------------------- helpers
    def run(self, test: Callable[[Transport], Awaitable[None]]) -> None:
        """Run the asynchronous part of a test."""

        async def main() -> None:
            with trio.fail_after(self.patience_s):
                await test(self.make_transport())

        trio.run(main)

    @asynccontextmanager
    async def listening(
        self, transport: Transport, address: tuple[str, int], **more: Any
    ) -> AsyncIterator[tuple[Any, tuple[str, int]]]:
        """A listener, and where to connect to."""
        listeners = await transport.listen(*address, **more)
        assert listeners, "listen gave no listener"
        try:
            yield listeners[0], self.target(transport.describe(listeners[0]), address)
        finally:
            for listener in listeners:
                await listener.aclose()

    async def pair(
        self, transport: Transport, listener: Any, target: tuple[str, int], tls: Any | None = None
    ) -> tuple[Any, Any]:
        """Both ends of a new connection: the client's, the server's."""
        ends: dict[str, Any] = {}

        async def connect() -> None:
            ends["client"] = await transport.connect(*target, tls=tls)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            ends["server"] = await listener.accept()
        return ends["client"], ends["server"]

    # --------------------------------------------------------------------------------------------- tests
    def test_fulfils_the_contract(self) -> None:
        assert breaches(self.make_transport(), Transport) == []

    def test_a_listener_says_where_it_listens(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            for listener in await transport.listen(*self.address(tmp_path)):
                assert isinstance(listener, trio.abc.Listener)
                text = transport.describe(listener)
                assert isinstance(text, str)
                assert text, "describe says nothing"
                assert text.isprintable(), "what describe says goes into one line of the log"
                await listener.aclose()

        self.run(test)

    def test_two_listeners_are_told_apart(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with (
                self.listening(transport, self.address(tmp_path)) as (one, first),
                self.listening(transport, self.another_address(tmp_path)) as (two, second),
            ):
                assert transport.describe(one) != transport.describe(two)
                for listener, target, word in ((one, first, b"one"), (two, second, b"two")):
                    client, server = await self.pair(transport, listener, target)
                    await client.send_all(word)
                    assert await read_exactly(server, 3) == word
                    await client.aclose()
                    await server.aclose()

        self.run(test)

    def test_bytes_go_both_ways_at_once(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                got: dict[str, bytes] = {}

                async def read(name: str, stream: Any) -> None:
                    got[name] = await read_exactly(stream, len(_BULK))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.send_all, _BULK)
                    nursery.start_soon(server.send_all, _BULK[::-1])
                    nursery.start_soon(read, "server", server)
                    nursery.start_soon(read, "client", client)
                assert got["server"] == _BULK
                assert got["client"] == _BULK[::-1]
                await client.aclose()
                await server.aclose()

        self.run(test)

    def test_connections_do_not_mix(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                pairs = [await self.pair(transport, listener, target) for _ in range(5)]
                for number, (client, _) in enumerate(pairs):
                    await client.send_all(b"client %d" % number)
                for number, (_, server) in enumerate(pairs):
                    assert await read_exactly(server, 8) == b"client %d" % number
                    await server.send_all(b"server %d" % number)
                for number, (client, server) in enumerate(pairs):
                    assert await read_exactly(client, 8) == b"server %d" % number
                    await client.aclose()
                    await server.aclose()

        self.run(test)

    def test_clients_may_come_before_they_are_accepted(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path), backlog=64) as (listener, target):
                clients: list[Any] = []

                async def connect() -> None:
                    stream = await transport.connect(*target)
                    await stream.send_all(b"x")
                    clients.append(stream)

                async with trio.open_nursery() as nursery:
                    for _ in range(32):
                        nursery.start_soon(connect)
                for _ in range(32):
                    server = await listener.accept()
                    assert await read_exactly(server, 1) == b"x"
                    await server.aclose()
                for client in clients:
                    await client.aclose()

        self.run(test)

    def test_giving_up_an_accept_loses_nobody(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                with trio.move_on_after(0.01):
                    await listener.accept()
                    raise AssertionError("accept returned without a client")
                client, server = await self.pair(transport, listener, target)
                await client.aclose()
                await server.aclose()

        self.run(test)

    # ---------------------------------------------------------------------------------------------- peer
    def check_peer(self, peer: Peer) -> None:
        """What must hold for every peer; override it to demand more."""
        assert isinstance(peer, Peer)
        assert isinstance(peer.address, str)
        assert peer.address, "an address is needed: connections are counted by it"
        assert peer.address.isprintable()
        assert isinstance(peer.port, int)
        assert isinstance(peer.identities, tuple)
        for scheme, text in peer.identities:
            assert isinstance(scheme, str)
            assert isinstance(text, str)

    def test_it_tells_who_is_at_the_other_end(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                peer = transport.peer(server)
                self.check_peer(peer)
                assert peer.tls is False
                assert transport.peer(server) == peer, "the same stream, another peer"
                await client.aclose()
                await server.aclose()

        self.run(test)

    def test_it_tells_who_was_there_when_the_client_is_gone(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client = await transport.connect(*target)
                await client.send_all(b"last words")
                await self.break_off(client)
                server = await listener.accept()
                with trio.move_on_after(0.2):
                    await _read_until_broken(server)
                self.check_peer(transport.peer(server))
                await server.aclose()

        self.run(test)

    async def break_off(self, client: Any) -> None:
        """End a connection as rudely as the transport allows: a reset where there is one."""
        plain = getattr(client, "socket", None)
        if plain is not None:
            import socket
            import struct

            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(client)

    # --------------------------------------------------------------------------------------------- close
    def test_the_end_of_a_client_is_seen(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                await client.send_all(b"bye")
                await client.aclose()
                assert await _read_to_end(server) == b"bye", "what was sent before the end must arrive"

                async def send_for_ever() -> None:
                    while True:
                        await server.send_all(_BULK)

                with pytest.raises(trio.BrokenResourceError):
                    await send_for_ever()
                await server.aclose()

        self.run(test)

    def test_the_end_of_a_server_is_seen(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                await server.send_all(b"bye")
                await server.aclose()
                assert await _read_to_end(client) == b"bye"
                await client.aclose()

        self.run(test)

    def test_what_is_closed_here_says_so(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                await server.aclose()
                await server.aclose()
                with pytest.raises(trio.ClosedResourceError):
                    await server.receive_some(1)
                with pytest.raises(trio.ClosedResourceError):
                    await server.send_all(b"x")
                await client.aclose()

        self.run(test)

    def test_streams_keep_the_rules_of_trio(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):

                async def maker() -> tuple[Any, Any]:
                    return await self.pair(transport, listener, target)

                await trio.testing.check_two_way_stream(maker, None)

        self.run(test)

    def test_a_reader_that_is_slow_holds_the_sender_back(self, tmp_path: Path) -> None:
        """Without that, a client that does not read would fill the server's memory."""

        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
                sent = 0
                while sent < 64:
                    with trio.move_on_after(0.5) as held_back:
                        await server.send_all(_BULK)
                    if held_back.cancelled_caught:
                        break
                    sent += 1
                assert sent < 64, "64 MB were sent to a client that reads nothing"
                await client.aclose()
                await server.aclose()

        self.run(test)

    # ------------------------------------------------------------------------------------------ addresses
    def test_a_busy_address_is_named(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (_, target):
                with pytest.raises(UserError) as caught:
                    await transport.listen(*target)
                assert target[0] in str(caught.value)
                if target[1]:
                    assert str(target[1]) in str(caught.value)

        self.run(test)

    def test_an_address_is_free_again_after_its_listener(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            async with self.listening(transport, self.address(tmp_path)) as (listener, target):
                client, server = await self.pair(transport, listener, target)
            await client.send_all(b"still there")
            assert await read_exactly(server, 11) == b"still there", (
                "closing a listener must leave its connections alone"
            )
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()
            await client.aclose()
            await server.aclose()
            with pytest.raises(OSError):
                await transport.connect(*target)
            async with self.listening(transport, target) as (listener, _):
                client, server = await self.pair(transport, listener, target)
                await client.aclose()
                await server.aclose()

        self.run(test)

    # ------------------------------------------------------------------------------------------------ TLS
    def test_tls_or_a_clear_no(self, tmp_path: Path) -> None:
        async def test(transport: Transport) -> None:
            ours, theirs = contexts()
            if not self.tls:
                with pytest.raises(UserError):
                    await transport.listen(*self.address(tmp_path), tls=ours)
                return
            async with self.listening(transport, self.address(tmp_path), tls=ours) as (listener, target):
                client, server = await self.pair(transport, listener, target, theirs)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.send_all, b"secret")
                    assert await read_exactly(server, 6) == b"secret"
                peer = transport.peer(server)
                self.check_peer(peer)
                assert peer.tls is True
                await trio.aclose_forcefully(client)
                await trio.aclose_forcefully(server)

        self.run(test)


async def _read_until_broken(stream: Any) -> None:
    try:
        await _read_to_end(stream)
    except trio.BrokenResourceError:
        pass


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of a server with a certificate made on the spot, and of a client that trusts nothing but it."""
    import tempfile

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        ours.load_cert_chain(file.name)
    theirs = ssl.create_default_context(cadata=pem.decode())
    return ours, theirs
