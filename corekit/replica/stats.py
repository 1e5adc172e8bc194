"""Counters of a replica: plain integers, added to once a batch."""

from __future__ import annotations

from collections.abc import Callable


class Stats:
    """What a server counts about requests since it started or was last reset (`srst`).

    Attributes:
        received, sent: packets.
        latency_*: of requests, in milliseconds.
        observer_failures: observers that raised and were unbound, for the shell to log.
    """

    def __init__(self) -> None:
        self.observer_failures: list[tuple[Callable[..., None], Exception]] = []
        self.auth_failed = 0
        self.sessions_expired = 0
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.received = 0
        self.sent = 0
        self.latency_min = 0
        self.latency_max = 0
        self.latency_sum = 0
        self.latency_count = 0
        self.write_count = 0
        self.write_latency_sum = 0

    def writes(self, count: int, latency_ms: int) -> None:
        """A batch of writes was answered."""
        self.write_count += count
        self.write_latency_sum += count * latency_ms
        self.latency_count += count
        self.latency_sum += count * latency_ms
        if latency_ms > self.latency_max:
            self.latency_max = latency_ms
