"""Mistakes planted in the server around consensus: sessions, watches, ephemeral and sequence znodes, reads.

They are found with the workload `sessions`; see `mutants.py` for how they are planted.
"""

from __future__ import annotations

from typing import Any

from corekit_zab.learner import Learner

from corekit.codec import ops
from corekit.model.sessions import Session, SessionTracker
from corekit.model.tree import Tree
from corekit.replica import apply, prepare, replica
from corekit.replica.connection import Connection
from corekit.replica.events import Applier
from corekit.replica.image import StateImage
from corekit.replica.prepare import Preparer
from corekit.replica.reads import Reads
from corekit.replica.remote import Remote
from corekit.replica.replica import Replica
from corekit.testing.sim.server import Server
from tests.sim.mutants import Patch, mutant


@mutant(3, workload="sessions")
def watch_after_reply(patch: Patch) -> None:
    """Events leave behind the answer that shows the change."""
    late: list[tuple[Connection, list[bytes]]] = []

    def tell(self: Applier, *args: Any) -> Any:
        table, path = args[0], args[1]
        watchers = [*table.by_path.get(path, ())]
        had = {connection: len(connection.out) for connection in watchers}
        told = original_tell(self, *args)
        for connection in watchers:
            late.append((connection, connection.out[had[connection] :]))
            del connection.out[had[connection] :]
        return told

    def committed(self: Server, upto_zxid: int) -> None:
        original(self, upto_zxid)
        for connection, frames in late:
            connection.out += frames
            connection.wake()
        late.clear()

    original_tell, original = Applier._tell, Server.committed
    patch(Applier, "_tell", tell)
    patch(Server, "committed", committed)


@mutant(3, workload="sessions")
def watch_lost(patch: Patch) -> None:
    """Nobody is told of a change."""
    patch(Applier, "_tell", lambda self, *args: {})


@mutant(3, workload="sessions")
def ephemeral_not_removed(patch: Patch) -> None:
    """A learner keeps the ephemeral znodes of a session that ends."""

    def one(tree: Tree, txn: Any, changes: Any) -> None:
        if txn.type != apply.ops.CLOSE_SESSION:
            original(tree, txn, changes)

    original = apply._one
    patch(apply, "_one", one)


@mutant(3, workload="sessions")
def ephemeral_not_removed_anywhere(patch: Patch) -> None:
    """Nobody removes the ephemeral znodes of a session that ends: all digests agree."""
    patch(Tree, "ephemerals_of", lambda self, session: [])


@mutant(3, workload="sessions")
def session_expires_early(patch: Patch) -> None:
    """Sessions get an eighth of their time."""

    def bucket(self: SessionTracker, session: Session) -> int:
        return ((session.heard_ms + session.timeout_ms // 8) // self.tick_ms + 1) * self.tick_ms

    patch(SessionTracker, "_bucket", bucket)


@mutant(40, workload="sessions")
def learners_do_not_tell_whom_they_hear(patch: Patch) -> None:
    """The leader never hears of the sessions of its learners' clients."""
    patch(Remote, "touched", lambda self: [])


@mutant(3, workload="sessions")
def sessions_never_expire(patch: Patch) -> None:
    """Nobody looks at the clock."""
    patch(SessionTracker, "expired", lambda self, now_ms: [])


@mutant(3, workload="sessions")
def sequence_from_the_number_of_children(patch: Patch) -> None:
    """Sequence names count the children that there are, not those that there ever were."""

    def cversion(self: Tree, path: bytes) -> int:
        kids = self.kids.get(path)
        return len(kids.paths) if kids is not None else 0

    patch(Tree, "cversion", cversion)


@mutant(12, workload="sessions")
def sync_answered_at_once(patch: Patch) -> None:
    """A learner answers a sync without asking its leader."""
    patch(Learner, "sync", lambda self, session_id, cxid, body: self.engine.host.synced(session_id, cxid))


@mutant(3, workload="sessions")
def answered_when_proposed(patch: Patch) -> None:
    """A leader answers a write before it is decided."""

    def propose(self: Replica, zxid: int, connection: Connection | None, frame: bytes, *rest: Any) -> None:
        if connection is not None and connection.ready:
            connection.out.append(frame)
            connection.wake()
            connection.done += 1
            connection = None
        original(self, zxid, connection, frame, *rest)

    original = Replica.propose
    patch(Replica, "propose", propose)


@mutant(12, workload="sessions")
def prepared_against_what_was_dropped(patch: Patch) -> None:
    """A leader that was deposed still sees what it proposed when it leads again."""

    def suspend(self: Replica, why: str) -> None:
        kept = {
            name: dict(value)
            for name, value in vars(self.tree).items()
            if name.startswith("pend") and isinstance(value, dict)
        }
        original(self, why)
        vars(self.tree).update(kept)

    original = Replica.suspend
    patch(Replica, "suspend", suspend)


@mutant(60, workload="sessions")
def snapshot_without_sessions(patch: Patch) -> None:
    """A learner that takes a snapshot learns of no session."""

    def capture(self: StateImage) -> Any:
        image = original(self)
        image.sessions = []
        return image

    original = StateImage.capture
    patch(StateImage, "capture", capture)


# --------------------------------------------------------------------------- multi, coming back, clocks, late requests
@mutant(3, workload="sessions")
def multi_carried_out_up_to_its_failure(patch: Patch) -> None:
    """What stands before the part of a multi that cannot be carried out stays."""

    def changes_of(tree: Tree, txn: Any) -> Any:
        if txn.type != ops.MULTI:
            return original(tree, txn)
        changes: list[Any] = []
        for sub in txn.subs:
            apply._one(tree, sub, changes)
        return changes

    original = apply.changes_of
    patch(apply, "changes_of", changes_of)
    patch(replica, "changes_of", changes_of)


@mutant(3, workload="sessions")
def check_in_a_multi_is_not_looked_at(patch: Patch) -> None:
    """A check succeeds whatever the version is."""

    def check(self: Preparer, request: Any, zxid: int, now_ms: int) -> Any:
        try:
            return original(self, request, zxid, now_ms)
        except prepare.Refused:
            return ops.CHECK, request.body, (), b""

    original = Preparer._check
    patch(Preparer, "_check", check)


@mutant(3, workload="sessions")
def set_watches_tells_nothing(patch: Patch) -> None:
    """ZOOKEEPER-1412: what a client missed before it came back is not told, its watches are set anew."""

    def restore(self: Reads, connection: Connection, seen: int, lists: list[list[bytes]]) -> None:
        original(self, connection, 1 << 62, lists)

    original = Reads._restore_watches
    patch(Reads, "_restore_watches", restore)


@mutant(3, workload="sessions")
def set_watches_tells_everything(patch: Patch) -> None:
    """A client that comes back is told of every znode, changed or not."""

    def restore(self: Reads, connection: Connection, seen: int, lists: list[list[bytes]]) -> None:
        original(self, connection, 0, lists)

    original = Reads._restore_watches
    patch(Reads, "_restore_watches", restore)


@mutant(3, workload="sessions")
def set_watches_watches_nothing(patch: Patch) -> None:
    """What did not change while a client was away is not watched on."""

    def restore(self: Reads, connection: Connection, seen: int, lists: list[list[bytes]]) -> None:
        original(self, connection, seen, lists)
        self._watches.forget(connection)

    original = Reads._restore_watches
    patch(Reads, "_restore_watches", restore)


@mutant(3, workload="sessions")
def recursive_watches_do_not_come_back(patch: Patch) -> None:
    """setWatches2 is taken for setWatches."""
    patch(Reads, "_set_watches2", Reads._set_watches)


@mutant(20, workload="sessions")
def sessions_by_the_wall_clock(patch: Patch) -> None:
    """Sessions expire by the wall clock, which jumps."""

    def set_time(self: Replica, now_ms: int, wall_ms: int) -> None:
        original(self, wall_ms, wall_ms)

    original = Replica.set_time
    patch(Replica, "set_time", set_time)


@mutant(12, workload="sessions")
def late_requests_of_a_session_that_moved(patch: Patch) -> None:
    """Nobody looks whether a session has moved before a request of its old connection is carried out."""

    def forwarded(self: Remote, origin: int, session_id: int, *rest: Any) -> None:
        session = self._replica.sessions.sessions.get(session_id)
        if session is not None:
            session.home = None
        original(self, origin, session_id, *rest)

    original = Remote.forwarded
    patch(Remote, "forwarded", forwarded)
