"""A running server: every task, in one nursery. What ends one ends all: a half-alive server is worse than none.

Start order: storage is opened and read (in a thread), listeners are bound, consensus starts, then clients are
accepted. Stop order: accept no more, finish the writes in flight (bounded), write the last of the state, sync, close.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from corekit.api import ClientProtocol, EnsembleConsensus
from corekit.config import Loaded, Settings
from corekit.errors import EXIT_DISK, EXIT_OK, EXIT_UNEXPECTED, ContractError, StorageError, UserError
from corekit.replica.options import ReplicaOptions
from corekit.server import rules
from corekit.server.admission import Admission
from corekit.server.blame import culprit
from corekit.server.client_port import FastPort, plain_socket
from corekit.server.disk import DiskWorker
from corekit.server.kernel import Kernel
from corekit.server.members import MemberAddresses
from corekit.server.memory import few_arenas, give_back
from corekit.server.metrics import Registry
from corekit.server.operations import Operations
from corekit.server.peer_link import PeerLinks, plain_of
from corekit.server.streams import serve_stream
from corekit.server.view import View

if TYPE_CHECKING:
    from corekit.hooks import Parts, PluginInfo, Service

T = TypeVar("T")
log = logging.getLogger("corekit.server")

_TICK_S = 0.05
_CALM_TICK_S = 0.025  # in an ensemble, where a lost leader should be noticed soon
_LOOKING_TICK_S = 0.01  # elections count in tens of milliseconds
_FINISH_S = 1.5  # how long writes in flight are waited for when the server stops
_FINISH_TRIES = 300
_STATE_EVERY_S = 1.0
_SPACE_EVERY_S = 1.0
_GIVE_BACK_EVERY_S = 10.0
_READ_ONLY_AFTER_MS = 2000  # as ZooKeeper, but at least a tick


def replica_options(s: Settings) -> ReplicaOptions:
    """The part of the settings that decides how the heart behaves."""
    return ReplicaOptions(
        tick_time_ms=s.tick_time_ms,
        min_session_timeout_ms=s.min_session_timeout_ms,
        max_session_timeout_ms=s.max_session_timeout_ms,
        jute_max_buffer=s.jute_max_buffer,
        global_outstanding_limit=s.global_outstanding_limit,
        skip_acl=s.skip_acl,
        extended_types=s.extended_types_enabled,
        emulate_353_ttl=s.emulate_353_ttl_nodes,
        enforce_quota=s.enforce_quota,
        enforced_schemes=frozenset(s.enforce_auth_schemes if s.enforce_auth_enabled else ()),
        close_session_paths=s.close_session_txn_enabled,
        container_never_used_ms=s.container_max_never_used_interval_ms,
        leader_serves=s.leader_serves,
        tree_digest=s.tree_digest_enabled,
        local_sessions=s.local_sessions_enabled and s.distributed,
        local_sessions_upgrading=s.local_sessions_upgrading_enabled,
    )


@dataclass(frozen=True)
class Started:
    """Where a server is, once it serves.

    Attributes:
        listens: addresses for clients, as the transport describes them.
        admin: URLs of the admin and metrics ports.
        data_dir: where the data is, absolute.
        plugins: names of those in use.
    """

    listens: list[str]
    admin: list[str]
    data_dir: str
    plugins: list[str]


class Server:
    """One server process's tasks.

    Args:
        loaded: effective settings.
        parts: the plugins in use.
        tell: is told where the server is, once it serves.
    """

    disk_worker = DiskWorker
    port_class = FastPort

    def __init__(self, loaded: Loaded, parts: Parts, tell: Callable[[Started], None]) -> None:
        self.settings = loaded.settings
        self.parts = parts
        self._tell = tell
        s = self.settings
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        retain = s.snap_count * s.autopurge_snap_retain_count if s.autopurge_interval_ms else 0
        self.kernel = Kernel(
            replica_options(s),
            parts.storage,
            parts.consensus,
            parts.auth_schemes,
            parts.observers,
            server_id=s.my_id if s.my_id >= 0 else 1,
            retain_entries=retain,
            wake=self._wake_fd,
            slow_sync_ms=s.fsync_warning_threshold_ms,
            disk_worker=self.disk_worker,
        )
        self.registry = Registry()
        self.view = View(self.kernel, s, self.registry)
        self.kernel.view = self.view
        self.admission = Admission(s.max_client_cnxns, s.max_cnxns, s.sessionless_timeout_ms)
        self.port = self.port_class(self._begin_turn, self._end_turn, self.admission, alone=self.kernel.alone)
        self.links: PeerLinks | None = None
        self.operations = Operations(
            loaded, parts, self.kernel, self.view, self.registry, self.admission, self.port, self.turn
        )
        self.kernel.role_changed = self._role_changed
        self._stopping = trio.Event()
        self._why = ""
        self._gave_back_at = 0
        self._looking_since_ms: int | None = None
        self._told_parting = 0
        self._peer_listeners: list[Any] = []
        self._where_data = os.path.abspath(s.data_dir)

    def _role_changed(self, mode: str) -> None:
        status = self.kernel.consensus.status()
        if mode in ("leader", "follower", "observer"):
            self.operations.metrics.election_time.observe(int(status.details.get("election_time", 0)))
        self.parts.events.role_changed(mode, status.epoch)

    def _begin_turn(self) -> None:
        self.kernel.set_time()
        self.admission.now_ms = self.kernel.replica.now_ms

        if self.links is not None:
            self.kernel.consensus.tick(self.kernel.replica.now_ms)

    def _end_turn(self) -> int:
        kernel = self.kernel
        kernel.disk.hold()
        writing = kernel.end_turn()
        if self.links is not None:
            self.links.flush()
        kernel.disk.release()  # not before: the others must write what was proposed as well, and wait for it
        return writing

    def _disk_ready(self, _: int) -> None:
        os.eventfd_read(self._wake_fd)
        self.kernel.disk.completed()

    # --------------------------------------------------------------------------------------------- run
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`.

        Raises:
            UserError: the data directory or a port cannot be used.
            StorageError: a write or sync failed.
        """
        began = time.perf_counter()
        with self._own_process():
            recovery = await self._blocking(self.kernel.recover)
        self.operations.metrics.started.observe(int((time.perf_counter() - began) * 1e6))
        async with trio.open_nursery() as nursery:
            where = await self._listen(nursery)
            self.port.watch(self._wake_fd, self._disk_ready)
            await self._open_links(nursery)
            self.kernel.set_time()
            self.kernel.start(recovery)
            await nursery.start(self.operations.run)
            nursery.start_soon(self.port.run)
            nursery.start_soon(self._tick)
            nursery.start_soon(self._every, _STATE_EVERY_S, self._keep_state)
            nursery.start_soon(self._every, _SPACE_EVERY_S, self._watch_space)
            nursery.start_soon(self._every, _SPACE_EVERY_S, self._tell_of_quotas)
            nursery.start_soon(self._every, _GIVE_BACK_EVERY_S, self._give_back)
            nursery.start_soon(self._collect)
            for service in self.parts.services:
                nursery.start_soon(self._serve, service)
            log.info(
                "started",
                extra={
                    "seconds": round(time.perf_counter() - began, 3),
                    "znodes": self.view.node_count,
                    "zxid": f"0x{self.view.last_zxid:x}",
                },
            )
            names = sorted(info.name for info in self.parts.infos)
            self._tell(Started(where, list(self.operations.where), self._where_data, names))
            self.parts.events.server_started(where)
            task_status.started()
            await self._stopping.wait()
            self.parts.events.server_stopping(self._why)
            await self._finish_writes()
            nursery.cancel_scope.cancel()
        self.kernel.stop()
        if self.links is not None:
            self.links.close_all()
        for listener in self._peer_listeners:
            listener.plain.close()
        self.port.close()
        with trio.CancelScope(shield=True):
            await self._blocking(self.kernel.finish)
        os.close(self._wake_fd)

    # What the simulator does otherwise
    async def _blocking(self, work: Callable[[], T]) -> T:
        """Run something that blocks."""
        return await trio.to_thread.run_sync(work)

    async def _sleep(self, seconds: float) -> None:
        """Let time pass between two looks at the clock."""
        await trio.sleep(seconds)

    @contextmanager
    def _own_process(self) -> Iterator[None]:
        """Around the recovery: the process is the server's own, tune it."""
        few_arenas()
        gc.collect()
        gc.disable()  # the collector would look at all of the tree again and again, and find nothing
        try:
            yield
            gc.freeze()  # what was read is not garbage: keep the collector away from it
            gc.set_threshold(50_000, 20, 1000)
        finally:
            gc.enable()

    def stop(self, why: str) -> None:
        """Ask the server to stop in good order."""
        self._why = why
        self._stopping.set()

    async def _listen(self, nursery: trio.Nursery) -> list[str]:
        where = []
        transport = self.parts.transport
        for protocol in self.parts.protocols:
            protocol.bind(self.kernel)
            for address, port, tls in rules.wanted_listeners(protocol, protocol.listeners()):
                backlog = self.settings.client_port_listen_backlog
                found = await transport.listen(address, port, tls=tls, backlog=backlog)
                for listener in rules.listeners(transport, found):
                    text = transport.describe(listener)
                    where.append(text)
                    if port == self.settings.client_port and protocol.name == "zookeeper":
                        bound = text.rpartition(":")[2]
                        self.view.client_port = int(bound) if bound.isdecimal() else port
                    plain = plain_socket(listener)
                    if plain is not None:
                        self.port.listen(plain, protocol)
                    else:
                        nursery.start_soon(self._serve_listener, listener, protocol)
        return where

    async def _open_links(self, nursery: trio.Nursery) -> None:
        """In an ensemble: listen for the other servers."""
        consensus, s = self.kernel.consensus, self.settings
        if not isinstance(consensus, EnsembleConsensus):
            return
        others = (address.host for spec in s.servers if spec.sid != s.my_id for address in spec.addresses)
        self.links = self.kernel.links = PeerLinks(
            self.port,
            consensus,
            nursery,
            self.turn,
            connect_timeout_ms=s.cnx_timeout_ms,
            keep_alive=s.tcp_keep_alive,
            members=MemberAddresses(others) if s.quorum_members_only else None,
        )
        self.kernel.ensemble_text = self.view.membership()
        mine = next(spec for spec in s.servers if spec.sid == s.my_id)
        for address in mine.addresses:
            host = "" if s.quorum_listen_on_all_ips else address.host
            for kind, port in (("election", address.election_port), ("quorum", address.quorum_port)):
                try:
                    listeners = await self.parts.transport.listen(host, port)
                except UserError as error:
                    cause = error.__context__
                    why = cause.strerror if isinstance(cause, OSError) else str(error)
                    raise UserError(
                        f"the {kind} port of server.{s.my_id}, {address.host}:{port}, cannot be listened on: {why}. "
                        f"Check that this is server.{s.my_id} (myid), and what uses the port",
                        error.exit_code,
                    ) from None
                for listener in listeners:
                    self.links.listen(plain_of(listener), kind)
                    self._peer_listeners.append(listener)

    async def _serve_listener(self, listener: Any, protocol: ClientProtocol) -> None:
        async def serve(stream: Any) -> None:
            await serve_stream(self, stream, protocol)

        await trio.serve_listeners(serve, [listener])

    def turn(self, work: Callable[[], object]) -> None:
        """Run something that changes state as a turn of its own."""
        self._begin_turn()
        work()
        self._end_turn()
        self.port.send_woken()

    # ------------------------------------------------------------------------------------------- timers
    async def _serve(self, service: Service) -> None:
        running: object = service.run(self.kernel)
        if not isinstance(running, Awaitable):
            raise ContractError(f"run of the service {service.name} is not async", service)
        await running

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await self._sleep(seconds)
            work()

    async def _tick(self) -> None:
        consensus, replica = self.kernel.consensus, self.kernel.replica
        next_expiry = 0
        while True:
            await self._sleep(_TICK_S if self.links is None else _CALM_TICK_S if replica.serving else _LOOKING_TICK_S)
            self._begin_turn()
            consensus.tick(replica.now_ms)
            if replica.now_ms >= next_expiry:
                tick = self.settings.tick_time_ms
                next_expiry = (replica.now_ms // tick + 1) * tick
                replica.tick()
            for session in self.admission.overdue():
                self.port.close_session(session, "no session within the time allowed")
            self.port.poll_listeners()
            if self.links is not None and self.settings.read_only_mode_enabled:
                self._without_quorum()
            self._end_turn()
            self.port.send_woken()
            self._log_failures()

    def _without_quorum(self) -> None:
        """With `readonlymode.enabled`: serve reads once there has been no quorum for a while."""
        replica = self.kernel.replica
        if replica.serving:
            self._looking_since_ms = None
        elif self._looking_since_ms is None:
            self._looking_since_ms = replica.now_ms
        elif replica.now_ms - self._looking_since_ms >= max(_READ_ONLY_AFTER_MS, self.settings.tick_time_ms):
            replica.serve_read_only()
            limit = "" if replica.local.enabled else "; but no session is opened, as localSessionsEnabled is off"
            log.warning(f"no quorum: serving reads to clients that ask for read-only mode{limit}")
            self._role_changed("read-only")

    def _log_failures(self) -> None:
        failures = self.kernel.replica.observing.failures
        while failures:
            observer, error = failures.pop(0)
            who = self.parts.maker(observer) or type(observer).__qualname__
            log.error(f"an observer of {who} failed and is not called any more", exc_info=error)
        parted_at = self.kernel.replica.parted_at
        if parted_at and parted_at != self._told_parting:
            log.error(
                f"this server's tree is not that of the leader, server.{self.kernel.consensus.status().leader}, any "
                "more: one of the two has lost writes. Find out which; see docs/ensembles.md, `When histories "
                "contradict each other`",
                extra={"zxid": f"0x{parted_at:x}"},
            )
        self._told_parting = parted_at

    def _keep_state(self) -> None:
        if self.kernel.replica.image.pending():
            self._begin_turn()
            self.kernel.write_state()

    def _give_back(self) -> None:
        zxid = self.kernel.replica.tree.zxid
        if zxid != self._gave_back_at:
            self._gave_back_at = zxid
            self.kernel.disk.submit(give_back, lambda _: None)

    async def _collect(self) -> None:
        s = self.settings
        interval = s.container_check_interval_ms / 1000
        most = max(1, int(s.container_max_per_minute * interval / 60))
        while True:
            await self._sleep(interval)
            if self.kernel.replica.serving:
                self.turn(lambda: self.kernel.replica.collect(most))

    def _watch_space(self) -> None:
        watermark = self.settings.free_space_watermark_bytes
        free = rules.used(self.kernel.storage, self.kernel.storage.usage()).free_bytes
        replica = self.kernel.replica
        if watermark <= 0 or free < 0:
            return
        little = f"only {free} bytes are free on disk, the watermark is {watermark}"
        replica.refuse_sessions = little if free < watermark // 2 else None  # who comes anew to read needs a session
        if replica.refuse_writes is None and free < watermark:
            replica.refuse_writes = little
            log.error(
                "disk is almost full: writes are refused until space returns",
                extra={"free_bytes": free, "watermark_bytes": watermark},
            )
        elif replica.refuse_writes is not None and free > watermark * 11 // 10:
            replica.refuse_writes = None
            log.info("disk space is back: writes are accepted", extra={"free_bytes": free})

    def _tell_of_quotas(self) -> None:
        quotas = self.kernel.replica.quotas
        for path, what in quotas.exceeded.items():
            log.warning("quota exceeded", extra={"path": path.decode("utf-8", "replace"), "by": what})
        quotas.exceeded.clear()

    async def _finish_writes(self) -> None:
        for _ in range(_FINISH_TRIES):
            if not self.kernel.replica.outstanding:
                return
            await trio.sleep(_FINISH_S / _FINISH_TRIES)


async def _signals(server: Server, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            log.info("stopping", extra={"signal": signal.Signals(number).name})
            server.stop(signal.Signals(number).name)


async def _main(loaded: Loaded, parts: Parts, tell: Callable[[Started], None]) -> None:
    server = Server(loaded, parts, tell)
    async with trio.open_nursery() as nursery:
        await nursery.start(_signals, server)
        await server.run()
        nursery.cancel_scope.cancel()


def run(loaded: Loaded, parts: Parts, tell: Callable[[Started], None]) -> int:
    """Run a server until SIGTERM or Ctrl-C.

    Args:
        tell: is told where the server is, once it serves.

    Returns:
        The exit code of the process: 0, or `EXIT_DISK` after a failed write or sync.

    Raises:
        UserError: what the person at the keyboard can mend; a plugin that failed, with exit code 1.
    """
    try:
        trio.run(_main, loaded, parts, tell)
    except BaseExceptionGroup as group:
        error = _first(group)
        who = culprit(error, parts)
        if isinstance(error, StorageError):
            log.critical(
                "the disk failed, nothing more is acknowledged: the process stops",
                extra={"error": str(error), "plugin": parts.maker(parts.storage)},
            )
            os._exit(EXIT_DISK)  # the disk thread may hang in the failed call; nothing is left to be saved
        if who is not None and isinstance(error, Exception | SystemExit) and not isinstance(error, UserError):
            log.critical("the server stops", exc_info=error)
            raise UserError(_blame(who, error), EXIT_UNEXPECTED) from error
        raise error from error.__cause__
    return EXIT_OK


def _blame(who: PluginInfo, error: Exception | SystemExit) -> str:
    """One line on a plugin that failed."""
    if isinstance(error, ContractError):
        return f"{who} breaks its contract, so the server stops: {error}"
    return f"{who} failed, so the server stops: {type(error).__name__}: {' '.join(str(error).split())}"


def _first(error: BaseException) -> BaseException:
    """The error behind nested groups: a server has one reason to stop."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
