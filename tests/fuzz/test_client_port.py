"""Fuzz of the client port: a short run with a fresh seed. The full one: `python -m tests.fuzz`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.run import fuzz_client_port

INPUTS = 6000


def test_hostile_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    figures = fuzz_client_port(kind, tmp_path / "server", random.randrange(1 << 30), INPUTS)
    with capsys.disabled():
        print(f"\n  fuzz: {figures} ", end="", flush=True)
