"""The running server as four-letter words, metrics and the admin port see it (`codec.four_letter.ServerView`)."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

from corekit import __version__
from corekit.codec.four_letter import DEFAULT_TRACE_MASK, ConnectionRow, SessionsDump
from corekit.config import Settings
from corekit.replica.connection import Connection
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry

# What clients take for the server's release: they look for the number of ZooKeeper whose protocol is spoken.
VERSION = f"3.9.5-corekit-{__version__}, built on 2026-11-23 00:00 UTC"

# ZooKeeper's four letters for the last operation of a connection (`FinalRequestProcessor.lastOp`).
_LAST_OP = {
    0: "NA", 1: "CREA", 2: "DELE", 3: "EXIS", 4: "GETD", 5: "SETD", 6: "GETA", 7: "SETA", 8: "GETC", 9: "SYNC",
    11: "PING", 12: "GETC", 14: "MULT", 15: "CREA", 16: "RECO", 17: "CHKW", 18: "REMW", 19: "CREA", 20: "DELE",
    21: "CREA", 22: "MLTR", 101: "SETW", 103: "GETE", 104: "GETACN", 105: "STW2", 106: "ADDW", 107: "HOMI",
    -11: "CLOS",
}  # fmt: skip


class View:
    """Reads what people ask for. Nothing here is on the way of a request.

    Attributes:
        bound_ports: ports as bound, for settings of 0.
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
        return max(stats.received - self.outstanding, 0) + sum(self._replica.applier.told)

    @property
    def connection_count(self) -> int:
        """Client connections."""
        return sum(1 for c in self._replica.connections if c.session_id)

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
                last_response_ms=c.last_response_ms + wall,
                last_latency_ms=c.last_latency_ms,
                min_latency_ms=c.min_latency_ms,
                avg_latency_ms=c.total_latency_ms // count,
                max_latency_ms=c.max_latency_ms,
                expires_ms=heard + c.timeout_ms + wall,
                secure=c.peer.tls,
            )

    def sessions(self) -> SessionsDump:
        """Every session, by expiry."""
        wall = self._replica.wall_ms - self._replica.now_ms
        return SessionsDump(buckets=[(at + wall, ids) for at, ids in self._replica.sessions.buckets()])

    def ephemerals(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        """Ephemeral znodes by session."""
        return list(self._replica.tree.ephemerals.items())

    def watches(self) -> Iterator[tuple[int, Iterable[bytes]]]:
        """Data watches by connection."""
        by_watcher: Mapping[Connection, set[bytes]] = self._replica.watches.data.by_watcher
        for connection, paths in list(by_watcher.items()):
            yield connection.session_id, list(paths)

    def configuration(self) -> Mapping[str, int | str]:
        """What `conf` shows."""
        s = self._settings
        data_size, log_size = self.directory_sizes()
        return {
            "clientPort": self.client_port,
            "secureClientPort": s.secure_client_port,
            "dataDir": os.path.join(s.data_dir, "version-2"),
            "dataDirSize": data_size,
            "dataLogDir": os.path.join(s.data_log_dir or s.data_dir, "version-2"),
            "dataLogSize": log_size,
            "tickTime": s.tick_time_ms,
            "maxClientCnxns": s.max_client_cnxns,
            "minSessionTimeout": s.min_session_timeout_ms,
            "maxSessionTimeout": s.max_session_timeout_ms,
            "clientPortListenBacklog": s.client_port_listen_backlog,
            "serverId": max(s.my_id, 0),
        }

    def membership(self) -> str | None:
        """None: a server on its own."""
        return None

    def environment(self) -> Iterator[tuple[str, str]]:
        """What `envi` shows: of the JVM's facts, the nearest true ones of Python."""
        uname = platform.uname()
        yield "zookeeper.version", self.version
        yield "host.name", uname.node
        yield "java.version", platform.python_version()
        yield "java.vendor", platform.python_implementation()
        yield "java.home", sys.prefix
        yield "java.class.path", os.pathsep.join(sys.path)
        yield "java.library.path", sys.exec_prefix
        yield "java.io.tmpdir", os.environ.get("TMPDIR", "/tmp")
        yield "java.compiler", platform.python_compiler()
        yield "os.name", uname.system
        yield "os.arch", uname.machine
        yield "os.version", uname.release
        yield "user.name", os.environ.get("USER", str(os.getuid()))
        yield "user.home", os.path.expanduser("~")
        yield "user.dir", os.getcwd()

    def monitor(self) -> Iterable[tuple[str, int | float | str]]:
        """What `mntr` shows."""
        return self.registry.monitor()

    def directory_sizes(self) -> tuple[int, int]:
        """Bytes of the state and of the log."""
        usage = self._kernel.storage.usage()
        return usage.state_bytes, usage.log_bytes

    def digests(self) -> Iterable[tuple[int, int, int]]:
        """Digests of the tree as kept."""
        return ()

    def reset_statistics(self) -> None:
        """Count anew."""
        self._replica.stats.reset()
        self.registry.reset()

    def reset_connection_statistics(self) -> None:
        """Count anew for every connection."""
        for connection in self._replica.connections:
            connection.received = connection.sent = 0
            connection.total_latency_ms = connection.min_latency_ms = connection.max_latency_ms = 0
