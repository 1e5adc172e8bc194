"""A lock that many may hold for reading, or one for writing.

Promises: a writer's body runs alone; readers' bodies run together. First come, first served: a reader that comes
after a waiting writer waits behind it, so that no writer starves. Otherwise as `lock.Lock`.
Failures: as `lock.Lock`.
Cost: as `lock.Lock`. A reader watches the newest writer before it, a writer the newest contender before it.
Znodes: PATH/<guid>__lock__<sequence> for writers, <guid>__rlock__<sequence> for readers, as kazoo's WriteLock and
ReadLock; with `layout=Layout.CURATOR` _c_<uuid>-__WRIT__<sequence> and _c_<uuid>-__READ__<sequence>, as Curator's
InterProcessReadWriteLock. A plain `Lock` on the same path is a writer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from corekit.client import Client
from corekit_recipes.contender import Grant, Turn, granted
from corekit_recipes.lock import Entry, blocks_writer, entries
from corekit_recipes.naming import Layout, Place, Want


def blocks_reader(place: Place) -> bool:
    """Only older writers stand in the way of a reader."""
    return not place.reads


class ReadWriteLock:
    """`async with ReadWriteLock(zk, "/locks/table").read() as grant: ...`, or `.write()`."""

    def __init__(
        self,
        zk: Client,
        path: str,
        *,
        identifier: str = "",
        layout: Layout = Layout.KAZOO,
        margin: float | None = None,
    ) -> None:
        self.zk = zk
        self.path = path
        self.identifier = identifier
        self.layout = layout
        self.margin = margin

    def read(self, wait: float | None = None) -> AbstractAsyncContextManager[Grant]:
        """Run a body beside other readers. Arguments and errors as `Lock.hold`."""
        return granted(self.zk, lambda: self._turn(Want.READ, blocks_reader), wait, self.path)

    def write(self, wait: float | None = None) -> AbstractAsyncContextManager[Grant]:
        """Run a body alone. Arguments and errors as `Lock.hold`."""
        return granted(self.zk, lambda: self._turn(Want.WRITE, blocks_writer), wait, self.path)

    def _turn(self, want: Want, blocks: Callable[[Place], bool]) -> Turn:
        return Turn(self.zk, self.path, want, self.layout, self.identifier, blocks, self.margin)

    async def contenders(self) -> list[Entry]:
        """Everyone in line, oldest first."""
        return await entries(self.zk, self.path)
