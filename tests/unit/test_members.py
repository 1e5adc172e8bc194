"""Which addresses are members': names that move, names that cannot be looked up, strangers that knock without end."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from corekit.server.members import MemberAddresses


class Names(trio.abc.HostnameResolver):
    """A name server. Names that it does not know cannot be looked up."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        self.asked.append(host.decode() if isinstance(host, bytes) else host)
        if self.asked[-1] not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses[self.asked[-1]]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise AssertionError("nobody asks for names")


@pytest.fixture
def names() -> Names:
    return Names(zk1=["10.0.0.1"], zk2=["10.0.0.2", "::ffff:10.0.0.22", "fd00::2"])


def in_world(names: Names, work: Any) -> None:
    """Run in simulated time with these names."""

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(names)
        await work()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_address_of_every_name_is_a_members(names: Names) -> None:
    async def work() -> None:
        members = MemberAddresses(["zk1", "zk2", "10.0.0.3"])
        assert not members.knows("10.0.0.1")
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.22", "fd00::2", "10.0.0.3"):
            assert await members.admits(address, "quorum")
            assert members.knows(address)
        assert not await members.admits("10.0.0.9", "quorum")

    in_world(names, work)


def test_a_member_that_moved_is_found(names: Names) -> None:
    async def work() -> None:
        members = MemberAddresses(["zk1", "zk2"])
        assert await members.admits("10.0.0.1", "quorum")
        names.addresses["zk1"] = ["10.0.0.7"]
        await trio.sleep(2)
        assert await members.admits("10.0.0.7", "quorum")
        assert not members.knows("10.0.0.1")

    in_world(names, work)


def test_a_name_that_cannot_be_looked_up_keeps_its_addresses(names: Names) -> None:
    async def work() -> None:
        members = MemberAddresses(["zk1", "zk2"])
        assert await members.admits("10.0.0.1", "quorum")
        del names.addresses["zk1"]
        await trio.sleep(2)
        assert not await members.admits("10.0.0.9", "quorum")
        assert members.knows("10.0.0.1")

    in_world(names, work)


def test_many_strangers_cost_few_lookups(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        members = MemberAddresses(["zk1"])
        for n in range(50):
            assert not await members.admits(f"10.1.0.{n}", "election")
            assert not await members.admits("10.1.0.1", "election")
        assert names.asked == ["zk1"]

    in_world(names, work)
    told = [record for record in caplog.records if "no member has this address" in record.message]
    assert len(told) == 50
