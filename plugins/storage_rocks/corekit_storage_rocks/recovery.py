"""What an opened database holds, and whether that is all it must hold.

`examine` reads the bookkeeping and the tail of the log and verifies it; `judge` compares it with the floor record.
Two outcomes are told apart:

- `DamagedError`: what is there contradicts itself (a broken chain, records out of place, log and state of
  different generations). Nothing of it may be used.
- A reason for `Recovery.damage`: what is there is sound, but it ends below the floor, so acknowledged entries (or
  a truncation, or an epoch) have been lost.

The tail is verified from the state's zxid on, that is all that start-up replays. Older records are verified when
they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from corekit.errors import DamagedError
from corekit_storage_rocks.database import Database, scan
from corekit_storage_rocks.floor import Floor
from corekit_storage_rocks.reading import record_before
from corekit_storage_rocks.records import (
    LOG_END,
    LOG_META_KEY,
    STATE_META_KEY,
    DamagedRecord,
    LogMeta,
    batch_chain,
    key_zxid,
    log_key,
    unpack_batch,
    unpack_log_meta,
    unpack_state_meta,
)


@dataclass(slots=True)
class Contents:
    """What a database holds: bookkeeping, and where the log ends."""

    meta: LogMeta
    generation: int
    state_zxid: int
    last_zxid: int
    chain: int


def examine(database: Database) -> Contents | None:
    """Read and verify; None if the database is new. Raises `DamagedError`."""
    try:
        log_value = database.log.get(LOG_META_KEY)
        state_value = database.state.get(STATE_META_KEY)
    except Exception as error:
        raise DamagedError(f"{database.path} cannot be read: {error}") from error
    try:
        if log_value is None and state_value is None:
            if record_before(database, (1 << 64) - 1) is not None:
                raise DamagedRecord("there are log records but no bookkeeping")
            return None
        if log_value is None or state_value is None:
            raise DamagedRecord("the bookkeeping of the log or of the state is missing")
        meta = unpack_log_meta(log_value)
        generation, state_zxid = unpack_state_meta(state_value)
        if meta.generation != generation:
            raise DamagedRecord("the log and the state are of different generations: one of them has lost writes")
        if meta.purged_zxid > state_zxid:
            raise DamagedRecord(
                f"the state ends at {state_zxid:#x} but the log starts after {meta.purged_zxid:#x}: "
                "entries between them are missing"
            )
        last_zxid, chain = _verify_tail(database, meta, state_zxid)
        if last_zxid < state_zxid:
            raise DamagedRecord(f"the log ends at {last_zxid:#x}, below the state ({state_zxid:#x})")
    except DamagedRecord as error:
        raise DamagedError(f"{database.path}: {error}") from error
    return Contents(meta, generation, state_zxid, last_zxid, chain)


def _verify_tail(database: Database, meta: LogMeta, state_zxid: int) -> tuple[int, int]:
    """(last zxid, chain there), verified from the record with `state_zxid` on."""
    begin = record_before(database, state_zxid)
    start = begin[0] if begin is not None else meta.purged_zxid
    before = record_before(database, start - 1) if start > 0 else None
    if before is not None:
        last, (count, chain) = before[0], batch_chain(before[1])
        last += count - 1
    else:
        last, chain = meta.purged_zxid, meta.purged_chain
    for key, value in scan(database.log, log_key(start), LOG_END):
        first = key_zxid(key)
        if first <= last:
            raise DamagedRecord(f"the record of {first:#x} overlaps the one before it")
        try:
            entries, chain = unpack_batch(value, chain)
        except DamagedRecord as error:
            raise DamagedRecord(f"the log record of {first:#x}: {error}") from error
        last = first + len(entries) - 1
    return last, chain


def chain_at(database: Database, meta: LogMeta, zxid: int) -> int | None:
    """The chain at `zxid` if a record ends there or the log starts there, or None."""
    if zxid == meta.purged_zxid:
        return meta.purged_chain
    record = record_before(database, zxid)
    if record is None:
        return None
    count, chain = batch_chain(record[1])
    return chain if record[0] + count - 1 == zxid else None


def judge(database: Database, contents: Contents, floor: Floor) -> str | None:
    """Why the log may have lost acknowledged entries, or None. Raises `DamagedError`."""
    meta = contents.meta
    if floor.cuts > meta.cuts:
        return "a truncation of the log that was durable has been lost"
    if floor.accepted > meta.accepted or floor.current > meta.current:
        return (
            f"the epochs are {meta.accepted}/{meta.current}, below those that were durable "
            f"({floor.accepted}/{floor.current})"
        )
    must_reach = floor.zxid if floor.cuts == meta.cuts else meta.cut_zxid
    if contents.last_zxid < must_reach:
        return (
            f"the log ends at {contents.last_zxid:#x}, but entries up to {must_reach:#x} were durable: "
            "a file of the journal is missing or was cut short"
        )
    if floor.cuts == meta.cuts and floor.zxid > contents.state_zxid:
        chain = chain_at(database, meta, floor.zxid)
        if chain is not None and chain != floor.chain:
            raise DamagedError(f"{database.path}: the entry of {floor.zxid:#x} is not the one that was durable")
    return None
