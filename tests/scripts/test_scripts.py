"""The golden transcripts: what servers say in the phases of the protocol, and around bugs that ZooKeeper had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corekit_zab import peer

from tests.scripts.driver import Stage, play

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    played = play(path)
    if os.environ.get("COREKIT_REWRITE"):
        path.write_text(played)
    assert "ERROR" not in played
    assert "VIOLATION" not in played
    assert played == path.read_text()


def test_a_learner_whose_requests_pile_up_behind_its_syncs_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients are answered by its next leader, or connect elsewhere; the leader's memory has a bound."""
    monkeypatch.setattr(peer, "HELD_BYTES_MAX", 2000)
    stage = Stage()
    for command in ("servers 3", "boot 1 2 3", "until serving", "write 3 a=1", "run 50", "show log", "sync 2"):
        stage.perform(command)
    stage.perform("sync 1")
    for number in range(20):
        stage.perform(f"write 1 b{number}={'x' * 100}")
    stage.perform("run 100")
    assert any("bytes of requests behind its syncs" in line for line in stage.lines), stage.lines
    for command in ("until serving", "run 2000", "equal"):
        stage.perform(command)
