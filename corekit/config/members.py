"""The members of an ensemble as `server.N`, `group.N` and `weight.N` lines state them.

Source: ZooKeeper `QuorumPeer.QuorumServer` and `QuorumHierarchical`. Names are kept as written: they are resolved at
each dial, never here. Not here: who is leader, quorum arithmetic (the consensus plugin).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FORM = "host:quorumPort:electionPort[:participant|observer][;[address:]clientPort[;[address:]secureClientPort]]"

PARTICIPANT = "participant"
OBSERVER = "observer"


@dataclass(frozen=True, slots=True)
class Address:
    """Where one server listens for its peers. An IPv6 host has no brackets here."""

    host: str
    quorum_port: int
    election_port: int


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One member.

    Attributes:
        sid: its number, N of `server.N`.
        addresses: at least one; several if the line joins them with `|`.
        role: `participant` or `observer`.
        client_host, client_port: where its clients connect; "" and -1 if the line does not say.
        secure_client_host, secure_client_port: the same for TLS.
        line: the value of the line as it was written.
    """

    sid: int
    addresses: tuple[Address, ...]
    role: str = PARTICIPANT
    client_host: str = ""
    client_port: int = -1
    secure_client_host: str = ""
    secure_client_port: int = -1
    line: str = ""

    @property
    def address(self) -> Address:
        """The first address."""
        return self.addresses[0]

    @property
    def voting(self) -> bool:
        """Whether it takes part in votes."""
        return self.role == PARTICIPANT

    def text(self) -> str:
        """The value as ZooKeeper writes it into `/zookeeper/config`: role and client address spelt out."""
        peers = "|".join(f"{bracket(a.host)}:{a.quorum_port}:{a.election_port}" for a in self.addresses)
        value = f"{peers}:{self.role}"
        if self.client_port >= 0 or self.secure_client_port >= 0:
            value += ";" + _client_text(self.client_host, self.client_port)
        if self.secure_client_port >= 0:
            value += ";" + _client_text(self.secure_client_host, self.secure_client_port)
        return value


def bracket(host: str) -> str:
    """`host` as it stands before a colon: an IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host else host


def _client_text(host: str, port: int) -> str:
    return f"{bracket(host or '0.0.0.0')}:{port}" if port >= 0 else ""


def _split(value: str) -> list[str]:
    """Parts between colons; an address in brackets is one part."""
    parts = re.findall(r"(?:^|(?<=:))(?:\[([^\]]*)\]|([^:\[\]]*))(?=:|$)", value)
    if value.count(":") - sum(inner.count(":") for inner, _ in parts) != len(parts) - 1:
        raise ValueError(value)
    return [inner or outer for inner, outer in parts]


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(text)
    return int(text)


def _client(value: str) -> tuple[str, int]:
    value = value.strip()
    if not value:
        return "", -1
    parts = _split(value)
    if len(parts) > 2:
        raise ValueError(value)
    return (parts[0] if len(parts) == 2 else ""), _port(parts[-1])


def parse_server(sid: int, value: str) -> ServerSpec:
    """The member that `server.<sid>=<value>` describes.

    Raises:
        ValueError: the value has another form than `FORM`, or uses one port twice.
    """
    peers, *clients = value.strip().split(";")
    if len(clients) > 2:
        raise ValueError(value)
    addresses: list[Address] = []
    roles: set[str] = set()
    for peer in peers.split("|"):
        parts = _split(peer.strip())
        if len(parts) not in (3, 4) or not parts[0]:
            raise ValueError(value)
        if len(parts) == 4:
            roles.add(parts[3].strip().lower())
        address = Address(parts[0], _port(parts[1]), _port(parts[2]))
        if address.quorum_port == address.election_port:
            raise ValueError("quorum port and election port must differ")
        addresses.append(address)
    role = roles.pop() if roles else PARTICIPANT
    if roles or role not in (PARTICIPANT, OBSERVER):
        raise ValueError(value)
    client_host, client_port = _client(clients[0]) if clients else ("", -1)
    secure_host, secure_port = _client(clients[1]) if len(clients) == 2 else ("", -1)
    for address in addresses:
        if client_port in (address.quorum_port, address.election_port) and client_host in ("", address.host):
            raise ValueError("client port must differ from quorum port and election port")
    return ServerSpec(sid, tuple(addresses), role, client_host, client_port, secure_host, secure_port, value.strip())


def parse_group(value: str) -> frozenset[int]:
    """The sids of `group.N=1:2:3`.

    Raises:
        ValueError: the value is not a list of numbers with colons between.
    """
    return frozenset(int(part) for part in value.strip().split(":"))


def parse_weight(value: str) -> int:
    """How much the vote of a server counts.

    Raises:
        ValueError: the value is not a number, or is negative.
    """
    weight = int(value)
    if weight < 0:
        raise ValueError(value)
    return weight
