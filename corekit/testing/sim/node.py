"""One server process: it boots, crashes, pauses, and gives replica and consensus their time, bytes and disk.

Rules
- A process does one thing at a time (`turn`): first the time, then the event, then the batch it made.
- A sync covers what was staged when it began; its answers come in order.
- A process can die in the middle of any call that consensus makes: `Died` unwinds it. What it had done stays done.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from corekit.api import EnsembleConsensus, Recovery
from corekit.errors import StorageError
from corekit.testing.sim.checker import Checker
from corekit.testing.sim.disk import SimDisk
from corekit.testing.sim.net import Net
from corekit.testing.sim.world import MS, Event, Violation, World

STATE_EVERY = 64  # entries applied between two background writes of the state

MakeConsensus = Callable[[int, Random], EnsembleConsensus]


class Replica(Protocol):
    """What stands around a consensus in a server: the small one (`kv.py`) or the real one (`server.py`).

    Attributes:
        serving: the mode in which clients are served, or "".
        applied: zxid of the last entry applied.
        digest: stands for the whole state.
    """

    @property
    def serving(self) -> str: ...
    @property
    def applied(self) -> int: ...
    @property
    def digest(self) -> int: ...

    def recover(self) -> Recovery:
        """Read the disk."""

    def start(self, recovery: Recovery) -> None:
        """Start consensus."""

    def begin(self, now_ms: int) -> None:
        """A turn begins."""

    def flush(self) -> None:
        """It ends."""

    def write_state(self) -> None:
        """Stage the state."""

    def died(self) -> None:
        """The process is gone."""


MakeReplica = Callable[["Node", EnsembleConsensus], Replica]


class Died(BaseException):
    """The process ended here. Not an Exception: nothing under test may catch it."""


class Node:
    """A server of the simulated ensemble.

    Attributes:
        up: the process runs (it may be paused).
        paused: time goes on, but not for this process.
        powered: the machine has power; without, peers get no answer at all.
        impaired: its disk was wiped or damaged, and it has not synchronised since.
        vouched: the operator says that this server's data, or that it has none, is right.
        rate: of its monotonic clock; `drift` changes it.
        wall_offset_ms: how far its wall clock is off.
        sync_us: how long a sync takes.
        keep_log: entries left in the log when it is purged.
        strike: called with the name of each call of consensus; True kills the process there.
        lost_client: called for each client connection when the server stops serving.
    """

    def __init__(
        self, world: World, net: Net, checker: Checker, sid: int, make: MakeConsensus, replica: MakeReplica
    ) -> None:
        self.world = world
        self.net = net
        self.checker = checker
        self.sid = sid
        self.make = make
        self._replica = replica
        self.up = False
        self.paused = False
        self.powered = True
        self.impaired = False
        self.vouched = False
        self.sync_us = 2 * MS
        self.keep_log = 500
        self.strike: Callable[[Node, str], bool] = lambda node, point: False
        self.incarnation = 0
        self.replica: Replica
        self.consensus: EnsembleConsensus
        self.random = world.random(f"node{sid}")
        self.rate = 1.0
        self.wall_offset_ms = 0
        self._clock_us = 1_000_000 * sid * MS  # what its clock showed when it began to run at this rate
        self._clock_since = 0
        self.clients: dict[int, Callable[[], None]] = {}
        self.disk = SimDisk(world.random(f"disk{sid}"), lambda: checker.durable(self))
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._answers: list[tuple[str, Any]] = []
        self._started = False
        self._syncing = False
        self._timer: Event | None = None
        self._timer_at = 0
        self._imaged = 0
        net.add(self)

    # -------------------------------------------------------------------------------------------- process
    def boot(self) -> None:
        """Start the process."""
        assert not self.up
        self.up = True
        self.powered = True
        self.incarnation += 1
        self._started = False
        self.world.note("boot", self.sid)
        self.consensus = self.make(self.sid, self.random)
        self.replica = self._replica(self, self.consensus)
        self.replica.begin(self.clock())
        recovery = self.replica.recover()
        self._imaged = recovery.state_zxid
        self.checker.booted(self)
        self.turn(self.replica.start, recovery)

    def clock(self) -> int:
        """This server's milliseconds."""
        return (self._clock_us + int((self.world.now - self._clock_since) * self.rate)) // MS

    def drift(self, rate: float) -> None:
        """From now on the monotonic clock runs so many times as fast as it should; it does not jump."""
        self.world.note("drift", self.sid, round(rate, 3))
        self._clock_us += int((self.world.now - self._clock_since) * self.rate)
        self._clock_since = self.world.now
        self.rate = rate
        self._settle()

    def crash(self, *, power: bool) -> None:
        """The process is killed, or the whole machine loses power."""
        if not self.up:
            return
        self.world.note("power" if power else "kill", self.sid)
        self.up = self.paused = False
        self.powered = not power
        self._inbox.clear()
        self._answers.clear()
        self._syncing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.net.process_died(self.sid, silently=power)
        self.disk.crash(keep_all=not power and self.random.random() < 0.5)
        self.replica.died()
        self._lose_clients()

    def pause(self) -> None:
        """The process gets no time."""
        self.world.note("pause", self.sid)
        self.paused = True

    def resume(self) -> None:
        """The process goes on with what came meanwhile."""
        if not self.up or not self.paused:
            return
        self.world.note("resume", self.sid)
        self.paused = False
        inbox, self._inbox = self._inbox, []
        incarnation = self.incarnation
        for action, args in inbox:
            if self.incarnation == incarnation:
                self.turn(action, *args)
        self._settle()

    def turn(self, action: Callable[..., None], *args: Any) -> None:
        """Let the process do one thing."""
        if not self.up:
            return
        if self.paused:
            self._inbox.append((action, args))
            return
        try:
            now_ms = self.clock()
            self.replica.begin(now_ms)
            if self._started:
                self.consensus.tick(now_ms)
            self._started = True
            action(*args)
            self.replica.flush()
            self._write_state()
        except Died:
            self.crash(power=self.random.random() < 0.5)
            return
        except StorageError as error:
            self.world.note("disk error", self.sid, str(error))
            self.crash(power=False)
            return
        except Violation:
            raise
        except Exception as error:
            raise Violation("I20", f"server {self.sid} broke: {error!r}") from error
        if self.up and not self.paused:  # it may have died in a turn inside this one
            self._after(now_ms)

    def _settle(self) -> None:
        """Something changed that is no turn."""
        if self.up and not self.paused:
            self._after(self.clock())

    def _after(self, now_ms: int) -> None:
        """What follows from a turn: a sync, and a timer."""
        if not self._syncing and (self._answers or self.disk.dirty):
            self._syncing = True
            delay = int(self.sync_us * (0.5 + self.random.random()))
            self.world.after(delay, self._synced, self.incarnation, self.disk.begin_sync(), len(self._answers))
        wake = max(1, int((self.consensus.wake_at - now_ms) / self.rate)) * MS
        if self._timer is None or self.world.now + wake < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            if wake < 3600 * 1000 * MS:
                self._timer_at = self.world.now + wake
                self._timer = self.world.after(wake, self._wake, self.incarnation)

    def _wake(self, incarnation: int) -> None:
        if incarnation == self.incarnation:
            self._timer = None
            self.turn(_nothing)

    def _synced(self, incarnation: int, staged: int, answered: int) -> None:
        if incarnation != self.incarnation or not self.up:
            return
        if self.disk.failing is not None:
            self.world.note("disk error", self.sid, self.disk.failing)
            self.crash(power=False)
            return
        self.disk.finish_sync(staged)
        self._syncing = False
        answers, self._answers = self._answers[:answered], self._answers[answered:]
        if answers:
            self.turn(self._answer, answers)
        else:
            self._settle()

    def _answer(self, answers: list[tuple[str, Any]]) -> None:
        for at, (what, value) in enumerate(answers):
            if what == "call":
                value()
            elif what == "durable":
                self.consensus.durable(value)
            elif at + 1 == len(answers) or answers[at + 1][0] != "persisted":
                self.consensus.persisted(value)

    def _write_state(self) -> None:
        """Every now and then the state is written in the background, and the log is shortened."""
        applied = self.replica.applied
        if applied != self._imaged and (applied - self._imaged >= STATE_EVERY or self.random.random() < 0.01):
            self._imaged = applied
            self.replica.write_state()
            zxids = self.disk.volatile.zxids
            if len(zxids) > 2 * self.keep_log:
                self.disk.purge(zxids[-self.keep_log])

    # -------------------------------------------------------------------------------------------- clients
    def _lose_clients(self) -> None:
        clients, self.clients = self.clients, {}
        for lost in clients.values():
            lost()

    @property
    def serving(self) -> str:
        """The mode in which clients are served now, or ""."""
        return self.replica.serving if self.up else ""

    # -------------------------------------------------------------------------------------- Machine (kv.py)
    def _point(self, name: str) -> None:
        counters, counted = self.world.counters, "point." + name
        counters[counted] = counters.get(counted, 0) + 1
        if self.strike(self, name):
            self.world.note("died at", self.sid, name)
            raise Died

    def stage(self, call: str, *args: Any) -> object:
        if call == "append":
            self.checker.appending(self, *args)
        result = getattr(self.disk, call)(*args)
        if call != "read_log":
            self.world.note("disk", self.sid, call, *(arg for arg in args if isinstance(arg, int)))
            self._point(call)
        return result

    def staged(self, answer: tuple[str, Any]) -> None:
        self._answers.append(answer)

    def wire(self, call: str, *args: Any) -> int:
        if call == "send":
            self._point("send")
            return self.net.send(*args)
        if call == "dial":
            self._point("dial")
            return self.net.dial(self, *args)
        link, why = args
        self.checker.closed(self, why)
        self.net.close(link)
        return 0

    def seen(self, call: str, *args: Any) -> None:
        if call == "log":
            self.world.note("log", self.sid, *args)
            return
        if call != "applied" and call != "proposed":
            self.world.note(call, self.sid, *args)
            self._point(call)
        getattr(self.checker, call)(self, *args)
        if call == "suspended":
            self._lose_clients()

    # ------------------------------------------------------------------------------------ LinkUser (net.py)
    def accepting(self) -> str:
        if not self.powered:
            return "silent"
        return "yes" if self.up else "refuse"

    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None:
        self.turn(self.consensus.link_opened, link, kind, peer, outgoing)

    def link_data(self, link: int, data: bytes) -> None:
        self.turn(self.consensus.link_data, link, data)

    def link_drained(self, link: int) -> None:
        self.turn(self.consensus.link_drained, link)

    def link_closed(self, link: int, why: str) -> None:
        self.turn(self.consensus.link_closed, link, why)


def _nothing() -> None:
    """Only time passes."""
