"""The conformance suite for transports: ours pass it, and each kind of broken one is caught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from corekit.api import Peer, Transport
from corekit.builtin.memory_transport import MemoryListener, MemoryStream, MemoryTransport
from corekit.builtin.tcp import TcpTransport
from corekit.testing.own.memory_transport import TestMemoryTransport
from corekit.testing.transport import TransportSuite

__all__ = ["TestMemoryTransport"]


class TestTcp(TransportSuite):
    def make_transport(self) -> Transport:
        return TcpTransport()


def test_streams_in_memory_can_be_half_closed() -> None:
    async def main() -> None:
        transport = MemoryTransport()
        (listener,) = await transport.listen("a", 1)

        async def maker() -> tuple[Any, Any]:
            return await transport.connect("a", 1), await listener.accept()

        async def clogged() -> tuple[Any, Any]:
            client, server = await maker()
            for end in (client, server):
                with trio.move_on_after(0.01):
                    await end.send_all(bytes(1 << 20))
            return client, server

        await trio.testing.check_half_closeable_stream(maker, clogged)

    trio.run(main)


def test_an_empty_address_is_reached_under_every_name_and_a_name_only_under_itself() -> None:
    async def main() -> None:
        transport = MemoryTransport()
        await transport.listen("0.0.0.0", 1)
        (named,) = await transport.listen("a", 2)
        await transport.connect("anything", 1)
        await transport.connect("", 1)
        await transport.connect("a", 2)
        assert transport.describe(named) == "memory:a:2"
        with pytest.raises(ConnectionRefusedError, match="nobody listens on memory:b:2"):
            await transport.connect("b", 2)

    trio.run(main)


def test_every_run_is_a_network_of_its_own() -> None:
    async def main() -> None:
        await MemoryTransport().listen("a", 1)

    trio.run(main)
    trio.run(main)


# ------------------------------------------------------------------------------------- what is broken
class Silent(MemoryTransport):
    def describe(self, listener: Any) -> str:
        return ""


class Nameless(MemoryTransport):
    def peer(self, stream: Any) -> Peer:
        return Peer("")


class Greedy(MemoryTransport):
    """Takes an address that is in use."""

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        try:
            return await super().listen(address, port, tls=tls, backlog=backlog)
        except Exception:
            return await super().listen(address, 0, tls=tls, backlog=backlog)


class Gruff(MemoryTransport):
    """Refuses an address without saying which."""

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        try:
            return await super().listen(address, port, tls=tls, backlog=backlog)
        except Exception:
            raise OSError(98, "Address already in use") from None


class Plain(MemoryTransport):
    """Does not encrypt, and does not say so."""

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        return await super().listen(address, port, backlog=backlog)

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        return await super().connect(address, port)


class Clinging(MemoryTransport):
    """Keeps the address of a closed listener."""

    class Listener(MemoryListener):
        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        listeners = await super().listen(address, port, backlog=backlog)
        for listener in listeners:
            listener.__class__ = self.Listener
        return listeners


class Streams(MemoryTransport):
    """Has streams of another class."""

    stream: type[MemoryStream] = MemoryStream

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        stream = await super().connect(address, port)
        stream.__class__ = self.stream
        return stream


class Abrupt(Streams):
    """Loses what was sent before the end."""

    class stream(MemoryStream):
        def close(self) -> None:
            self._outgoing.data.clear()
            super().close()


class Swallowing(Streams):
    """Lets everything pass and says nothing when the stream is closed."""

    class stream(MemoryStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            try:
                return await super().receive_some(max_bytes)
            except trio.ClosedResourceError:
                return b""


class Mixing(MemoryTransport):
    """All clients share one connection."""

    shared: Any = None

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        stream = await super().connect(address, port)
        if self.shared is not None:
            stream._outgoing.data = self.shared._outgoing.data
        self.shared = stream
        return stream


class Backward(MemoryTransport):
    connect = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Silent, "test_a_listener_says_where_it_listens"),
        (Nameless, "test_it_tells_who_is_at_the_other_end"),
        (Greedy, "test_a_busy_address_is_named"),
        (Gruff, "test_a_busy_address_is_named"),
        (Plain, "test_tls_or_a_clear_no"),
        (Clinging, "test_an_address_is_free_again_after_its_listener"),
        (Abrupt, "test_the_end_of_a_client_is_seen"),
        (Swallowing, "test_streams_keep_the_rules_of_trio"),
        (Mixing, "test_connections_do_not_mix"),
        (Backward, "test_fulfils_the_contract"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_is_broken_is_caught(broken: type[MemoryTransport], caught_by: str, tmp_path: Path) -> None:
    suite = TestMemoryTransport()
    suite.kind = broken
    suite.patience_s = 1.0
    test = getattr(suite, caught_by)
    arguments = [] if caught_by == "test_fulfils_the_contract" else [tmp_path]
    with pytest.raises((AssertionError, OSError, pytest.fail.Exception, trio.TooSlowError)):
        test(*arguments)


def test_a_stream_without_bounds_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corekit.builtin.memory_transport.BUFFER_BYTES", 1 << 40)
    with pytest.raises(AssertionError, match="reads nothing"):
        TestMemoryTransport().test_a_reader_that_is_slow_holds_the_sender_back(tmp_path)
