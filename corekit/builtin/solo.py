"""Consensus of one: what is durable is decided.

A server of one without elections, and the smallest example of the contract.
"""

from __future__ import annotations

from collections.abc import Sequence

from corekit.api import API_VERSION, ConsensusHost, ConsensusStatus, Recovery
from corekit.errors import ConfigError
from corekit.hooks import Context, hookimpl

kind = "consensus"
api_version = API_VERSION

_COUNTER_MAX = 0xFFFF0000  # a new epoch starts here, well before the counter runs out


class SoloConsensus:
    """Orders the entries of a single server.

    With its first entry the server enters epoch 1: that is how the consensus of an ensemble, if the server becomes a
    member of one later, knows that its data is complete. The zxids stay in epoch 0 as on a ZooKeeper server of its own,
    until their counter runs out.
    """

    wake_at = 1 << 62  # never

    def __init__(self) -> None:
        self._host: ConsensusHost | None = None
        self._last = 0
        self._entered = False

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        """Serve at once: everything in the log of a single server is committed."""
        self._host = host
        self._last = recovery.last_zxid
        self._entered = recovery.current_epoch > 0
        host.committed(recovery.last_zxid)
        host.serve("standalone", recovery.last_zxid + 1)

    def stop(self) -> None:
        """Nobody has to be told."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Log them."""
        assert self._host is not None
        assert first_zxid == self._last + 1, "entries must be consecutive"
        self._last = last_zxid
        self._host.persist(first_zxid, entries, last_zxid)
        if not self._entered:
            self._entered = True
            self._host.save_epochs(1, 1)
        if last_zxid & 0xFFFFFFFF >= _COUNTER_MAX:
            epoch = (last_zxid >> 32) + 1
            self._host.save_epochs(epoch, epoch)
            self._last = epoch << 32
            self._host.renumber(self._last + 1)

    def persisted(self, upto_zxid: int) -> None:
        """Durable here is decided."""
        assert self._host is not None
        self._host.committed(upto_zxid)

    def tick(self, now_ms: int) -> None:
        """Nothing depends on time."""

    def status(self) -> ConsensusStatus:
        """Always `standalone`."""
        return ConsensusStatus(mode="standalone", epoch=self._last >> 32)


@hookimpl
def make_consensus(context: Context) -> SoloConsensus:
    """A consensus of one."""
    if context.settings.distributed:  # each of them would decide for itself
        raise ConfigError(
            f"solo is the consensus of a single server, and the settings name {len(context.settings.servers)}: "
            "leave out solo or the others"
        )
    return SoloConsensus()
