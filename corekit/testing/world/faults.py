"""Faults of a world: a swarm that every seed draws anew - which kinds, how often, how long.

Kinds
- `reset`: a client's connection breaks. `drop`: it vanishes in silence, and neither side is told (half-open).
- `deaf`, `mute`, `isolate`: nothing reaches a client, nothing leaves it, or both, for a while.
- `slow`: the network of everybody is slow for a while.
- `kill`, `power`: a server's process is killed, or its machine loses power and what was not synced; it comes back.
- `pause`: a server stands still and goes on (SIGSTOP).
- `disk`: a server's disk is slow for a while.
- `split`: in an ensemble, a server is cut off from the others in one direction or both.
- `clock`: the wall clock of a server or client is set, forward or back.
- `drift`: a server's clocks run too fast or too slow.
- `cancel`: a task that the scenario has offered (`World.cancellable`) is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from corekit.testing.world.net import Weather

if TYPE_CHECKING:
    from corekit.testing.world.world import World

KINDS = ("reset", "drop", "deaf", "mute", "isolate", "slow", "kill", "power", "pause", "disk", "split", "cancel")
CLOCKS = ("clock", "drift")  # drawn apart from the others, so that worlds from before them stay what they were
DRIFT = 0.05  # of a clock at most; leases end a tenth of the session's time early


class Swarm:
    """The faults of one world.

    Attributes:
        kinds: what happens; drawn by the seed, one or more.
        clocks: what happens to clocks; drawn by the seed, often nothing.
        every: seconds between two faults, on average.
        lasting: seconds that a fault lasts at most.
    """

    def __init__(self, world: World, kinds: Sequence[str] | None = None) -> None:
        self.world = world
        self.random = world.random("faults")
        self.clock_random = world.random("faults of clocks")
        known = [kind for kind in KINDS if kind != "split" or len(world.machines) > 1]
        if kinds is None:
            kinds = self.random.sample(known, self.random.randint(1, len(known)))
            self.clocks = [kind for kind in CLOCKS if self.clock_random.random() < 0.4]
        else:
            self.clocks = [kind for kind in CLOCKS if kind in kinds]
        self.kinds = [kind for kind in kinds if kind in known]
        self.every = self.random.choice((0.3, 1.0, 3.0))
        self.lasting = world.session_timeout * self.random.choice((0.3, 1.0, 2.0))
        self.world.net.weather = Weather(
            delay=self.random.choice((0.0001, 0.001, 0.01)),
            jitter=self.random.choice((0.0005, 0.005, 0.05)),
            slow_share=self.random.choice((0.0, 0.01, 0.05)),
            split_share=self.random.choice((0.0, 0.3)),
        )

    async def run(self) -> None:
        """Let faults happen until cancelled; several may last at once."""
        async with trio.open_nursery() as nursery:
            if self.clocks:
                nursery.start_soon(self._disturb_clocks)
            while self.kinds:
                await trio.sleep(self.random.expovariate(1 / self.every))
                kind = self.random.choice(self.kinds)
                one: Callable[[], Awaitable[None]] = getattr(self, f"_{kind}")
                nursery.start_soon(one)

    def heal(self) -> None:
        """Everything works again."""
        world = self.world
        world.net.weather = Weather()
        world.net.heal_all()
        for machine in world.machines:
            machine.resume()
            machine.sync_s = 0.001
            machine.start()
        world.note("healed")

    def _tell(self, *words: object) -> None:
        self.world.count("faults")
        self.world.note("fault", *words)

    async def _a_while(self) -> None:
        await trio.sleep(self.random.uniform(0.01, self.lasting))

    def _client(self) -> str | None:
        return self.random.choice(self.world.client_names) if self.world.client_names else None

    # Connections
    async def _reset(self) -> None:
        found = self.world.net.connections
        if found:
            connection = self.random.choice(found)
            self._tell("reset", connection.source, connection.target)
            connection.break_off()

    async def _drop(self) -> None:
        found = [one for one in self.world.net.connections if not one.source.startswith("n")]
        if found:
            connection = self.random.choice(found)
            self._tell("drop", connection.source, connection.target)
            connection.vanish()
            self.world.net.gone(connection)

    async def _cut(self, kind: str, pairs: list[tuple[str, str]]) -> None:
        self._tell(kind, *(f"{source}>{target}" for source, target in pairs))
        for source, target in pairs:
            self.world.net.cut(source, target)
        await self._a_while()
        for source, target in pairs:
            self.world.net.heal(source, target)

    async def _deaf(self) -> None:
        if (client := self._client()) is not None:
            await self._cut("deaf", [(machine.name, client) for machine in self.world.machines])

    async def _mute(self) -> None:
        if (client := self._client()) is not None:
            await self._cut("mute", [(client, machine.name) for machine in self.world.machines])

    async def _isolate(self) -> None:
        if (client := self._client()) is not None:
            names = [machine.name for machine in self.world.machines]
            await self._cut("isolate", [(client, name) for name in names] + [(name, client) for name in names])

    async def _split(self) -> None:
        machine = self.random.choice(self.world.machines)
        others = [other.name for other in self.world.machines if other is not machine]
        away = [(machine.name, other) for other in others]
        back = [(other, machine.name) for other in others]
        await self._cut("split", self.random.choice((away, back, away + back)))

    async def _slow(self) -> None:
        self._tell("slow")
        weather = self.world.net.weather
        before = weather.delay
        weather.delay = self.random.uniform(0.02, 0.3)
        await self._a_while()
        weather.delay = before

    # Servers
    async def _kill(self, power: bool = False) -> None:
        machine = self.random.choice(self.world.machines)
        if machine.up:
            self._tell("power" if power else "kill", machine.name, machine.role)
            machine.kill(power=power)
            await self._a_while()
            machine.start()

    async def _power(self) -> None:
        await self._kill(power=True)

    async def _pause(self) -> None:
        machine = self.random.choice(self.world.machines)
        if machine.up and not machine.paused:
            self._tell("pause", machine.name, machine.role)
            machine.pause()
            await self._a_while()
            machine.resume()

    async def _disk(self) -> None:
        machine = self.random.choice(self.world.machines)
        self._tell("disk", machine.name)
        machine.sync_s = self.random.uniform(0.05, 1.0)
        await self._a_while()
        machine.sync_s = 0.001

    # Clocks
    async def _disturb_clocks(self) -> None:
        random = self.clock_random
        while True:
            await trio.sleep(random.expovariate(1 / self.every))
            if random.choice(self.clocks) == "clock":
                name = random.choice(list(self.world.clocks))
                ahead = random.uniform(-1, 1) * random.choice((1.0, 60.0, 3600.0))
                self._tell("clock", name, round(ahead, 3))
                self.world.clocks[name].wall_ahead += ahead
            else:
                machine = random.choice(self.world.machines)
                rate = 1 + random.uniform(-DRIFT, DRIFT)
                self._tell("drift", machine.name, round(rate, 4))
                machine.clock.drift(rate, self.world.now)

    # Clients
    async def _cancel(self) -> None:
        scopes = list(self.world.cancellable_scopes)
        if scopes:
            self._tell("cancel")
            self.random.choice(scopes).cancel()
