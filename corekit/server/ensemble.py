"""The part of the kernel that only ensembles use: logs cut, states sent and received, links to other servers.

Everything here is `ConsensusHost` for a consensus among several servers. The links themselves (sockets, name
resolution) are behind `Links`; a server on its own has none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from corekit.api import Consensus, EnsembleConsensus, Identity, Storage
from corekit.codec.snapshot import ImageReader, write_image
from corekit.replica.replica import Replica
from corekit.server.disk import DiskWorker
from corekit.server.rules import ConsensusRules

log = logging.getLogger("corekit.ensemble")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Links(Protocol):
    """Connections to other servers, as `peer_link.py` keeps them."""

    def dial(self, kind: str, host: str, port: int) -> int:
        """See `ConsensusHost.dial`."""

    def send(self, link: int, data: bytes) -> int:
        """See `ConsensusHost.send`."""

    def close(self, link: int, why: str) -> None:
        """See `ConsensusHost.close`."""


class EnsembleSide:
    """What an ensemble's consensus asks of the kernel besides logging and applying.

    Attributes:
        links: set before consensus starts, on members of an ensemble.
    """

    storage: Storage
    consensus: Consensus
    replica: Replica
    disk: DiskWorker
    rules: ConsensusRules
    links: Links
    _incoming: tuple[int, ImageReader] | None = None

    def clear_damage(self) -> None:
        """This server has everything again."""
        self.storage.clear_damage()

    def truncate(self, zxid: int) -> None:
        """Take entries above `zxid` out of log and tail."""
        self.rules.truncate(zxid, self.replica.tree.zxid)
        self.replica.cut(zxid)
        self.storage.truncate(zxid)

    def mark(self, token: int) -> None:
        """Tell when everything staged so far is durable."""
        self.rules.call("mark")
        consensus = self.consensus
        assert isinstance(consensus, EnsembleConsensus)
        self.disk.sync(lambda: consensus.durable(token))

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Entries above `after_zxid`."""
        return self.storage.read_log(after_zxid, max_bytes)

    # ------------------------------------------------------------------------------------------- states
    def state_size(self) -> tuple[int, int]:
        """Znodes, and bytes of paths and data."""
        tree = self.replica.tree
        return len(tree.nodes), tree.data_bytes

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """The applied state, as it is at this moment."""
        image = self.replica.image.capture()
        return image.zxid, write_image(image)

    def begin_snapshot(self, zxid: int) -> None:
        """A state will be received."""
        self._incoming = (zxid, ImageReader())

    def snapshot_chunk(self, data: bytes) -> bytes | None:
        """The next bytes of it."""
        assert self._incoming is not None
        return self._incoming[1].feed(data)

    def end_snapshot(self) -> None:
        """It takes the place of tree, sessions, log and tail."""
        assert self._incoming is not None
        zxid, reader = self._incoming
        self._incoming = None
        self.storage.begin_state()
        for chunk in self.replica.install(reader, zxid):
            self.storage.stage_state(chunk)
        self.storage.commit_state(zxid)
        self.rules.installed(zxid)

    def abort_snapshot(self) -> None:
        """Forget what was received."""
        self._incoming = None

    # ----------------------------------------------------------------------------------------- requests
    def forwarded(
        self, origin: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]
    ) -> None:
        """A request of a learner's client."""
        self.replica.remote.forwarded(origin, session_id, cxid, op, body, identities)

    def revalidate(self, origin: int, session_id: int, timeout_ms: int) -> bool:
        """A client came back to a learner."""
        return self.replica.remote.revalidate(origin, session_id, timeout_ms)

    def revalidated(self, session_id: int, valid: bool) -> None:
        """The leader's answer about a client that came back here."""
        self.replica.remote.revalidated(session_id, valid)

    def synced(self, session_id: int, cxid: int) -> None:
        """The answer to a sync."""
        self.replica.remote.synced(session_id, cxid)

    def touched(self) -> Sequence[tuple[int, int]]:
        """Sessions heard here."""
        return self.replica.remote.touched()

    def touch(self, origin: int, sessions: Sequence[tuple[int, int]]) -> None:
        """Sessions heard by a learner."""
        self.replica.remote.touch(origin, sessions)

    # -------------------------------------------------------------------------------------------- links
    def dial(self, kind: str, host: str, port: int) -> int:
        """Open a link."""
        return self.links.dial(kind, host, port)

    def send(self, link: int, data: bytes) -> int:
        """Queue bytes."""
        return self.links.send(link, data)

    def close(self, link: int, why: str) -> None:
        """Close a link."""
        self.links.close(link, why)

    def log(self, level: str, text: str) -> None:
        """A line for people."""
        log.log(_LEVELS[level], text)
