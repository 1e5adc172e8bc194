"""Several locks as one.

Promises: the body runs only while all of them are held. They are taken in the order of their paths, so that two
multi-locks over the same locks cannot wait for each other; if one is not got in time, those taken are released.
Failures, cost, znodes: those of `lock.Lock`, once for each. The body is cancelled when any of them is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from corekit_recipes.contender import Grant
from corekit_recipes.lock import Lock


class MultiLock:
    """`async with MultiLock([Lock(zk, "/a"), Lock(zk, "/b")]).hold() as grants: ...`"""

    def __init__(self, locks: Sequence[Lock]) -> None:
        paths = [lock.path for lock in locks]
        if not locks or len(set(paths)) != len(paths):
            raise ValueError("a multi-lock needs locks on different paths")
        self.locks = list(locks)

    @asynccontextmanager
    async def hold(self, wait: float | None = None) -> AsyncIterator[list[Grant]]:
        """Run a body while all locks are held; the grants come in the order of the locks given.

        Args:
            wait: seconds for all of them together; None waits for ever, 0 tries each once.

        Raises:
            NotAcquired, LeaseLost: see `Lock.hold`.
        """
        deadline = None if wait is None else anyio.current_time() + wait
        grants: dict[str, Grant] = {}
        async with AsyncExitStack() as held:
            for lock in sorted(self.locks, key=lambda lock: lock.path):
                left = wait if not wait or deadline is None else max(0.0, deadline - anyio.current_time())
                grants[lock.path] = await held.enter_async_context(lock.hold(left))
            yield [grants[lock.path] for lock in self.locks]
