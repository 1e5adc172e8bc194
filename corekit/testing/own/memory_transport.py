"""The transport in memory: its addresses are names."""

from __future__ import annotations

from pathlib import Path

from corekit.api import Transport
from corekit.builtin.memory_transport import MemoryTransport
from corekit.testing.transport import TransportSuite


class TestMemoryTransport(TransportSuite):
    """What the server relies on."""

    kind: type[MemoryTransport] = MemoryTransport

    def make_transport(self) -> Transport:
        return self.kind()

    def address(self, tmp_path: Path) -> tuple[str, int]:
        return "localhost", 0
