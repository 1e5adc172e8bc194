"""Requests as they come in: frames decoded, dispatched, held back or answered. One half of `Replica`, the other is
the order of transactions (`replica.py`).

The hot path is `feed`: getData and exists without surprises are answered in the loop itself, from the same records as
by `reads.py`. A write is prepared at once; a read of a connection with writes in flight is held until they are
answered. Writes wait for the connection's syncs and syncs for its writes: which of them is decided first is not known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from corekit import errors
from corekit.api import AuthScheme
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.contracts import identities
from corekit.errors import ProtocolError
from corekit.limits import CLIENT_BIG_REPLY_BYTES, CLIENT_HELD_MAX, CLIENT_OUT_PAUSE_BYTES, IDENTITIES_MAX
from corekit.model.sessions import Session
from corekit.model.tree import Change, Tree
from corekit.model.watches import Watches
from corekit.replica.connection import Connection
from corekit.replica.local import LocalSessions, makes_ephemeral
from corekit.replica.observing import Observing
from corekit.replica.options import ReplicaOptions
from corekit.replica.prepare import Malformed, Preparer, Request
from corekit.replica.reads import Reads
from corekit.replica.remote import Remote
from corekit.replica.stats import Stats

_frame_head: Final = Struct(">iii").unpack_from
_int_at: Final = Struct(">i").unpack_from
_reply_head: Final = Struct(">iiqi").pack
_pack_int: Final = Struct(">i").pack

_PING_XID: Final = -2
# Of a getData or exists: header, length of the path, watch. (mypyc fails at slices that end before they begin.)
_PATH_AND_WATCH: Final = 13

_WRITES: Final = frozenset(
    (
        ops.CREATE,
        ops.CREATE2,
        ops.CREATE_CONTAINER,
        ops.CREATE_TTL,
        ops.DELETE,
        ops.SET_DATA,
        ops.SET_ACL,
        ops.MULTI,
        ops.RECONFIG,
        ops.CLOSE_SESSION,
    )
)


class Intake(ABC):
    """The requests of clients; `Replica` provides what they need.

    Attributes:
        leading: transactions are prepared here; otherwise writes go to the leader.
        refuse_writes: why writes are refused (disk space), or None.
        next_zxid: of the transaction prepared next.
        read_only: there is no quorum, reads are served to clients that want them all the same.
        local: sessions that only this server knows.
    """

    options: ReplicaOptions
    schemes: Mapping[str, AuthScheme]
    tree: Tree
    watches: Watches[Connection]
    preparer: Preparer
    reads: Reads
    remote: Remote
    stats: Stats
    observing: Observing
    leading: bool
    refuse_writes: str | None
    now_ms: int
    wall_ms: int
    next_zxid: int
    read_only: bool
    local: LocalSessions

    @abstractmethod
    def upgrade(self, session: Session) -> None:
        """Propose that a local session becomes global."""

    @abstractmethod
    def end_local_session(self, connection: Connection) -> None:
        """The client closed its local session."""

    @property
    @abstractmethod
    def outstanding(self) -> int:
        """Transactions proposed and not yet committed."""

    @abstractmethod
    def propose(
        self,
        zxid: int,
        connection: Connection | None,
        frame: bytes,
        changes: Sequence[Change],
        session_op: int,
        session: int,
        timeout_ms: int,
        entry: bytes,
    ) -> None:
        """Put a prepared transaction into the batch of this turn; `frame` is its client's answer."""

    @abstractmethod
    def sync_alone(self, connection: Connection, xid: int, body: bytes) -> None:
        """Without an ensemble: answer a sync once everything is applied that is outstanding now, whoever asked for it.

        A client that came back on another connection learns behind it what has become of its earlier writes.
        """

    def overloaded(self, connection: Connection) -> bool:
        """Whether reading from this connection should wait (`globalOutstandingLimit`)."""
        return (
            connection.submitted != connection.done and self.outstanding >= self.options.global_outstanding_limit
        ) or (
            connection.owed > CLIENT_OUT_PAUSE_BYTES or len(connection.held) + len(connection.behind) >= CLIENT_HELD_MAX
        )

    # ---------------------------------------------------------------------------------------- requests
    def feed(self, connection: Connection, data: bytes) -> int:
        """Handle the complete request frames at the start of `data`.

        Returns:
            How many bytes were used; fewer than complete frames when the connection is closing, or when the
            replies are so large that the rest must wait until they are sent (`overloaded`).

        Raises:
            ProtocolError: a frame that no client sends; the connection must be closed.
        """
        pos, end = 0, len(data)
        if connection.held or connection.behind:
            self.release(connection)
        if connection.owed > CLIENT_OUT_PAUSE_BYTES:
            return 0
        out = connection.out
        nodes = self.tree.nodes
        acl_keys = self.tree.acl_keys
        zxid = self.tree.zxid
        limit = self.options.jute_max_buffer
        proved = self._proved(connection)
        frames = 0
        size: int
        xid: int
        op: int
        while end - pos >= 12:
            size, xid, op = _frame_head(data, pos)
            after = pos + 4 + size
            if after > end:
                break
            if size < 8:
                raise ProtocolError(f"request of {size} bytes is shorter than its header")
            if size > limit:
                raise ProtocolError(f"request of {size} bytes is larger than jute.maxbuffer ({limit})")
            frames += 1
            if proved and size >= _PATH_AND_WATCH and (op == 4 or op == 3):  # the shortest way when nothing is special
                stop = after - 1
                path = data[pos + 16 : stop]
                if (
                    connection.submitted == connection.done
                    and path in nodes
                    and path not in acl_keys
                    and _int_at(data, pos + 12)[0] == len(path)
                    and connection.ready
                ):
                    record = nodes[path]
                    if data[stop]:
                        self.watches.data.add(path, connection, 1)
                    pos = after
                    if op == 4:
                        length = len(record)
                        out.append(_reply_head(16 + length, xid, zxid, 0))
                        out.append(record)
                        if length > CLIENT_BIG_REPLY_BYTES:
                            connection.owed += length
                            if connection.owed > CLIENT_OUT_PAUSE_BYTES:
                                break
                    else:
                        out.append(_reply_head(84, xid, zxid, 0))
                        out.append(record[-68:])
                    continue
            if not connection.ready:
                break
            self._request(connection, xid, op, data[pos + 12 : after])
            pos = after
            if connection.owed > CLIENT_OUT_PAUSE_BYTES:
                break
        if pos == 0 and end >= 4:
            size = _int_at(data, 0)[0]
            if size < 0 or size > limit:
                raise ProtocolError(f"request of {size} bytes is larger than jute.maxbuffer ({limit})")
        if frames:
            self._heard(connection, frames, xid, op)
        return pos

    def _heard(self, connection: Connection, frames: int, xid: int, op: int) -> None:
        session = connection.session
        if session is not None:
            session.heard_ms = self.now_ms
        connection.received += frames
        if xid >= 0:  # pings and the like are not what a client last asked for
            connection.last_xid = xid
        connection.last_op = op
        connection.last_zxid = self.tree.zxid
        connection.last_response_ms = self.now_ms
        self.stats.received += frames

    def _proved(self, connection: Connection) -> bool:
        """Whether a client has proved one of the schemes that are enforced, if any is."""
        enforced = self.options.enforced_schemes
        return not enforced or any(scheme in enforced for scheme, _ in connection.identities)

    def _request(self, connection: Connection, xid: int, op: int, body: bytes) -> None:
        if op != ops.AUTH and op != ops.SASL and not self._proved(connection):
            # Source: ZooKeeper `AuthenticationHelper.enforceAuthentication`.
            connection.out.append(_reply_head(16, xid, 0, errors.SESSION_CLOSED_REQUIRE_AUTH))
            connection.close("the client has proved none of enforce.auth.schemes")
            return
        if connection.behind or not self._may_go(connection, op):
            connection.behind.append((xid, op, body))
        else:
            self._perform(connection, xid, op, body)

    def _may_go(self, connection: Connection, op: int) -> bool:
        """Writes and syncs of one connection are not in flight together."""
        if op in _WRITES:
            return not connection.syncs
        if op == ops.SYNC and self.remote.consensus is not None:
            return connection.submitted - connection.done == connection.syncs
        return True

    def _perform(self, connection: Connection, xid: int, op: int, body: bytes) -> None:
        if op in _WRITES:
            self._write(connection, xid, op, body)
        elif op == ops.SYNC and self.remote.consensus is not None:
            if self.read_only:
                self._refuse(connection, xid, errors.NOT_READ_ONLY)
            elif connection.session is None:
                self._refuse(connection, xid, errors.SESSION_EXPIRED)
            else:
                self.remote.forward(connection, xid, op, body)
        elif op in self.reads.operations:
            if op == ops.SYNC and self.outstanding:
                self.sync_alone(connection, xid, body)
            elif connection.submitted == connection.done:
                self._read(connection, xid, op, body)
            else:
                connection.held.append((connection.submitted, xid, op, body))
        elif op == ops.AUTH:
            self._authenticate(connection, xid, body)
        elif op == ops.SASL:
            # Without SASL a token is answered by none, and the client goes on unauthenticated (`processSasl`).
            connection.out.append(_reply_head(20, xid, 0, 0) + b"\xff\xff\xff\xff")
        else:
            # Unknown, or not for clients (createSession, a lone check, deleteContainer): answered in order, then
            # closed.
            connection.ready = False
            self._refuse(connection, xid, errors.UNIMPLEMENTED)

    def _read(self, connection: Connection, xid: int, op: int, body: bytes) -> None:
        code, reply = self.reads.answer(connection, op, body)
        if op == ops.PING:
            xid = _PING_XID
        if len(reply) > CLIENT_BIG_REPLY_BYTES:
            connection.owed += len(reply)
        connection.out.append(_reply_head(16 + len(reply), xid, self.tree.zxid, code) + reply)

    def release(self, connection: Connection) -> None:
        """Go on with requests that need not wait any more, as long as the replies are not too much at once."""
        self._release_held(connection)
        behind = connection.behind
        while (
            behind
            and connection.ready
            and connection.owed <= CLIENT_OUT_PAUSE_BYTES
            and self._may_go(connection, behind[0][1])
        ):
            self._perform(connection, *behind.popleft())

    def _release_held(self, connection: Connection) -> None:
        held, done = connection.held, connection.done
        while held and held[0][0] <= done and connection.owed <= CLIENT_OUT_PAUSE_BYTES:
            _, xid, op, body = held.popleft()
            if op != ops.ERROR:
                self._read(connection, xid, op, body)
                continue
            code: int = _int_at(body, 0)[0]
            if code == errors.UNIMPLEMENTED:
                connection.out.append(_reply_head(16, xid, -1, code))
                connection.close("unknown operation")
            else:
                connection.out.append(_reply_head(16, xid, self.tree.zxid, code))

    def _refuse(self, connection: Connection, xid: int, code: int) -> None:
        """Answer a request that takes no zxid with an error, after the connection's pending writes."""
        connection.held.append((connection.submitted, xid, ops.ERROR, _pack_int(code)))
        self._release_held(connection)

    def _refuse_write(self, connection: Connection, xid: int, op: int, body: bytes, code: int) -> None:
        self.observing.refused(connection, op, body, code)
        self._refuse(connection, xid, code)

    def _authenticate(self, connection: Connection, xid: int, body: bytes) -> None:
        reader = Reader(body)
        reader.int()
        name, data = reader.string() or b"", reader.buffer() or b""
        scheme = self.schemes.get(name.decode("utf-8", "replace"))
        proved = scheme.authenticate(data, connection.peer) if scheme is not None else None
        if scheme is not None and proved is not None:
            proved = identities(scheme, "authenticate", proved)
        if proved and len(connection.identities) < IDENTITIES_MAX:
            have = connection.identities
            connection.identities = [*have, *(identity for identity in proved if identity not in have)]
            connection.out.append(_reply_head(16, xid, 0, 0))
        else:
            self.stats.auth_failed += 1
            connection.out.append(_reply_head(16, xid, 0, errors.AUTH_FAILED))
            connection.close("authentication failed")

    def _write(self, connection: Connection, xid: int, op: int, body: bytes) -> None:
        session = connection.session
        if session is None:  # admitted to read
            self._refuse_write(connection, xid, op, body, errors.SESSION_EXPIRED)
            return
        if op == ops.CLOSE_SESSION:
            connection.ready = False
        elif self.refuse_writes is not None or self.read_only:
            self._refuse_write(connection, xid, op, body, errors.NOT_READ_ONLY)
            return
        if session.local and not self._as_local(connection, session, xid, op, body):
            return
        if not self.leading:
            self.remote.forward(connection, xid, op, body)
            return
        request = Request(connection.session_id, xid, op, body, connection.identities)
        zxid = self.next_zxid
        try:
            entry, changes, reply, code, session_op = self.preparer.prepare(request, zxid, self.wall_ms)
        except Malformed:
            self._refuse_write(connection, xid, op, body, errors.MARSHALLING_ERROR)
            return
        if self.observing.request_failed or self.observing.write_answered:
            self.observing.prepared(zxid, connection, op, body, code, reply)
        frame = _reply_head(16 + len(reply), xid, zxid, code) + reply
        connection.submitted += 1
        self.propose(zxid, connection, frame, changes, session_op, connection.session_id, 0, entry)

    def _as_local(self, connection: Connection, session: Session, xid: int, op: int, body: bytes) -> bool:
        """A write of a local session; False if it is answered here.

        Its first ephemeral znode makes the session global.
        """
        if op == ops.CLOSE_SESSION:
            self._refuse(connection, xid, errors.OK)
            return False
        if makes_ephemeral(op, body):
            if not self.local.upgrading:
                self._refuse_write(connection, xid, op, body, errors.EPHEMERAL_ON_LOCAL_SESSION)
                return False
            session.local = False
            self.upgrade(session)
        return True
