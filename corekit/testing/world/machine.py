"""A server of a world: the real `Server`, with virtual time and a simulated disk, and without threads or sockets.

A `Machine` has a disk and a place in the network; a process runs on it until it is killed, loses power or stops.
What is replaced is only what touches the computer: the disk's thread is a task that takes virtual time, sockets between
servers are the world's network, the process is not tuned. The storage is `MemoryStorage`: a power cut loses a random
part of what was not synced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, TypeVar

import trio

from corekit.api import EnsembleConsensus
from corekit.builtin.memory import MemoryStorage
from corekit.config import load
from corekit.hooks import Parts
from corekit.plugins import wire
from corekit.server.client_port import FastPort
from corekit.server.disk import DiskWorker
from corekit.server.server import Server
from corekit.testing.world.clock import OWN, Clock
from corekit.testing.world.net import Connection, Net, Pipe

T = TypeVar("T")

CLIENT_PORT = 2181
QUORUM_PORT = 2888
ELECTION_PORT = 3888
LOOK_S = 0.1  # servers look at the clock this often; oftener only costs time


class _NoSockets(FastPort):
    async def run(self) -> None:
        """There are none."""
        await trio.sleep_forever()


class _Disk(DiskWorker):
    """Jobs take virtual time, one after the other."""

    kick = staticmethod(lambda: None)

    def start(self) -> None:
        """`_Simulated.work` runs the jobs."""

    def stop(self) -> None:
        """Finish the jobs that are queued."""
        while not self._jobs.empty():
            self.step()

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Queue a job."""
        super().submit(job, done)
        self.kick()

    @property
    def idle(self) -> bool:
        """Nothing is queued."""
        return self._jobs.empty()

    def step(self) -> None:
        """Do one job."""
        job = self._jobs.get_nowait()
        assert job is not None
        work, done = job
        done(work())


class _Simulated(Server):
    """The server of a machine."""

    disk_worker = _Disk
    port_class = _NoSockets

    def __init__(self, machine: Machine, loaded: Any, parts: Parts) -> None:
        super().__init__(loaded, parts, lambda started: None)
        self._machine = machine
        self._disk_event = trio.Event()
        assert isinstance(self.kernel.disk, _Disk)
        self._disk = self.kernel.disk
        self._disk.kick = self._disk_kicked

    def _disk_kicked(self) -> None:
        self._disk_event.set()

    async def _blocking(self, work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work()

    async def _sleep(self, seconds: float) -> None:
        await trio.sleep(max(seconds, LOOK_S))
        await self._machine.running()
        if self._machine.server is not self:
            await trio.sleep_forever()  # it was killed, and is about to be cancelled

    def turn(self, work: Callable[[], object]) -> None:
        """A process that was killed does nothing more. Whoever lets it work, the time is that of its machine."""
        if self._machine.server is self:
            before = OWN.set(self._machine.clock)
            try:
                super().turn(work)
            finally:
                OWN.reset(before)

    @contextmanager
    def _own_process(self) -> Iterator[None]:
        yield

    def _give_back(self) -> None:
        pass

    async def _open_links(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._work)
        consensus = self.kernel.consensus
        if isinstance(consensus, EnsembleConsensus):
            links = _Links(self._machine, consensus, nursery, self.turn)
            self.links = self.kernel.links = links  # type: ignore[assignment]
            self.kernel.ensemble_text = self.view.membership()
            self._machine.links = links

    async def _work(self) -> None:
        while True:
            while self._disk.idle:
                self._disk_event = trio.Event()
                await self._disk_event.wait()
            await trio.sleep(self._machine.disk_delay())
            await self._machine.running()
            self.turn(self._disk.step)

    def dispose(self) -> None:
        """Give back what the process held."""
        if self._wake_fd >= 0:
            try:
                os.close(self._wake_fd)
            except OSError:
                pass  # it has stopped in good order
            self._wake_fd = -1
        self.port.close()


class _Links:
    """Links between servers over the world's network (`server.ensemble.Links`)."""

    def __init__(
        self,
        machine: Machine,
        consensus: EnsembleConsensus,
        nursery: trio.Nursery,
        turn: Callable[[Callable[[], object]], None],
    ) -> None:
        self._machine = machine
        self._consensus = consensus
        self._nursery = nursery
        self._turn = turn
        self._links: dict[int, tuple[Connection | None, Pipe | None]] = {}
        self._next = 1

    def dial(self, kind: str, host: str, port: int) -> int:
        """Open a link."""
        number = self._new(None, None)
        self._nursery.start_soon(self._dial, number, kind, host)
        return number

    def _new(self, connection: Connection | None, out: Pipe | None) -> int:
        number, self._next = self._next, self._next + 1
        self._links[number] = (connection, out)
        return number

    async def _dial(self, number: int, kind: str, host: str) -> None:
        net, name = self._machine.net, self._machine.name
        target = self._machine.peers[host]
        reached = False
        with trio.move_on_after(5):
            await net.reach(name, host)
            reached = True
        await self._machine.running()
        if number not in self._links:
            return
        if not reached or target.links is None:
            del self._links[number]
            why = "no answer in time" if not reached else "connection refused"
            self._turn(lambda: self._consensus.link_closed(number, why))
            return
        connection = net.connect(name, host)
        self._links[number] = (connection, connection.there)
        target.links.accept(kind, connection)
        self._nursery.start_soon(self._read, number, connection, connection.back)
        self._turn(lambda: self._consensus.link_opened(number, kind, host, True))

    def accept(self, kind: str, connection: Connection) -> None:
        """Another server has dialled this one."""
        number = self._new(connection, connection.back)
        self._nursery.start_soon(self._accepted, number, kind, connection)

    async def _accepted(self, number: int, kind: str, connection: Connection) -> None:
        await self._machine.running()
        if number in self._links:
            self._turn(lambda: self._consensus.link_opened(number, kind, connection.source, False))
            await self._read(number, connection, connection.there)

    async def _read(self, number: int, connection: Connection, pipe: Pipe) -> None:
        consensus = self._consensus
        why = "the other end closed the link"
        try:
            while (data := await pipe.get()) is not None:
                await self._machine.running()
                if number not in self._links:
                    return
                self._turn(partial(consensus.link_data, number, data))
        except trio.BrokenResourceError:
            why = "connection reset"
        await self._machine.running()
        if self._links.pop(number, None) is not None:
            connection.break_off()
            self._machine.net.gone(connection)
            self._turn(partial(consensus.link_closed, number, why))

    def send(self, link: int, data: bytes) -> int:
        """Queue bytes; the network takes everything."""
        _, out = self._links.get(link, (None, None))
        if out is not None:
            out.put(bytes(data))
        return 0

    def close(self, link: int, why: str) -> None:
        """Close after what was sent."""
        _, out = self._links.pop(link, (None, None))
        if out is not None:
            out.put(None)

    def flush(self) -> None:
        """Everything has left already."""

    def close_all(self) -> None:
        """The server stops."""
        for link in list(self._links):
            self.close(link, "the server stops")


class Machine:
    """A server's machine.

    Attributes:
        name: in the network, and the host that clients connect to.
        clock: it goes on whatever happens to the process.
        storage: the disk; it outlives the process.
        server: the process that runs now, or None.
        sync_s: seconds that a sync of the disk takes at least.
        links: of the running process, in an ensemble.
    """

    def __init__(
        self,
        number: int,
        net: Net,
        nursery: trio.Nursery,
        random: Random,
        settings: Mapping[str, str],
        peers: dict[str, Machine],
    ) -> None:
        self.number = number
        self.name = f"n{number}"
        self.net = net
        self.clock = Clock()
        self.storage = MemoryStorage()
        self.server: Server | None = None
        self.sync_s = 0.001
        self.links: _Links | None = None
        self.peers = peers
        self._nursery = nursery
        self._random = random
        self._settings = settings
        self._scope = trio.CancelScope()
        self._gate: trio.Event | None = None
        self._ended = trio.Event()
        self._ended.set()
        net.holds[self.name] = self.running

    @property
    def up(self) -> bool:
        """A process runs (it may be paused)."""
        return self.server is not None

    @property
    def paused(self) -> bool:
        """The process is stopped, as by SIGSTOP."""
        return self._gate is not None

    @property
    def role(self) -> str:
        """`leader`, `follower`, `standalone`, or "" while it does not serve."""
        server = self.server
        return server.kernel.replica.mode if server is not None and server.kernel.replica.serving else ""

    async def running(self) -> None:
        """Wait while the process is paused."""
        while self._gate is not None:
            await self._gate.wait()

    def disk_delay(self) -> float:
        """Seconds that the next job takes."""
        return self.sync_s * (1 + self._random.random())

    def start(self) -> None:
        """Start a process, if none runs."""
        if self.server is None:
            self.net.silent.discard(self.name)
            self.net.change()
            self._scope = trio.CancelScope()
            options = {"clientPort": str(CLIENT_PORT), "clientPortAddress": self.name, **self._settings}
            origin: Iterable[tuple[str, str, str]] = [(key, value, "the world") for key, value in options.items()]
            loaded = load(environ={}, options=list(origin))
            parts = wire(loaded.settings, rng=Random(self._random.random()), environ={})
            self.server = _Simulated(self, loaded, replace(parts, storage=self.storage))
            before, self._ended = self._ended, trio.Event()
            self._nursery.start_soon(self._live, self.server, self._scope, before, self._ended)

    async def _live(self, server: _Simulated, scope: trio.CancelScope, before: trio.Event, ended: trio.Event) -> None:
        await before.wait()
        OWN.set(self.clock)
        try:
            with scope:
                await server.run()
        finally:
            server.dispose()
            ended.set()
            if self.server is server:
                self.server = self.links = None

    def kill(self, *, power: bool = False) -> None:
        """End the process at once: as by SIGKILL, or with the power of the machine, which also loses unsynced data."""
        if self.server is None:
            return
        self.server = self.links = None
        self.resume()
        connections = self.net.of(self.name)
        self._scope.cancel()
        if power:
            self.net.silent.add(self.name)
            self.storage.crash(self._random)
        else:
            self.storage.fail("the process was killed")
        for connection in connections:
            if power:
                connection.vanish()
                self._nursery.start_soon(self._reset_when_back, connection)
            else:
                connection.break_off()
            self.net.gone(connection)

    async def _reset_when_back(self, connection: Connection) -> None:
        """A machine that is back knows nothing of its old connections, and says so to who sends on them."""
        while self.name in self.net.silent or (connection.source, connection.target) in self.net.cuts:
            await self.net.changed.wait()
        await trio.sleep(self.net.draw_delay() + self._random.random())
        connection.break_off()

    def pause(self) -> None:
        """Stop the process, as by SIGSTOP."""
        if self._gate is None:
            self._gate = trio.Event()

    def resume(self) -> None:
        """Let it go on."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def stop(self) -> None:
        """Ask the process to stop in good order."""
        if self.server is not None:
            self.server.stop("the world")
