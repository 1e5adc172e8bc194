"""What `corekit plugin test unix` and the tests run: the conformance suites of corekit."""

from __future__ import annotations

import os
from pathlib import Path

from corekit.api import AuthScheme, Peer, Transport
from corekit.testing.auth import LOCAL, AuthSuite
from corekit.testing.transport import TransportSuite
from corekit_unix.scheme import UnixScheme
from corekit_unix.transport import UnixTransport


class TestUnix(TransportSuite):
    """Unix sockets."""

    tls = False

    def make_transport(self) -> Transport:
        return UnixTransport(Path("/nonexistent"), mode=0o600)

    def address(self, tmp_path: Path) -> tuple[str, int]:
        return str(tmp_path / "one"), 0

    def another_address(self, tmp_path: Path) -> tuple[str, int]:
        return str(tmp_path / "two"), 0

    def target(self, described: str, address: tuple[str, int]) -> tuple[str, int]:
        assert described == f"unix:{address[0]}"
        return address

    def check_peer(self, peer: Peer) -> None:
        super().check_peer(peer)
        assert peer.port == os.getpid()
        assert peer.identities == (("unix", f"uid:{os.geteuid()}"), ("unix", f"gid:{os.getegid()}"))


class TestTcp(TransportSuite):
    """TCP, for addresses that are no paths."""

    def make_transport(self) -> Transport:
        return UnixTransport(Path("/nonexistent"), mode=0o600)


class TestScheme(AuthSuite):
    """The ACL scheme."""

    refusals = ((b"uid:0", LOCAL), (b"", Peer("uid:0", 1, identities=(("unix", "uid:0"),))))
    connects = ((Peer("uid:7", 1, identities=(("unix", "uid:7"),)), ()),)
    valid_ids = ("uid:0", "uid:1000", "gid:100")
    invalid_ids = ("", "1000", "uid:", "uid:x", "uid:01", "uid:-1", "uid:1 ", "uid:\u0661", "uid:99999999999")
    matching = (("uid:1000", "uid:1000"), ("gid:0", "gid:0"))
    not_matching = (("uid:1000", "uid:100"), ("uid:0", "gid:0"))

    def scheme(self) -> AuthScheme:
        return UnixScheme()
