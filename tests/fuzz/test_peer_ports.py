"""Fuzz of the ports between servers, with fresh seeds. The full runs: `python -m tests.fuzz --port quorum`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.peers import fuzz_peer_ports

INPUTS = 1500


@pytest.mark.parametrize("port", ["quorum", "election"])
def test_hostile_inputs_between_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str) -> None:
    figures = fuzz_peer_ports(port, tmp_path, random.randrange(1 << 30), INPUTS)
    assert figures.taken > INPUTS / 2
    with capsys.disabled():
        print(f"\n  fuzz of the {port} port: {figures} ", end="", flush=True)
