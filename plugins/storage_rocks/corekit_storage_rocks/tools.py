"""For the operator of a damaged directory: `check` says what is there, `salvage` keeps the part that is sound.

Why: a log that has lost its end, or cannot be opened, is never served from. In an ensemble the server fetches
everything anew from the others. A single server, or an ensemble that lost power as a whole, needs a person to decide.

Rules
- Both take the directory's lock, so no server runs on it.
- `check` changes nothing. `salvage` works on a copy, and takes its place only if it is good enough; the original
  is set aside, not deleted.
- Good enough: the sound part reaches the floor record, and `at_least` if it is given: the highest zxid that any
  member of the ensemble has (`check` shows it). Less only with `accept_loss`.

Not here: the command line (`__main__.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from corekit.errors import DamagedError, DataDirError
from corekit_storage_rocks.database import Batch, Database, scan
from corekit_storage_rocks.directory import MARKER, DataDirectory
from corekit_storage_rocks.floor import Floor, FloorFile
from corekit_storage_rocks.records import (
    DAMAGE_KEY,
    LOG_END,
    LOG_META_KEY,
    LOG_PREFIX,
    DamagedRecord,
    generation_prefix,
    key_zxid,
    unpack_batch,
)
from corekit_storage_rocks.recovery import Contents, examine, judge


@dataclass(slots=True)
class Report:
    """What a directory holds.

    Attributes:
        floor: how far the log must reach, or None if that record is lost.
        accepted, current: epochs.
        first_zxid, last_zxid: of the log's entries (`first_zxid` 0: none).
        entries: how many they are.
        state_zxid, pairs: of the state.
        problem: why a server does not start from it, or None.
    """

    floor: Floor | None = None
    accepted: int = 0
    current: int = 0
    first_zxid: int = 0
    last_zxid: int = 0
    entries: int = 0
    state_zxid: int = 0
    pairs: int = 0
    problem: str | None = None


def check(data_dir: Path, log_dir: Path | None = None) -> Report:
    """Read and verify everything. Raises DataDirError."""
    with _claimed(data_dir, log_dir) as directory, _copied(directory) as copy:
        return _inspect(directory, copy, up_to_damage=False)[0]


def salvage(
    data_dir: Path, log_dir: Path | None = None, *, at_least: int = 0, accept_loss: bool = False
) -> tuple[Report, Path]:
    """Let the sound part of a damaged directory take its place.

    Returns what is there now, and where the original is.

    Raises:
        DataDirError: the directory cannot be used, or needs no salvage.
        DamagedError: nothing sound is there, or it does not reach far enough. Nothing was changed.
    """
    with _claimed(data_dir, log_dir) as directory, _copied(directory) as copy:
        before, _ = _inspect(directory, copy, up_to_damage=False)
        if before.problem is None:
            raise DataDirError(f"{data_dir} is sound: there is nothing to salvage")
        report, contents = _inspect(directory, copy, up_to_damage=True)
        if contents is None:
            raise DamagedError(f"nothing of {data_dir} can be saved: {report.problem}")
        must_reach = max(at_least, report.floor.zxid if report.floor is not None else 0)
        short = report.floor is None or report.last_zxid < must_reach or "truncation" in (report.problem or "")
        if short and not accept_loss:
            why = report.problem or f"{must_reach:#x} is asked for"
            raise DamagedError(
                f"what can be saved of {data_dir} ends at {report.last_zxid:#x}, but {why}; "
                "to go on with that loss, say so (--accept-loss)"
            )
        _mend(copy, contents, report.floor)
        aside = directory.set_aside()
        shutil.move(copy.journal, directory.journal)
        os.rename(copy.database, directory.database)
        directory.floor.unlink(missing_ok=True)  # its slots would say more than what is there now
        FloorFile(directory.floor, create=True).close()
        report.problem = None
        return report, aside


@contextmanager
def _claimed(data_dir: Path, log_dir: Path | None) -> Iterator[DataDirectory]:
    if not (data_dir / MARKER).exists():
        raise DataDirError(f"{data_dir} is not a corekit data directory")
    directory = DataDirectory(data_dir, log_dir)
    directory.claim()
    try:
        yield directory
    finally:
        directory.release()


@dataclass(slots=True, frozen=True)
class _Copy:
    """Where the database and the journal have been copied to."""

    database: Path
    journal: Path


@contextmanager
def _copied(directory: DataDirectory) -> Iterator[_Copy]:
    """A copy of the database and of its journal: opening them changes files."""
    copy = directory.path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    try:
        copy.mkdir()
        paths = _Copy(copy / "db", copy / "journal")
        for source, target in ((directory.database, paths.database), (directory.journal, paths.journal)):
            if source.exists():
                shutil.copytree(source, target)
        yield paths
    except OSError as error:
        raise DataDirError(f"{directory.path} cannot be copied: {error}; a copy needs as much space again") from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _inspect(directory: DataDirectory, copy: _Copy, *, up_to_damage: bool) -> tuple[Report, Contents | None]:
    """A report, and the contents if they are sound (which may still be too short)."""
    report = Report()
    try:
        if not copy.database.exists():
            raise DamagedError(f"{directory.database} is missing")
        if directory.floor.exists():
            floor = FloorFile(directory.floor, create=False)
            report.floor = floor.value
            floor.close()
        else:
            report.problem = f"{directory.floor} is missing"
    except ValueError as error:
        report.problem = f"{directory.floor} is damaged: {error}"
    except DamagedError as error:
        report.problem = str(error)
        return report, None
    try:
        database = Database(copy.database, copy.journal, up_to_damage=up_to_damage)
    except DamagedError as error:
        report.problem = _original(str(error), directory, copy)
        return report, None
    try:
        contents = examine(database)
        if contents is None:
            raise DamagedError(f"{directory.database} is empty")
        _count(database, contents, report)
        report.problem = report.problem or directory.noted_damage()
        note = database.log.get(DAMAGE_KEY)
        report.problem = report.problem or (note.decode() if note is not None else None)
        if report.floor is not None:
            report.problem = judge(database, contents, report.floor) or report.problem
    except DamagedError as error:
        report.problem = _original(str(error), directory, copy)
        return report, None
    finally:
        database.close()
    return report, contents


def _original(text: str, directory: DataDirectory, copy: _Copy) -> str:
    """A message about the copy, as one about what was copied."""
    text = text.replace(str(copy.database), str(directory.database))
    return text.replace(str(copy.journal), str(directory.journal))


def _count(database: Database, contents: Contents, report: Report) -> None:
    """Read every entry and every pair. Raises DamagedError."""
    report.accepted, report.current = contents.meta.accepted, contents.meta.current
    report.last_zxid, report.state_zxid = contents.last_zxid, contents.state_zxid
    chain: int | None = contents.meta.purged_chain
    for key, value in scan(database.log, LOG_PREFIX, LOG_END):
        try:
            entries, chain = unpack_batch(value, chain)
        except DamagedRecord as error:
            raise DamagedError(f"the log record of {key_zxid(key):#x}: {error}") from error
        report.first_zxid = report.first_zxid or key_zxid(key)
        report.entries += len(entries)
    here, above = generation_prefix(contents.generation), generation_prefix(contents.generation + 1)
    report.pairs = sum(1 for _ in scan(database.state, here, above))


def _mend(copy: _Copy, contents: Contents, floor: Floor | None) -> None:
    """Make the copy one that is not damaged; a promised epoch is kept."""
    bar = floor or Floor()
    meta = replace(
        contents.meta,
        cuts=max(contents.meta.cuts, bar.cuts) + 1,
        cut_zxid=contents.last_zxid,
        accepted=max(contents.meta.accepted, bar.accepted),
        current=max(contents.meta.current, bar.current),
    )
    database = Database(copy.database, copy.journal)
    batch = Batch(database)
    batch.put(LOG_META_KEY, meta.pack())
    batch.delete(DAMAGE_KEY)
    database.write(batch)
    database.sync()
    database.close()
