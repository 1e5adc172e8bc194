"""Bringing one learner up to the leader's history: DIFF, TRUNC or SNAP, then whatever is missing, in portions.

Rules
- The log is the one source of history; its newest part is in the storage's memory anyway.
- The learner's last zxid must be met exactly in the log, or it is cut back to the last entry that both have: never a
  decision by ranges (ZOOKEEPER-1154, 2418). A marker zxid (counter 0) stands for everything before its epoch.
- A snapshot never takes away what the learner may have acknowledged: it is chosen only if it reaches at least as far as
  the learner's log, or if the learner's log does not count.
- It is chosen without need only if it is cheaper than many entries: the learner's log begins with it anew.
- Entries up to the leader's commit point go out as PROPOSAL and COMMIT; the turn that reaches it hands the learner over
  to the live stream, so nothing is lost or doubled between the two (ZOOKEEPER-3104, 4925).
- A portion is sent when the one before has left: a learner that is slow costs memory in the log, not here.
- A learner that is told to cut its log gets the rest in a synchronisation of its own where it can (`Leader.cut_first`).

Sources: ZooKeeper `LearnerHandler.syncFollower`, `queueCommittedProposals`; its `zookeeper.snapshotSizeFactor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from corekit.codec.quorum import DIFF, SNAP, TRUNC, committed_packets, packet
from corekit_zab.options import (
    COUNTER_MAX,
    FEED_BACKLOG_BYTES,
    FEED_CHUNK_BYTES,
    FEED_ENTRIES_MAX,
    SNAP_BYTES_A_ZNODE,
)

if TYPE_CHECKING:
    from corekit.api import ConsensusHost

SIGNATURE: Final = b"\x00\x00\x00\x0aBenWasHere"


def choose(host: ConsensusHost, peer_zxid: int, committed: int, applied: int) -> tuple[int, int]:
    """How to begin: (DIFF, TRUNC or SNAP, the zxid from which history is sent on).

    Args:
        peer_zxid: the last zxid in the learner's log; -1 if its log does not count.
        committed: how far the leader's history goes that the learner shall have.
        applied: the zxid of the snapshot that would be taken now; at most `committed`.
    """
    if peer_zxid == committed:
        return DIFF, peer_zxid
    if peer_zxid <= 0:
        return SNAP, applied
    marker = peer_zxid & 0xFFFFFFFF == 0
    if peer_zxid > committed:
        return (SNAP, applied) if marker else (TRUNC, committed)
    try:
        if marker:
            host.read_log(peer_zxid, 1)
            return DIFF, peer_zxid
        following = host.read_log(peer_zxid - 1, 1)
        if following and following[0][0] == peer_zxid:
            return DIFF, peer_zxid
        before = _last_after(host, applied, peer_zxid) if applied < peer_zxid else _last_in_epoch(host, peer_zxid)
    except LookupError:
        return SNAP, applied
    return (SNAP, applied) if before is None else (TRUNC, before)


def snapshot_is_cheaper(host: ConsensusHost, peer_zxid: int, committed: int, applied: int, snap_after: int) -> bool:
    """Whether a snapshot brings the learner on sooner than all the entries that it lacks; arguments as for `choose`.

    A znode takes the learner two fifths of the time of an entry (measured); a third less must be won.
    """
    same_epoch = peer_zxid >> 32 == committed >> 32
    missing = committed - peer_zxid if same_epoch else committed & COUNTER_MAX  # at least
    if applied < peer_zxid or missing < snap_after:
        return False
    znodes, size = host.state_size()
    return missing > FEED_ENTRIES_MAX or 2 * (znodes + size // SNAP_BYTES_A_ZNODE) <= 3 * missing


def _last_after(host: ConsensusHost, after: int, zxid: int) -> int:
    """The last entry below `zxid`, looked for from `after` on, which is below it and in our history."""
    last = after
    while entries := host.read_log(last, FEED_CHUNK_BYTES):
        for found, _ in entries:
            if found >= zxid:
                return last
            last = found
    return last


def _last_in_epoch(host: ConsensusHost, zxid: int) -> int | None:
    """The last entry below `zxid` of the same epoch, by halving (counters rise by one), or None if there is none.

    An entry of an older epoch would not do: whether the learner has exactly that one is not known.
    """
    low = start = zxid >> 32 << 32
    high = zxid - 1
    while low < high:
        middle = (low + high + 1) // 2
        found = host.read_log(middle - 1, 1)
        if found and found[0][0] == middle:
            low = middle
        else:
            high = middle - 1
    return low if low > start else None


class Feed:
    """The history that one learner misses, sent in portions.

    Attributes:
        kind: DIFF, TRUNC or SNAP.
        cursor: how far history was sent.
    """

    def __init__(
        self, host: ConsensusHost, link: int, peer_zxid: int, committed: int, applied: int, snap_after: int
    ) -> None:
        self._host = host
        self._link = link
        self._chunks: Iterator[bytes] | None = None
        if snapshot_is_cheaper(host, peer_zxid, committed, applied, snap_after):
            self.kind, self.cursor = SNAP, applied
        else:
            self.kind, self.cursor = choose(host, peer_zxid, committed, applied)
        if self.kind == SNAP:
            self.cursor, self._chunks = host.snapshot()
            assert self.cursor == applied
            self._head = packet(SNAP, applied)
        elif self.kind == TRUNC:
            self._head = packet(TRUNC, self.cursor)
        else:
            self._head = packet(DIFF, committed)

    def send_head(self) -> None:
        """Send what begins the history, and nothing of it."""
        self._host.send(self._link, self._head)

    def pump(self, committed: int) -> bool:
        """Send what the link takes. True: the learner was sent everything up to `committed`.

        Raises:
            LookupError: history was purged under the learner's feet; it has to start again.
        """
        send, link = self._host.send, self._link
        head, self._head = self._head, b""
        if self._chunks is not None:
            for chunk in self._chunks:
                waiting = send(link, head + chunk)
                head = b""
                if waiting >= FEED_BACKLOG_BYTES:
                    return False
            self._chunks = None
            head += SIGNATURE
        while self.cursor < committed:
            entries = self._host.read_log(self.cursor, FEED_CHUNK_BYTES)
            if not entries:
                raise LookupError(f"the log ends before 0x{committed:x}")
            if entries[-1][0] > committed:
                entries = [entry for entry in entries if entry[0] <= committed]
            self.cursor = entries[-1][0]
            waiting = send(link, head + committed_packets(entries))
            head = b""
            if waiting >= FEED_BACKLOG_BYTES:
                return False
        if head:
            send(link, head)
        return True
