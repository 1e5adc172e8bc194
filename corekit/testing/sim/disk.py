"""A `Storage` in memory that keeps its promise to the letter and not one byte more.

There are two images: the volatile one, which the server sees, and the durable one. Calls change the volatile image and
are remembered; a finished sync carries over those made before it began; a crash keeps the durable image and some prefix
of the others. Every call is atomic, as the contract says.

Not here: how long a sync takes (`node.py`). The StorageSuite of `corekit.testing.storage` checks this class too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random

from corekit.api import DiskUsage, Recovery
from corekit.errors import DamagedError, StorageError


class Image:
    """What a disk holds: log, epochs, state.

    Attributes:
        zxids, entries: the log, in order.
        index: zxid -> entry.
        purged: entries up to here are gone from the log.
    """

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.entries: list[bytes] = []
        self.index: dict[int, bytes] = {}
        self.accepted = 0
        self.current = 0
        self.state: dict[bytes, bytes] = {}
        self.state_zxid = 0
        self.purged = 0
        self.damage: str | None = None
        self.used = False

    @property
    def last_zxid(self) -> int:
        """Of the log, or of the state if the log has nothing above it."""
        return max(self.zxids[-1], self.state_zxid) if self.zxids else self.state_zxid

    def has(self, zxid: int) -> bool:
        """Whether the entry is in the log or covered by the state."""
        return zxid <= self.state_zxid or zxid in self.index

    def copy(self) -> Image:
        """An independent image."""
        other = Image()
        other.__dict__.update(self.__dict__)
        other.zxids, other.entries = self.zxids[:], self.entries[:]
        other.index, other.state = self.index.copy(), self.state.copy()
        return other

    # Each change of the image, as a method that can be carried out twice: on the volatile image, later on the durable.
    def append(self, first: int, entries: Sequence[bytes], last: int) -> None:
        zxids = range(first, last + 1)
        self.zxids += zxids
        self.entries += entries
        self.index.update(zip(zxids, entries, strict=True))
        self.used = True

    def epochs(self, accepted: int, current: int) -> None:
        self.accepted, self.current, self.used = accepted, current, True

    def mend(self) -> None:
        self.damage = None

    def truncate(self, zxid: int) -> None:
        keep = bisect_right(self.zxids, zxid)
        for gone in self.zxids[keep:]:
            del self.index[gone]
        del self.zxids[keep:], self.entries[keep:]

    def step(self, zxid: int, puts: dict[bytes, bytes], deletes: list[bytes]) -> None:
        self.state.update(puts)
        for key in deletes:
            self.state.pop(key, None)
        self.state_zxid, self.used = zxid, True

    def switch(self, zxid: int, state: dict[bytes, bytes]) -> None:
        self.zxids, self.entries, self.index = [], [], {}
        self.state, self.state_zxid, self.purged, self.used = dict(state), zxid, zxid, True

    def purge(self, zxid: int) -> None:
        keep = bisect_right(self.zxids, zxid)
        for gone in self.zxids[:keep]:
            del self.index[gone]
        del self.zxids[:keep], self.entries[:keep]
        self.purged = max(self.purged, zxid)


class SimDisk:
    """One server's disk. It outlives the server's process.

    Attributes:
        volatile, durable: the two images.
        changed: called when the durable image has changed.
        failing: the text of the error that every call raises, until the process is started anew.
    """

    def __init__(self, random: Random, changed: Callable[[], None] = lambda: None) -> None:
        self.durable = Image()
        self.volatile = Image()
        self.changed = changed
        self.failing: str | None = None
        self._random = random
        self._staged: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._incoming: dict[bytes, bytes] | None = None
        self._lost: set[int] = set()
        self._lost_upto = 0

    # --------------------------------------------------------------------------------------- Storage
    def open(self, *, set_aside: bool = False) -> Recovery:
        self.failing = None
        self._incoming = None
        image = self.volatile
        return Recovery(
            image.accepted, image.current, image.state_zxid, image.last_zxid, fresh=not image.used, damage=image.damage
        )

    def _stage(self, change: Callable[..., None], *args: object) -> None:
        if self.failing is not None:
            raise StorageError(self.failing)
        change(self.volatile, *args)
        self._staged.append((change, args))

    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        if first_zxid <= self.volatile.last_zxid or last_zxid - first_zxid + 1 != len(entries):
            raise ValueError(f"append of 0x{first_zxid:x}..0x{last_zxid:x} behind 0x{self.volatile.last_zxid:x}")
        self._stage(Image.append, first_zxid, tuple(entries), last_zxid)

    def save_epochs(self, accepted: int, current: int) -> None:
        self._stage(Image.epochs, accepted, current)

    def clear_damage(self) -> None:
        self._stage(Image.mend)

    def truncate(self, zxid: int) -> None:
        if zxid < self.volatile.state_zxid:
            raise LookupError(f"the state is at 0x{self.volatile.state_zxid:x}, above 0x{zxid:x}")
        self._stage(Image.truncate, zxid)

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        if not self.volatile.state_zxid <= zxid <= self.volatile.last_zxid:
            raise ValueError(f"state of 0x{zxid:x}")
        self._stage(Image.step, zxid, dict(puts), list(deletes))

    def begin_state(self) -> None:
        self._incoming = {}

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        if self._incoming is None:
            raise ValueError("no state is being received")
        self._incoming.update(puts)

    def commit_state(self, zxid: int) -> None:
        if self._incoming is None:
            raise ValueError("no state is being received")
        state, self._incoming = self._incoming, None
        self._stage(Image.switch, zxid, state)

    def sync(self) -> None:
        if self.failing is not None:
            raise StorageError(self.failing)
        self.finish_sync(self.begin_sync())

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        image = self.volatile
        if after_zxid < image.purged:
            raise LookupError(f"entries up to 0x{image.purged:x} have been purged")
        at = bisect_right(image.zxids, after_zxid)
        found: list[tuple[int, bytes]] = []
        size = 0
        while at < len(image.zxids) and (size < max_bytes or not found):
            found.append((image.zxids[at], image.entries[at]))
            size += len(image.entries[at])
            at += 1
        return found

    def read_state(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.volatile.state.items()))

    def first_zxid(self) -> int:
        return self.volatile.zxids[0] if self.volatile.zxids else 0

    def purge(self, upto_zxid: int) -> None:
        upto = min(upto_zxid, self.durable.state_zxid)
        if upto > self.volatile.purged:
            self._stage(Image.purge, upto)

    def usage(self) -> DiskUsage:
        return DiskUsage(sum(map(len, self.volatile.entries)), sum(map(len, self.volatile.state.values())), -1)

    def close(self) -> None:
        if self.failing is None:
            self.sync()

    # ------------------------------------------------------------------------------------ for the node
    @property
    def dirty(self) -> bool:
        """Whether something is staged that is not durable."""
        return bool(self._staged)

    def begin_sync(self) -> int:
        """A sync starts now: what it will make durable, for `finish_sync`."""
        return len(self._staged)

    def finish_sync(self, count: int) -> None:
        """The sync that was begun is done."""
        for change, args in self._staged[:count]:
            change(self.durable, *args)
        del self._staged[:count]
        if count:
            self.changed()

    def crash(self, keep_all: bool) -> None:
        """The process ends: the durable image and a prefix of what was staged are left (all, some or nothing)."""
        count = len(self._staged)
        kept = count if keep_all else self._random.choice((0, 0, self._random.randint(0, count)))
        self.finish_sync(kept)
        self._staged.clear()
        self.volatile = self.durable.copy()
        self._incoming = None

    def _forget(self, zxids: Iterable[int], upto: int) -> None:
        self._lost.update(zxids)
        self._lost_upto = max(self._lost_upto, upto)

    def has_had(self, zxid: int) -> bool:
        """Whether an entry is durable, or was until it fell victim to `wipe` or `damage`."""
        return self.durable.has(zxid) or zxid in self._lost or zxid <= self._lost_upto

    def wipe(self, *, keep_epochs: bool = False) -> None:
        """Everything is gone, as if the directory had been removed (or only its data, with `keep_epochs`)."""
        self._staged.clear()
        epochs = (self.durable.accepted, self.durable.current)
        self._forget(self.durable.zxids, self.durable.state_zxid)
        self.durable, self.volatile = Image(), Image()
        self._incoming = None
        if keep_epochs:
            self.durable.epochs(*epochs)
            self.volatile.epochs(*epochs)
        self.changed()

    def damage(self, lose: int) -> None:
        """The end of the durable log is destroyed, and the storage notices it at the next open. Process is down."""
        image = self.durable
        keep = max(0, len(image.zxids) - lose)
        self._forget(image.zxids[keep:], 0)
        if keep < len(image.zxids):
            image.truncate(image.zxids[keep - 1] if keep else image.purged)
        image.damage = "the log ends before what was acknowledged"
        self.volatile = image.copy()
        self.changed()

    def check(self) -> None:
        """Raises DamagedError if the images disagree with themselves: a mistake of this simulator."""
        for image in (self.volatile, self.durable):
            if image.zxids != sorted(set(image.zxids)) or len(image.zxids) != len(image.entries):
                raise DamagedError("the simulated log is out of order")
