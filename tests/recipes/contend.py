"""A process full of contenders for one lock, for tests that stop, kill and cut off whole processes.

Usage: python -m tests.recipes.contend HOSTS PATH SECONDS SESSIONS TASKS FILE TIMEOUT BACKEND
Appends lines `KIND TIME TOKEN` to FILE, with the machine's monotonic clock: IN and OUT for each body, TICK for every
step that a body makes while it believes that it holds the lock.
"""

from __future__ import annotations

import os
import sys
import time

import anyio
from corekit_recipes.lock import Lock

from corekit.client import Client, LeaseLost, NotAcquired, connect

TICKS = 5
TICK_SECONDS = 0.004


class Log:
    """Appends whole lines."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, kind: str, token: int) -> None:
        os.write(self._file, f"{kind} {time.monotonic()} {token}\n".encode())


async def contend(zk: Client, path: str, log: Log, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        try:
            async with Lock(zk, path, identifier=str(os.getpid())).hold(wait=left) as grant:
                log.write("IN", grant.token)
                try:
                    for _ in range(TICKS):
                        log.write("TICK", grant.token)
                        await anyio.sleep(TICK_SECONDS)
                finally:
                    log.write("OUT", grant.token)
        except (LeaseLost, NotAcquired):
            pass


async def main(hosts: str, path: str, seconds: str, sessions: str, tasks: str, file: str, lives: str) -> None:
    log = Log(file)
    until = time.monotonic() + float(seconds)

    async def one_session() -> None:
        async with (
            connect(hosts, timeout=float(lives), connect_timeout=None) as zk,
            anyio.create_task_group() as group,
        ):
            for _ in range(int(tasks)):
                group.start_soon(contend, zk, path, log, until)

    async with anyio.create_task_group() as group:
        for _ in range(int(sessions)):
            group.start_soon(one_session)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:8], backend=sys.argv[8])
