"""The storage on RocksDB: the conformance suite, whose directory it takes, and that no damage goes unnoticed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corekit_storage_rocks.database import Database
from corekit_storage_rocks.records import LOG_END, log_key
from corekit_storage_rocks.storage import RocksStorage

from corekit.api import Recovery, Storage
from corekit.errors import EXIT_DAMAGED, EXIT_DATA_DIR, DamagedError, DataDirError, StorageError
from corekit.testing.storage import StorageSuite, entries_of, log_of


class TestRocks(StorageSuite):
    factory = "corekit_storage_rocks.storage:RocksStorage"

    def make_storage(self, path: Path) -> Storage:
        return RocksStorage(path)

    def lose_end(self, storage: Storage, path: Path, zxid: int) -> None:
        database = Database(path / "db", path / "journal")
        database.log.delete_range(log_key(zxid + 1), LOG_END)
        database.sync()
        database.close()

    def break_disk(self, storage: Storage) -> None:
        """The log's file becomes /dev/full: every write to it says that no space is left."""
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no /dev/full")
        full = os.open("/dev/full", os.O_WRONLY)
        broken = 0
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                name = os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:
                continue
            if name.endswith(".journal"):
                os.dup2(full, fd)
                broken += 1
        os.close(full)
        assert broken


class TestLogDirectory:
    """ZooKeeper's dataLogDir."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    def storage(self, path: Path) -> Iterator[RocksStorage]:
        storage = RocksStorage(path / "data", log_dir=path / "log")
        storage.open()
        yield storage
        storage.close()

    def test_the_journal_is_there(self, storage: RocksStorage, path: Path) -> None:
        storage.append(1, [b"x" * 1000], 1)
        storage.sync()
        assert any(b"x" * 1000 in file.read_bytes() for file in (path / "log/journal").iterdir())
        assert not (path / "data/journal").exists()

    @pytest.mark.parametrize(
        ("log_dir", "message"),
        [
            (None, "set dataLogDir to it"),
            ("other", "does not hold the log of"),
            ("data", "set dataLogDir to it"),
        ],
    )
    def test_data_without_its_log_is_refused(
        self, storage: RocksStorage, path: Path, log_dir: str | None, message: str
    ) -> None:
        storage.append(1, [b"x"], 1)
        storage.close()
        other = RocksStorage(path / "data", log_dir=path / log_dir if log_dir else None)
        with pytest.raises(DataDirError, match=message):
            other.open()
        assert storage.open().last_zxid == 1

    def test_what_is_damaged_is_set_aside_in_both(self, storage: RocksStorage, path: Path) -> None:
        storage.append(1, [b"x"], 1)
        storage.close()
        unlink(path, "data/db/CURRENT")
        with pytest.raises(DamagedError):
            storage.open()
        assert storage.open(set_aside=True).damage
        assert (path / "data/db.damaged-1").exists()
        assert (path / "log/journal.damaged-1").exists()

    def test_a_log_directory_belongs_to_one(self, storage: RocksStorage, path: Path) -> None:
        storage.close()
        with pytest.raises(DataDirError, match="the log directory of another data directory"):
            RocksStorage(path / "second", log_dir=path / "log").open()
        with pytest.raises(DataDirError, match="swap dataDir and dataLogDir"):
            RocksStorage(path / "log").open()

    def test_an_inner_log_cannot_be_moved_out(self, path: Path) -> None:
        storage = RocksStorage(path / "inner")
        storage.open()
        storage.close()
        with pytest.raises(DataDirError, match="remove dataLogDir"):
            RocksStorage(path / "inner", log_dir=path / "outer").open()


# --------------------------------------------------------------------------------------- whose directory
def test_the_holder_of_the_lock_is_named(tmp_path: Path) -> None:
    storage = RocksStorage(tmp_path)
    storage.open()
    program = (
        "import sys, pathlib; from corekit_storage_rocks.storage import RocksStorage\n"
        "from corekit.errors import DataDirError\n"
        "try: RocksStorage(pathlib.Path(sys.argv[1])).open()\n"
        "except DataDirError as error: print(error); sys.exit(error.exit_code)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == EXIT_DATA_DIR
    assert f"in use by another server (process {os.getpid()})" in result.stdout
    storage.close()
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["version-2/log.1", "version-2/snapshot.0", "myid"], "Apache ZooKeeper"),
        (["version-2/snapshot.100000000"], "Apache ZooKeeper"),
        (["member/wal/0.wal"], "not a corekit data directory .it holds member"),
        (["notes.txt", "photo.jpg"], "it holds notes.txt and 1 more"),
    ],
)
def test_a_foreign_directory_is_left_alone(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"theirs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataDirError, match=message) as caught:
        RocksStorage(tmp_path).open()
    assert "choose a" in str(caught.value), "the way out is not named"
    assert sorted(tmp_path.rglob("*")) == before


def test_what_belongs_beside_the_data_is_not_foreign(tmp_path: Path) -> None:
    for name in ("myid", "initialize", "zookeeper_server.pid", "zoo.cfg.dynamic.100000000", ".hidden"):
        (tmp_path / name).write_bytes(b"1")
    storage = RocksStorage(tmp_path)
    assert storage.open().fresh
    storage.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "has format 1, this corekit reads format 2"),
        ({"storage": "sqlite"}, "belongs to corekit/sqlite"),
        ({"product": "other"}, "belongs to other/rocks"),
        ({"format": None}, "cannot be read"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    storage = RocksStorage(tmp_path)
    storage.open()
    storage.close()
    marker = tmp_path / "corekit.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | change))
    with pytest.raises(DataDirError, match=message):
        storage.open()
    marker.write_bytes(b"\xff\xfe")
    with pytest.raises(DataDirError, match="cannot be read"):
        storage.open()


def test_a_directory_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataDirError, match="choose another --data-dir"):
        RocksStorage(tmp_path / "file" / "data").open()


# ------------------------------------------------------------------------------------------------ damage
def flip(file: Path, offset: int, mask: int = 16) -> None:
    with open(file, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ mask]))


def unlink(folder: Path, pattern: str) -> None:
    files = list(folder.glob(pattern))
    assert files
    for file in files:
        file.unlink()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as a killed process left it: 200 batches of three entries in the journal, all synced."""
    path = tmp_path_factory.mktemp("killed") / "data"
    program = (
        "import os, sys, pathlib; from corekit_storage_rocks.storage import RocksStorage\n"
        "from corekit.testing.storage import entries_of\n"
        "storage = RocksStorage(pathlib.Path(sys.argv[1])); storage.open(); storage.save_epochs(1, 1)\n"
        "for zxid in range(1, 600, 3):\n"
        "    storage.append(zxid, entries_of(zxid, zxid + 2), zxid + 2); storage.sync()\n"
        "    if zxid == 301: storage.write_state(300, [(b'/a', b'1')], [])\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=True)
    return path


@pytest.fixture
def copy(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "copy"))


def segment_of(path: Path) -> Path:
    return path / "journal" / "0000000001.journal"


def end_of(file: Path) -> int:
    """Where the frames end and the zeroes begin."""
    return len(file.read_bytes().rstrip(b"\0"))


def test_a_killed_process_loses_nothing(copy: Path) -> None:
    storage = RocksStorage(copy)
    assert storage.open() == Recovery(1, 1, 300, 600, fresh=False)
    assert log_of(storage, 0) == list(range(1, 601))
    storage.close()


def open_or_refusal(storage: RocksStorage) -> tuple[Recovery, DamagedError | None]:
    try:
        return storage.open(), None
    except DamagedError as error:
        return Recovery(), error


Damage = Callable[[Path], object]


def cut(amount: Callable[[int], int]) -> Damage:
    return lambda path: os.truncate(segment_of(path), amount(end_of(segment_of(path))))


def flip_at(place: Callable[[int], int]) -> Damage:
    return lambda path: flip(segment_of(path), place(end_of(segment_of(path))))


def zero_tail(path: Path) -> None:
    segment = segment_of(path)
    size, end = segment.stat().st_size, end_of(segment)
    os.truncate(segment, end - 1000)
    os.truncate(segment, size)


DAMAGES: dict[str, Damage] = {
    "bit in the middle": flip_at(lambda end: end // 2),
    "bit at the end": flip_at(lambda end: end - 1),
    "bit at the start": flip_at(lambda end: 0),
    "journal cut to nothing": cut(lambda end: 0),
    "journal cut by a byte": cut(lambda end: end - 1),
    "journal cut in half": cut(lambda end: end // 2),
    "zeroes at the end": zero_tail,
    "segment missing": lambda path: segment_of(path).unlink(),
    "journal missing": lambda path: shutil.rmtree(path / "journal"),
    "CURRENT missing": lambda path: unlink(path, "db/CURRENT"),
    "MANIFEST missing": lambda path: unlink(path, "db/MANIFEST*"),
    "MANIFEST altered": lambda path: flip(next(path.glob("db/MANIFEST*")), 50),
    "floor missing": lambda path: unlink(path, "floor"),
    "floor altered": lambda path: (path / "floor").write_bytes(os.urandom(4096)),
    "database missing": lambda path: shutil.rmtree(path / "db"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_and_named(copy: Path, kind: str) -> None:
    DAMAGES[kind](copy)
    storage = RocksStorage(copy)
    recovery, refusal = open_or_refusal(storage)
    if refusal is not None:
        assert refusal.exit_code == EXIT_DAMAGED
        assert str(copy) in str(refusal)
        assert "restore a backup" in str(refusal), "the way out is not named"
    else:
        assert recovery.damage
        assert log_of(storage, 0) == list(range(1, recovery.last_zxid + 1)), "what is left is a sound prefix"
        storage.close()
    # A member of an ensemble goes on all the same, as one that has lost its data and keeps its promises.
    recovery = storage.open(set_aside=True)
    assert recovery.damage
    assert (recovery.accepted_epoch, recovery.current_epoch) == (1, 1), "an epoch that was promised is forgotten"
    storage.begin_state()
    storage.commit_state(700)
    storage.append(701, entries_of(701, 701), 701)
    storage.clear_damage()
    storage.close()
    assert storage.open().damage is None
    assert log_of(storage, 700) == [701]
    storage.close()


@pytest.mark.parametrize("torn", [b"\1" * 100, b"ckj1" * 8 + b"\0" * 40 + b"ckj1"])
def test_a_torn_tail_that_was_never_synced_is_no_damage(copy: Path, torn: bytes) -> None:
    with open(segment_of(copy), "r+b") as stream:
        stream.seek(end_of(segment_of(copy)))
        stream.write(torn)
    for _ in range(2):  # what comes after it is not mistaken for lost
        storage = RocksStorage(copy)
        assert storage.open() == Recovery(1, 1, 300, 600, fresh=False)
        shutil.copytree(copy, copy.with_name("killed again"))
        storage.close()
        shutil.rmtree(copy)
        copy.with_name("killed again").rename(copy)


def test_no_single_flipped_bit_of_the_journal_is_served(copy: Path, killed: Path) -> None:
    rng = random.Random(4)
    end = end_of(segment_of(killed))
    for _ in range(60):
        shutil.rmtree(copy)
        shutil.copytree(killed, copy)
        flip(segment_of(copy), offset := rng.randrange(end), mask := 1 << rng.randrange(8))
        storage = RocksStorage(copy)
        try:
            recovery = storage.open()
        except DamagedError:
            continue
        assert recovery.damage, f"bit {mask} of byte {offset} was not noticed"
        storage.close()


@pytest.fixture
def segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A directory as a crash leaves it, with several segments in the journal that are not in tables yet."""
    monkeypatch.setattr(Database, "_in_tables", lambda self: False)
    monkeypatch.setattr(Database, "_new_memtables", lambda self: None)
    storage = RocksStorage(tmp_path / "data", segment_bytes=7_000)
    storage.open()
    for zxid in range(1, 101):
        storage.append(zxid, entries_of(zxid, zxid), zxid)
        storage.sync()
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")
    monkeypatch.undo()
    storage.close()
    found = sorted((tmp_path / "crashed" / "journal").glob("*.journal"))
    assert len(found) >= 4
    return found


def test_segments_are_read_one_after_the_other(segments: list[Path]) -> None:
    storage = RocksStorage(segments[0].parent.parent)
    assert storage.open().last_zxid == 100
    assert log_of(storage, 0) == list(range(1, 101))
    storage.close()
    assert len(list(segments[0].parent.glob("*.journal"))) == 1, "what is in tables is not kept"
    assert storage.open() == Recovery(0, 0, 0, 100, fresh=False)
    storage.close()


def test_a_young_directory_without_its_journal_says_what_is_missing(tmp_path: Path) -> None:
    """Nothing is in the database's tables yet, so that it is the journal that was lost."""
    storage = RocksStorage(tmp_path / "data")
    storage.open()
    storage.append(1, entries_of(1, 1), 1)
    storage.sync()
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")
    storage.close()
    [segment] = (tmp_path / "crashed" / "journal").iterdir()
    for damage in (lambda: segment.write_bytes(b""), segment.unlink):
        damage()
        with pytest.raises(DamagedError, match=r"a file of .*/journal or of the database is missing"):
            RocksStorage(tmp_path / "crashed").open()


@pytest.mark.parametrize("number", range(3))
def test_a_segment_that_is_missing_or_shorter_is_damage(segments: list[Path], number: int) -> None:
    path = segments[0].parent.parent
    segment = segments[number]
    content = segment.read_bytes()
    last = content.rindex(b"ckj1")  # where its last frame begins: cut there, every frame that is left is sound
    for damage in (segment.unlink, lambda: segment.write_bytes(content[:last]), lambda: segment.write_bytes(b"")):
        damage()
        with pytest.raises(DamagedError, match="missing"):
            RocksStorage(path).open()
        segment.write_bytes(content)
    assert RocksStorage(path).open().damage is None


def test_recovery_that_is_killed_can_be_begun_again(copy: Path) -> None:
    program = (
        "import os, sys, pathlib; from corekit_storage_rocks.storage import RocksStorage\n"
        "RocksStorage(pathlib.Path(sys.argv[1])).open(); os._exit(0)"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program, str(copy)], timeout=60, check=True)
    storage = RocksStorage(copy)
    assert storage.open() == Recovery(1, 1, 300, 600, fresh=False)
    storage.close()


@pytest.fixture
def in_tables(tmp_path: Path) -> Path:
    """A directory that was closed in good order: log and state are in tables, a few hundred KB each."""
    path = tmp_path / "data"
    storage = RocksStorage(path)
    storage.open()
    for zxid in range(1, 2001):
        storage.append(zxid, [b"%08d" % zxid * 20], zxid)
    storage.write_state(1000, [(b"/n%05d" % n, b"%08d" % n * 20) for n in range(2000)], [])
    storage.close()
    return path


def test_damaged_tables_are_found_when_they_are_read(in_tables: Path) -> None:
    """rocksdict's own iterators end silently at a damaged block."""
    found = []
    for table in in_tables.glob("db/*.sst"):
        flip(table, table.stat().st_size // 3)
        storage = RocksStorage(in_tables)
        with pytest.raises(DamagedError, match=str(in_tables)):
            read_everything(storage)
        storage.close()
        flip(table, table.stat().st_size // 3)
        with pytest.raises(DamagedError, match="a table of the database cannot be read"):
            storage.open()  # what has been damaged once is not trusted again
        (in_tables / "damaged").unlink()
        found.append(table)
    assert len(found) == 2, "one table of the log and one of the state"
    read_everything(storage)
    storage.close()


def test_an_ensemble_gets_over_damaged_tables(in_tables: Path) -> None:
    """Found in the middle of reading; the next start sets it aside."""
    for table in in_tables.glob("db/*.sst"):
        flip(table, table.stat().st_size // 3)
    storage = RocksStorage(in_tables)
    with pytest.raises(DamagedError):
        read_everything(storage)
    storage.close()
    assert storage.open(set_aside=True).damage
    assert list(storage.read_state()) == []
    storage.close()
    assert storage.open().damage
    storage.close()


def test_a_log_that_ends_too_early_is_found_when_it_is_read(tmp_path: Path) -> None:
    storage = RocksStorage(tmp_path / "data")
    storage.open()
    storage.append(1, entries_of(1, 9), 9)
    storage.append(10, entries_of(10, 19), 19)
    storage._database.log.delete(log_key(10))
    with pytest.raises(DamagedError, match="ends at 0x9, not at 0x13"):
        storage.read_log(0, 1 << 30)
    storage.close()


def read_everything(storage: RocksStorage) -> None:
    assert storage.open().damage is None
    assert sum(1 for _ in storage.read_state()) == 2000
    assert sum(1 for _ in storage.read_log(0, 1 << 30)) == 2000


def test_a_missing_table_is_found(in_tables: Path) -> None:
    for table in in_tables.glob("db/*.sst"):
        table.rename(in_tables / "hidden")
        with pytest.raises(DamagedError, match=str(in_tables)):
            RocksStorage(in_tables).open()
        (in_tables / "hidden").rename(table)


def test_an_empty_database_is_found(in_tables: Path) -> None:
    unlink(in_tables, "db/*")
    with pytest.raises(DamagedError, match="journal is missing"):
        RocksStorage(in_tables).open()


def test_a_missing_record_breaks_the_chain(in_tables: Path) -> None:
    database = Database(in_tables / "db", in_tables / "journal")
    database.log.delete(log_key(1500))
    database.close()
    with pytest.raises(DamagedError, match="the log record of 0x5dd: the hash chain is broken"):
        RocksStorage(in_tables).open()


def test_a_missing_old_record_is_found_when_it_is_read(in_tables: Path) -> None:
    database = Database(in_tables / "db", in_tables / "journal")
    database.log.delete(log_key(500))
    database.close()
    storage = RocksStorage(in_tables)
    assert storage.open().damage is None
    with pytest.raises(DamagedError, match="hash chain"):
        storage.read_log(100, 1 << 30)
    storage.close()


def test_a_truncation_that_was_lost_is_damage(tmp_path: Path) -> None:
    """The entries that were cut off would be back: worse than missing ones."""
    storage = RocksStorage(tmp_path / "data")
    storage.open()
    storage.append(1, entries_of(1, 9), 9)
    storage.close()
    for part in ("db", "journal"):
        shutil.copytree(tmp_path / "data" / part, tmp_path / "old" / part)
    storage.open()
    storage.truncate(5)
    storage.append(6, [b"new"] * 20, 25)
    storage.truncate(9)
    storage.close()
    for part in ("db", "journal"):
        shutil.rmtree(tmp_path / "data" / part)
        shutil.move(tmp_path / "old" / part, tmp_path / "data" / part)
    recovery = storage.open()
    assert recovery.damage is not None
    assert "truncation" in recovery.damage
    storage.close()


def test_a_closed_directory_comes_back_whole_after_its_first_failure(tmp_path: Path) -> None:
    """After a failure the process ends; what had been synced is there in the next one."""
    storage = RocksStorage(tmp_path / "data")
    storage.open()
    storage.append(1, entries_of(1, 9), 9)
    storage.sync()
    TestRocks().break_disk(storage)
    storage.append(10, entries_of(10, 10), 10)
    with pytest.raises(StorageError, match=r"syncing .* failed"):
        storage.sync()
    storage.close()
    assert storage.open().last_zxid in (9, 10)  # what failed is unknown, not undone
    assert log_of(storage, 0)[:9] == list(range(1, 10))
    storage.close()


def test_usage(tmp_path: Path) -> None:
    storage = RocksStorage(tmp_path / "data")
    storage.open()
    assert storage.usage().free_bytes > 0
    storage.append(1, [b"x" * 100_000], 1)
    storage.write_state(1, [(b"/a", b"x" * 50_000)], [])
    storage.close()
    storage.open()
    usage = storage.usage()
    assert usage.log_bytes > 100_000
    assert usage.state_bytes > 50_000
    storage.close()
