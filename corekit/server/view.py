"""The running server as four-letter words, metrics and the admin port see it (`ServerView`, `AdminView`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from corekit import __version__
from corekit.api import Identity
from corekit.codec.four_letter import DEFAULT_TRACE_MASK, ConnectionRow, SessionsDump
from corekit.config import Settings
from corekit.config.members import ServerSpec, bracket
from corekit.model import paths
from corekit.model.acl import OPEN_KEY, allows
from corekit.model.digest import VERSION as DIGEST_VERSION
from corekit.model.sessions import SessionTracker
from corekit.replica.connection import Connection
from corekit.server.admin_commands import Ensemble, Health, Member
from corekit.server.environment import environment, system_properties
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry

# What clients take for the server's release: they look for the number of ZooKeeper whose protocol is spoken.
VERSION = f"3.9.5-corekit-{__version__}, built on 2026-11-23 00:00 UTC"

# ZooKeeper's four letters for the last operation of a connection (`FinalRequestProcessor.lastOp`).
_LAST_OP = {
    -10: "SESS",
    0: "NA", 1: "CREA", 2: "DELE", 3: "EXIS", 4: "GETD", 5: "SETD", 6: "GETA", 7: "SETA", 8: "GETC", 9: "SYNC",
    11: "PING", 12: "GETC", 14: "MULT", 15: "CREA", 16: "RECO", 17: "CHKW", 18: "REMW", 19: "CREA", 20: "DELE",
    21: "CREA", 22: "MLTR", 101: "SETW", 103: "GETE", 104: "GETACN", 105: "STW2", 106: "ADDW", 107: "HOMI",
    -11: "CLOS",
}  # fmt: skip


class View:
    """Reads what people ask for. Nothing here is on the way of a request.

    Attributes:
        client_port: as bound, for a setting of 0.
        monitor_lines: gives the lines of `mntr`; set by the server.
        initial_text: text of the configuration file, set by the server.
        shed: closes a share of the client connections; set by the server.
    """

    def __init__(self, kernel: Kernel, settings: Settings, registry: Registry) -> None:
        self._kernel = kernel
        self._replica = kernel.replica
        self._settings = settings
        self.registry = registry
        self.trace_mask = DEFAULT_TRACE_MASK
        self.version = VERSION
        self.started = time.monotonic()
        self.client_port = settings.client_port
        self.proposal_sizes = (-1, -1, -1)
        self.response_sizes = (-1, -1, -1)
        self.monitor_lines: Callable[[], Iterable[tuple[str, int | float | str]]] = registry.monitor
        self.initial_text: str | None = None
        self.shed: Callable[[int], int] = lambda percentage: 0

    @property
    def whitelist(self) -> frozenset[str]:
        """Words that are answered."""
        return self._settings.four_letter_words

    @property
    def serving(self) -> bool:
        """Clients are served."""
        return self._replica.serving

    @property
    def mode(self) -> str:
        """ZooKeeper's word for the role."""
        return self._replica.mode

    @property
    def latency(self) -> tuple[int, float, int]:
        """Smallest, mean, largest, in ms."""
        return self._replica.stats.latency()

    @property
    def packets_received(self) -> int:
        """Since the last reset."""
        return self._replica.stats.received

    @property
    def packets_sent(self) -> int:
        """Since the last reset: every request that was received and is not outstanding, and every event."""
        stats = self._replica.stats
        return max(stats.received - self.outstanding, 0) + self._replica.applier.told

    @property
    def connection_count(self) -> int:
        """Client connections."""
        return len(self._replica.connections)

    @property
    def outstanding(self) -> int:
        """Requests taken in and not answered."""
        return self._replica.outstanding

    @property
    def last_zxid(self) -> int:
        """The last transaction applied."""
        return self._replica.tree.zxid

    @property
    def node_count(self) -> int:
        """Znodes as ZooKeeper counts them."""
        return self._replica.tree.node_count()

    def set_trace_mask(self, mask: int) -> None:
        """Remember another mask."""
        self.trace_mask = mask

    def connections(self) -> Iterator[ConnectionRow]:
        """Every client connection."""
        wall = self._replica.wall_ms - self._replica.now_ms
        for c in list(self._replica.connections):
            heard = c.session.heard_ms if c.session is not None else c.established_ms
            count = max(c.received, 1)
            yield ConnectionRow(
                host=c.peer.address,
                port=c.peer.port,
                interest_ops=1,
                outstanding=c.submitted - c.done + len(c.held),
                received=c.received,
                sent=c.sent + max(c.received - (c.submitted - c.done) - len(c.held), 0),
                session_id=c.session_id,
                last_op=_LAST_OP.get(c.last_op, "NA"),
                established_ms=c.established_ms + wall,
                timeout_ms=c.timeout_ms,
                last_cxid=c.last_xid if c.received else -1,
                last_zxid=c.last_zxid if c.received else -1,
                last_response_ms=c.last_response_ms + wall if c.received else 0,
                last_latency_ms=c.last_latency_ms,
                min_latency_ms=c.min_latency_ms,
                avg_latency_ms=c.total_latency_ms // count,
                max_latency_ms=c.max_latency_ms,
                expires_ms=heard + c.timeout_ms + wall,
                secure=c.peer.tls,
            )

    def sessions(self) -> SessionsDump:
        """Every session: by expiry where this server expires it, else its timeout."""
        replica = self._replica
        wall = replica.wall_ms - replica.now_ms

        def buckets(tracker: SessionTracker) -> list[tuple[int, list[int]]]:
            return [(at + wall, ids) for at, ids in tracker.buckets()]

        local = buckets(replica.local.tracker) if replica.local.enabled else None
        if replica.leading:
            return SessionsDump(buckets(replica.sessions), local=local)
        timeouts = [(session.id, session.timeout_ms) for session in replica.sessions.sessions.values()]
        return SessionsDump(timeouts=timeouts, local=local)

    def ephemerals(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        """Ephemeral znodes by session."""
        return list(self._replica.tree.ephemerals.items())

    def watches(self) -> Iterator[tuple[int, Iterable[bytes]]]:
        """Data watches by connection."""
        by_watcher: Mapping[Connection, set[bytes]] = self._replica.watches.data.by_watcher
        for connection, watched in list(by_watcher.items()):
            yield connection.session_id, list(watched)

    def configuration(self) -> Mapping[str, int | str]:
        """What `conf` shows."""
        s = self._settings
        data_size, log_size = self.directory_sizes()
        settings: dict[str, int | str] = {
            "clientPort": self.client_port,
            "secureClientPort": s.secure_client_port,
            "dataDir": s.data_dir,
            "dataDirSize": data_size,
            "dataLogDir": s.data_log_dir or s.data_dir,
            "dataLogSize": log_size,
            "tickTime": s.tick_time_ms,
            "maxClientCnxns": s.max_client_cnxns,
            "minSessionTimeout": s.min_session_timeout_ms,
            "maxSessionTimeout": s.max_session_timeout_ms,
            "clientPortListenBacklog": s.client_port_listen_backlog,
            "serverId": max(s.my_id, 0),
        }
        own = next((spec for spec in s.servers if spec.sid == s.my_id), None)
        if s.distributed and own is not None:
            settings |= {
                "initLimit": s.init_limit,
                "syncLimit": s.sync_limit,
                "electionAlg": 3,
                "electionPort": "|".join(str(at.election_port) for at in own.addresses),
                "quorumPort": "|".join(str(at.quorum_port) for at in own.addresses),
                "peerType": 0 if own.voting else 1,
            }
        return settings

    def membership(self) -> str | None:
        """The ensemble as `/zookeeper/config` states it; None on a server of its own."""
        s = self._settings
        if not s.distributed:
            return None
        lines = [f"server.{spec.sid}={spec.text()}" for spec in s.servers]
        return "\n".join((*lines, f"version={s.config_version:x}"))

    def environment(self) -> list[tuple[str, str]]:
        """What `envi` shows."""
        return environment(self.version)

    def monitor(self) -> Iterable[tuple[str, int | float | str]]:
        """What `mntr` shows."""
        return self.monitor_lines()

    def directory_sizes(self) -> tuple[int, int]:
        """Bytes of the state and of the log."""
        usage = self._kernel.storage.usage()
        return usage.state_bytes, usage.log_bytes

    def digests(self) -> Iterable[tuple[int, int, int]]:
        """Digests of the tree as kept."""
        return [(zxid, digest, DIGEST_VERSION) for zxid, digest in self._replica.digests]

    def reset_statistics(self) -> None:
        """Count anew."""
        self._replica.stats.reset()
        self.registry.reset()

    def reset_connection_statistics(self) -> None:
        """Count anew for every connection."""
        for connection in self._replica.connections:
            connection.received = connection.sent = connection.last_op = 0
            connection.total_latency_ms = connection.min_latency_ms = connection.max_latency_ms = 0

    # ---------------------------------------------------------------------------- only for the admin port
    @property
    def uptime_ms(self) -> int:
        """Since the process began."""
        return int((time.monotonic() - self.started) * 1000)

    @property
    def auth_failed(self) -> int:
        """`auth` packets that proved nothing."""
        return self._replica.stats.auth_failed

    @property
    def slow_fsyncs(self) -> int:
        """fsyncs that were warned of."""
        return self._kernel.disk.slow_syncs

    @property
    def disk_free_bytes(self) -> int | None:
        """Free space where the data is; None if it is not known."""
        free = self._kernel.storage.usage().free_bytes
        return free if free >= 0 else None

    def health(self) -> Health:
        """For the probes. A failed disk stops the process, so a process that answers has none."""
        replica = self._replica
        status = self._kernel.consensus.status()
        return Health(
            started=self._kernel.served,
            serving=replica.serving,
            mode=replica.mode,
            has_leader=status.mode == "standalone" or status.leader is not None,
            writes_refused=replica.refuse_writes,
        )

    def ensemble(self) -> Ensemble | None:
        """None on a server of its own."""
        s = self._settings
        if not s.distributed:
            return None
        status = self._kernel.consensus.status()
        specs = {spec.sid: spec for spec in s.servers}
        members = {
            spec.sid: Member(
                [f"{bracket(at.host)}:{at.quorum_port}" for at in spec.addresses],
                [f"{bracket(at.host)}:{at.election_port}" for at in spec.addresses],
                _client_address(spec),
                spec.role,
            )
            for spec in s.servers
        }
        own, leader = members.get(s.my_id), specs.get(status.leader if status.leader is not None else -1)
        return Ensemble(
            server_id=s.my_id,
            is_leader=status.mode == "leader",
            leader_id=status.leader if status.leader is not None else -1,
            leader_ip=leader.address.host if leader is not None else "",
            voting=s.my_id in specs and specs[s.my_id].voting,
            quorum_address=own.server_addresses[0] if own is not None else "",
            election_address=own.election_addresses[0] if own is not None else "",
            client_address=own.client_address if own is not None else "",
            zab_state=str(status.details.get("peer_state", "")).rpartition(" - ")[2],
            members={sid: member for sid, member in members.items() if specs[sid].voting},
        )

    def initial_configuration(self) -> str | None:
        """The configuration file with its secrets hidden."""
        return self.initial_text

    def last_snapshot(self) -> tuple[int, int]:
        """What the stored state is of, and when its last step was staged."""
        return self._replica.image.zxid, self._kernel.state_written_s

    def system_properties(self) -> Mapping[str, str]:
        """Facts of Python and the platform."""
        return system_properties(self.version)

    def root_allows(self, identities: Iterable[Identity], perm: int) -> bool:
        """Whether one of the identities has a permission bit on `/`."""
        tree = self._replica.tree
        acl = tree.acls.acl(tree.acl_keys.get(paths.ROOT, OPEN_KEY))
        return self._settings.skip_acl or allows(acl, perm, identities, self._replica.schemes)

    def shed_connections(self, percentage: int) -> int:
        """Close about this share of the client connections."""
        return self.shed(percentage)


def _client_address(spec: ServerSpec) -> str:
    return f"{bracket(spec.client_host or '0.0.0.0')}:{spec.client_port}" if spec.client_port >= 0 else ""
