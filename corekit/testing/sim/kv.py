"""A replica with keys instead of znodes: the smallest `ConsensusHost` that can show whether a consensus keeps its word.

Entries have ZooKeeper's transaction header, so learners recognise their own by (session, cxid); the state travels in
ZooKeeper's SNAP format. Writes give a key a new value and answer the version, so lost and doubled writes show.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Protocol

from corekit.api import EnsembleConsensus, Identity, Recovery
from corekit.errors import ProtocolError
from corekit.testing.sim.disk import SimDisk
from corekit.testing.sim.world import Violation

HEADER = Struct(">qiqqi")  # TxnHeader: session, cxid, zxid, time, type
SET_DATA = 5
_STAT = Struct(">qqqqiiiqq")
_INT = Struct(">i")

Answer = Callable[[int, object], None]  # (zxid, result)


class Keys:
    """What the decided history comes to: every key's values, every request's zxid."""

    def __init__(self) -> None:
        self._keys: dict[bytes, tuple[list[int], list[tuple[bytes, int, int]]]] = {}
        self._requests: dict[tuple[int, int], int] = {}

    def decide(self, zxid: int, entry: bytes) -> None:
        """The next entry of the history."""
        session, cxid = HEADER.unpack_from(entry)[:2]
        if (session, cxid) in self._requests:
            raise Violation("I18", f"the request {session}/{cxid} was decided twice")
        self._requests[session, cxid] = zxid
        size = int.from_bytes(entry[HEADER.size : HEADER.size + 4], "big")
        at = HEADER.size + 4
        key, value = entry[at : at + size], entry[at + size :]
        zxids, values = self._keys.setdefault(key, ([], []))
        zxids.append(zxid)
        values.append((value, len(values), zxid))

    def value_at(self, key: bytes, zxid: int) -> tuple[bytes, int, int] | None:
        """(value, version, zxid) of a key in the state of `zxid`."""
        zxids, values = self._keys.get(key, ([], []))
        at = bisect_right(zxids, zxid)
        return values[at - 1] if at else None

    def decided(self, session: int, cxid: int) -> int | None:
        """The zxid under which a request was decided."""
        return self._requests.get((session, cxid))


class Machine(Protocol):
    """What a replica needs from the server around it."""

    sid: int
    disk: SimDisk

    def stage(self, call: str, *args: object) -> object:
        """A call of the storage."""

    def staged(self, answer: tuple[str, int]) -> None:
        """Answer `("persisted", zxid)` or `("durable", token)` once everything staged before is durable."""

    def wire(self, call: str, *args: object) -> int:
        """A call of the network: dial, send, close."""

    def seen(self, call: str, *args: object) -> None:
        """Something the checker wants to know."""


class Replica:
    """The host of one consensus.

    Attributes:
        values: key -> (value, version, zxid).
        digest: stands for the whole history that was applied.
        applied: zxid of the last entry applied.
        tail: entries in the log that are not decided.
        serving: the mode in which clients are served, or "".
    """

    def __init__(self, machine: Machine, consensus: EnsembleConsensus) -> None:
        self.machine = machine
        self.consensus = consensus
        self._now_ms = 0
        self.values: dict[bytes, tuple[bytes, int, int]] = {}
        self.digest = 0
        self.applied = 0
        self.tail: deque[tuple[int, bytes]] = deque()
        self.serving = ""
        self._next_zxid = 0
        self._batch_zxid = 0
        self._batch: list[bytes] = []
        self._waiting: dict[tuple[int, int], Answer] = {}
        self._syncs: dict[tuple[int, int], Answer] = {}
        self._asked: dict[int, Answer] = {}
        self._touched: dict[int, int] = {}
        self.owners: dict[int, int] = {}
        self._incoming: _SnapshotReader | None = None
        self._snapshot_zxid = 0

    def recover(self) -> Recovery:
        """Read the state and the log that the disk had."""
        disk = self.machine.disk
        recovery = disk.open()
        for key, packed in disk.read_state():
            if key == b"#":
                self.digest = int.from_bytes(packed, "big")
            else:
                zxid, version = int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:12], "big")
                self.values[key] = (packed[12:], version, zxid)
        self.applied = recovery.state_zxid
        self.tail.extend(disk.read_log(recovery.state_zxid, 1 << 62))
        return recovery

    def start(self, recovery: Recovery) -> None:
        """Start consensus."""
        self.consensus.start(self, recovery, self._now_ms)

    def begin(self, now_ms: int) -> None:
        """A turn begins."""
        self._now_ms = now_ms

    def write_state(self) -> None:
        """Bring the stored state up to date."""
        self.machine.disk.write_state(self.applied, self.image(), ())

    def died(self) -> None:
        """The process is gone."""

    def image(self) -> list[tuple[bytes, bytes]]:
        """The state as the storage keeps it."""
        pairs = [
            (key, zxid.to_bytes(8, "big") + version.to_bytes(4, "big") + value)
            for key, (value, version, zxid) in self.values.items()
        ]
        return [(b"#", self.digest.to_bytes(8, "big")), *pairs]

    # ------------------------------------------------------------------------------------ client requests
    def write(self, session: int, cxid: int, key: bytes, value: bytes, answer: Answer) -> None:
        """Set a key; the answer is its version."""
        if not self.serving:
            return
        self._waiting[session, cxid] = answer
        self._touched[session] = 10_000
        body = _INT.pack(len(key)) + key + value
        if self.serving == "leader":
            self._prepare(session, cxid, body)
        else:
            self.consensus.forward(session, cxid, SET_DATA, body, (("ip", "127.0.0.1"),))

    def sync(self, session: int, cxid: int, answer: Answer) -> None:
        """Catch up with everything decided before this call."""
        if not self.serving:
            return
        self._syncs[session, cxid] = answer
        self.consensus.sync(session, cxid, b"\0\0\0\x01/")

    def read(self, key: bytes) -> tuple[int, tuple[bytes, int, int] | None]:
        """The zxid of this state and the key in it."""
        return self.applied, self.values.get(key)

    def ask(self, session: int, answer: Answer) -> None:
        """A client came back: does its session live?"""
        if self.serving == "leader":
            answer(self.applied, True)
        elif self.serving:
            self._asked[session] = answer
            self.consensus.revalidate(session, 10_000)

    def _prepare(self, session: int, cxid: int, body: bytes) -> None:
        if not self._batch:
            self._batch_zxid = self._next_zxid
        entry = HEADER.pack(session, cxid, self._next_zxid, 0, SET_DATA) + body
        self._batch.append(entry)
        self.machine.seen("proposed", self._next_zxid, entry)
        self._next_zxid += 1

    def flush(self) -> None:
        """End of a turn: propose what was prepared."""
        if self._batch:
            batch, self._batch = self._batch, []
            self.consensus.propose(self._batch_zxid, batch, self._next_zxid - 1)

    # ---------------------------------------------------------------------------------------- ConsensusHost
    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self.machine.stage("append", first_zxid, entries, last_zxid)
        self.tail.extend(zip(range(first_zxid, last_zxid + 1), entries, strict=True))
        self.machine.staged(("persisted", last_zxid))

    def save_epochs(self, accepted: int, current: int) -> None:
        self.machine.stage("save_epochs", accepted, current)

    def clear_damage(self) -> None:
        self.machine.stage("clear_damage")

    def renumber(self, next_zxid: int) -> None:
        raise AssertionError("only a server of one renumbers")

    def truncate(self, zxid: int) -> None:
        assert zxid >= self.applied, "asked to cut off what was applied"
        self.machine.seen("truncated", zxid)
        self.machine.stage("truncate", zxid)
        while self.tail and self.tail[-1][0] > zxid:
            self.tail.pop()

    def mark(self, token: int) -> None:
        self.machine.staged(("durable", token))

    def read_log(self, after_zxid: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return self.machine.stage("read_log", after_zxid, max_bytes)  # type: ignore[return-value]

    def committed(self, upto_zxid: int) -> None:
        tail = self.tail
        while tail and tail[0][0] <= upto_zxid:
            zxid, entry = tail.popleft()
            session, cxid, stamped, _, _ = HEADER.unpack_from(entry)
            assert stamped == zxid, f"entry 0x{stamped:x} stands at 0x{zxid:x}"
            at = HEADER.size + 4
            (size,) = _INT.unpack_from(entry, HEADER.size)
            key, value = entry[at : at + size], entry[at + size :]
            version = self.values[key][1] + 1 if key in self.values else 0
            self.values[key] = (value, version, zxid)
            self.digest = zlib.crc32(entry, self.digest)
            self.applied = zxid
            self.machine.seen("applied", zxid, entry, self.digest)
            answer = self._waiting.pop((session, cxid), None)
            if answer is not None:
                answer(zxid, version)
        assert self.applied >= upto_zxid, f"0x{upto_zxid:x} is committed, but the log ends at 0x{self.applied:x}"

    def serve(self, mode: str, next_zxid: int) -> None:
        assert not self.serving
        self.serving = mode
        self._next_zxid = next_zxid
        self.machine.seen("serving", mode, next_zxid)

    def suspend(self, why: str) -> None:
        self.serving = ""
        self._batch.clear()
        self._waiting.clear()
        self._syncs.clear()
        self._asked.clear()
        self.owners.clear()
        self.machine.seen("suspended", why)

    def state_size(self) -> tuple[int, int]:
        return len(self.values), sum(len(key) + len(value[0]) for key, value in self.values.items())

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        return self.applied, _snapshot_chunks(self.digest, dict(self.values))

    def begin_snapshot(self, zxid: int) -> None:
        self._snapshot_zxid = zxid
        self._incoming = _SnapshotReader()
        self.machine.stage("begin_state")

    def snapshot_chunk(self, data: bytes) -> bytes | None:
        assert self._incoming is not None
        return self._incoming.feed(data)

    def end_snapshot(self) -> None:
        assert self._incoming is not None
        values, digest = self._incoming.result()
        self._incoming = None
        self.values, self.digest, self.applied = values, digest, self._snapshot_zxid
        self.tail.clear()
        self.machine.seen("installed", self.applied, self.digest)
        self.machine.stage("stage_state", self.image())
        self.machine.stage("commit_state", self.applied)

    def abort_snapshot(self) -> None:
        self._incoming = None

    def forwarded(
        self, origin: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]
    ) -> None:
        assert self.serving == "leader"
        assert op == SET_DATA
        assert identities == (("ip", "127.0.0.1"),)
        self._prepare(session_id, cxid, body)

    def revalidate(self, origin: int, session_id: int, timeout_ms: int) -> bool:
        self.owners[session_id] = origin
        return session_id % 5 != 0

    def revalidated(self, session_id: int, valid: bool) -> None:
        answer = self._asked.pop(session_id, None)
        if answer is not None:
            answer(self.applied, valid)

    def synced(self, session_id: int, cxid: int) -> None:
        self._syncs.pop((session_id, cxid))(self.applied, None)

    def touched(self) -> Sequence[tuple[int, int]]:
        touched, self._touched = self._touched, {}
        return list(touched.items())

    def touch(self, origin: int, sessions: Sequence[tuple[int, int]]) -> None:
        for session_id, _ in sessions:
            self.owners[session_id] = origin

    def dial(self, kind: str, host: str, port: int) -> int:
        return self.machine.wire("dial", kind, host)

    def send(self, link: int, data: bytes) -> int:
        return self.machine.wire("send", link, data)

    def close(self, link: int, why: str) -> None:
        self.machine.wire("close", link, why)

    def log(self, level: str, text: str) -> None:
        self.machine.seen("log", level, text)


def _node(path: bytes, data: bytes, version: int, zxid: int) -> bytes:
    stat = _STAT.pack(zxid, zxid, 0, 0, version, 0, 0, 0, zxid)
    acl = (-1).to_bytes(8, "big", signed=True)
    return _INT.pack(len(path)) + path + _INT.pack(len(data)) + data + acl + stat


def _snapshot_chunks(digest: int, values: dict[bytes, tuple[bytes, int, int]]) -> Iterator[bytes]:
    yield _INT.pack(0) + _INT.pack(0) + _node(b"", digest.to_bytes(8, "big"), 0, 0)
    for key, (value, version, zxid) in sorted(values.items()):
        yield _node(b"/" + key, value, version, zxid)
    yield _INT.pack(1) + b"/"


class _SnapshotReader:
    """Reads a SNAP stream that `_snapshot_chunks` made, cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 8  # behind the empty tables of sessions and ACLs
        self._nodes: dict[bytes, tuple[bytes, int, int]] = {}
        self._done = False

    def feed(self, data: bytes) -> bytes | None:
        """The bytes behind the stream's end, or None."""
        if self._done:
            raise ProtocolError("the snapshot has ended")
        buffer = self._buffer
        buffer += data
        while True:
            at = self._at
            if at + 4 > len(buffer):
                return None
            (size,) = _INT.unpack_from(buffer, at)
            at += 4
            if at + size > len(buffer):
                return None
            path = bytes(buffer[at : at + size])
            at += size
            if path == b"/":
                self._done = True
                return bytes(buffer[at:])
            if at + 4 > len(buffer):
                return None
            (size,) = _INT.unpack_from(buffer, at)
            at += 4
            if at + size + 8 + _STAT.size > len(buffer):
                return None
            data = bytes(buffer[at : at + size])
            zxid, _, _, _, version, *_ = _STAT.unpack_from(buffer, at + size + 8)
            self._nodes[path] = (data, version, zxid)
            self._at = at + size + 8 + _STAT.size

    def result(self) -> tuple[dict[bytes, tuple[bytes, int, int]], int]:
        """Values by key, and the digest."""
        assert self._done
        digest = int.from_bytes(self._nodes.pop(b"")[0], "big")
        return {path[1:]: node for path, node in self._nodes.items()}, digest
