"""Fuzz of the client port.

`COREKIT_FUZZ_INPUTS` sets how many inputs (100,000 in a full run), `COREKIT_FUZZ_SEED` the seed.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.differential.requests import SUPER_ID
from tests.fuzz.run import Figures, attack
from tests.support.servers import Server

INPUTS = int(os.environ.get("COREKIT_FUZZ_INPUTS", "6000"))
RESTART_EVERY = 10_000
RSS_GROWTH_MB = 250.0
SETTINGS: dict[str, object] = {
    "tickTime": 500,
    "maxSessionTimeout": 10_000,
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.enforceQuota": "true",
    "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_ID,
    "znode.container.checkIntervalMs": 100_000_000,
}


def test_hostile_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    seed = int(os.environ.get("COREKIT_FUZZ_SEED", random.randrange(1 << 30)))
    figures = Figures()
    with capsys.disabled():
        print(f"\n  fuzz: seed {seed} ", end="", flush=True)
    started = time.monotonic()
    with Server.start(kind, tmp_path / "server", SETTINGS) as server:
        try:
            attack(server, seed, INPUTS, RESTART_EVERY, figures, RSS_GROWTH_MB)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, after {figures.inputs} inputs: {error}") from None
        assert "Traceback" not in server.log()
    with capsys.disabled():
        print(f"\n  fuzz: {figures}, {time.monotonic() - started:.0f} s in all ", end="", flush=True)
