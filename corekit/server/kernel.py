"""Joins the heart with storage and consensus: what consensus asks for is done here, without waiting.

One `Kernel` is one running server without its sockets. It implements `ConsensusHost` for consensus and `Gateway` for
client protocols, and owns the disk worker. Everything runs on the event loop; only the disk worker has a thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corekit.api import AuthScheme, Consensus, EnsembleConsensus, Observer, Peer, Recovery, Storage
from corekit.codec import ops
from corekit.errors import DamagedError
from corekit.model.sessions import first_session_id
from corekit.replica.attach import admit, attach
from corekit.replica.connection import Connection
from corekit.replica.instruments import Summary
from corekit.replica.options import ReplicaOptions
from corekit.replica.replica import Replica
from corekit.server import rules
from corekit.server.disk import DiskWorker
from corekit.server.ensemble import EnsembleSide

log = logging.getLogger("corekit.server")

_MILESTONE_ENTRIES = 10_000
_NO_SESSION = bytes(8)  # where a ConnectRequest names its session


class Kernel(EnsembleSide):
    """One server's heart, storage and consensus.

    Args:
        server_id: `myid`, or 1 for a server on its own.
        wake: an eventfd that wakes the event loop when the disk worker has something for it.
        retain_entries: log entries kept at least; 0 keeps all.
        disk_worker: what runs the storage's blocking calls.

    Attributes:
        replica: the heart.
        disk: the worker that syncs.
        alone: there are no other servers.
        rules: what consensus may ask for, and when.
        view: the server as four-letter words see it; set by the server.
        ensemble_text: what `/zookeeper/config` shows; set by the server of an ensemble.
        handshakes, revalidations: ConnectRequests so far; those that name a session.
        served: clients were served at least once.
        state_written_s: when the last step of the state was staged, in seconds since 1970; -1: never.
        batch_size, state_time: entries logged at once; time to stage one step of the state, in us.
    """

    def __init__(
        self,
        options: ReplicaOptions,
        storage: Storage,
        consensus: Consensus,
        schemes: Mapping[str, AuthScheme],
        observers: Sequence[Observer],
        *,
        server_id: int,
        retain_entries: int,
        wake: int | None = None,
        slow_sync_ms: int = 1000,
        disk_worker: type[DiskWorker] = DiskWorker,
    ) -> None:
        self.storage = storage
        self.consensus = consensus
        self.replica = Replica(options, schemes, first_session_id(server_id, self.wall_ms()), observers, server_id)
        self.feed, self.overloaded = self.replica.feed, self.replica.overloaded  # of Gateway, without a call between
        self.disk = disk_worker(storage, wake, self._disk_failed, time.perf_counter, slow_sync_ms / 1000)
        self.alone = not isinstance(consensus, EnsembleConsensus)
        self.rules = rules.ConsensusRules(consensus, alone=self.alone)
        self.view: Any = None
        self.ensemble_text: str | None = None
        self.role_changed: Callable[[str], None] = lambda mode: None
        self._epochs = (0, 0)
        self._retain_entries = retain_entries
        self._since_milestone = 0
        self._milestones: deque[int] = deque()
        self._purging = False
        self._seen_received = 0
        self._seen_proposed = 0
        self.handshakes = 0
        self.revalidations = 0
        self.served = False
        self.state_written_s = -1
        self.batch_size = Summary("sync_processor_batch_size")
        self.state_time = Summary("snapshottime", scale=1000)

    # ----------------------------------------------------------------------------------- start and stop
    def recover(self) -> Recovery:
        """Open storage and read the state. Blocks; call it in a thread before anything else.

        Raises:
            DataDirError, DamagedError: see `Storage.open`.
        """
        recovery = rules.recovered(self.storage, self.storage.open(set_aside=not self.alone))
        if recovery.damage is not None and self.alone:
            raise DamagedError(
                f"{recovery.damage}. Nothing is served from a damaged log: restore a backup, "
                "or see docs/storage.md for what can be saved"
            )
        replica = self.replica
        replica.tree.digest_on = not self.alone and replica.options.tree_digest
        self.set_time()
        if recovery.fresh:
            replica.tree.bootstrap()
            if replica.tree.digest_on:
                replica.tree.start_digest()
        else:
            pairs = rules.state_pairs(self.storage, self.storage.read_state())
            replica.image.load(pairs, recovery.state_zxid, replica.now_ms)
            replica.quotas.restore(replica.tree)
            self._read_tail(recovery)
        self._epochs = (recovery.accepted_epoch, recovery.current_epoch)
        return recovery

    def _read_tail(self, recovery: Recovery) -> None:
        at = recovery.state_zxid
        while at < recovery.last_zxid:
            entries = rules.read_entries(self.storage, at, self.storage.read_log(at, 4 * 1024 * 1024))
            if not entries:
                raise DamagedError(f"the log ends at zxid 0x{at:x}, but 0x{recovery.last_zxid:x} was expected")
            for zxid, entry in entries:
                self.replica.logged(zxid, (entry,))
            at = entries[-1][0]

    def start(self, recovery: Recovery) -> None:
        """Start the disk worker and consensus."""
        self.disk.start()
        self.replica.bind(self.consensus)
        self.rules.start(recovery)
        self.consensus.start(self, recovery, self.replica.now_ms)
        self.write_state()

    def stop(self) -> None:
        """Stop consensus; nothing may come from it any more."""
        self.consensus.stop()
        self.rules.stop()

    def finish(self) -> None:
        """Write the last of the state, sync and close storage. Blocks; consensus has stopped."""
        if self.replica.image.pending():
            self.write_state()
        self.disk.stop()
        self.storage.close()

    def _disk_failed(self, error: BaseException) -> None:
        raise error

    # -------------------------------------------------------------------------------------------- turns
    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def set_time(self) -> None:
        """Begin a turn."""
        now_ns = time.monotonic_ns()
        self.replica.set_time(now_ns // 1_000_000, self.wall_ms())
        self.replica.now_us = now_ns // 1000

    def end_turn(self) -> int:
        """End a turn: propose what was prepared, bring the stored state on when enough has changed.

        Returns:
            How many writes are under way.
        """
        replica = self.replica
        replica.flush()
        if replica.stats.received != self._seen_received:
            self._count_reads()
        if replica.state_due():
            self.write_state()
        return replica.outstanding

    def _count_reads(self) -> None:
        """Every request of this turn that was not proposed has its answer now, or waits for one that was."""
        stats = self.replica.stats
        reads = stats.received - self._seen_received - (stats.proposed - self._seen_proposed)
        self._seen_received, self._seen_proposed = stats.received, stats.proposed
        if reads > 0:
            stats.read_latency.observe_n(time.monotonic_ns() // 1000 - self.replica.now_us, reads)

    def write_state(self) -> None:
        """Stage one step of the stored state, and drop log entries that nobody needs any more."""
        began = time.perf_counter()
        zxid, puts, deletes = self.replica.image.step()
        self.storage.write_state(zxid, puts, deletes)
        self.state_written_s = self.replica.wall_ms // 1000
        self.state_time.observe(int((time.perf_counter() - began) * 1e6))
        if self._retain_entries and (len(self._milestones) - 1) * _MILESTONE_ENTRIES >= self._retain_entries:
            upto = min(self._milestones.popleft(), zxid)
            if not self._purging:
                self._purging = True
                self.disk.submit(lambda: self.storage.purge(upto), self._purged)

    def _purged(self, _: None) -> None:
        self._purging = False

    # ---------------------------------------------------------------------- ConsensusHost: for consensus
    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Log entries."""
        self.rules.persist(first_zxid, entries, last_zxid)
        self.batch_size.observe(len(entries))
        self.storage.append(first_zxid, entries, last_zxid)
        self.replica.logged(first_zxid, entries)
        self.disk.sync(lambda: self._persisted(last_zxid))
        self._since_milestone += len(entries)
        if self._since_milestone >= _MILESTONE_ENTRIES:
            self._since_milestone = 0
            self._milestones.append(last_zxid)

    def _persisted(self, upto_zxid: int) -> None:
        self.rules.durable_zxid = upto_zxid
        self.consensus.persisted(upto_zxid)

    def committed(self, upto_zxid: int) -> None:
        """Apply and answer."""
        self.rules.committed(upto_zxid, self.replica.proposing)
        self.replica.committed(upto_zxid)

    def serve(self, mode: str, next_zxid: int) -> None:
        """Serve clients."""
        replica = self.replica
        serving = replica.serving and not replica.read_only
        self.rules.serve(mode, next_zxid, proposing=replica.proposing, serving=serving, undecided=replica.undecided)
        self.served = True
        if self.ensemble_text is not None:
            self.replica.show_ensemble(self.ensemble_text.encode())
        self.replica.serve(mode, next_zxid)
        log.info("serving", extra={"mode": mode, "zxid": f"0x{self.replica.tree.zxid:x}"})
        self.role_changed(mode)

    def suspend(self, why: str) -> None:
        """Stop serving."""
        self.rules.suspend(self.replica.proposing)
        self.replica.suspend(why)
        log.info("not serving", extra={"why": why})
        self.role_changed("looking")

    def save_epochs(self, accepted: int, current: int) -> None:
        """Stage both epochs."""
        self.rules.save_epochs(accepted)
        self._epochs = (accepted, current)
        self.storage.save_epochs(accepted, current)

    def renumber(self, next_zxid: int) -> None:
        """Continue in a new epoch."""
        self.rules.renumber(next_zxid, self.replica.proposing)
        self.replica.renumber(next_zxid)

    # ---------------------------------------------------------------------- Gateway: for client protocols
    @property
    def frame_bytes_max(self) -> int:
        """jute.maxbuffer."""
        return self.replica.options.jute_max_buffer

    def connect(self, peer: Peer, woken: Callable[[Any], None]) -> Connection:
        """A client connected."""
        return self.replica.connect(peer, woken)

    def attach(self, connection: Connection, request: bytes) -> None:
        """Open or reopen a session."""
        self.handshakes += 1
        if request[16:24] != _NO_SESSION:
            self.revalidations += 1
        self.replica.stats.received += 1
        connection.received += 1
        connection.last_op = ops.CREATE_SESSION
        attach(self.replica, connection, request)

    def admit(self, connection: Connection) -> None:
        """Let it read without a session."""
        admit(self.replica, connection)

    def disconnect(self, connection: Connection) -> None:
        """A client is gone."""
        self.replica.disconnect(connection)
