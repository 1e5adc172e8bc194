"""The heart of a server: requests in, replies and effects out, deterministic and without I/O.

How one turn goes: the shell sets the clocks (`set_time`), feeds what arrived (`feed`, `persisted`, `tick` ...), then
calls `flush` once, which hands the transactions prepared in this turn to consensus as one batch. Replies stand in
`Connection.out`.

Rules
- State changes only in `committed`, in zxid order, and only for what consensus says is committed.
- A write is prepared when it arrives, whatever is pending; a read sees committed state only, and waits behind the
  connection's own writes, never behind those of others.
- Events stand in `out` before any reply that shows the change.
- Every queue has a bound in `limits.py`; above it the shell stops reading (`overloaded`), it does not drop.

Not here: requests as they come in (`intake.py`), validation (`prepare.py`), reads (`reads.py`), sessions' handshake
(`attach.py`), the stored state (`image.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from corekit.api import AuthScheme, Consensus, EnsembleConsensus, Observer, Peer
from corekit.codec import ops
from corekit.codec.snapshot import ImageReader
from corekit.codec.txns import decode
from corekit.contracts import identities
from corekit.limits import BATCH_ENTRIES_MAX, PENDING_VIEW_MAX, STATE_STEP_NODES
from corekit.model import paths, stat
from corekit.model.digest import MASK
from corekit.model.quota import Quotas
from corekit.model.sessions import Session, SessionTracker
from corekit.model.tree import SET, Change, Tree
from corekit.model.watches import Watches
from corekit.replica.apply import changes_of
from corekit.replica.connection import Connection
from corekit.replica.events import Applier
from corekit.replica.image import StateImage
from corekit.replica.intake import Intake
from corekit.replica.local import LocalSessions
from corekit.replica.observing import Observing, versions
from corekit.replica.options import ReplicaOptions
from corekit.replica.pending import Pending
from corekit.replica.prepare import Preparer, Request
from corekit.replica.reads import Reads
from corekit.replica.remote import Remote, error_entry
from corekit.replica.stats import Stats

_NO_CXID: Final = bytes(4)  # in a transaction's header, for what no client asked for: expiry
_DIGEST_EVERY: Final = 127  # a digest is kept where the zxid has none of these bits


class Replica(Intake):
    """One server's state and the requests in flight.

    Args:
        options: the settings that decide behaviour.
        schemes: authentication schemes by name.
        first_session_id: where this server's session ids start.
        observers: who wants to know what happens.

    Attributes:
        serving: clients are served.
        proposing: consensus is in its `propose`.
        leading: transactions are prepared here; otherwise writes go to the leader.
        mode: ZooKeeper's word for the role (`standalone`, `leader` ...).
        now_ms, wall_ms: monotonic and wall clock of this turn.
        now_us: the monotonic clock as fine as the shell knows it; only for latencies.
        refuse_writes: why writes are refused (disk space), or None.
        refuse_sessions: why no session is opened, which is a small write too, or None.
        digests: (zxid, digest of the tree) every 128 transactions, for the four-letter word `hash`.
        parted_at: the transaction after which this tree was not the leader's any more; 0 if it is, or was never known
            to be.
    """

    def __init__(
        self,
        options: ReplicaOptions,
        schemes: Mapping[str, AuthScheme],
        first_session_id: int,
        observers: Sequence[Observer] = (),
        server_id: int = 1,
    ) -> None:
        self.options = options
        self.schemes = schemes
        self.tree = Tree()
        self.watches: Watches[Connection] = Watches()
        self.quotas = Quotas()
        self.sessions = SessionTracker(options.tick_time_ms, first_session_id)
        self.image = StateImage(self.tree, self.sessions)
        self.applier = Applier(self.tree, self.watches, self.quotas, schemes, skip_acl=options.skip_acl)
        self.preparer = Preparer(
            self.tree,
            self.quotas,
            self.sessions,
            schemes,
            extended_types=options.extended_types,
            skip_acl=options.skip_acl,
            enforce_quota=options.enforce_quota,
            close_session_paths=options.close_session_paths,
        )
        self.local = LocalSessions(
            options.tick_time_ms,
            server_id,
            enabled=options.local_sessions,
            upgrading=options.local_sessions_upgrading,
        )
        self.preparer.may_write_unknown = self.local.may_write
        self.reads = Reads(self.tree, self.watches, schemes, skip_acl=options.skip_acl)
        self.remote = Remote(self, server_id)
        self.stats = Stats()
        self.digests: deque[tuple[int, int]] = deque(maxlen=1024)
        self.parted_at = 0
        self._same_tree = True
        self.connections: dict[Connection, None] = {}  # in order of arrival: no run depends on addresses
        self.serving = False
        self.leading = False
        self.read_only = False
        self.mode = "looking"
        self.refuse_writes: str | None = None
        self.refuse_sessions: str | None = None
        self.now_ms = 0
        self.wall_ms = 0
        self.now_us = 0
        self._consensus: Consensus | None = None
        self.next_zxid = 1
        self._batch_zxid = 0
        self._batch: list[bytes] = []
        self._pending: deque[Pending] = deque()
        self._tail: deque[tuple[int, bytes]] = deque()
        self._syncs: deque[tuple[int, Connection, int, bytes]] = deque()  # zxid to wait for, connection, xid, body
        self.proposing = False
        self.observing = Observing(observers)

    # ------------------------------------------------------------------------- time, consensus, batches
    def set_time(self, now_ms: int, wall_ms: int) -> None:
        """The clocks of the coming turn."""
        self.now_ms = now_ms
        self.wall_ms = wall_ms
        self.now_us = now_ms * 1000

    def bind(self, consensus: Consensus) -> None:
        """The consensus that orders this replica's transactions."""
        self._consensus = consensus
        if isinstance(consensus, EnsembleConsensus):
            self.remote.consensus = consensus

    def serve(self, mode: str, next_zxid: int) -> None:
        """Begin to serve clients; transactions are numbered from `next_zxid`."""
        if self.read_only:
            self.suspend("there is a quorum again")
        self.mode = mode
        self.leading = mode in ("standalone", "leader")
        self.serving = True
        self.next_zxid = next_zxid
        self.sessions.restart(self.now_ms)

    def show_ensemble(self, text: bytes) -> None:
        """Put the configuration of the ensemble into `/zookeeper/config`; no transaction, each server does it for
        itself (`DataTree.initConfigInZKDatabase`). Only while no client is served."""
        data = len(text).to_bytes(4, "big") + text
        record = self.tree.nodes[paths.CONFIG]
        if not record.startswith(data):
            self.applier.apply(self.tree.change_set(paths.CONFIG, record, data, -1, 0, self.wall_ms), 0)
            self.tree.drop_pending()

    def serve_read_only(self) -> None:
        """Without a quorum: serve reads to clients that ask for that."""
        assert not self.serving
        self.mode = "read-only"
        self.serving = self.read_only = True

    def suspend(self, why: str) -> None:
        """Stop serving: clients are sent away, what was not proposed is dropped.

        What was proposed stays in the tail: the next leader knows whether it is decided.
        """
        self.serving = self.leading = self.read_only = False
        self.mode = "looking"
        self.remote.forget()
        proposed = len(self._pending) - len(self._batch)
        self._tail.extend((one.zxid, one.entry) for one, _ in zip(self._pending, range(proposed), strict=False))
        self._pending.clear()
        self._syncs.clear()
        self._batch.clear()
        self.observing.forget()
        self.tree.drop_pending()
        for connection in list(self.connections):
            connection.close(why)

    def flush(self) -> None:
        """End of a turn: propose what was prepared."""
        if self._batch:
            batch, self._batch = self._batch, []
            self.stats.proposed += len(batch)
            assert self._consensus is not None
            self.proposing = True
            self._consensus.propose(self._batch_zxid, batch, self.next_zxid - 1)
            self.proposing = False

    def logged(self, first_zxid: int, entries: Sequence[bytes]) -> None:
        """Entries were put at the end of the log. Those that were not prepared here wait in the tail as they are."""
        if not self.proposing:
            self._tail.extend(enumerate(entries, first_zxid))

    def cut(self, zxid: int) -> None:
        """Entries above `zxid` were taken out of the log."""
        assert zxid >= self.tree.zxid, "a decided transaction cannot be taken back"
        while self._tail and self._tail[-1][0] > zxid:
            self._tail.pop()

    def install(self, image: ImageReader, zxid: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """A received state takes the place of everything; the result is all of it in chunks, for storage."""
        assert not self.serving
        self._tail.clear()
        self.tree.drop_pending()
        # A ZooKeeper leader's snapshot may be ahead of its zxid: digests differ until it is reached (ZOOKEEPER-3249).
        self._same_tree = False
        self.parted_at = 0
        yield from self.image.replace(image, zxid, self.now_ms)
        self.quotas.restore(self.tree)

    def renumber(self, next_zxid: int) -> None:
        """Continue with another zxid (a new epoch). Only between turns."""
        assert not self._batch
        assert next_zxid >= self.next_zxid
        self.next_zxid = next_zxid

    @property
    def undecided(self) -> int:
        """Entries of the log that wait in the tail as they are."""
        return len(self._tail)

    @property
    def outstanding(self) -> int:
        """Transactions proposed and not yet committed."""
        return len(self._pending)

    # ------------------------------------------------------------------------------------------ writes
    def propose_request(self, request: Request, timeout_ms: int = 0) -> None:
        """Propose a request that no connection of this server waits for.

        Raises:
            Malformed: see `Preparer.prepare`.
        """
        zxid = self.next_zxid
        entry, changes, _, _, session_op = self.preparer.prepare(request, zxid, self.wall_ms)
        self.propose(zxid, None, b"", changes, session_op, request.session, timeout_ms, entry)

    def propose_error(self, session_id: int, cxid: int, code: int) -> None:
        """Propose the refusal of a learner's request."""
        zxid = self.next_zxid
        self.propose(zxid, None, b"", (), 0, session_id, 0, error_entry(session_id, cxid, zxid, self.wall_ms, code))

    def open_session(self, connection: Connection, session_id: int, timeout_ms: int, frame: bytes) -> None:
        """Propose a new session; `frame` (the ConnectResponse) is sent once it is committed."""
        if not self.leading:
            self.remote.open_session(connection, session_id, timeout_ms, frame)
            return
        zxid = self.next_zxid
        request = Request(session_id, 0, ops.CREATE_SESSION, timeout_ms.to_bytes(4, "big"), ())
        entry, changes, _, _, session_op = self.preparer.prepare(request, zxid, self.wall_ms)
        connection.submitted += 1
        self.propose(zxid, connection, frame, changes, session_op, session_id, timeout_ms, entry)

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
        self.next_zxid = zxid + 1
        batch = self._batch
        if not batch:
            self._batch_zxid = zxid
        batch.append(entry)
        self._pending.append(
            Pending(zxid, connection, frame, changes, session_op, session, timeout_ms, entry, self.now_us)
        )
        if len(batch) >= BATCH_ENTRIES_MAX:
            self.flush()

    def committed(self, upto_zxid: int) -> None:
        """Consensus: everything up to here is decided. Apply, fire watches, answer."""
        tail = self._tail
        if tail and tail[0][0] <= upto_zxid:
            while tail and tail[0][0] <= upto_zxid:
                self._apply_entry(tail.popleft()[1])
            self.tree.drop_pending()
        if self._pending:
            self._commit_prepared(upto_zxid)

    def _apply_entry(self, entry: bytes) -> None:
        """Apply a decided entry that was not prepared here (from the log, or from a leader)."""
        tree = self.tree
        txn = decode(entry)
        if txn.type == ops.CLOSE_SESSION:
            tree.drop_pending()  # all of it is committed, and it would be searched for the session's ephemerals
        changes = changes_of(tree, txn)
        before = versions(tree.nodes, changes) if self.observing.write_answered else {}
        for change in changes:
            self.applier.apply(change, txn.zxid)
        tree.zxid = txn.zxid
        if tree.digest_on:
            if txn.digest is not None:
                self._compare(txn.zxid, txn.digest == tree.digest)
            if not txn.zxid & _DIGEST_EVERY:
                self.digests.append((txn.zxid, tree.digest))
        if txn.type == ops.CREATE_SESSION:
            self._session_changed(txn.type, txn.session, txn.timeout_ms, None)
        if self.serving:
            self.remote.applied(txn, changes, entry, before)
        if txn.type == ops.CLOSE_SESSION:
            self._session_changed(txn.type, txn.session, 0, None, by_client=txn.cxid != 0)
        if self.observing.committed:
            self.observing.tell(self.observing.committed, txn.zxid, entry)

    def _compare(self, zxid: int, same: bool) -> None:
        """Whether this tree is the leader's, as the digest in its transaction says."""
        if same:
            self._same_tree = True
            self.parted_at = 0
            return
        if self._same_tree or self.parted_at or self.serving:  # else a snapshot that is ahead of its zxid
            self.stats.digest_mismatches += 1
        if self._same_tree:
            self._same_tree = False
            self.parted_at = zxid

    def _commit_prepared(self, upto_zxid: int) -> None:
        pending, tree, apply = self._pending, self.tree, self.applier.apply
        nodes, changed = tree.nodes, tree.changed
        data = self.watches.data
        limited = self.quotas.limited
        observing = self.observing
        syncs = self._syncs
        count = 0
        while pending and pending[0].zxid <= upto_zxid:
            one = pending.popleft()
            zxid, connection, changes, began = one.zxid, one.connection, one.changes, one.began_us
            if syncs and syncs[0][0] < zxid:
                self._answer_syncs()
            count += 1
            before = versions(nodes, changes) if observing.write_answered else {}
            for change in changes:
                path = change[1]
                if change[0] == SET and path not in data.by_path and not data.recursive and not limited:
                    record = change[2]
                    if change[3]:
                        tree.digest = (tree.digest + change[3]) & MASK
                    tree.data_bytes += len(record) - len(nodes[path])
                    nodes[path] = record
                    changed.add(path)
                else:
                    apply(change, zxid)
            tree.zxid = zxid
            if tree.digest_on and not zxid & _DIGEST_EVERY:
                self.digests.append((zxid, tree.digest))
            if one.session_op:
                by_client = one.entry[8:12] != _NO_CXID
                self._session_changed(one.session_op, one.session, one.timeout_ms, connection, by_client=by_client)
            if observing.committed:
                observing.tell(observing.committed, zxid, one.entry)
            if connection is not None:
                if observing.write_answered:
                    observing.decided(zxid, connection, one.entry, before)
                connection.out.append(one.frame)
                connection.done += 1
                if connection.held or connection.behind:
                    self.release(connection)
                if not connection.queued:
                    connection.wake()
        if syncs:
            self._answer_syncs()
        if count:
            self.stats.update_latency.observe_n(self.now_us - began, count)
            if not pending:
                tree.drop_pending()
            elif len(tree.pend) > PENDING_VIEW_MAX:
                tree.rebuild_pending(change for one in pending for change in one.changes)

    def sync_alone(self, connection: Connection, xid: int, body: bytes) -> None:
        """See `Intake.sync_alone`."""
        connection.submitted += 1
        self._syncs.append((self._pending[-1].zxid, connection, xid, body))

    def _answer_syncs(self) -> None:
        """Answer the syncs behind which everything is applied."""
        while self._syncs and self._syncs[0][0] <= self.tree.zxid:
            _, connection, xid, body = self._syncs.popleft()
            connection.done += 1
            self._read(connection, xid, ops.SYNC, body)
            if connection.held or connection.behind:
                self.release(connection)
            connection.wake()

    def _session_changed(
        self, session_op: int, session_id: int, timeout_ms: int, by: Connection | None, *, by_client: bool = True
    ) -> None:
        self.image.sessions_changed.add(session_id)
        if session_op == ops.CREATE_SESSION:
            self.sessions.add(session_id, timeout_ms, self.now_ms)
            local = self.local.get(session_id)
            if local is not None:
                self.local.close(session_id)
                by = local.owner if isinstance(local.owner, Connection) else None
            if by is not None:
                self.adopt(by, session_id)
                self.observing.tell(self.observing.session_opened, session_id, timeout_ms, by.peer)
            return
        closed = self.sessions.sessions.get(session_id)
        self.sessions.remove(session_id)
        if closed is not None and isinstance(closed.owner, Connection):
            closed.owner.close("session closed")
        self.observing.tell(self.observing.session_closed, session_id, "closed" if by_client else "expired")

    def adopt(self, connection: Connection, session_id: int) -> None:
        """A connection's new session is committed: it may send requests now."""
        session = self.sessions.sessions[session_id]
        if connection in self.connections:
            session.owner = connection
            session.home = self.remote.server_id
            connection.session = session
            connection.ready = True

    def reopen_session(
        self, connection: Connection, session_id: int, timeout_ms: int, answers: tuple[bytes, bytes]
    ) -> None:
        """A client came back to its session with the right password.

        Args:
            answers: the ConnectResponse if the session lives, and if it does not.
        """
        local = self.local.get(session_id)
        if local is not None:
            self.local.tracker.retime(local, timeout_ms, self.now_ms)
            self._attach_local(connection, local)
            connection.out.append(answers[0])
            return
        session = self.sessions.sessions.get(session_id)
        if not self.leading:
            if session is not None:  # what the older connection holds back would come behind later requests
                self._leave_older(session, connection)
            self.remote.reopen_session(connection, session_id, timeout_ms, answers)
            return
        self.reopened(connection, session_id, timeout_ms, answers, session is not None and not session.closing)

    def open_local_session(self, connection: Connection, session_id: int, timeout_ms: int, frame: bytes) -> None:
        """A new session that only this server knows."""
        self._attach_local(connection, self.local.open(session_id, timeout_ms, self.now_ms))
        connection.out.append(frame)

    def _leave_older(self, session: Session, connection: Connection) -> None:
        if isinstance(session.owner, Connection) and session.owner is not connection:
            session.owner.close("its client connected anew")

    def _attach_local(self, connection: Connection, session: Session) -> None:
        self._leave_older(session, connection)
        session.owner = connection
        session.local = True  # also if it was about to become global when the leader was lost
        connection.session = session
        connection.ready = True

    def end_local_session(self, connection: Connection) -> None:
        """See `Intake.end_local_session`."""
        self.local.close(connection.session_id)
        connection.close("session closed")

    def upgrade(self, session: Session) -> None:
        """See `Intake.upgrade`."""
        if self.leading:
            # As for a new session of a learner: known from now on, so that the znode prepared next finds its owner.
            known = self.sessions.add(session.id, session.timeout_ms, self.now_ms)
            known.owner = session.owner
            body = session.timeout_ms.to_bytes(4, "big")
            self.propose_request(Request(session.id, 0, ops.CREATE_SESSION, body, ()), session.timeout_ms)
        else:
            self.remote.upgrade(session)

    def reopened(
        self, connection: Connection, session_id: int, timeout_ms: int, answers: tuple[bytes, bytes], valid: bool
    ) -> None:
        """Whether the session lives is known."""
        connection.out.append(answers[0 if valid else 1])
        if not valid:
            connection.close("session is unknown or expired")
            return
        session = self.sessions.add(session_id, timeout_ms, self.now_ms)
        self._leave_older(session, connection)
        self.sessions.retime(session, timeout_ms, self.now_ms)
        self.adopt(connection, session_id)
        connection.wake()

    # -------------------------------------------------------------------------------- connections, time
    def connect(self, peer: Peer, woken: Callable[[Connection], None]) -> Connection:
        """A client connected. It gets the identities that its transport and the schemes grant by themselves."""
        known = [
            identity
            for scheme in self.schemes.values()
            for identity in identities(scheme, "on_connect", scheme.on_connect(peer))
        ]
        connection = Connection(peer, [*known, *peer.identities], woken, self.now_ms)
        self.connections[connection] = None
        self.observing.tell(self.observing.connection_opened, peer)
        return connection

    def disconnect(self, connection: Connection) -> None:
        """The connection is gone; its session stays until it expires or comes back."""
        if connection in self.connections:
            del self.connections[connection]
            why = connection.closing or "disconnected"
            self.observing.tell(self.observing.connection_closed, connection.peer, why)
        self.watches.forget(connection)
        self.remote.gone(connection)
        connection.ready = False
        if connection.closing is None:
            connection.closing = "disconnected"
        if connection.session is not None and connection.session.owner is connection:
            connection.session.owner = None

    def tick(self) -> None:
        """Time passed: expire sessions, delete empty containers and znodes past their time to live."""
        for session in self.local.expired(self.now_ms):
            if isinstance(session.owner, Connection):
                session.owner.close("session expired")
        if not self.leading:
            self._drop_silent()
            return
        for session_id in self.sessions.expired(self.now_ms):
            self.stats.sessions_expired += 1
            self.propose_request(Request(session_id, 0, ops.CLOSE_SESSION, b"", ()))

    def _drop_silent(self) -> None:
        """On a learner: a client that is not heard any more may long be connected elsewhere, with its session alive."""
        for connection in list(self.connections):
            session = connection.session
            if (
                session is not None
                and self.now_ms - session.heard_ms > connection.timeout_ms + self.options.tick_time_ms
            ):
                connection.close("nothing was heard from the client")

    def collect(self, max_nodes: int) -> int:
        """Propose the deletion of containers that are empty and TTL znodes that are over; how many."""
        found = 0
        options, tree = self.options, self.tree
        for path, owner in list(tree.owners.items()):
            record = tree.nodes.get(path)
            if found >= max_nodes or record is None or stat.children_of(record) or tree.record(path) is None:
                continue
            kind = stat.owner_kind(owner, options.extended_types, options.emulate_353_ttl)
            if kind == "container":
                used = tree.stored_cversion(path) > 0
                age = self.wall_ms - stat.zxid_at(record, stat.CTIME)
                due = used or 0 < options.container_never_used_ms < age
            else:
                due = self.wall_ms - stat.zxid_at(record, stat.MTIME) > stat.ttl_of(owner)
            if due:
                found += 1
                body = len(path).to_bytes(4, "big") + path
                self.propose_request(Request(0, 0, ops.DELETE_CONTAINER, body, ()))
        return found

    def state_due(self) -> bool:
        """Whether enough has changed that the stored state should be brought up to date now."""
        return self.image.pending() >= STATE_STEP_NODES
