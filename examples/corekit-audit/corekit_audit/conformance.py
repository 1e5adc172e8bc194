"""What `corekit plugin test audit` and the tests run: the conformance suite of corekit."""

from __future__ import annotations

import time

from corekit.api import Observer
from corekit.testing.observer import ObserverSuite
from corekit_audit.observer import AuditObserver


class TestAudit(ObserverSuite):
    """What the server relies on."""

    def make_observer(self) -> Observer:
        return AuditObserver(lambda: time.time_ns() // 1_000_000, 1024 * 1024)
