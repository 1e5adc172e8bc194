"""That no damage goes unnoticed, and whose directory it is."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from corekit_sqlite.storage import SqliteStorage

from corekit.errors import DamagedError, DataDirError
from corekit.testing.storage import entries_of, log_of

Answer = tuple[list[int], list[tuple[bytes, bytes]]]


def fill(storage: SqliteStorage) -> None:
    """Something of everything; the state is at 40, the log begins at 11 and ends at 61."""
    storage.open()
    for zxid in range(1, 61):
        storage.append(zxid, entries_of(zxid, zxid), zxid)
        if zxid % 4 == 0:
            storage.sync()
    storage.save_epochs(3, 2)
    storage.write_state(40, [(b"/n%03d" % n, bytes((n,)) * 60) for n in range(200)], [])
    storage.sync()
    storage.purge(10)
    storage.append(61, entries_of(61, 61), 61)
    storage.sync()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory whose server has stopped."""
    storage = SqliteStorage(tmp_path / "data")
    fill(storage)
    storage.close()
    return tmp_path / "data"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A directory whose server was killed: much of it is in the write-ahead log."""
    storage = SqliteStorage(tmp_path / "alive")
    fill(storage)
    shutil.copytree(tmp_path / "alive", tmp_path / "data")
    storage.close()
    return tmp_path / "data"


def look(path: Path) -> Answer | None:
    """All that a storage gives out; None if it says that it is damaged."""
    storage = SqliteStorage(path)
    try:
        if storage.open().damage is not None:
            return None
        return log_of(storage, 10), list(storage.read_state())
    except DamagedError:
        return None
    finally:
        storage.close()


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def wal(path: Path) -> Path:
    return path / "db" / "corekit.sqlite-wal"


def cut(file: Path) -> None:
    with open(file, "r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def flip(file: Path, at: int, bit: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0] ^ (1 << bit)
        opened.seek(at)
        opened.write(bytes((byte,)))


@pytest.mark.parametrize("where", ["closed", "killed"])
def test_what_is_sound_is_read(request: pytest.FixtureRequest, where: str) -> None:
    answer = look(request.getfixturevalue(where))
    assert answer is not None
    assert answer[0] == list(range(11, 62))
    assert len(answer[1]) == 200


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: wal(path).unlink(),
        lambda path: cut(wal(path)),
        lambda path: wal(path).write_bytes(b""),
        lambda path: flip(wal(path), wal(path).stat().st_size - 2000, 3),
        lambda path: (path / "db" / "corekit.sqlite").unlink(),
        lambda path: shutil.rmtree(path / "db"),
        lambda path: (path / "floor").unlink(),
        lambda path: (path / "floor").write_bytes(b"x" * 4096),
        lambda path: cut(path / "floor"),
    ],
    ids=[
        "write-ahead log missing",
        "write-ahead log cut",
        "write-ahead log empty",
        "bit in the write-ahead log",
        "database missing",
        "folder missing",
        "floor missing",
        "floor overwritten",
        "floor cut",
    ],
)
def test_what_is_lost_is_noticed_and_can_be_set_aside(killed: Path, damage: Callable[[Path], object]) -> None:
    damage(killed)
    storage = SqliteStorage(killed)
    assert storage.open(set_aside=True).damage
    storage.close()
    assert look(killed) is None, "a restart forgets the damage"
    assert storage.open().damage
    storage.begin_state()
    storage.stage_state([(b"/a", b"1")])
    storage.commit_state(70)
    storage.clear_damage()
    storage.close()
    assert storage.open().damage is None
    assert list(storage.read_state()) == [(b"/a", b"1")]
    storage.close()


def test_no_flipped_bit_changes_what_is_given_out(closed: Path, tmp_path: Path) -> None:
    """Anywhere in the database: it is noticed, or it does not matter."""
    due = look(closed)
    rng = random.Random(6)
    size = (closed / "db" / "corekit.sqlite").stat().st_size
    noticed = 0
    for number in range(120):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(closed, copy)
        at, bit = rng.randrange(size), rng.randrange(8)
        flip(copy / "db" / "corekit.sqlite", at, bit)
        found = look(copy)
        assert found in (None, due), f"bit {bit} of byte {at}"
        noticed += found is None
        shutil.rmtree(copy)
    assert noticed > 20, "next to nothing was noticed: the flips miss what matters"


def test_a_pair_or_an_entry_that_is_missing_is_noticed(closed: Path, tmp_path: Path) -> None:
    """Without the triggers, as a lost page would do it."""
    for number, statements in enumerate(
        (
            ("DROP TRIGGER pair_removed", "DELETE FROM state WHERE key = x'2f6e303037'"),
            ("DELETE FROM log WHERE first = (SELECT max(first) FROM log WHERE first < 50)",),
            ("UPDATE log SET first = first + 1000, last = last + 1000 WHERE first > 50",),
            ("DELETE FROM note WHERE name = 'meta'",),
        )
    ):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(closed, copy)
        with closing(sqlite3.connect(copy / "db" / "corekit.sqlite")) as database, database:
            for statement in statements:
                assert database.execute(statement).rowcount != 0
        assert look(copy) is None, statements


def test_a_refused_directory_is_left_as_it_was(killed: Path, tmp_path: Path) -> None:
    """Not even the write-ahead log is taken into the database."""
    copy = tmp_path / "copy"
    with closing(sqlite3.connect(killed / "db" / "corekit.sqlite")) as database:
        with database:
            database.execute("UPDATE log SET body = zeroblob(20) WHERE first = 45")
        shutil.copytree(killed, copy)
    before = files(copy)
    assert len(before["db/corekit.sqlite-wal"]) > 10_000
    del before["db/corekit.sqlite-shm"]  # SQLite's index of the log, which holds nothing of its own
    (copy / "db" / "corekit.sqlite-shm").unlink()
    with pytest.raises(DamagedError, match="restore a backup"):
        SqliteStorage(copy).open()
    assert files(copy) | {"lock": b""} == before | {"lock": b""}


def test_damage_found_while_reading_is_remembered(closed: Path) -> None:
    with closing(sqlite3.connect(closed / "db" / "corekit.sqlite")) as database, database:
        database.execute("UPDATE log SET body = zeroblob(20) WHERE first = 11")  # below the state: not read at start
    storage = SqliteStorage(closed)
    assert storage.open().damage is None
    with pytest.raises(DamagedError):
        storage.read_log(10, 1000)
    storage.close()
    with pytest.raises(DamagedError):
        storage.open()
    recovery = storage.open(set_aside=True)
    assert recovery.damage
    assert (recovery.accepted_epoch, recovery.current_epoch) == (3, 2)
    assert (closed / "db.damaged-1").is_dir()
    storage.close()


# --------------------------------------------------------------------------------------- whose directory
@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["version-2/log.1", "myid"], "Apache ZooKeeper"),
        (["member/wal/0.wal"], "it holds member"),
        (["corekit.json"], "cannot be read"),
    ],
)
def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    before = sorted(file.name for file in tmp_path.rglob("*"))
    with pytest.raises(DataDirError, match=words):
        SqliteStorage(tmp_path).open()
    assert sorted(file.name for file in tmp_path.rglob("*") if file.name != "lock") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"storage": "rocks"}, "belongs to corekit/rocks, not to corekit/sqlite; choose the matching storage plugin"),
        ({"format": 7}, "has format 7, this corekit-sqlite reads format 1"),
    ],
)
def test_another_storage_and_another_format_are_refused(closed: Path, change: dict[str, object], words: str) -> None:
    marker = json.loads((closed / "corekit.json").read_text())
    (closed / "corekit.json").write_text(json.dumps(marker | change))
    with pytest.raises(DataDirError, match=words):
        SqliteStorage(closed).open()


def test_files_of_zookeepers_tools_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("1")
    (tmp_path / "zoo.cfg.dynamic.100000000").write_text("")
    storage = SqliteStorage(tmp_path)
    assert storage.open().fresh
    storage.close()


def test_a_creation_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path)
    storage.open()
    storage.close()
    (tmp_path / "db" / "corekit.sqlite").write_bytes(b"half of")
    assert storage.open().fresh
    storage.close()


def test_usage_tells_log_and_state_apart(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path)
    storage.open()
    for zxid in range(1, 101):
        storage.append(zxid, [b"x" * 10_000], zxid)
    storage.sync()
    storage.write_state(100, [(b"/a", b"y" * 50_000)], [])
    storage.sync()
    used = storage.usage()
    assert used.log_bytes > 1_000_000
    assert used.free_bytes > 0
    storage.purge(90)
    storage.close()
    storage.open()
    assert storage.usage().log_bytes < 200_000
    storage.close()
