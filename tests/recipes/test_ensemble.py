"""Two hundred contenders in four processes, an ensemble of three, and everything that can happen to both."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from corekit_recipes.lock import Lock

from corekit.client import connect
from tests.client.waiting import until
from tests.support.servers import Ensemble

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TIMEOUT = 4.0
SECONDS = 25.0


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


def start(hosts: str, file: Path, number: int) -> subprocess.Popen[bytes]:
    backend = ("trio", "asyncio")[number % 2]
    command = [sys.executable, "-m", "tests.recipes.contend", hosts, "/lock", str(SECONDS), "5", "10", str(file)]
    return subprocess.Popen([*command, str(TIMEOUT), backend])


async def nemesis(ensemble: Ensemble, processes: list[subprocess.Popen[bytes]], seconds: float) -> list[str]:
    """Kill the leader, kill a follower, stop a process for longer than its sessions live, kill one for good."""
    chance = random.Random(6)
    ends = time.monotonic() + seconds
    done: list[str] = []
    while time.monotonic() < ends:
        what = chance.choice(["leader", "follower", "stop", "pause"])
        done.append(what)
        if what in ("leader", "follower"):
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


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_two_hundred_contenders(
    ensemble_factory: Callable[..., Ensemble], kind: str, tmp_path: Path, anyio_backend: str
) -> None:
    ensemble = ensemble_factory([kind] * 3)
    file = tmp_path / "stays"
    processes = [start(ensemble.hosts, file, number) for number in range(4)]
    try:
        done = await nemesis(ensemble, processes[:3], SECONDS - 8)
        processes[3].kill()  # in the middle of whatever it does
        with anyio.fail_after(60):
            for process in processes:
                await anyio.to_thread.run_sync(process.wait)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0, -signal.SIGKILL]
    stays = read(file)
    check(stays)
    assert len(stays) > 100, f"only {len(stays)} bodies ran while {done} happened"
    assert {"leader", "stop"} <= set(done)
    async with connect(ensemble.hosts) as zk:
        with anyio.fail_after(20):
            async with Lock(zk, "/lock").hold():
                pass

        async def empty() -> bool:
            return await zk.children("/lock") == []

        await until(empty, 20)
