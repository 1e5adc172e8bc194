"""A `ConsensusHost` that keeps log and tail on a simulated disk, and watches every call that a consensus makes.

Rules
- What the contract forbids raises AssertionError in the call that does it, with the rule in words.
- A sync happens when the test says so: `sync` for all that is staged, `begin_sync` and `end_sync` for a part.
- Time is a number that the test moves. Links to other servers cannot be opened: a host is alone.

Not here: what is tested (`consensus.py`), hosts that talk to each other (`sim/`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from corekit.api import Consensus, EnsembleConsensus, Identity
from corekit.testing.sim.disk import SimDisk

LEADING = ("standalone", "leader")
SERVING = (*LEADING, "follower", "observer", "read-only")
START_MS = 1_000_000

_STEP_MS = 10  # how far time goes when a consensus wants to be woken at once
_COUNTER = 0xFFFFFFFF


def entry_of(zxid: int, text: bytes = b"") -> bytes:
    """An entry that says where it belongs: TxnHeader (session, cxid, zxid, time, type) of an error transaction."""
    head = (1).to_bytes(8, "big") + (zxid & 0x7FFFFFFF).to_bytes(4, "big") + zxid.to_bytes(8, "big")
    return head + bytes(8) + (-1).to_bytes(4, "big", signed=True) + text


class WatchfulHost:
    """One server around a consensus.

    Args:
        disk: its log, epochs and state; outlives the host.
        consensus: not started.

    Attributes:
        now_ms: the clock.
        serving: the mode in which clients are served, or "".
        next_zxid: of the next proposal, while serving as leader.
        history: every applied entry with its zxid, in order, from the first of the log.
        tail: entries in the log that are not decided.
        durable_zxid: the log is durable up to here.
        calls: what consensus asked for, in order.
    """

    def __init__(self, disk: SimDisk, consensus: Consensus) -> None:
        self.disk = disk
        self.consensus = consensus
        self.now_ms = START_MS
        self.serving = ""
        self.next_zxid = 0
        self.history: list[tuple[int, bytes]] = []
        self.tail: deque[tuple[int, bytes]] = deque()
        self.durable_zxid = 0
        self.calls: list[tuple[object, ...]] = []
        self._proposing: tuple[int, Sequence[bytes], int] | None = None
        self._persisted = False
        self._over = ""
        self._answers: list[tuple[str, int]] = []
        self._covered: tuple[int, int] | None = None
        self._links = 0
        self._refused: list[int] = []
        self._epochs = (0, 0)

    # --------------------------------------------------------------------------------- what a test does
    def boot(self) -> WatchfulHost:
        """Recover from the disk and start the consensus."""
        recovery = self.disk.open()
        state = [(int.from_bytes(key, "big"), entry) for key, entry in self.disk.read_state()]
        self.history = [pair for pair in state if pair[0] <= recovery.state_zxid]
        self.tail.extend(self.disk.read_log(recovery.state_zxid, 1 << 62))
        self.durable_zxid = recovery.last_zxid
        self._epochs = (recovery.accepted_epoch, recovery.current_epoch)
        self.consensus.start(self, recovery, self.now_ms)
        return self

    def boot_and_serve(self, patience_ms: int) -> WatchfulHost:
        """The same, and let time pass until clients are served."""
        self.boot()
        self.until_served(patience_ms)
        return self

    def until_served(self, patience_ms: int) -> None:
        """Let time pass and the disk work until clients are served."""
        deadline = self.now_ms + patience_ms
        while not self.serving:
            assert self.now_ms < deadline, f"clients are not served after {patience_ms} ms"
            self.settle()
            if not self.serving:
                self.later(max(_STEP_MS, min(self.consensus.wake_at - self.now_ms, 1000)))

    def propose(self, entries: Sequence[bytes] = (), count: int = 1) -> tuple[int, int]:
        """Propose a batch of `count` entries made up here, or of `entries`; its first and last zxid."""
        assert self.serving in LEADING, f"not serving as leader, but {self.serving or 'not at all'}"
        self.consensus.tick(self.now_ms)
        first = self.next_zxid
        batch = list(entries) or [entry_of(zxid) for zxid in range(first, first + count)]
        last = first + len(batch) - 1
        assert first & _COUNTER, "the counter of the zxid ran over into the epoch"
        assert first >> 32 == last >> 32, "the counter of the zxid ran over into the epoch"
        self.next_zxid = last + 1
        self._proposing, self._persisted = (first, batch, last), False
        self.consensus.propose(first, batch, last)
        self._proposing = None
        assert self._persisted, "propose did not persist the entries"
        return first, last

    def later(self, ms: int) -> None:
        """Let time pass without anything else happening."""
        self.now_ms += ms
        refused, self._refused = self._refused, []
        self.consensus.tick(self.now_ms)
        for link in refused:
            assert isinstance(self.consensus, EnsembleConsensus)
            self.consensus.link_closed(link, "connection refused")

    def begin_sync(self) -> None:
        """A sync begins: it will cover what is staged now."""
        assert self._covered is None
        self._covered = (self.disk.begin_sync(), len(self._answers))

    def end_sync(self, *, one_by_one: bool = False) -> None:
        """The sync is done: consensus is told what is durable. Several batches get one answer, or each its own."""
        assert self._covered is not None
        (staged, answered), self._covered = self._covered, None
        self.disk.finish_sync(staged)
        answers, self._answers = self._answers[:answered], self._answers[answered:]
        self.durable_zxid = max([zxid for what, zxid in answers if what == "persisted"], default=self.durable_zxid)
        self.consensus.tick(self.now_ms)
        for at, (what, value) in enumerate(answers):
            if what == "durable":
                assert isinstance(self.consensus, EnsembleConsensus)
                self.consensus.durable(value)
            elif one_by_one or at + 1 == len(answers) or answers[at + 1][0] != "persisted":
                self.consensus.persisted(value)

    def sync(self) -> None:
        """Make durable what is staged, and tell."""
        self.begin_sync()
        self.end_sync()

    def settle(self) -> None:
        """The same until nothing is left to tell."""
        while self._answers:
            self.sync()

    def write_state(self) -> None:
        """Stage a step of the state: everything applied."""
        if self.history:
            self.disk.write_state(self.applied, [(zxid.to_bytes(8, "big"), entry) for zxid, entry in self.history], ())

    def stop(self) -> None:
        """Go down in good order."""
        self.consensus.stop()
        self._over = "stop"
        self.disk.close()

    def crash(self) -> None:
        """Die: the disk keeps what was synced and some prefix of what was not."""
        self._over = "a crash"
        self.disk.crash(keep_all=False)

    @property
    def applied(self) -> int:
        """Zxid of the last applied entry."""
        return self.history[-1][0] if self.history else 0

    @property
    def last_zxid(self) -> int:
        """Of the log."""
        return self.disk.volatile.last_zxid

    # ------------------------------------------------------------------------- ConsensusHost: with rules
    def _call(self, name: str, *arguments: object) -> None:
        assert not self._over, f"{name} was called after {self._over}"
        self.calls.append((name, *arguments))

    def _not_inside_propose(self, name: str) -> None:
        assert self._proposing is None, f"{name} was called inside propose: its caller is not ready for that"

    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """Only what is proposed, once, and unchanged."""
        self._call("persist", first_zxid, tuple(entries), last_zxid)
        assert self._proposing is not None, "persist of entries that nobody has proposed"
        assert not self._persisted, "the entries of one propose were persisted twice"
        given = (first_zxid, list(entries), last_zxid)
        assert given == (self._proposing[0], list(self._proposing[1]), self._proposing[2]), (
            "what is persisted is not what was proposed"
        )
        self._persisted = True
        self.disk.append(first_zxid, entries, last_zxid)
        self.tail.extend(zip(range(first_zxid, last_zxid + 1), entries, strict=True))
        self._answers.append(("persisted", last_zxid))

    def committed(self, upto_zxid: int) -> None:
        """Not inside propose, not before it is durable, never above the log."""
        self._call("committed", upto_zxid)
        self._not_inside_propose("committed")
        assert upto_zxid <= self.last_zxid, f"0x{upto_zxid:x} is committed, but the log ends at 0x{self.last_zxid:x}"
        assert upto_zxid <= self.durable_zxid, (
            f"0x{upto_zxid:x} is committed, but only 0x{self.durable_zxid:x} is durable, and there is no other server"
        )
        while self.tail and self.tail[0][0] <= upto_zxid:
            self.history.append(self.tail.popleft())

    def serve(self, mode: str, next_zxid: int) -> None:
        """Not inside propose, only with everything applied, with a zxid that was never used."""
        self._call("serve", mode, next_zxid)
        self._not_inside_propose("serve")
        assert mode in SERVING, f"serve in the mode {mode!r}; modes are {', '.join(SERVING)}"
        assert not self.serving, "serve was called while clients are served; suspend comes first"
        if mode in LEADING:
            assert not self.tail, "a leader serves although entries of its log are not decided"
            assert next_zxid > self.last_zxid, f"0x{next_zxid:x} was used before: the log ends at 0x{self.last_zxid:x}"
            assert next_zxid & _COUNTER, "the counter of a zxid begins with 1"
            epoch, before = next_zxid >> 32, self.last_zxid >> 32
            assert epoch > before or next_zxid == self.last_zxid + 1, "a gap in the zxids of one epoch"
            assert epoch == before or epoch <= self._epochs[1], f"epoch {epoch} is not saved as the current epoch"
        self.serving, self.next_zxid = mode, next_zxid

    def suspend(self, why: str) -> None:
        """Not inside propose."""
        self._call("suspend", why)
        self._not_inside_propose("suspend")
        assert isinstance(why, str)
        self.serving = ""

    def save_epochs(self, accepted: int, current: int) -> None:
        """They do not fall (the current one may to 0: this server may lack something)."""
        self._call("save_epochs", accepted, current)
        assert accepted >= self._epochs[0], f"the accepted epoch falls from {self._epochs[0]} to {accepted}"
        assert current == 0 or current >= self._epochs[1], (
            f"the current epoch falls from {self._epochs[1]} to {current}"
        )
        self._epochs = (accepted, current)
        self.disk.save_epochs(accepted, current)

    def renumber(self, next_zxid: int) -> None:
        """Only inside propose, behind the entries, into a higher epoch that was saved."""
        self._call("renumber", next_zxid)
        assert self._proposing is not None, "renumber is for the inside of propose"
        assert self._persisted, "renumber comes behind the entries of the batch"
        assert next_zxid >> 32 > self.last_zxid >> 32, "renumber must go into a higher epoch"
        assert next_zxid >> 32 <= self._epochs[1], f"epoch {next_zxid >> 32} is not saved as the current epoch"
        self.next_zxid = next_zxid

    def clear_damage(self) -> None:
        """Nothing is damaged here."""
        raise AssertionError("clear_damage on a server whose storage is not damaged")

    def truncate(self, zxid: int) -> None:
        """A server on its own has nobody to disagree with."""
        raise AssertionError("truncate on a server that is alone: nobody disagrees with its log")

    def mark(self, token: int) -> None:
        """Answered with `durable`."""
        self._call("mark", token)
        self._answers.append(("durable", token))

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """From the disk."""
        return self.disk.read_log(after_zxid, max_bytes)

    def state_size(self) -> tuple[int, int]:
        """As `snapshot`."""
        raise AssertionError("state_size on a server that is alone")

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """Nobody is there who could want it."""
        raise AssertionError("snapshot on a server that is alone")

    def begin_snapshot(self, zxid: int) -> None:
        """Nobody is there who could send one."""
        raise AssertionError("begin_snapshot on a server that is alone")

    def snapshot_chunk(self, data: bytes) -> bytes | None:
        """As `begin_snapshot`."""
        raise AssertionError("snapshot_chunk on a server that is alone")

    def end_snapshot(self) -> None:
        """As `begin_snapshot`."""
        raise AssertionError("end_snapshot on a server that is alone")

    def abort_snapshot(self) -> None:
        """Nothing was received."""

    def forwarded(
        self, origin: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]
    ) -> None:
        """There are no learners."""
        raise AssertionError("forwarded on a server that is alone")

    def revalidate(self, origin: int, session_id: int, timeout_ms: int) -> bool:
        """There are no learners."""
        raise AssertionError("revalidate on a server that is alone")

    def revalidated(self, session_id: int, valid: bool) -> None:
        """There is no leader elsewhere."""
        raise AssertionError("revalidated on a server that is alone")

    def synced(self, session_id: int, cxid: int) -> None:
        """The answer to a sync."""
        self._call("synced", session_id, cxid)

    def touched(self) -> Sequence[tuple[int, int]]:
        """No sessions."""
        return ()

    def touch(self, origin: int, sessions: Sequence[tuple[int, int]]) -> None:
        """There are no learners."""
        raise AssertionError("touch on a server that is alone")

    def dial(self, kind: str, host: str, port: int) -> int:
        """Refused by the next tick."""
        self._call("dial", kind, host, port)
        self._links += 1
        self._refused.append(self._links)
        return self._links

    def send(self, link: int, data: bytes) -> int:
        """No link is ever open."""
        raise AssertionError("send on a link that is not open")

    def close(self, link: int, why: str) -> None:
        """A link that was dialled is not wanted any more."""
        self._call("close", link, why)
        assert link in self._refused, "close of a link that does not exist"
        self._refused.remove(link)

    def log(self, level: str, text: str) -> None:
        """For people."""
        assert level in ("debug", "info", "warning", "error"), f"there is no level {level!r}"
        assert isinstance(text, str)
