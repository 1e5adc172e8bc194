"""docs/operations.md names what exists: metrics, admin commands, four-letter words and exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from corekit import errors
from corekit.api import Gateway
from corekit.builtin.memory import MemoryStorage
from corekit.builtin.solo import SoloConsensus
from corekit.codec.four_letter import WORDS
from corekit.config import Settings
from corekit.replica.options import ReplicaOptions
from corekit.server.admin import index_commands
from corekit.server.admin_commands import zookeeper_commands
from corekit.server.admission import Admission
from corekit.server.client_port import FastPort
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry
from corekit.server.server_metrics import ServerMetrics
from corekit.server.view import View
from tests.support.server_view import FakeView

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")

# Known by consensus on a leader only (`ConsensusStatus.details`).
OF_A_LEADER = {"synced_followers", "learners", "followers", "pending_syncs"}


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.partition("?")[0] for cell in rows for name in re.findall(r"`([a-z_?A-Z=]+)`", cell)}


def metrics() -> set[str]:
    """Names that a server without an ensemble has."""
    kernel = Kernel(
        *(ReplicaOptions(), MemoryStorage(), SoloConsensus(), {}, ()),
        server_id=1,
        retain_entries=0,
    )
    registry = Registry()
    view = View(kernel, Settings(), registry)
    admission = Admission(0, 0, 1000)
    port = FastPort(kernel.set_time, kernel.end_turn, admission)
    try:
        ServerMetrics(registry, kernel, view, admission, port)
        kernel.storage.open()
        return {name for _, name, _ in registry.families()}
    finally:
        port.close()


def test_metrics() -> None:
    named = first_cells(section("Metrics"))
    assert len(named) > 20
    assert named - metrics() - OF_A_LEADER == {"disk_free_bytes"}  # storage in memory has no disk


def test_admin_commands() -> None:
    index = index_commands(zookeeper_commands(FakeView()), {}, cast("Gateway", None))
    assert first_cells(section("Admin commands")) == {command.names[0] for command in index.values()}


def test_four_letter_words() -> None:
    named = re.search(r"letter by letter: `([a-z\s]+)`", section("Four-letter words"))
    assert named is not None
    assert set(named[1].split()) == {word.decode() for word in WORDS if word.isalpha()}


def test_exit_codes() -> None:
    named = {int(line.split("|")[1]) for line in section("Exit codes").splitlines() if re.match(r"\| \d", line)}
    known = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert named == {code for code in known if code < 64}  # those from sysexits.h are of commands, see docs/cli.md
