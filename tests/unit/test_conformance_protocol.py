"""The conformance suite for client protocols: ours passes it, and each kind of broken one is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corekit.api import ClientSession, Peer
from corekit.builtin.zookeeper import ZooKeeperProtocol
from corekit.builtin.zookeeper_session import ZooKeeperSession
from corekit.testing.own.zookeeper import TestZooKeeper
from corekit.testing.protocol import ProtocolSuite

__all__ = ["TestZooKeeper"]


# ------------------------------------------------------------------------------------- what is broken
class Broken(ZooKeeperProtocol):
    """A protocol whose sessions do one thing wrong."""

    session: type[ZooKeeperSession] = ZooKeeperSession

    def open(self, peer: Peer, woken: Callable[[ClientSession], None]) -> ZooKeeperSession | None:
        assert self._gateway is not None
        return self.session(self._gateway, peer, woken)


class Whole(Broken):
    """Takes one `received` for one request."""

    class session(ZooKeeperSession):
        def _keep(self, data: bytes, need: int) -> None:
            super()._keep(b"", 4)


class Deaf(Broken):
    """Does not tell of output that no request caused."""

    class session(ZooKeeperSession):
        def _wake(self, connection: Any) -> None:
            pass


class Unpaused(Broken):
    """Never lets a client wait."""

    class session(ZooKeeperSession):
        def paused(self) -> bool:
            return False


class Repeating(Broken):
    """Gives the same output again."""

    class session(ZooKeeperSession):
        def take(self) -> list[bytes]:
            out = super().take()
            self._connection.out = out[-1:] if self._connection.done == 1 else []
            return list(out)


class Reversing(Broken):
    """Sends what is newest first."""

    class session(ZooKeeperSession):
        def take(self) -> list[bytes]:
            data, found = b"".join(super().take()), []
            while data:
                size = 4 + int.from_bytes(data[:4], "big")
                found.append(data[:size])
                data = data[size:]
            return found[::-1]


class Fragile(Broken):
    """Raises what a parser happens to raise."""

    class session(ZooKeeperSession):
        def received(self, data: bytes) -> None:
            try:
                super().received(data)
            except Exception as error:
                raise ValueError("no") from error


class Speechless(Broken):
    """Does not say why."""

    class session(ZooKeeperSession):
        def received(self, data: bytes) -> None:
            from corekit.errors import ProtocolError

            try:
                super().received(data)
            except ProtocolError:
                raise ProtocolError from None


class Hoarding(Broken):
    """Collects a request before it looks at its size."""

    class session(ZooKeeperSession):
        __slots__ = ("_hoard",)
        _hoard: bytes

        def received(self, data: bytes) -> None:
            self._hoard = getattr(self, "_hoard", b"") + data
            size = int.from_bytes(self._hoard[:4], "big")
            if 100 < size < 1 << 24 and len(self._hoard) < 4 + size:
                return
            data, self._hoard = self._hoard, b""
            super().received(data)


class Clinging(Broken):
    """Does not let go of a client that has gone."""

    class session(ZooKeeperSession):
        def closed(self, why: str) -> None:
            pass


class Waiting(Broken):
    """Waits for more from a client that will send no more."""

    class session(ZooKeeperSession):
        def end_of_input(self) -> None:
            pass


class Stubborn(Broken):
    """Keeps a connection that the kernel wants closed."""

    class session(ZooKeeperSession):
        __slots__ = ("_no",)

        @property
        def closing(self) -> str | None:
            return None

        @closing.setter
        def closing(self, value: str | None) -> None:
            pass


class Late(Broken):
    """Sends answers only when the client speaks again."""

    class session(ZooKeeperSession):
        __slots__ = ("_last",)

        def take(self) -> list[bytes]:
            now = super().take()
            last = getattr(self, "_last", [])
            self._last = list(now)
            return list(last)


class Nowhere(Broken):
    """Says -1 instead of nothing."""

    def listeners(self) -> Any:
        return [("", -1, None)]


class Partial(Broken):
    """Has no `name`."""

    name = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Whole, "test_requests_may_be_cut_anywhere"),
        (Whole, "test_requests_may_come_byte_by_byte"),
        (Deaf, "test_an_event_is_sent_to_a_client_that_is_silent"),
        (Unpaused, "test_a_client_with_too_much_in_flight_is_held_back"),
        (Repeating, "test_requests_may_come_all_at_once"),
        (Reversing, "test_answers_come_in_the_order_of_the_requests"),
        (Reversing, "test_requests_may_come_all_at_once"),
        (Fragile, "test_garbage_hurts_nobody"),
        (Speechless, "test_garbage_hurts_nobody"),
        (Hoarding, "test_a_request_that_is_too_large_is_refused"),
        (Clinging, "test_a_connection_that_is_gone_leaves_nothing_behind"),
        (Clinging, "test_garbage_hurts_nobody"),
        (Waiting, "test_a_client_that_sends_no_more_is_let_go"),
        (Waiting, "test_a_client_that_says_nothing_is_let_go"),
        (Stubborn, "test_a_server_that_stops_serving_sends_its_clients_away"),
        (Stubborn, "test_goodbye_ends_the_session_at_once"),
        (Late, "test_what_one_writes_another_reads"),
        (Nowhere, "test_it_says_where_it_wants_to_listen"),
        (Partial, "test_fulfils_the_contract"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value,
)
def test_what_is_broken_is_caught(broken: type[Broken], caught_by: str) -> None:
    suite = TestZooKeeper()
    suite.kind = broken
    arguments = [True] if caught_by == "test_garbage_hurts_nobody" else []
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, caught_by)(*arguments)


def test_what_a_language_cannot_say_is_skipped_by_name() -> None:
    class Plain(TestZooKeeper):
        watch = ProtocolSuite.watch
        pipelines = False

    with pytest.raises(pytest.skip.Exception, match="watch is not overridden"):
        Plain().test_an_event_is_sent_to_a_client_that_is_silent()
    with pytest.raises(pytest.skip.Exception, match="pipelines is False"):
        Plain().test_requests_may_come_byte_by_byte()
