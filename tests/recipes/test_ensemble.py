"""Two hundred contenders in four processes, an ensemble of three, and everything that can happen to both."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from corekit_recipes.queue import Queue

from corekit.client import connect
from tests.client.waiting import until
from tests.recipes.contend import turn
from tests.support.proxy import Network
from tests.support.servers import Ensemble

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TIMEOUT = 4.0
SECONDS = 40.0
SESSIONS, TASKS = 5, 10  # of each process
PATH = "/contended"
SERVER = 100  # the servers' numbers in the network


@dataclass
class Stay:
    began: float
    ended: float = float("inf")
    ticks: list[float] = field(default_factory=list)


def read(path: Path) -> dict[int, Stay]:
    """The stays by token; tokens are unique because each is the zxid of a create."""
    stays: dict[int, Stay] = {}
    for line in path.read_text().splitlines():
        kind, when, token = line.split()
        if kind == "IN":
            assert int(token) not in stays, f"token {token} was given twice"
            stays[int(token)] = Stay(float(when))
        elif kind == "TICK":
            stays[int(token)].ticks.append(float(when))
        else:
            stays[int(token)].ended = float(when)
    return stays


def check(stays: dict[int, Stay]) -> None:
    """Bodies begin in the order of their tokens, and no body makes a step after the next has begun.

    The step is what counts, not the end: a process that was stopped records its end when it is resumed.
    """
    tokens = sorted(stays, key=lambda token: stays[token].began)
    assert tokens == sorted(tokens), "tokens did not rise"
    for token, following in pairwise(tokens):
        late = [tick for tick in stays[token].ticks if tick > stays[following].began]
        assert not late, f"{token} made {len(late)} steps after {following} had begun"


def start(recipe: str, hosts: str, file: Path, number: int) -> subprocess.Popen[bytes]:
    backend = ("trio", "asyncio")[number % 2]
    command = [sys.executable, "-m", "tests.recipes.contend", recipe, hosts, PATH]
    return subprocess.Popen([*command, *map(str, (SECONDS, SESSIONS, TASKS, file, TIMEOUT, backend))])


def hosts_through(network: Network, ensemble: Ensemble, process: int) -> str:
    """The servers as a process reaches them: through a network that can be cut."""
    ports = [network.link(process, SERVER + n, member.port) for n, member in enumerate(ensemble.members)]
    return ",".join(f"127.0.0.1:{port}" for port in ports)


async def nemesis(
    ensemble: Ensemble, network: Network, processes: list[subprocess.Popen[bytes]], seconds: float
) -> list[str]:
    """Kill the leader, kill a follower, stop a process or cut it off, for longer than its sessions live or shorter."""
    chance = random.Random(6)
    ends = time.monotonic() + seconds
    done: list[str] = []
    servers = {SERVER + n for n in range(len(ensemble.members))}
    kinds = ["leader", "follower", "stop", "pause", "cut", "lag"]
    while time.monotonic() < ends:
        what = kinds[len(done)] if len(done) < len(kinds) else chance.choice(kinds)
        done.append(what)
        if what in ("cut", "lag"):
            network.partition({chance.randrange(len(processes))}, servers)
            await anyio.sleep(TIMEOUT * 1.6 if what == "cut" else TIMEOUT * 0.3)
            network.heal()
        elif what in ("leader", "follower"):
            leader = await anyio.to_thread.run_sync(ensemble.leader)
            victim = leader if what == "leader" else next(m for m in ensemble.members if m is not leader)
            victim.kill()
            await anyio.sleep(chance.uniform(0.2, 1.5))
            await anyio.to_thread.run_sync(victim.spawn)
            await anyio.to_thread.run_sync(victim.wait_ready)
        else:
            process = chance.choice(processes)
            os.kill(process.pid, signal.SIGSTOP)
            await anyio.sleep(TIMEOUT * 1.6 if what == "stop" else TIMEOUT * 0.3)
            os.kill(process.pid, signal.SIGCONT)
        await anyio.sleep(chance.uniform(0.1, 0.5))
    return done


async def trouble(recipe: str, ensemble: Ensemble, file: Path) -> list[str]:
    """Two hundred contenders in four processes meet what the nemesis does; one process is killed for good."""
    with Network() as network:
        hosts = [hosts_through(network, ensemble, number) for number in range(4)]
        processes = [start(recipe, hosts[number], file, number) for number in range(4)]
        try:
            done = await nemesis(ensemble, network, processes[:3], SECONDS - 8)
            processes[3].kill()  # in the middle of whatever it does
            with anyio.fail_after(60):
                for process in processes:
                    await anyio.to_thread.run_sync(process.wait)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0, -signal.SIGKILL]
    return done


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("recipe", ["lock", "election"])
async def test_two_hundred_contenders(
    ensemble_factory: Callable[..., Ensemble], kind: str, tmp_path: Path, recipe: str, anyio_backend: str
) -> None:
    ensemble = ensemble_factory([kind] * 3)
    file = tmp_path / "stays"
    done = await trouble(recipe, ensemble, file)
    stays = read(file)
    check(stays)
    assert len(stays) > 100, f"only {len(stays)} bodies ran while {done} happened"
    async with connect(ensemble.hosts) as zk:
        with anyio.fail_after(20):
            async with turn(recipe, zk, PATH, 20):
                pass

        async def empty() -> bool:
            return await zk.children(PATH) == []

        await until(empty, 20)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_queue_loses_nothing_and_gives_nothing_twice(
    ensemble_factory: Callable[..., Ensemble], kind: str, tmp_path: Path, anyio_backend: str
) -> None:
    """Except what it says: a removal of unknown outcome is named, a taker that is killed has what it took."""
    ensemble = ensemble_factory([kind] * 3)
    file = tmp_path / "items"
    await trouble("queue", ensemble, file)
    items: dict[str, Counter[int]] = {what: Counter() for what in ("ASKED", "PUT", "NOT", "MAYBE", "TAKEN")}
    for line in file.read_text().splitlines():
        what, _, item = line.split()
        items[what][int(item)] += 1
    async with connect(ensemble.hosts) as zk:
        queue = Queue(zk, PATH)
        while (left := await queue.try_take()) is not None:
            items["TAKEN"][int(left)] += 1
    taken = items["TAKEN"]
    assert len(taken) > 100
    assert [item for item, times in taken.items() if times > 1] == []
    assert taken.keys() <= items["ASKED"].keys() - items["NOT"].keys()
    missing = items["PUT"].keys() - taken.keys() - items["MAYBE"].keys()
    assert len(missing) <= SESSIONS * TASKS, f"nobody has {len(missing)} items that were put: {sorted(missing)[:5]}"
