"""A barrier: many wait until somebody opens it.

Promises: `wait` returns only after the barrier was open at some moment during the call (its znode did not exist).
Failures: the barrier is not tied to a session; it stays closed when its maker dies. Waiting goes on over
reconnections and expired sessions.
Cost: 1 request to close or open, 1 and a watch to wait, 2 to pass; opening wakes everyone.
Znodes: PATH exists while the barrier is closed, as with kazoo's Barrier and Curator's DistributedBarrier.
"""

from __future__ import annotations

from corekit.client import Client, OutcomeUnknown
from corekit.client.follow import over
from corekit.errors import NoNodeError


class Barrier:
    """`await Barrier(zk, "/barrier").wait()`"""

    def __init__(self, zk: Client, path: str) -> None:
        self.zk = zk
        self.path = path

    async def close(self) -> None:
        """Make others wait, until `open`. Closing a closed barrier changes nothing."""
        await self.zk.ensure(self.path)

    async def open(self) -> bool:
        """Let everyone through; returns whether the barrier was closed."""
        unknown = False
        while True:
            try:
                await self.zk.delete(self.path)
                return True
            except NoNodeError:
                return unknown
            except OutcomeUnknown:
                unknown = True

    async def wait(self) -> None:
        """Wait while the barrier is closed."""
        while True:
            stat, changed = await self.zk.exists_watch(self.path)
            if stat is None:
                self.zk.forget(changed)
                if await self.zk.exists(self.path, fresh=True) is None:  # a server that is behind may not know it yet
                    return
            else:
                await over(self.zk, changed)
