"""Which metrics a server has: names of ZooKeeper's `ServerMetrics` and gauges that are true of this server, and where
each comes from.

A name that describes machinery which this server does not have (thread pools, request throttling, response caches,
netty) is left out, so that a 0 always means that nothing happened. What consensus knows (`ConsensusStatus.details`) is
added when it is asked for.

Not here: the forms of output (`metrics.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

import trio

from corekit.model import paths
from corekit.model.quota import parse_track
from corekit.model.stat import data_of
from corekit.replica.instruments import Summary, Value
from corekit.replica.replica import Replica
from corekit.server.admission import Admission
from corekit.server.client_port import FastPort
from corekit.server.environment import open_files, open_files_max
from corekit.server.kernel import Kernel
from corekit.server.metrics import Number, Registry
from corekit.server.view import View

log = logging.getLogger("corekit.server")

ROTATE_S = 60  # how often the window of the Prometheus quantiles moves


class ServerMetrics:
    """Declares everything in a registry.

    Attributes:
        stalls: how much longer than asked the event loop slept, in us (`jvm_pause_time_ms`).
        started: time to read state and log at start-up, in us (`dbinittime`).
        election_time: of the elections that this server came out of, in ms.
    """

    def __init__(self, registry: Registry, kernel: Kernel, view: View, admission: Admission, port: FastPort) -> None:
        self._registry = registry
        self._kernel = kernel
        self.stalls = Summary("jvm_pause_time_ms", advanced=True, scale=1000)
        self.started = Summary("dbinittime", scale=1000)
        self.election_time = Summary("election_time")
        self._gauges(registry, view, kernel.replica)
        self._counters(registry, admission, port)
        stats = kernel.replica.stats
        registry.add(stats.read_latency, stats.update_latency, kernel.disk.sync_time)
        registry.add(kernel.batch_size, kernel.state_time, self.stalls, self.started, self.election_time)
        registry.add(*kernel.replica.applier.fired.values())
        registry.gauge_set(
            "quota_count_limit_per_namespace", partial(self._quota, b"limits", "count", "countHardLimit")
        )
        registry.gauge_set("quota_bytes_limit_per_namespace", partial(self._quota, b"limits", "bytes", "byteHardLimit"))
        registry.gauge_set("quota_count_usage_per_namespace", partial(self._quota, b"stats", "count"))
        registry.gauge_set("quota_bytes_usage_per_namespace", partial(self._quota, b"stats", "bytes"))
        registry.gauge_set("quota_exceeded_error_per_namespace", lambda: dict(self._kernel.replica.quotas.refused))

    @staticmethod
    def _gauges(registry: Registry, view: View, replica: Replica) -> None:
        tree, stats, sessions = replica.tree, replica.stats, replica.sessions.sessions
        gauges: dict[str, Callable[[], Number | None]] = {
            "avg_latency": lambda: view.latency[1],
            "max_latency": lambda: view.latency[2],
            "min_latency": lambda: view.latency[0],
            "packets_received": lambda: view.packets_received,
            "packets_sent": lambda: view.packets_sent,
            "num_alive_connections": lambda: view.connection_count,
            "outstanding_requests": lambda: view.outstanding,
            "uptime": lambda: view.uptime_ms,
            "znode_count": tree.node_count,
            "watch_count": lambda: len(replica.watches),
            "ephemerals_count": lambda: sum(map(len, tree.ephemerals.values())),
            "approximate_data_size": lambda: tree.data_bytes,
            "global_sessions": lambda: len(sessions),
            "local_sessions": lambda: len(replica.local.tracker.sessions),
            "open_file_descriptor_count": open_files,
            "max_file_descriptor_count": open_files_max,
            "auth_failed_count": lambda: stats.auth_failed,
            # Not ZooKeeper's: 1 while writes are refused because the disk is almost full.
            "writes_refused": lambda: int(replica.refuse_writes is not None),
            "disk_free_bytes": lambda: view.disk_free_bytes,
        }
        for name, value in gauges.items():
            registry.gauge(name, value)

    def _counters(self, registry: Registry, admission: Admission, port: FastPort) -> None:
        kernel = self._kernel
        stats = kernel.replica.stats
        sources: dict[str, Callable[[], int]] = {
            "connection_request_count": lambda: kernel.handshakes,
            "connection_revalidate_count": lambda: kernel.revalidations,
            "connection_rejected": lambda: admission.rejected,
            "connection_drop_count": lambda: port.dropped,
            "sessionless_connections_expired": lambda: admission.handshakes_expired,
            "stale_sessions_expired": lambda: stats.sessions_expired,
            "digest_mismatches_count": lambda: stats.digest_mismatches,
            "proposal_count": lambda: stats.proposed,
            "bytes_received_count": lambda: port.bytes_received,
            "response_bytes": lambda: port.bytes_sent,
            "fsync_threshold_exceed_count": lambda: kernel.disk.slow_syncs,
        }
        for name, source in sources.items():
            registry.sampled_counter(name, source)

    def _quota(self, node: bytes, key: str, hard: str = "") -> dict[str, Number]:
        """Limits or usage by namespace, the first part of a path (`QuotaMetricsUtils`)."""
        tree = self._kernel.replica.tree
        values: dict[str, Number] = {}
        for path in self._kernel.replica.quotas.limited:
            record = tree.nodes.get(paths.QUOTA + path + b"/zookeeper_" + node)
            if record is None:
                continue
            track = parse_track(data_of(record))
            value = track.get(hard, -1)
            namespace = path[1:].partition(b"/")[0].decode("utf-8", "replace")
            values[namespace] = values.get(namespace, 0) + (value if value > -1 else track.get(key, -1))
        return values

    def monitor(self) -> Iterator[tuple[str, Value]]:
        """The lines of `mntr` after version and state: of consensus, then of the registry."""
        details = self._kernel.consensus.status().details
        yield from details.items()
        if "synced_followers" in details:  # the name before 3.6, which many dashboards still ask for
            yield "followers", details["synced_followers"]
        for name, value in self._registry.monitor():
            if name not in details:
                yield name, value

    async def rotate(self) -> None:
        """Move the quantile window once a minute. A task."""
        while True:
            await trio.sleep(ROTATE_S)
            self._registry.rotate()

    async def watch_stalls(self, every_ms: int, info_ms: int, warn_ms: int) -> None:
        """Measure how long the event loop is held up, and log long stalls (`JvmPauseMonitor`). A task."""
        while True:
            began = time.perf_counter()
            await trio.sleep(every_ms / 1000)
            extra_us = int((time.perf_counter() - began) * 1e6) - every_ms * 1000
            self.stalls.observe(extra_us)
            extra_ms = extra_us // 1000
            if extra_ms > info_ms:
                level = logging.WARNING if extra_ms > warn_ms else logging.INFO
                log.log(level, "the event loop was held up", extra={"ms": extra_ms})
