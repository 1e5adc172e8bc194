"""Requests between servers: a learner's clients are answered through the leader, a leader prepares for its learners.

On a learner a write, a sync or a session that comes back is handed to consensus, and answered when the leader's word
arrives: a committed entry that bears the session and xid, `synced`, or `revalidated`. Each of the three comes in the
order in which it was asked; a sync may take longer than a write behind it, so `Intake` never has both in flight for
one connection. What a session's client asked over an earlier connection may still be on its way, with xids that come
again (kazoo counts from 1 on each connection): a session that comes back is served once that is applied here.
Sources: `FollowerRequestProcessor`, `Learner`, `LearnerHandler`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from corekit import errors
from corekit.api import EnsembleConsensus, Identity
from corekit.codec import ops
from corekit.codec.txns import HEADER, Txn, pack_string
from corekit.model.sessions import Session
from corekit.model.tree import Change
from corekit.replica.connection import Connection
from corekit.replica.observing import refusal
from corekit.replica.prepare import Malformed, Request

if TYPE_CHECKING:
    from corekit.replica.replica import Replica

_reply_head: Final = Struct(">iiqi").pack
_pack_int: Final = Struct(">i").pack
_multi_head: Final = Struct(">i?i").pack

_SETTLED: Final = 0  # the xid of our own syncs for sessions that come back; clients' begin at 1
_WITH_PATH: Final = frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_TTL, ops.CREATE_CONTAINER))
_WITH_STAT: Final = frozenset(
    (ops.CREATE2, ops.CREATE_TTL, ops.CREATE_CONTAINER, ops.SET_DATA, ops.SET_ACL, ops.RECONFIG)
)


class Remote:
    """The other servers' side of a replica.

    Args:
        server_id: this server's own number, the home of sessions whose clients are connected here.
    """

    def __init__(self, replica: Replica, server_id: int) -> None:
        self._replica = replica
        self.server_id = server_id
        self.consensus: EnsembleConsensus | None = None
        # Per connection: (xid, op, body, identities) of what was handed to the leader and not answered.
        self._asked: dict[Connection, deque[tuple[int, int, bytes, Sequence[Identity]]]] = {}
        self._opening: dict[int, tuple[Connection, bytes]] = {}
        self._reopening: dict[int, tuple[Connection, int, tuple[bytes, bytes]]] = {}
        self._touched_ms = 0

    def forget(self) -> None:
        """The leader is lost, and every question with it."""
        self._asked.clear()
        self._opening.clear()
        self._reopening.clear()

    def gone(self, connection: Connection) -> None:
        """A client disconnected; answers to it are not waited for."""
        self._asked.pop(connection, None)

    # ------------------------------------------------------------------------------------ learner: asking
    def forward(self, connection: Connection, xid: int, op: int, body: bytes) -> None:
        """Hand a client's write (or sync) to the leader."""
        assert self.consensus is not None
        connection.submitted += 1
        self._asked.setdefault(connection, deque()).append((xid, op, body, connection.identities))
        if op == ops.SYNC:
            connection.syncs += 1
            self.consensus.sync(connection.session_id, xid, body)
        else:
            self.consensus.forward(connection.session_id, xid, op, body, connection.identities)

    def open_session(self, connection: Connection, session_id: int, timeout_ms: int, frame: bytes) -> None:
        """Ask the leader for a new session; `frame` (the ConnectResponse) is sent once it is committed."""
        assert self.consensus is not None
        connection.submitted += 1
        self._opening[session_id] = (connection, frame)
        self.consensus.forward(session_id, 0, ops.CREATE_SESSION, _pack_int(timeout_ms), ())

    def upgrade(self, session: Session) -> None:
        """A local session is to become global; its requests that follow find it so."""
        assert self.consensus is not None
        self.consensus.forward(session.id, 0, ops.CREATE_SESSION, _pack_int(session.timeout_ms), ())

    def reopen_session(
        self, connection: Connection, session_id: int, timeout_ms: int, answers: tuple[bytes, bytes]
    ) -> None:
        """Ask the leader whether a session lives that a client has come back to."""
        assert self.consensus is not None
        older = self._reopening.pop(session_id, None)
        if older is not None:
            older[0].close("its client connected anew")
        self._reopening[session_id] = (connection, timeout_ms, answers)
        self.consensus.revalidate(session_id, timeout_ms)
        self.consensus.sync(session_id, _SETTLED, pack_string(b"/"))

    def touched(self) -> list[tuple[int, int]]:
        """(session id, timeout) of the sessions whose clients were heard here since the last call."""
        since, self._touched_ms = self._touched_ms, self._replica.now_ms
        found = []
        for connection in self._replica.connections:
            session = connection.session
            if session is None or session.id not in self._replica.sessions.sessions:
                continue  # local sessions are nobody else's business
            if session.owner is connection and session.heard_ms >= since:
                found.append((session.id, connection.timeout_ms))
        return found

    # --------------------------------------------------------------------------------- learner: answers
    def applied(self, txn: Txn, changes: Sequence[Change], entry: bytes, before: Mapping[bytes, int]) -> None:
        """A committed entry was applied: answer it if it is one of ours.

        Args:
            before: see `corekit.api.Write`; empty unless an observer asks.
        """
        if txn.type == ops.CREATE_SESSION:
            opening = self._opening.pop(txn.session, None)
            if opening is not None:
                connection, frame = opening
                self._replica.adopt(connection, txn.session)
                observing = self._replica.observing
                observing.tell(observing.session_opened, txn.session, txn.timeout_ms, connection.peer)
                self._answer(connection, frame)
            return
        owner = self._owner(txn.session)
        if owner is None:
            return
        asked = self._asked.get(owner)
        if asked and asked[0][0] == txn.cxid and (asked[0][1] == txn.type or txn.type == ops.ERROR):
            xid, op, request, identities = asked.popleft()
            if txn.error == errors.SESSION_MOVED:
                owner.close("its session moved to another server")
                return
            body = _reply_body(txn, op, changes)
            code = txn.error if txn.type == ops.ERROR else 0
            refused = refusal(op, code, body)
            observing = self._replica.observing
            if refused:
                observing.tell(observing.request_failed, txn.session, op, refused)
            if observing.write_answered:
                observing.answered(owner, identities, (op, request, refused), txn.zxid, entry, before)
            self._answer(owner, _reply_head(16 + len(body), xid, txn.zxid, code) + body)

    def synced(self, session_id: int, cxid: int) -> None:
        """What was decided before the client's sync is applied here."""
        if cxid == _SETTLED:
            self._reopened(session_id, True)
            return
        owner = self._owner(session_id)
        asked = self._asked.get(owner) if owner is not None else None
        if owner is not None and asked and asked[0][:2] == (cxid, ops.SYNC):
            xid, _, body, _ = asked.popleft()
            owner.syncs -= 1
            code, reply = self._replica.reads.answer(owner, ops.SYNC, body)
            self._answer(owner, _reply_head(16 + len(reply), xid, self._replica.tree.zxid, code) + reply)

    def revalidated(self, session_id: int, valid: bool) -> None:
        """The leader's word on a session that came back. If it lives, `synced` follows."""
        if not valid:
            self._reopened(session_id, False)

    def _reopened(self, session_id: int, valid: bool) -> None:
        reopening = self._reopening.pop(session_id, None)
        if reopening is None or reopening[0] not in self._replica.connections:
            return
        connection, timeout, answers = reopening
        self._replica.reopened(connection, session_id, timeout, answers, valid)

    def _owner(self, session_id: int) -> Connection | None:
        """The connection of this server that uses a session."""
        session = self._replica.sessions.sessions.get(session_id) or self._replica.local.get(session_id)
        owner = session.owner if session is not None else None
        return owner if isinstance(owner, Connection) else None

    def _answer(self, connection: Connection, frame: bytes) -> None:
        connection.out.append(frame)
        connection.done += 1
        self._replica.release(connection)
        connection.wake()

    # ------------------------------------------------------------------------------------------- leader
    def forwarded(
        self, origin: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]
    ) -> None:
        """A request of a client of the learner `origin`. Whatever it comes to, an entry answers it."""
        replica = self._replica
        session = replica.sessions.sessions.get(session_id)
        timeout = 0
        if op == ops.CREATE_SESSION:
            timeout = int.from_bytes(body[:4], "big", signed=True)
            session = replica.sessions.add(session_id, timeout, replica.now_ms)
            session.home = origin
        elif session is not None and op != ops.CLOSE_SESSION:
            if session.home not in (None, origin):
                replica.propose_error(session_id, cxid, errors.SESSION_MOVED)
                return
            session.home = origin
            session.heard_ms = replica.now_ms
        try:
            replica.propose_request(Request(session_id, cxid, op, body, identities), timeout)
        except Malformed:
            replica.propose_error(session_id, cxid, errors.MARSHALLING_ERROR)

    def revalidate(self, origin: int, session_id: int, timeout_ms: int) -> bool:
        """Whether a session lives; the learner `origin` is its home from now on."""
        replica = self._replica
        session = replica.sessions.sessions.get(session_id)
        if session is None or session.closing:
            return False
        if isinstance(session.owner, Connection):
            session.owner.close("its session moved to another server")
            session.owner = None
        session.home = origin
        replica.sessions.retime(session, timeout_ms, replica.now_ms)
        return True

    def touch(self, origin: int, sessions: Sequence[tuple[int, int]]) -> None:
        """Sessions of the learner `origin` are alive."""
        tracked, now = self._replica.sessions.sessions, self._replica.now_ms
        for session_id, _ in sessions:
            session = tracked.get(session_id)
            if session is not None:
                session.heard_ms = now


def error_entry(session_id: int, cxid: int, zxid: int, wall_ms: int, code: int) -> bytes:
    """An error transaction."""
    return HEADER.pack(session_id, cxid, zxid, wall_ms, ops.ERROR) + _pack_int(code)


def _reply_body(txn: Txn, op: int, changes: Sequence[Change]) -> bytes:
    """The body of the reply to a request, from the transaction it became."""
    if txn.type == ops.MULTI:
        return _multi_body(txn, changes)
    if txn.type == ops.ERROR or not changes:
        return b""
    body = pack_string(txn.path) if txn.type in _WITH_PATH else b""
    return body + changes[0][2][-68:] if txn.type in _WITH_STAT else body


def _multi_body(txn: Txn, changes: Sequence[Change]) -> bytes:
    parts = []
    if any(sub.type == ops.ERROR for sub in txn.subs):
        seen = False
        for sub in txn.subs:
            # Those before the failed one report 0, those after it what they are logged with (-2).
            seen = seen or sub.type == ops.ERROR
            code = sub.error if seen else 0
            parts.append(_multi_head(ops.ERROR, False, code) + _pack_int(code))
    else:
        made = iter(changes)
        for sub in txn.subs:
            kind = ops.CREATE2 if sub.type in (ops.CREATE_TTL, ops.CREATE_CONTAINER) else sub.type
            own: Sequence[Change] = () if sub.type == ops.CHECK else (next(made),)
            parts.append(_multi_head(kind, False, 0) + _reply_body(sub, sub.type, own))
    return b"".join(parts) + _multi_head(ops.ERROR, True, -1)
