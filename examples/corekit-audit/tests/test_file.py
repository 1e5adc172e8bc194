"""The file: whole lines, put aside in time, and none lost when the disk refuses for a while."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from corekit_audit import register_observers
from corekit_audit.file import RotatingFile
from corekit_audit.observer import AuditObserver
from corekit_audit.writer import Writer

from corekit.api import Peer
from corekit.errors import ConfigError
from corekit.testing.memory_server import MemoryServer


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond this, half-way if it must: as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def everything(file: RotatingFile, *lines: bytes) -> None:
    rest = list(lines)
    while rest:
        del rest[: file.append(rest)]


def test_it_is_put_aside_when_it_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatingFile(str(path), 30, 2)
    everything(file, *(b"line %d...\n" % number for number in range(8)))
    assert path.read_bytes() == b"line 6...\nline 7...\n"
    assert (tmp_path / "log.1").read_bytes() == b"line 3...\nline 4...\nline 5...\n"
    assert (tmp_path / "log.2").read_bytes() == b"line 0...\nline 1...\nline 2...\n"
    everything(file, b"line 8...\n", b"x" * 100 + b"\n", b"line 9...\n")
    assert path.read_bytes() == b"line 9...\n"
    assert (tmp_path / "log.1").read_bytes() == b"x" * 100 + b"\n"
    assert (tmp_path / "log.2").read_bytes() == b"line 6...\nline 7...\nline 8...\n"
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]


def test_nothing_is_kept_if_nothing_is_to_be_kept(tmp_path: Path) -> None:
    file = RotatingFile(str(tmp_path / "log"), 10, 0)
    everything(file, b"1234567\n", b"abcdefg\n")
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").read_bytes() == b"abcdefg\n"


def test_it_goes_on_where_a_crash_left_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"whole\nhal")
    everything(RotatingFile(str(path), 1000, 1), b"next\n")
    assert path.read_bytes() == b"whole\nnext\n"
    path.write_bytes(b"x" * 200_000)
    everything(RotatingFile(str(path), 1000, 1), b"next\n")
    assert path.read_bytes() == b"next\n"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatingFile(str(path), 1000, 1)
    everything(file, b"one\n")
    path.rename(tmp_path / "moved")
    everything(file, b"two\n")
    assert path.read_bytes() == b"two\n"
    path.unlink()
    everything(file, b"three\n")
    assert path.read_bytes() == b"three\n"


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    everything(RotatingFile(str(path), 1000, 1), b"one\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_refuses_for_a_while_loses_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    observer = AuditObserver(lambda: 0, 1 << 20)
    writer = Writer(observer, RotatingFile(str(path), 1 << 20, 1), frozenset(), logging.getLogger("test"))
    for number in range(20):
        observer.session_opened(number, 1000, Peer("127.0.0.1"))
    with caplog.at_level("INFO"):
        with files_no_larger_than(500):
            writer.write()
            assert writer.status()["last_error"]
            observer.session_opened(20, 1000, Peer("127.0.0.1"))
            writer.write()
        assert writer.status()["waiting"] == 21
        writer.write()
    assert [message.rpartition(" ")[0].split()[-1] for message in caplog.messages] == ["too", "written"]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 21
    assert [line.split(b'"session": "')[1].split(b'"')[0] for line in lines] == [b"0x%x" % n for n in range(21)]
    assert writer.status() == {"file": str(path), "written": 21, "waiting": 0, "dropped": 0, "last_error": None}


def test_what_has_no_room_is_dropped_and_counted_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    observer = AuditObserver(lambda: 0, 5000)
    writer = Writer(observer, RotatingFile(str(path), 1 << 20, 1), frozenset(), logging.getLogger("test"))
    for number in range(30):
        observer.session_opened(number, 1000, Peer("127.0.0.1"))
    assert observer.dropped == 20
    writer.write()
    observer.session_opened(30, 1000, Peer("127.0.0.1"))
    writer.write()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 12
    assert b'"op": "dropped", "count": 20' in lines[10]


@pytest.mark.parametrize(
    "setting",
    [("size-mb", "0"), ("size-mb", "many"), ("keep", "-1"), ("queue-mb", "0"), ("redact", "data"), ("path", "x")],
)
def test_wrong_settings_stop_the_start(setting: tuple[str, str]) -> None:
    name, value = setting
    context = MemoryServer({f"plugin.audit.{name}": value}).context("audit")
    with pytest.raises(ConfigError, match=rf"plugin\.audit\.{name}"):
        register_observers(context)
