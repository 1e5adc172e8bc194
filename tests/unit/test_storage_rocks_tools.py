"""What an operator does with a damaged data directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from corekit_storage_rocks.__main__ import main
from corekit_storage_rocks.storage import RocksStorage

from corekit.api import Recovery
from corekit.errors import EXIT_DAMAGED, EXIT_DATA_DIR, DamagedError
from corekit.testing.storage import entries_of, log_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory as a crash leaves it: a copy taken while the storage was open. 30 entries in the log."""
    storage = RocksStorage(tmp_path / "running")
    storage.open()
    storage.save_epochs(2, 1)
    for zxid in range(1, 31):
        storage.append(zxid, entries_of(zxid, zxid), zxid)
        if zxid == 10:
            storage.write_state(5, [(b"/a", b"1"), (b"/b", b"2")], [])
        storage.sync()
    shutil.copytree(tmp_path / "running", tmp_path / "data")
    storage.close()
    return tmp_path / "data"


def segment_of(path: Path) -> Path:
    return path / "journal" / "0000000001.journal"


def end_of(file: Path) -> int:
    """Where the frames end and the zeroes begin."""
    return len(file.read_bytes().rstrip(b"\0"))


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"}


def test_check_of_a_sound_directory(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(path)
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "30 entries, 0x1 to 0x1e" in out
    assert "2 pairs as of 0x5" in out
    assert "accepted 2, current 1" in out
    assert "problem: none" in out
    assert contents(path) == before


def test_check_names_the_problem_and_changes_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(segment_of(path), end_of(segment_of(path)) // 2)
    before = contents(path)
    assert main(["check", str(path)]) == EXIT_DAMAGED
    assert "but entries up to 0x1e were durable" in capsys.readouterr().out
    assert contents(path) == before


def test_what_is_no_data_directory_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == EXIT_DATA_DIR
    assert "not a corekit data directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_running_server_is_not_disturbed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = RocksStorage(path)
    storage.open()
    assert main(["salvage", str(path)]) == EXIT_DATA_DIR
    assert "in use" in capsys.readouterr().err
    storage.close()


def test_a_sound_directory_is_not_salvaged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["salvage", str(path)]) == EXIT_DATA_DIR
    assert "is sound" in capsys.readouterr().err


def test_what_lost_nothing_is_salvaged_without_more_words(path: Path) -> None:
    """A read once found damage that is not there (any more): a cable, or memory."""
    (path / "damaged").write_text("a table could not be read\n")
    with pytest.raises(DamagedError, match="a table could not be read"):
        RocksStorage(path).open()
    assert main(["salvage", str(path), "--at-least", "0x1e"]) == 0
    storage = RocksStorage(path)
    assert storage.open() == Recovery(2, 1, 5, 30, fresh=False)
    assert log_of(storage, 0) == list(range(1, 31))
    assert list(storage.read_state()) == [(b"/a", b"1"), (b"/b", b"2")]
    storage.close()


def test_a_loss_must_be_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = segment_of(path)
    data = bytearray(segment.read_bytes())
    data[end_of(segment) // 2] ^= 1
    segment.write_bytes(data)
    before = contents(path)
    assert main(["salvage", str(path)]) == EXIT_DAMAGED
    assert "--accept-loss" in capsys.readouterr().err
    assert contents(path) == before
    assert main(["salvage", str(path), "--accept-loss"]) == 0
    assert (path / "journal.damaged-1" / segment.name).read_bytes() == data, "the original is kept"
    storage = RocksStorage(path)
    recovery = storage.open()
    assert recovery.damage is None
    assert 5 <= recovery.last_zxid < 30
    assert (recovery.accepted_epoch, recovery.current_epoch) == (2, 1)
    assert log_of(storage, 0) == list(range(1, recovery.last_zxid + 1))
    storage.append(31, entries_of(31, 31), 31)
    storage.close()
    assert storage.open().last_zxid == 31
    storage.close()


def test_other_members_may_know_more(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "floor").unlink()
    assert main(["salvage", str(path), "--at-least", "31"]) == EXIT_DAMAGED
    capsys.readouterr()
    assert main(["salvage", str(path), "--at-least", "31", "--accept-loss"]) == 0
    assert main(["check", str(path)]) == 0


def test_nothing_to_be_saved(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "db/CURRENT").unlink()
    assert main(["salvage", str(path), "--accept-loss"]) == EXIT_DAMAGED
    assert "CURRENT is missing" in capsys.readouterr().err
