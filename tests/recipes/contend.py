"""A process full of contenders, for tests that stop, kill and cut off whole processes.

Usage: python -m tests.recipes.contend RECIPE HOSTS PATH SECONDS SESSIONS TASKS FILE TIMEOUT BACKEND
Appends lines `KIND TIME NUMBER` to FILE, with the machine's monotonic clock.
lock, election: IN and OUT for each body with its token, TICK for every step that a body makes while it believes that it
holds the lock or leads.
queue: items have numbers. ASKED before a put, then PUT, NOT, or MAYBE when its outcome is unknown; TAKEN, or MAYBE when
the outcome of the removal is unknown.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from itertools import count

import anyio
from corekit_recipes.contender import Grant
from corekit_recipes.election import Election
from corekit_recipes.lock import Lock
from corekit_recipes.queue import Queue, TakeUnknown

from corekit.client import Client, LeaseLost, NotAcquired, OutcomeUnknown, connect
from corekit.errors import CorekitError

TICKS = 5
TICK_SECONDS = 0.004


class Log:
    """Appends whole lines."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, kind: str, number: int) -> None:
        os.write(self._file, f"{kind} {time.monotonic()} {number}\n".encode())


_items = count(os.getpid() << 32)  # no two processes give the same numbers


async def exchange(zk: Client, path: str, log: Log, until: float) -> None:
    """Put an item, take one, and so on."""
    queue = Queue(zk, path)
    while (left := until - time.monotonic()) > 0:
        item = next(_items)
        log.write("ASKED", item)
        try:
            await queue.put(b"%d" % item)
            log.write("PUT", item)
        except OutcomeUnknown:
            log.write("MAYBE", item)
        except CorekitError:
            log.write("NOT", item)
        try:
            taken = await queue.take(wait=left)
            if taken is not None:
                log.write("TAKEN", int(taken))
        except TakeUnknown as error:
            log.write("MAYBE", int(error.item))
        except CorekitError:
            pass  # nothing was taken
        await anyio.sleep(TICK_SECONDS)


def turn(recipe: str, zk: Client, path: str, wait: float) -> AbstractAsyncContextManager[Grant]:
    """What a contender waits for."""
    if recipe == "election":
        return Election(zk, path, identifier=str(os.getpid())).lead(wait)
    return Lock(zk, path, identifier=str(os.getpid())).hold(wait)


async def contend(recipe: str, zk: Client, path: str, log: Log, until: float) -> None:
    """Wait for a turn, make some steps, and so on."""
    while (left := until - time.monotonic()) > 0:
        try:
            async with turn(recipe, zk, path, left) as grant:
                log.write("IN", grant.token)
                try:
                    for _ in range(TICKS):
                        log.write("TICK", grant.token)
                        await anyio.sleep(TICK_SECONDS)
                finally:
                    log.write("OUT", grant.token)
        except (LeaseLost, NotAcquired):
            pass


async def main(
    recipe: str, hosts: str, path: str, seconds: str, sessions: str, tasks: str, file: str, lives: str
) -> None:
    log = Log(file)
    until = time.monotonic() + float(seconds)

    async def one_session() -> None:
        async with (
            connect(hosts, timeout=float(lives), connect_timeout=None) as zk,
            anyio.create_task_group() as group,
        ):
            for _ in range(int(tasks)):
                if recipe == "queue":
                    group.start_soon(exchange, zk, path, log, until)
                else:
                    group.start_soon(contend, recipe, zk, path, log, until)

    async with anyio.create_task_group() as group:
        for _ in range(int(sessions)):
            group.start_soon(one_session)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:9], backend=sys.argv[9])
