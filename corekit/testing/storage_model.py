"""What a storage must hold, as plainly as it can be said, and random operations to compare the two.

`Model` has the staging methods of `corekit.api.Storage`, so that one operation can be performed on both. It purges
nothing: `purgeable` says which entries a storage may have dropped.

Entries and pairs are computed from zxids and seeds, so that an operation can be written down in one line of text
and carried out again in another process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random

from corekit.api import BackgroundSync, Recovery, Storage

Op = tuple[str, int, int]  # (name, two numbers)


@dataclass(slots=True)
class Model:
    """A log, epochs and a state."""

    accepted: int = 0
    current: int = 0
    log: dict[int, bytes] = field(default_factory=dict)  # in order
    start: int = 0  # the log starts after this
    purgeable: int = 0
    state: dict[bytes, bytes] = field(default_factory=dict)
    state_zxid: int = 0
    durable_state: int = 0
    staged: dict[bytes, bytes] = field(default_factory=dict)
    used: int = 0  # the highest zxid there ever was

    @property
    def last_zxid(self) -> int:
        return next(reversed(self.log), self.start)

    def copy(self) -> Model:
        return replace(self, log=self.log.copy(), state=self.state.copy())

    def append(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self.log.update(zip(range(first_zxid, last_zxid + 1), entries, strict=True))
        self.used = max(self.used, last_zxid)

    def save_epochs(self, accepted: int, current: int) -> None:
        self.accepted, self.current = accepted, current

    def truncate(self, zxid: int) -> None:
        self.log = {key: entry for key, entry in self.log.items() if key <= zxid}

    def write_state(self, zxid: int, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        self.state.update(puts)
        for key in deletes:
            self.state.pop(key, None)
        self.state_zxid = zxid

    def begin_state(self) -> None:
        self.staged = {}

    def stage_state(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        self.staged.update(puts)

    def commit_state(self, zxid: int) -> None:
        self.log, self.start, self.purgeable, self.used = {}, zxid, zxid, max(self.used, zxid)
        self.state, self.staged, self.state_zxid = self.staged, {}, zxid

    def purge(self, upto_zxid: int) -> None:
        self.purgeable = max(self.purgeable, min(upto_zxid, self.durable_state, self.state_zxid))

    def sync(self) -> None:
        self.durable_state = self.state_zxid

    def difference(self, storage: Storage, recovery: Recovery | None = None) -> str | None:
        """How an open storage differs from this model, or None. With `recovery`, what its `open` returned as well."""
        if recovery is not None:
            said = (recovery.accepted_epoch, recovery.current_epoch, recovery.state_zxid, recovery.last_zxid)
            due = (self.accepted, self.current, self.state_zxid, self.last_zxid)
            if said != due:
                return f"recovery says {said}, not {due} (epochs, state, last)"
            if recovery.damage is not None:
                return f"it says that it is damaged: {recovery.damage}"
        pairs = list(storage.read_state())
        if pairs != sorted(self.state.items()):
            return f"the state is {_short(pairs)}, not {_short(sorted(self.state.items()))}"
        first = storage.first_zxid()
        missing = [zxid for zxid in self.log if zxid < first or not first]
        if missing and missing[-1] > self.purgeable:
            return f"the log starts at {first:#x}, but {missing[-1]:#x} must be there"
        due_entries = [(zxid, entry) for zxid, entry in self.log.items() if zxid not in set(missing)]
        entries = list(read_all(storage, first - 1)) if first else []
        if entries != due_entries:
            return f"the log from {first:#x} is {_short(entries)}, not {_short(due_entries)}"
        return None


def _short(items: Sequence[tuple[object, bytes]]) -> str:
    keys = [f"{key:#x}" if isinstance(key, int) else str(key) for key, _ in items]
    return f"{len(keys)} items [{', '.join(keys if len(keys) < 12 else [*keys[:5], '...', *keys[-5:]])}]"


def read_all(storage: Storage, after_zxid: int, max_bytes: int = 1000) -> Iterator[tuple[int, bytes]]:
    """Every entry of the log above `after_zxid`, read in pieces."""
    while piece := storage.read_log(after_zxid, max_bytes):
        yield from piece
        after_zxid = piece[-1][0]


def entry_for(zxid: int) -> bytes:
    """0 to 448 bytes that belong to this zxid."""
    digest = blake2b(zxid.to_bytes(8, "big")).digest()
    return digest * (digest[0] % 8)


def pairs_for(seed: int) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Pairs to put and keys to delete."""
    rng = Random(seed)
    puts = [(b"/n%03d" % rng.randrange(80), rng.randbytes(rng.randrange(60))) for _ in range(rng.randrange(12))]
    return puts, [b"/n%03d" % rng.randrange(80) for _ in range(rng.randrange(4))]


def perform(op: Op, target: Model | Storage) -> None:
    """Carry out one operation."""
    name, a, b = op
    if name == "append":
        target.append(a, [entry_for(zxid) for zxid in range(a, b + 1)], b)
    elif name == "epochs":
        target.save_epochs(a, b)
    elif name == "truncate":
        target.truncate(a)
    elif name == "state":
        target.write_state(a, *pairs_for(b))
    elif name == "snapshot":
        target.begin_state()
        for seed in range(b, b + 3):
            target.stage_state(pairs_for(seed)[0])
        target.commit_state(a)
    elif name == "purge":
        target.purge(a)
    elif name == "sync":
        if not (a and sync_in_background(target)):
            target.sync()
    else:
        raise ValueError(name)


def sync_in_background(storage: object) -> bool:
    """What the server does with a `BackgroundSync`; False if it is none, or if it leaves this sync to the worker."""
    if not isinstance(storage, BackgroundSync):
        return False
    wake = os.eventfd(0)
    try:
        if not storage.start_sync(wake):
            return False
        os.eventfd_read(wake)
        assert storage.finish_sync() is not None, "the eventfd was written before the sync was done"
        assert storage.finish_sync() is None, "the end of one sync was told twice"
        return True
    finally:
        os.close(wake)


def random_op(model: Model, rng: Random) -> Op:
    """An operation that is allowed now.

    A zxid that was truncated is never used again, as after an election: entries are computed from it, so one that
    came back could not be told from the new one.
    """
    dice = rng.random()
    last, zxids = model.last_zxid, list(model.log)
    if dice < 0.45:
        first = last + 1
        if rng.random() < 0.15 or last == 0 or last < model.used:
            first = ((model.used >> 32) + 1 << 32) + 1
        return "append", first, first + rng.choice((1, 1, 1, 2, 3, 30)) - 1
    if dice < 0.55:
        epoch = max(model.accepted, last >> 32) + rng.randrange(2)
        return "epochs", epoch, rng.randint(model.current, epoch)
    if dice < 0.62 and zxids:
        return "truncate", rng.choice([zxid for zxid in [*zxids, last - 1] if zxid >= model.state_zxid] or [last]), 0
    if dice < 0.78 and zxids:
        above = [zxid for zxid in zxids if zxid >= model.state_zxid] or [model.state_zxid]
        return "state", above[min(rng.randrange(len(above)), rng.randrange(len(above)))], rng.randrange(1 << 30)
    if dice < 0.80:
        return "snapshot", max(last, model.used) + rng.randrange(5), rng.randrange(1 << 30)
    if dice < 0.85 and zxids:
        return "purge", rng.choice(zxids), 0
    return "sync", rng.randrange(2), 0
