"""The contract of storages. Plugins import it from `corekit.api`, where the rules for all contracts stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(slots=True)
class Recovery:
    """What a storage found when it was opened.

    Attributes:
        accepted_epoch, current_epoch: as last made durable; 0 in a new directory.
        state_zxid: the state returned by `Storage.read_state` contains every entry up to here, none above.
        last_zxid: of the last entry in the log, or `state_zxid` when the log holds nothing above it.
        fresh: the directory held no data at all.
        damage: why the log may have lost acknowledged entries, or None. A damaged server must not serve,
            vote or acknowledge until it has fully synchronised from others. Every `open` says it again
            until `Storage.clear_damage`.
    """

    accepted_epoch: int = 0
    current_epoch: int = 0
    state_zxid: int = 0
    last_zxid: int = 0
    fresh: bool = True
    damage: str | None = None


@dataclass(slots=True)
class DiskUsage:
    """Bytes used by the log and the state, bytes free on their file system (-1: unknown)."""

    log_bytes: int = 0
    state_bytes: int = 0
    free_bytes: int = -1


@runtime_checkable
class Storage(Protocol):
    """Durable home of one server: log, epochs, and a key-value image of the state.

    Thread rules: `open`, `sync`, `close`, `purge` and `read_state` may block and are called in a worker thread,
    never two of them at once. Every other method is called on the event loop, possibly while one of those runs, and
    must return in well under a millisecond (`write_state` and `stage_state`: a few for 2,000 pairs). Before serving and
    after it, worker threads call them too, and nothing else runs. What one thread opens is used by others.

    Durability: what any call before `sync` staged is durable when that `sync` returns, all of it. What was not
    synced may be lost in a crash, but only from the end: the calls are durable as a prefix of their order. Each
    call is atomic. An unsynced call may also survive, so after a crash it is unknown, not undone. What was staged
    with `stage_state` is lost in any restart that comes before its `commit_state` is durable.

    Failure: a failed write or sync raises `StorageError`, and so does every call after it, until the process is
    started anew; nothing is tried again. Arguments that break the rules of a method raise ValueError and change
    nothing.

    `corekit.testing.storage.StorageSuite` checks all this for any implementation.
    """

    def open(self, *, set_aside: bool = False) -> Recovery:
        """Lock the directory, recover, and say what is there.

        `set_aside`: for a server that can get everything from others. What could not be used at all is moved out of
        the way and a new, empty log is begun; the epochs are kept as far as they are known, and
        `Recovery.damage` says why.

        Raises:
            DataDirError: the directory is locked by another process, or belongs to something else.
            DamagedError: nothing in it may be used. The files are as they were; not raised with `set_aside`.
        """

    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Stage entries at the end of the log. Their zxids are consecutive, from `first_zxid` to `last_zxid`.

        There may be a gap to the entry before (a new epoch), but none inside a call.
        """

    def save_epochs(self, accepted: int, current: int) -> None:
        """Stage both epochs, in order with the entries."""

    def clear_damage(self) -> None:
        """Stage that this server has everything again: it has fully synchronised with an established leader."""

    def truncate(self, zxid: int) -> None:
        """Stage the removal of every entry above `zxid`.

        Raises:
            LookupError: the state is above `zxid`, so the cut is not possible and nothing was changed. It cannot
                happen while only decided entries are put into the state and only undecided ones are cut off; a
                server for which it happens needs a whole new state (`begin_state`).
        """

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        """Stage one step of the state: after it, the image is that of `zxid`. All of it or none.

        Deletes come after puts; a key that is not there may be deleted. `zxid` must be decided (an undecided entry
        may have to be cut off again), not above the end of the log, and not below the step before.
        """

    def begin_state(self) -> None:
        """Start receiving a whole new state (a snapshot from a leader), beside the present one.

        What an earlier `begin_state` received and did not commit is forgotten.
        """

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        """A chunk of the new state."""

    def commit_state(self, zxid: int) -> None:
        """Stage the switch: the staged state replaces the present one and the whole log, as of `zxid`."""

    def sync(self) -> None:
        """Make everything staged so far durable. Worker thread."""

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Entries above `after_zxid` in order, up to about `max_bytes`, at least one if there is one.

        Returns an empty list at the end. Entries staged but not yet synced are included.

        Raises:
            LookupError: entries above `after_zxid` are gone: purged, or below the state of a `commit_state`.
            DamagedError: what is there is not what was written.
        """

    def read_state(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs of the state in key order, as of `state_zxid`. Used at start-up and by tools.

        Raises (also in the middle of the iteration):
            DamagedError: what is there is not what was written.
        """

    def first_zxid(self) -> int:
        """The smallest zxid still in the log, or 0 if the log is empty."""

    def purge(self, upto_zxid: int) -> None:
        """Drop log entries up to and including `upto_zxid`, never one above the durable state. Worker thread.

        Some of them may stay, if the storage drops entries in groups.
        """

    def usage(self) -> DiskUsage:
        """Bytes used and free. Cheap: may be a few seconds old."""

    def close(self) -> None:
        """Sync, release the lock. Worker thread. Idempotent; `open` may follow."""


@runtime_checkable
class BackgroundSync(Protocol):
    """What a `Storage` may offer beside `sync`: a sync that holds up neither the event loop nor the interpreter lock.

    Both methods are called on the event loop. At most one sync is under way, of either kind; `purge` may run
    meanwhile. `Storage.close` waits for one that was not finished.
    """

    def start_sync(self, wake: int) -> bool:
        """Begin to make everything staged so far durable; at the end, 1 is added to the eventfd `wake`.

        Returns:
            False: not this time; nothing was begun, and the worker thread calls `Storage.sync`.
        """

    def finish_sync(self) -> float | None:
        """Seconds that the sync took that was started, said once; None while it is not done.

        Raises:
            StorageError: it failed.
        """
