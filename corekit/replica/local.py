"""Local sessions: known to one server, without a transaction, until they create an ephemeral znode and become global.

They make connecting cheap in ensembles with very many clients, and they are the only new sessions that a read-only
server can grant. Sources: `UpgradeableSessionTracker`, `LocalSessionTracker`,
`QuorumZooKeeperServer.checkUpgradeSession`.
"""

from __future__ import annotations

from typing import Final

from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.txns import read_acl
from corekit.errors import ProtocolError
from corekit.model.sessions import Session, SessionTracker
from corekit.replica.prepare import WRITES_IN_MULTI, split_multi

_EPHEMERAL_FLAGS: Final = frozenset((1, 3))
_CREATES: Final = frozenset((ops.CREATE, ops.CREATE2))


class LocalSessions:
    """The local sessions of one server.

    Args:
        enabled: new sessions are local.
        upgrading: a local session becomes global with its first ephemeral znode; otherwise that is refused.
        server_id: this server's number, the top byte of the ids that it gives out.
    """

    def __init__(self, tick_ms: int, server_id: int, *, enabled: bool, upgrading: bool) -> None:
        self.enabled = enabled
        self.upgrading = upgrading
        self._server_id = server_id & 0xFF
        self.tracker = SessionTracker(tick_ms, 0)

    def open(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """A new local session."""
        return self.tracker.add(session_id, timeout_ms, now_ms)

    def get(self, session_id: int) -> Session | None:
        """A local session of this server."""
        return self.tracker.sessions.get(session_id)

    def close(self, session_id: int) -> None:
        """It is closed, expired or global now."""
        self.tracker.remove(session_id)

    def may_write(self, session_id: int) -> bool:
        """Whether a session that is not global may write: ours if it lives; of other servers we cannot know."""
        if not self.enabled:
            return False
        return session_id in self.tracker.sessions or (session_id >> 56) & 0xFF != self._server_id

    def expired(self, now_ms: int) -> list[Session]:
        """Local sessions whose time is over; they are forgotten."""
        due = [self.tracker.sessions[session_id] for session_id in self.tracker.expired(now_ms)]
        for session in due:
            self.tracker.remove(session.id)
        return due


def makes_ephemeral(op: int, body: bytes) -> bool:
    """Whether a request creates an ephemeral znode. An undecodable one does not; it is refused later."""
    try:
        if op == ops.MULTI:
            return any(makes_ephemeral(part, inner) for part, inner in split_multi(body, WRITES_IN_MULTI))
        if op not in _CREATES:
            return False
        reader = Reader(body)
        reader.string()
        reader.buffer()
        read_acl(reader)
        return reader.int() in _EPHEMERAL_FLAGS
    except ProtocolError:
        return False
