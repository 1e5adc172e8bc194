"""Reads what servers send each other, and tells a listener what they promise by it."""

from __future__ import annotations

from typing import Protocol

from corekit.codec import quorum as wire
from corekit.codec.quorum import ElectionReader, Notification, PacketReader, parse_notification

_SIGNATURE = b"\x00\x00\x00\x0aBenWasHere"


class Listener(Protocol):
    """What is worth telling."""

    def known(self, sid: int) -> bool:
        """Whether this is a server, and not somebody who talks to servers."""

    def promised(self, source: int, leader: int, epoch: int) -> None:
        """ACKEPOCH that counts."""

    def informed(self, leader: int, epoch: int) -> None:
        """LEADERINFO."""

    def acked_history(self, source: int, leader: int, epoch: int, history: int) -> None:
        """ACK of NEWLEADER; `history` is the last zxid that was committed on this link before NEWLEADER."""

    def acked(self, source: int, zxid: int) -> None:
        """ACK of a proposal."""

    def streamed(self, source: int, target: int, before: int, zxid: int) -> None:
        """An entry was sent after another one on the same link."""

    def voted(self, source: int, note: Notification) -> None:
        """A notification."""


class _Connection:
    """What was said on one quorum link."""

    def __init__(self) -> None:
        self.readers: dict[int, PacketReader] = {}
        self.leader = -1
        self.epoch = 0
        self.last = 0  # last entry sent
        self.history = 0  # last one that the learner must have when it acks NEWLEADER
        self.raw: bytes | None = None  # end of a snapshot stream
        self.acked = False


class QuorumTap:
    """A tap of `Net`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._elections: dict[tuple[int, int], ElectionReader] = {}

    def sent(self, source: int, target: int, kind: str, connection: int, data: bytes) -> None:
        """A server sent bytes."""
        if not self._listener.known(source):
            return
        if kind == "election":
            self._election(source, connection, data)
            return
        state = self._connections.get(connection)
        if state is None:
            state = self._connections[connection] = _Connection()
        if state.raw is not None and source == state.leader:
            state.raw += data
            at = state.raw.find(_SIGNATURE)
            if at < 0:
                state.raw = state.raw[-len(_SIGNATURE) :]
                return
            data, state.raw = state.raw[at + len(_SIGNATURE) :], None
        reader = state.readers.get(source)
        if reader is None:
            reader = state.readers[source] = PacketReader(wire.PACKET_BYTES_MAX)
        for kind_, zxid, body, _ in reader.feed(data):
            self._packet(state, source, target, kind_, zxid, body)
            if kind_ == wire.SNAP:
                state.raw = b""
                self.sent(source, target, "quorum", connection, reader.rest())

    def _packet(self, state: _Connection, source: int, target: int, kind: int, zxid: int, body: bytes | None) -> None:
        listener = self._listener
        if kind == wire.LEADERINFO:
            state.leader, state.epoch = source, zxid >> 32
            listener.informed(source, state.epoch)
        elif kind == wire.ACKEPOCH:
            state.last = zxid
            if wire.parse_int(body) != -1 and zxid != -1:
                listener.promised(source, target, state.epoch)
        elif kind in (wire.TRUNC, wire.SNAP, wire.DIFF):
            if kind != wire.DIFF:
                state.last = zxid
            state.history = max(state.last, 0)
        elif kind in (wire.PROPOSAL, wire.INFORM):
            if state.last > 0:
                listener.streamed(source, target, state.last, zxid)
            state.last = zxid
        elif kind == wire.COMMIT and not state.acked:
            state.history = zxid
        elif kind == wire.NEWLEADER:
            state.acked = True
        elif kind == wire.ACK and zxid & 0xFFFFFFFF:
            listener.acked(source, zxid)
        elif kind == wire.ACK and state.acked and zxid >> 32 == state.epoch and state.history >= 0:
            listener.acked_history(source, target, state.epoch, state.history)
            state.history = -1

    def _election(self, source: int, connection: int, data: bytes) -> None:
        key = (connection, source)
        reader = self._elections.get(key)
        if reader is None:
            reader = self._elections[key] = ElectionReader(expect_hello=data[:2] == b"\xff\xff")
        for payload in reader.feed(data):
            self._listener.voted(source, parse_notification(payload))
