"""What a replica counts: added to once a batch, never for each request."""

from __future__ import annotations

from corekit.replica.instruments import Summary


class Stats:
    """What a server counts about requests.

    Attributes:
        received, sent: packets since the last reset (`srst`).
        proposed: transactions handed to consensus, ever.
        auth_failed: `auth` packets that proved nothing, ever.
        sessions_expired: ever.
        digest_mismatches: transactions of a leader after which its tree was not ours, ever.
        read_latency, update_latency: of requests, in us, from the turn in which they came to the reply.
    """

    def __init__(self) -> None:
        self.auth_failed = 0
        self.sessions_expired = 0
        self.digest_mismatches = 0
        self.proposed = 0
        self.received = 0
        self.sent = 0
        self.read_latency = Summary("readlatency", advanced=True, scale=1000)
        self.update_latency = Summary("updatelatency", advanced=True, scale=1000)

    def reset(self) -> None:
        """Count packets and latencies anew."""
        self.received = 0
        self.sent = 0
        self.read_latency.reset()
        self.update_latency.reset()

    def latency(self) -> tuple[int, float, int]:
        """Of all requests since the last reset: smallest, mean and largest in ms, as `srvr` shows them."""
        both = (self.read_latency, self.update_latency)
        counted = [summary for summary in both if summary.least >= 0]
        count = sum(summary.since_reset[0] for summary in counted)
        if not count:
            return 0, 0.0, 0
        total_us = sum(summary.since_reset[1] for summary in counted)
        least = min(summary.least for summary in counted) // 1000
        return least, round(total_us / 1000 / count, 4), max(summary.most for summary in counted) // 1000
