"""Mistakes planted in the server around consensus: sessions, watches, ephemeral and sequence znodes, reads.

They are found with the workload `sessions`; see `mutants.py` for how they are planted.
"""

from __future__ import annotations

from typing import Any

from corekit_zab.learner import Learner

from corekit.model.sessions import Session, SessionTracker
from corekit.model.tree import Tree
from corekit.replica import apply
from corekit.replica.connection import Connection
from corekit.replica.events import Applier
from corekit.replica.image import StateImage
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
