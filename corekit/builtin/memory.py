"""`MemoryStorage`: the storage contract in memory. The twin of every durable storage, and the simulated disk.

As the server's storage (`--plugins memory`) it forgets everything when the process ends. In tests and in the
simulator the object is the disk: `close` and `open` are a restart, `crash` is a power cut.

Rules
- What is staged after the last sync is kept as a list of undo steps, one a call. `crash(rng)` undoes a random number
  of them from the end, so that what survives is a prefix of the calls, each whole: exactly what the contract allows
  a real disk to lose. The same generator gives the same crash.
- Nothing waits and nothing fails by itself. A slow or failing sync comes from `on_sync`, a failing write from `fail`,
  a log that lost durable entries from `lose_above`, a full disk from `free_bytes`.
- Entries and pairs are kept by reference, nothing is copied.

Not here: files. Threads may call it as the contract says (`sync` beside the staging methods).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from corekit.api import API_VERSION, DiskUsage, Recovery
from corekit.errors import DataDirError, StorageError
from corekit.hooks import Context, hookimpl

kind = "storage"
api_version = API_VERSION
suite = "corekit.testing.own.memory"


@dataclass(slots=True)
class _Image:
    """What is on the disk, or on its way there."""

    accepted: int = 0
    current: int = 0
    state: dict[bytes, bytes] = field(default_factory=dict)
    state_zxid: int = 0
    zxids: list[int] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    purged_zxid: int = 0  # the log starts after this
    staging: dict[bytes, bytes] | None = None
    damage: str | None = None
    written: bool = False

    @property
    def last_zxid(self) -> int:
        return self.zxids[-1] if self.zxids else self.purged_zxid


class MemoryStorage:
    """Storage in memory with simulated durability.

    Attributes:
        free_bytes: what `usage` reports as free; -1 for unknown.
        on_sync: called inside every `sync`, after it has settled what it will make durable and before it does.
            It may wait (a slow disk) or raise (a failing one: the storage then fails as the contract says).
    """

    def __init__(self) -> None:
        self.free_bytes = -1
        self.on_sync: Callable[[], None] | None = None
        self._image = _Image()
        self._undo: list[Callable[[], None]] = []
        self._durable_state = 0
        self._stopped: str | None = "the storage is not open"

    # ------------------------------------------------------------------------------------ open and close
    def open(self, *, set_aside: bool = False) -> Recovery:
        if self._stopped is None:
            raise DataDirError("this memory storage is in use already")
        image = self._image
        image.staging = None
        self._undo.clear()
        self._durable_state = image.state_zxid
        self._stopped = None
        return Recovery(
            accepted_epoch=image.accepted,
            current_epoch=image.current,
            state_zxid=image.state_zxid,
            last_zxid=image.last_zxid,
            fresh=not image.written,
            damage=image.damage,
        )

    def close(self) -> None:
        if self._stopped is None:
            self.sync()
        self._stopped = "the storage is closed"

    def _check(self) -> None:
        if self._stopped is not None:
            raise StorageError(self._stopped)

    # --------------------------------------------------------------------------------- simulated trouble
    @property
    def unsynced(self) -> int:
        """How many calls a crash could lose now."""
        return len(self._undo)

    def crash(self, rng: Random) -> None:
        """A power cut: a random number of the last unsynced calls is lost. `open` is next."""
        for _ in range(rng.randint(0, len(self._undo))):
            self._undo.pop()()
        self._undo.clear()
        self._stopped = "the storage has crashed"

    def fail(self, why: str) -> None:
        """The disk refuses everything from now on, until `crash` and `open`."""
        self._stopped = why

    def lose_above(self, zxid: int) -> None:
        """The disk has lost durable entries above `zxid`, and a state above it. While closed; `open` reports it."""
        assert self._stopped is not None, "only a closed storage can lose what it had"
        image = self._image
        if zxid >= image.last_zxid:
            return
        image.damage = f"the log ends at {zxid:#x}, but entries up to {image.last_zxid:#x} were durable"
        if image.state_zxid > zxid:
            image.state, image.state_zxid = {}, 0
            image.purged_zxid, zxid = 0, 0
        keep = bisect_right(image.zxids, zxid)
        del image.zxids[keep:], image.entries[keep:]

    # --------------------------------------------------------------------------------------------- stage
    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self._check()
        image = self._image
        count = len(entries)
        if first_zxid <= image.last_zxid or last_zxid - first_zxid + 1 != count or not count:
            raise ValueError(f"{count} entries {first_zxid:#x}-{last_zxid:#x} do not follow {image.last_zxid:#x}")
        image.zxids.extend(range(first_zxid, last_zxid + 1))
        image.entries.extend(entries)
        image.written = True

        def undo() -> None:
            del image.zxids[-count:], image.entries[-count:]

        self._undo.append(undo)

    def save_epochs(self, accepted: int, current: int) -> None:
        self._check()
        image = self._image
        old = (image.accepted, image.current)
        image.accepted, image.current, image.written = accepted, current, True

        def undo() -> None:
            image.accepted, image.current = old

        self._undo.append(undo)

    def clear_damage(self) -> None:
        self._check()
        image = self._image
        old = image.damage
        image.damage = None

        def undo() -> None:
            image.damage = old

        self._undo.append(undo)

    def truncate(self, zxid: int) -> None:
        self._check()
        image = self._image
        if zxid >= image.last_zxid:
            return
        if zxid < image.state_zxid:
            raise LookupError(f"the state is at {image.state_zxid:#x}, above {zxid:#x}")
        keep = bisect_right(image.zxids, zxid)
        zxids, entries = image.zxids[keep:], image.entries[keep:]
        del image.zxids[keep:], image.entries[keep:]

        def undo() -> None:
            image.zxids.extend(zxids)
            image.entries.extend(entries)

        self._undo.append(undo)

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        self._check()
        image = self._image
        if not image.state_zxid <= zxid <= image.last_zxid:
            raise ValueError(f"a state of {zxid:#x} is not between {image.state_zxid:#x} and {image.last_zxid:#x}")
        state, old_zxid = image.state, image.state_zxid
        old: dict[bytes, bytes | None] = {}
        for key, value in puts:
            old.setdefault(key, state.get(key))
            state[key] = value
        for key in deletes:
            old.setdefault(key, state.get(key))
            state.pop(key, None)
        image.state_zxid = zxid

        def undo() -> None:
            for key, value in old.items():
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
            image.state_zxid = old_zxid

        self._undo.append(undo)

    def begin_state(self) -> None:
        self._check()
        self._image.staging = {}

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        self._check()
        if self._image.staging is None:
            raise ValueError("stage_state without begin_state")
        self._image.staging.update(puts)

    def commit_state(self, zxid: int) -> None:
        self._check()
        image = self._image
        if image.staging is None:
            raise ValueError("commit_state without begin_state")
        old = (image.state, image.state_zxid, image.zxids, image.entries, image.purged_zxid, image.written)
        image.state, image.state_zxid, image.zxids, image.entries = image.staging, zxid, [], []
        image.purged_zxid, image.written, image.staging = zxid, True, None

        def undo() -> None:
            (image.state, image.state_zxid, image.zxids, image.entries, image.purged_zxid, image.written) = old

        self._undo.append(undo)

    # ---------------------------------------------------------------------------------------------- sync
    def sync(self) -> None:
        self._check()
        durable = len(self._undo)
        state_zxid = self._image.state_zxid
        if self.on_sync is not None:
            try:
                self.on_sync()
            except Exception as error:
                self._stopped = f"syncing failed: {error}"
                raise StorageError(self._stopped) from error
            self._check()  # it may have crashed or failed meanwhile
        del self._undo[:durable]
        self._durable_state = state_zxid

    # ---------------------------------------------------------------------------------------------- read
    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._check()
        image = self._image
        if after_zxid >= image.last_zxid:
            return []
        if after_zxid < image.purged_zxid:
            raise LookupError(f"the log starts after {image.purged_zxid:#x}, above {after_zxid:#x}")
        found: list[tuple[int, bytes]] = []
        size = 0
        for index in range(bisect_right(image.zxids, after_zxid), len(image.zxids)):
            found.append((image.zxids[index], image.entries[index]))
            size += len(image.entries[index])
            if size >= max_bytes:
                break
        return found

    def read_state(self) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        return iter(sorted(self._image.state.items()))

    def first_zxid(self) -> int:
        self._check()
        return self._image.zxids[0] if self._image.zxids else 0

    def purge(self, upto_zxid: int) -> None:
        self._check()
        image = self._image
        gone = bisect_right(image.zxids, min(upto_zxid, image.state_zxid, self._durable_state))
        if not gone:
            return
        zxids, entries, old = image.zxids[:gone], image.entries[:gone], image.purged_zxid
        image.purged_zxid = zxids[-1]
        del image.zxids[:gone], image.entries[:gone]

        def undo() -> None:
            image.zxids[:0] = zxids
            image.entries[:0] = entries
            image.purged_zxid = old

        self._undo.append(undo)

    def usage(self) -> DiskUsage:
        return DiskUsage(free_bytes=self.free_bytes)


@hookimpl
def make_storage(context: Context) -> MemoryStorage:
    """Storage that forgets everything when the process ends."""
    return MemoryStorage()
