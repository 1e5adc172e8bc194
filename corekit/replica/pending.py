"""What a leader remembers of a transaction until it is committed."""

from __future__ import annotations

from collections.abc import Sequence

from corekit.model.tree import Change
from corekit.replica.connection import Connection


class Pending:
    """One proposed transaction that waits for its commit.

    Attributes:
        connection: who asked, or None.
        frame: the complete reply.
        timeout_ms: of a new session.
        began_us: the time of its turn.
    """

    def __init__(
        self,
        zxid: int,
        connection: Connection | None,
        frame: bytes,
        changes: Sequence[Change],
        session_op: int,
        session: int,
        timeout_ms: int,
        entry: bytes,
        began_us: int,
    ) -> None:
        self.zxid = zxid
        self.connection = connection
        self.frame = frame
        self.changes = changes
        self.session_op = session_op
        self.session = session
        self.timeout_ms = timeout_ms
        self.entry = entry
        self.began_us = began_us
