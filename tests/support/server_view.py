"""An `AdminView` out of plain values: the in-memory twin of a server for tests of what it tells about itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from corekit.api import Identity
from corekit.codec.four_letter import DEFAULT_TRACE_MASK, ConnectionRow, SessionsDump
from corekit.model.acl import ALL
from corekit.server.admin_commands import Ensemble, Health


@dataclass
class FakeView:
    """Values first, then the methods that hand them out. Resets are counted."""

    serving: bool = True
    whitelist: frozenset[str] = frozenset({"*"})
    version: str = "3.9.5-test, built on 2026-01-01 00:00 UTC"
    mode: str = "standalone"
    latency: tuple[int, float, int] = (0, 1.2667, 4)
    packets_received: int = 25
    packets_sent: int = 24
    connection_count: int = 3
    outstanding: int = 0
    last_zxid: int = 7
    node_count: int = 10
    proposal_sizes: tuple[int, int, int] = (-1, -1, -1)
    trace_mask: int = DEFAULT_TRACE_MASK
    rows: list[ConnectionRow] = field(default_factory=list)
    session_dump: SessionsDump = field(default_factory=lambda: SessionsDump(buckets=()))
    ephemeral: dict[int, list[bytes]] = field(default_factory=dict)
    watched: list[tuple[int, list[bytes]]] = field(default_factory=list)
    settings: dict[str, int | str] = field(default_factory=dict)
    members: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    values: list[tuple[str, int | float | str]] = field(default_factory=list)
    sizes: tuple[int, int] = (67109337, 457)
    digest_log: list[tuple[int, int, int]] = field(default_factory=list)
    uptime_ms: int = 4112
    response_sizes: tuple[int, int, int] = (16, 16, 89)
    auth_failed: int = 0
    slow_fsyncs: int = 0
    state_of_health: Health = field(default_factory=lambda: Health(True, True, "standalone", True))
    members_known: Ensemble | None = None
    configuration_file: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    root_perms: dict[Identity, int] = field(default_factory=lambda: {("super", ""): ALL})
    shed: list[int] = field(default_factory=list)
    resets: int = 0
    connection_resets: int = 0

    def set_trace_mask(self, mask: int) -> None:
        self.trace_mask = mask

    def connections(self) -> Iterable[ConnectionRow]:
        return self.rows

    def sessions(self) -> SessionsDump:
        return self.session_dump

    def ephemerals(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        return self.ephemeral.items()

    def watches(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        return self.watched

    def configuration(self) -> Mapping[str, int | str]:
        return self.settings

    def membership(self) -> str | None:
        return self.members

    def environment(self) -> Iterable[tuple[str, str]]:
        return self.facts

    def monitor(self) -> Iterable[tuple[str, int | float | str]]:
        return self.values

    def directory_sizes(self) -> tuple[int, int]:
        return self.sizes

    def digests(self) -> Iterable[tuple[int, int, int]]:
        return self.digest_log

    def reset_statistics(self) -> None:
        self.resets += 1

    def reset_connection_statistics(self) -> None:
        self.connection_resets += 1

    def health(self) -> Health:
        return self.state_of_health

    def ensemble(self) -> Ensemble | None:
        return self.members_known

    def initial_configuration(self) -> str | None:
        return self.configuration_file

    def last_snapshot(self) -> tuple[int, int]:
        return 0x100000007, 1795471752

    def system_properties(self) -> Mapping[str, str]:
        return self.properties

    def root_allows(self, identities: Iterable[Identity], perm: int) -> bool:
        return any(self.root_perms.get(identity, 0) & perm for identity in identities)

    def shed_connections(self, percentage: int) -> int:
        self.shed.append(percentage)
        return 3
