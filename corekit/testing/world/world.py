"""`World`: servers, clients, a network and faults in one process, in virtual time, decided by one seed.

    async def scenario(world: World) -> None:
        async with world.client() as zk:
            await zk.create("/hello", b"1")
            world.machines[0].kill(power=True)
            world.machines[0].start()
            assert (await zk.get("/hello")).data == b"1"

    run(scenario, seed=7)                 # one server
    run(scenario, seed=7, servers=3)      # an ensemble

The servers are the production shell (`corekit.server`), sessions and consensus; clients are `corekit.client`; only
sockets, the disk and the clock are the world's. The same seed gives the same run: `World.trace_hash` says so.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any

import trio
import trio.testing

from corekit.client import Client, connect
from corekit.testing.world.clock import OWN, Clock, determined
from corekit.testing.world.machine import CLIENT_PORT, ELECTION_PORT, QUORUM_PORT, Machine
from corekit.testing.world.net import Net

KEPT = 400  # records of the trace that a report shows at most
Scenario = Callable[["World"], Awaitable[None]]


class World:
    """See the module; made by `run`.

    Attributes:
        seed: all randomness comes from it.
        session_timeout: seconds that clients ask for.
        net: the network; cut and heal it.
        machines: the servers, the first is `n1`.
        clocks: of machines and clients, by name.
        client_names: of the clients that are connected now.
        cancellable_scopes: what the fault `cancel` may cancel.
        trace: the newest records; `note` adds one.
        counters: how often things happened, by name.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        seed: int | str,
        servers: int,
        settings: Mapping[str, str],
        session_timeout: float,
    ) -> None:
        self.seed = seed
        self.session_timeout = session_timeout
        self.net = Net(nursery, self.random("net"))
        self.client_names: list[str] = []
        self.cancellable_scopes: list[trio.CancelScope] = []
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self.counters: dict[str, int] = {}
        self.nursery = nursery
        self._hash = 0
        self._records = 0
        self._clients = 0
        self._began = trio.current_time()
        peers: dict[str, Machine] = {}
        self.machines: list[Machine] = []
        for number in range(1, servers + 1):
            options = {**self._settings_of(number, servers), **settings}
            machine = Machine(number, self.net, nursery, self.random(f"n{number}"), options, peers)
            peers[machine.name] = machine
            self.machines.append(machine)
        self.clocks: dict[str, Clock] = {machine.name: machine.clock for machine in self.machines}

    def _settings_of(self, number: int, servers: int) -> dict[str, str]:
        tick_ms = round(self.session_timeout * 1000 / 4)
        options = {
            "plugins": "memory,memory-transport",
            "admin.enableServer": "false",
            "dataDir": f"simulated-n{number}",
            "tickTime": str(tick_ms),
            "initLimit": "10",
            "syncLimit": "5",
            "extendedTypesEnabled": "true",
        }
        if servers > 1:
            options["myid"] = str(number)
            for sid in range(1, servers + 1):
                options[f"server.{sid}"] = f"n{sid}:{QUORUM_PORT}:{ELECTION_PORT}"
        return options

    # Randomness, time and the trace
    def random(self, name: str) -> Random:
        """A generator for one purpose."""
        return Random(f"{self.seed}/{name}")

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return trio.current_time() - self._began

    def note(self, *words: Any) -> None:
        """A record of the trace: numbers, text and bytes only."""
        record = (round(self.now, 6), *words)
        self.trace.append(record)
        self._records += 1
        self._hash = zlib.crc32(repr(record).encode(), self._hash)

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        self.counters[name] = self.counters.get(name, 0) + by

    @property
    def trace_hash(self) -> str:
        """Stands for everything that was noted."""
        return f"{self._hash:08x}-{self._records}"

    # Clients
    @property
    def hosts(self) -> str:
        """All servers, for `connect` with a dialler of the world."""
        return ",".join(f"{machine.name}:{CLIENT_PORT}" for machine in self.machines)

    @asynccontextmanager
    async def client(self, name: str | None = None, **options: Any) -> AsyncIterator[Client]:
        """A client with a session, as `corekit.client.connect` makes it.

        Args:
            name: in the network and in the trace; `c1`, `c2` ... if not given.
            options: for `connect`.
        """
        if name is None:
            self._clients += 1
            name = f"c{self._clients}"
        chosen = {"timeout": self.session_timeout, "connect_timeout": None, "dial": self.net.dialler(name), **options}
        self.client_names.append(name)
        before = OWN.set(self.clocks.setdefault(name, Clock()))
        try:
            async with connect(chosen.pop("hosts", self.hosts), **chosen) as zk:
                yield zk
        finally:
            OWN.reset(before)
            self.client_names.remove(name)

    @contextmanager
    def cancellable(self) -> Iterator[trio.CancelScope]:
        """A scope that the fault `cancel` may cancel at any moment."""
        with trio.CancelScope() as scope:
            self.cancellable_scopes.append(scope)
            try:
                yield scope
            finally:
                self.cancellable_scopes.remove(scope)

    # Servers
    def start(self) -> None:
        """Start every server that does not run."""
        for machine in self.machines:
            machine.start()

    async def leader(self) -> Machine:
        """The server that leads; waits for one."""
        while True:
            for machine in self.machines:
                if machine.role in ("leader", "standalone") and not machine.paused:
                    return machine
            await trio.sleep(0.05)


def run(
    scenario: Scenario,
    *,
    seed: int | str = 0,
    servers: int = 1,
    settings: Mapping[str, str] | None = None,
    session_timeout: float = 4.0,
    seconds_max: float = 3600.0,
) -> World:
    """Run a scenario in a world of its own; returns the world, over.

    Args:
        seed: decides everything.
        servers: 1, or the size of an ensemble.
        settings: of every server, by their keys in the configuration file.
        session_timeout: seconds; a tick of the servers is a quarter of it.
        seconds_max: virtual seconds after which the scenario counts as hanging.

    Raises:
        Whatever the scenario or a server raises, with a note that names the seed.
        TimeoutError: it hangs.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    made: list[World] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery, seed, servers, settings or {}, session_timeout)
            made.append(world)
            world.start()
            with trio.move_on_after(seconds_max) as limit:
                await scenario(world)
            if limit.cancelled_caught:
                raise TimeoutError(f"the scenario still runs after {seconds_max:g} virtual seconds")
            nursery.cancel_scope.cancel()

    try:
        with determined(seed, clock):
            trio.run(main, clock=clock)
    except BaseException as error:
        sole = _sole(error)
        sole.add_note(f"in a world of seed {seed!r}, servers={servers}, session_timeout={session_timeout:g}")
        if made:
            sole.add_note("\n".join(["the last of what was noted:", *map(show, list(made[0].trace)[-60:])]))
        if sole is error:
            raise
        raise sole from sole.__cause__
    return made[0]


def show(record: tuple[Any, ...]) -> str:
    """A record of the trace as a line for people."""
    time, *words = record
    return f"{time:12.6f}  " + " ".join(str(word) for word in words)


def _sole(error: BaseException) -> BaseException:
    """The one error inside nested groups; the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
