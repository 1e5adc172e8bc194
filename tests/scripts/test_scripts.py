"""The golden transcripts: what servers say in the phases of the protocol, and around bugs that ZooKeeper had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scripts.driver import play

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    played = play(path)
    if os.environ.get("COREKIT_REWRITE"):
        path.write_text(played)
    assert "ERROR" not in played
    assert "VIOLATION" not in played
    assert played == path.read_text()
