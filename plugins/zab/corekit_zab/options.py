"""Settings and bounds of the ensemble protocol. Times are milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

EPOCH_MAX = 0x7FFFFFFF  # epochs are signed ints on the wire
EPOCH_JUMP_MAX = 1 << 20  # a member that claims more than this many epochs above ours is broken or hostile
COUNTER_MAX = 0xFFFFFFFF

WAITING_LINKS_MAX = 64  # quorum links that wait for this server to become leader
WAITING_MS = 10_000  # a quorum link that has not said who it is
FEED_CHUNK_BYTES = 32 * 1024  # history read and sent to a learner in one go
FEED_BACKLOG_BYTES = 32 * 1024  # unsent bytes at which the feed of a learner pauses; clients wait so long, too
FEED_ENTRIES_MAX = 500_000  # a learner this many entries behind gets a snapshot, however large
SNAP_BYTES_A_ZNODE = 1024  # of a snapshot: so much costs about as much as one znode more
LIVE_BACKLOG_BYTES = 64 * 1024 * 1024  # unsent bytes at which a learner that does not read is dropped
HELD_BYTES_MAX = 256 * 1024 * 1024  # requests of a learner that wait behind its syncs; more drops it
ELECTION_BACKLOG_BYTES = 256 * 1024  # unsent bytes at which notifications to a peer are skipped
NEVER = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an administrator may set.

    Attributes:
        tick_ms: ZooKeeper's tickTime.
        init_limit, sync_limit: ticks for discovery and synchronisation, and for staying in touch afterwards.
        finalize_ms: how long a won election waits for reachable voters that have not voted alike.
        notify_ms, notify_max_ms: first and longest interval at which notifications are repeated.
        discovery_ms: how long a leader waits for a quorum to report before it calls another election.
        retry_ms, retry_for_ms: a learner dials its leader again after this, and for so long.
        trust_empty: an empty data directory is known to be new (ZooKeeper's `initialize` file).
        rollover_at: a leader makes room for a new epoch once the counter of its zxids is this large.
        snap_after: a learner that misses so many entries is sent a snapshot instead, if that is cheaper.
        apply_entries: of what a learner received in its synchronisation, about so much is applied in one turn.
    """

    tick_ms: int = 2000
    init_limit: int = 10
    sync_limit: int = 5
    finalize_ms: int = 200
    notify_ms: int = 200
    notify_max_ms: int = 3200
    discovery_ms: int = 3000
    retry_ms: int = 50
    retry_for_ms: int = 1500
    trust_empty: bool = False
    rollover_at: int = COUNTER_MAX - (1 << 20)
    snap_after: int = 50_000
    apply_entries: int = 10_000

    @property
    def init_ms(self) -> int:
        """`init_limit` as time."""
        return self.init_limit * self.tick_ms

    @property
    def sync_ms(self) -> int:
        """`sync_limit` as time."""
        return self.sync_limit * self.tick_ms
