"""The `ip` scheme: where a client connects from (`IPAuthenticationProvider`, with IPv6 as in 3.9.4).

Rules
- Every connection with a network address has an identity of this scheme from the start; asking for it with an `auth`
  packet gives it again. It does not count as authenticated: the ACL scheme `auth` does not expand to it.
- An ACL id is an address, or an address and a number of leading bits: `10.0.0.0/8`, `2001:db8::/32`.
- Numbers are read as Java's `Integer.parseInt` reads them (a sign and leading zeros are allowed), so that both servers
  accept the same ACLs; only digits that are not ASCII are refused here.
- An IPv4 client on an IPv6 socket counts as IPv4, as in Java. A zone (`fe80::1%eth0`) matches nothing.

Not here: names of hosts. Addresses only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from corekit.api import Identity, Peer
from corekit.codec.java_text import java_host

_INT = {10: re.compile(r"[+-]?[0-9]+"), 16: re.compile(r"[+-]?[0-9a-fA-F]+")}
_PARSED_MAX = 4096  # ACL ids and addresses kept parsed
_TEXT_MAX = 64  # no address with bits is longer; keeps numbers short


def _integer(text: str, base: int = 10) -> int | None:
    return int(text, base) if _INT[base].fullmatch(text) else None


def _v4(text: str) -> bytes | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    numbers = [_integer(part) for part in parts]
    if any(number is None or not 0 <= number <= 255 for number in numbers):
        return None
    return bytes(number for number in numbers if number is not None)


def _v6(text: str) -> bytes | None:
    halves = [half.split(":") if half else [] for half in text.split("::")]
    if len(halves) > 2:
        return None
    written = sum(map(len, halves))
    if written != 8 if len(halves) == 1 else written >= 8:
        return None
    sides: list[bytes] = []
    for half in halves:
        side = b""
        for segment in half:
            number = _integer(segment, 16) if len(segment) <= 4 else None
            if number is None:
                return None
            side += (number & 0xFFFF).to_bytes(2, "big")
        sides.append(side)
    if len(sides) == 1:
        return sides[0]
    return sides[0] + bytes(16 - len(sides[0]) - len(sides[1])) + sides[1]


@lru_cache(maxsize=_PARSED_MAX)
def parse_address(text: str) -> bytes | None:
    """The 4 or 16 bytes of an address, or None if the text is not one."""
    if len(text) > _TEXT_MAX:
        return None
    return _v6(text) if ":" in text else _v4(text)


@lru_cache(maxsize=_PARSED_MAX)
def _parse_acl(acl_id: str) -> tuple[int, int, int] | None:
    """(bytes in the address, bits not compared, leading bits as a number), or None if the id is not valid."""
    text, slash, bits_text = acl_id.partition("/")
    address = parse_address(text)
    if address is None:
        return None
    width = len(address) * 8
    bits = width
    if slash:
        given = _integer(bits_text) if len(bits_text) <= _TEXT_MAX else None
        if given is None or not 0 <= given <= width:
            return None
        bits = given
    return len(address), width - bits, int.from_bytes(address, "big") >> (width - bits)


class IpScheme:
    """`ip`."""

    name = "ip"
    authenticated = False

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """The address again, whatever the data; None for a peer without a network address."""
        return self.on_connect(peer) or None

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """The peer's address; nothing for a Unix socket."""
        address = java_host(peer.address)
        return ((self.name, address),) if parse_address(address.partition("%")[0]) is not None else ()

    def valid(self, acl_id: str) -> bool:
        """An address, or an address, `/` and a number of bits that it has."""
        return _parse_acl(acl_id) is not None

    def matches(self, identity: str, acl_id: str) -> bool:
        """Whether the address lies in the network. IPv4 never matches IPv6."""
        network = _parse_acl(acl_id)
        address = parse_address(identity)
        if network is None or address is None:
            return False
        length, dropped, prefix = network
        return len(address) == length and int.from_bytes(address, "big") >> dropped == prefix
