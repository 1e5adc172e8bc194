"""All orders in which a leader can send a few proposals, commits, NEWLEADER and UPTODATE; every place to cut a stream.

ZOOKEEPER-4394 was a COMMIT behind NEWLEADER for a proposal before it; 4685 an ack that came too early; 5010 a packet
cut in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from corekit_zab.engine import Zab
from corekit_zab.learner import SIGNATURE, Learner
from corekit_zab.options import Options
from corekit_zab.simulated import ensemble

from corekit.api import Identity, Recovery
from corekit.codec import quorum as wire
from corekit.codec.quorum import PacketReader, packet

EPOCH = 2
BASE = (1 << 32) | 7


class Host:
    """Writes down what consensus asks for; the disk is at work until `finish`."""

    def __init__(self) -> None:
        self.log_zxids: list[int] = []
        self.durable_zxids: list[int] = []
        self.epochs = (1, 1)
        self.durable_epochs = (1, 1)
        self.applied = BASE
        self.mode = ""
        self.sent: list[wire.Packet] = []
        self.closed = ""
        self.errors: list[str] = []
        self._answers: list[tuple[str, int]] = []
        self._reader = PacketReader(1 << 20)
        self.zab: Zab

    def finish(self) -> None:
        """The disk is done with what was staged."""
        self.durable_zxids, self.durable_epochs = list(self.log_zxids), self.epochs
        answers, self._answers = self._answers, []
        for what, value in answers:
            (self.zab.persisted if what == "persisted" else self.zab.durable)(value)

    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self.log_zxids += range(first_zxid, last_zxid + 1)
        self._answers.append(("persisted", last_zxid))

    def save_epochs(self, accepted: int, current: int) -> None:
        self.epochs = (accepted, current)

    def mark(self, token: int) -> None:
        self._answers.append(("durable", token))

    def committed(self, upto_zxid: int) -> None:
        assert self.mode or self.zab.role is not None
        assert upto_zxid in self.log_zxids or upto_zxid == BASE
        self.applied = upto_zxid

    def begin_snapshot(self, zxid: int) -> None:
        self.applied = zxid

    def snapshot_chunk(self, data: bytes) -> bytes:
        return data  # a state of no bytes

    def end_snapshot(self) -> None:
        self.log_zxids.clear()

    def clear_damage(self) -> None:
        pass

    def serve(self, mode: str, next_zxid: int) -> None:
        self.mode = mode

    def suspend(self, why: str) -> None:
        self.mode = ""

    def touched(self) -> Sequence[tuple[int, int]]:
        return ()

    def dial(self, kind: str, host: str, port: int) -> int:
        return 1 if kind == "quorum" else 2

    def send(self, link: int, data: bytes) -> int:
        if link == 1:
            for one in self._reader.feed(data):
                self._check(one)
                self.sent.append(one)
        return 0

    def _check(self, one: wire.Packet) -> None:
        kind, zxid, _, _ = one
        if kind == wire.ACK and zxid & 0xFFFFFFFF:
            assert zxid in self.durable_zxids, "acknowledged before it was durable"
            assert (wire.ACK, EPOCH << 32, None, None) in self.sent, "acknowledged before NEWLEADER"
        elif kind == wire.ACK:
            assert self.durable_epochs == (EPOCH, EPOCH)

    def close(self, link: int, why: str) -> None:
        if link == 1:
            self.closed = why

    def log(self, level: str, text: str) -> None:
        if level == "error":
            self.errors.append(text)

    def forwarded(self, origin: int, session: int, cxid: int, op: int, body: bytes, who: Sequence[Identity]) -> None:
        raise AssertionError


def learner(history: bytes = packet(wire.DIFF, BASE), damage: str | None = None) -> Host:
    """A follower that has registered and was told how its history is continued."""
    host = Host()
    zab = host.zab = Zab(1, ensemble(3), Options())
    zab.start(host, Recovery(1, 1, BASE, BASE, fresh=False, damage=damage), 0)  # type: ignore[arg-type]
    zab.election.looking = False
    zab.elected(3)
    zab.link_opened(1, "quorum", "n3", True)
    zab.link_data(1, packet(wire.LEADERINFO, EPOCH << 32, wire.PROTOCOL_VERSION.to_bytes(4, "big")))
    host.finish()
    assert [kind for kind, *_ in host.sent] == [wire.FOLLOWERINFO, wire.ACKEPOCH]
    zab.link_data(1, history)
    return host


def orders(proposals: int) -> Iterator[list[tuple[str, int]]]:
    """Every order of proposals 1 .. n, their commits, NEWLEADER and UPTODATE that a leader may send."""

    def extend(
        done: list[tuple[str, int]], proposed: int, committed: int, marks: int
    ) -> Iterator[list[tuple[str, int]]]:
        if proposed == committed == proposals and marks == 2:
            yield done
        if proposed < proposals:
            yield from extend([*done, ("proposal", proposed + 1)], proposed + 1, committed, marks)
        if committed < proposed:
            yield from extend([*done, ("commit", committed + 1)], proposed, committed + 1, marks)
        if marks < 2:
            yield from extend([*done, (("newleader", "uptodate")[marks], 0)], proposed, committed, marks + 1)

    yield from extend([], 0, 0, 0)


def encoded(step: tuple[str, int]) -> bytes:
    what, number = step
    zxid = (EPOCH << 32) | number
    if what == "proposal":
        return packet(wire.PROPOSAL, zxid, b"entry %d" % number)
    if what == "commit":
        return packet(wire.COMMIT, zxid)
    return packet(wire.NEWLEADER, EPOCH << 32) if what == "newleader" else packet(wire.UPTODATE, -1)


@pytest.mark.parametrize("disk", ["quick", "late"])
@pytest.mark.parametrize("proposals", [0, 1, 2, 3])
def test_every_order(proposals: int, disk: str) -> None:
    count = 0
    for order in orders(proposals):
        count += 1
        host = learner()
        for step in order:
            if step[0] == "uptodate":
                host.finish()  # UPTODATE follows the ack of NEWLEADER
                assert host.applied == BASE, "applied before UPTODATE"
            host.zab.link_data(1, encoded(step))
            if disk == "quick":
                host.finish()
        host.finish()
        assert host.closed == "", (order, host.closed)
        assert host.mode == "follower"
        assert host.applied == ((EPOCH << 32) | proposals if proposals else BASE)
        acks = [zxid for kind, zxid, _, _ in host.sent if kind == wire.ACK and zxid & 0xFFFFFFFF]
        assert acks == sorted(set(acks))
        newleader = order.index(("newleader", 0))
        behind = {(EPOCH << 32) | number for what, number in order[newleader:] if what == "commit"}
        assert behind <= set(acks), "a proposal that was not committed before NEWLEADER needs an ack"
    assert count == {0: 1, 1: 6, 2: 30, 3: 140}[proposals]


@pytest.mark.parametrize(
    "bad", ["gap", "late beginning", "commit first", "commit twice", "uptodate early", "second diff", "old epoch"]
)
def test_illegal_orders_cost_the_link(bad: str) -> None:
    host = learner()
    one, two, three = (encoded(("proposal", number)) for number in (1, 2, 3))
    stream = {
        "gap": one + three,
        "late beginning": two + three,
        "commit first": one + encoded(("commit", 2)) + two,
        "commit twice": one + encoded(("commit", 1)) * 2,
        "uptodate early": one + encoded(("uptodate", 0)),
        "second diff": one + packet(wire.DIFF, BASE),
        "old epoch": one + packet(wire.PROPOSAL, BASE + 1, b"x"),
    }[bad]
    host.zab.link_data(1, stream)
    assert host.closed.startswith("protocol error")
    assert host.applied == BASE
    # What a leader lacks in its log it may have in its tree (ZOOKEEPER-4925), so that is asked for.
    assert host.zab.resync == (bad == "late beginning")


@pytest.mark.parametrize("kind", [wire.TRUNC, wire.SNAP], ids=["TRUNC", "SNAP"])
def test_what_is_decided_here_is_not_given_up_for_a_history_without_it(kind: int) -> None:
    """The proof of a lost write: a leader of a newer epoch has less than was decided before."""
    host = learner(packet(kind, BASE - 1))
    assert f"ends at 0x{BASE - 1:x}, but 0x{BASE:x} is decided: the others have lost data" in host.errors[0]
    assert host.closed.startswith("protocol error")
    assert (host.applied, host.zab.last_zxid) == (BASE, BASE)


def test_a_damaged_server_says_that_the_leader_has_less_than_was_decided() -> None:
    """Its own data does not count, so it takes what it gets; but it knows that something is lost."""
    host = learner(packet(wire.SNAP, BASE - 1) + SIGNATURE + packet(wire.NEWLEADER, EPOCH << 32), damage="a bad block")
    host.finish()
    assert f"ends at 0x{BASE - 1:x}, but 0x{BASE:x} was decided: acknowledged writes are lost" in host.errors[-1]
    assert host.closed == ""
    assert (wire.ACK, EPOCH << 32, None, None) in host.sent


def test_a_stream_cut_anywhere_means_the_same() -> None:
    order = [("proposal", 1), ("commit", 1), ("proposal", 2), ("newleader", 0)]
    stream = b"".join(map(encoded, order))
    for at in range(len(stream) + 1):
        host = learner()
        for begin, end in pairwise((0, at, len(stream))):
            host.zab.link_data(1, stream[begin:end])
        host.finish()
        assert host.log_zxids == [(EPOCH << 32) | 1, (EPOCH << 32) | 2]
        assert (wire.ACK, EPOCH << 32, None, None) in host.sent
    host = learner()
    for byte in stream:
        host.zab.link_data(1, bytes([byte]))
    host.finish()
    assert host.log_zxids == [(EPOCH << 32) | 1, (EPOCH << 32) | 2]


def test_zookeeper_5010_a_packet_that_is_not_complete_changes_nothing() -> None:
    proposal = encoded(("proposal", 1))
    for at in range(len(proposal)):
        host = learner()
        host.zab.link_data(1, proposal[:at])
        host.zab.link_closed(1, "connection reset")
        assert host.log_zxids == []
        assert not isinstance(host.zab.role, Learner)
        assert host.zab.election.vote.zxid == BASE
