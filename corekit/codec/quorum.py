"""Bytes of the quorum port and the election port.

The quorum port carries jute records without a length prefix (`QuorumPacket`); the election port carries an initial
message and then length-prefixed notifications. Readers take bytes cut anywhere and hold no more than their limit.

Rules
- A packet is a tuple `(kind, zxid, data, authinfo)`: it is made some hundred thousand times a second.
- Bytes that no server sends raise `ProtocolError`, from the first bytes that show it.
- Builders for runs of packets make one bytes object for a batch: the same bytes go to every learner.

Sources: ZooKeeper `zookeeper.jute`, `Leader`, `LearnerHandler`, `QuorumCnxManager`, `FastLeaderElection`.
Not here: what the packets mean (the consensus plugin).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from corekit.errors import ProtocolError

REQUEST: Final = 1
PROPOSAL: Final = 2
ACK: Final = 3
COMMIT: Final = 4
PING: Final = 5
REVALIDATE: Final = 6
SYNC: Final = 7
INFORM: Final = 8
COMMITANDACTIVATE: Final = 9
NEWLEADER: Final = 10
FOLLOWERINFO: Final = 11
UPTODATE: Final = 12
DIFF: Final = 13
TRUNC: Final = 14
SNAP: Final = 15
OBSERVERINFO: Final = 16
LEADERINFO: Final = 17
ACKEPOCH: Final = 18
INFORMANDACTIVATE: Final = 19

NAMES: Final = (
    "?", "REQUEST", "PROPOSAL", "ACK", "COMMIT", "PING", "REVALIDATE", "SYNC", "INFORM", "COMMITANDACTIVATE",
    "NEWLEADER", "FOLLOWERINFO", "UPTODATE", "DIFF", "TRUNC", "SNAP", "OBSERVERINFO", "LEADERINFO", "ACKEPOCH",
    "INFORMANDACTIVATE",
)  # fmt: skip

PROTOCOL_VERSION: Final = 0x10000  # ZAB 1.0, every server since 3.4
HANDSHAKE_BYTES_MAX: Final = 1024  # data of a packet from a peer that has not said who it is
PACKET_BYTES_MAX: Final = 64 * 1024 * 1024  # data of a packet from a member
AUTHINFO_MAX: Final = 1000  # identities of one client

AuthInfo = tuple[tuple[str, str], ...]
Packet = tuple[int, int, bytes | None, AuthInfo | None]

_HEAD: Final = Struct(">iqi")
_head: Final = _HEAD.pack
_head_at: Final = _HEAD.unpack_from
_int_at: Final = Struct(">i").unpack_from
_BARE: Final = Struct(">iqii")
_bare: Final = _BARE.pack
_NO_AUTH: Final = b"\xff\xff\xff\xff"


def packet(kind: int, zxid: int, data: bytes | None = None, authinfo: Sequence[tuple[str, str]] | None = None) -> bytes:
    """One packet. `data` and `authinfo` may be null on the wire."""
    if data is None and authinfo is None:
        return _bare(kind, zxid, -1, -1)
    out = [_head(kind, zxid, -1 if data is None else len(data)), data or b""]
    if authinfo is None:
        out.append(_NO_AUTH)
    else:
        out.append(len(authinfo).to_bytes(4, "big"))
        for pair in authinfo:
            for text in pair:
                raw = text.encode()
                out.append(len(raw).to_bytes(4, "big") + raw)
    return b"".join(out)


def entry_packets(kind: int, first_zxid: int, entries: Iterable[bytes]) -> bytes:
    """PROPOSAL or INFORM packets of entries with consecutive zxids."""
    out: list[bytes] = []
    add = out.append
    zxid = first_zxid
    for entry in entries:
        add(_head(kind, zxid, len(entry)))
        add(entry)
        add(_NO_AUTH)
        zxid += 1
    return b"".join(out)


def bare_packets(kind: int, zxids: Iterable[int]) -> bytes:
    """COMMIT or ACK packets of many zxids."""
    return b"".join([_bare(kind, zxid, -1, -1) for zxid in zxids])


def committed_packets(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Each entry as a PROPOSAL and at once its COMMIT: how history is sent to a learner that lags."""
    out: list[bytes] = []
    add = out.append
    for zxid, entry in entries:
        add(_head(PROPOSAL, zxid, len(entry)))
        add(entry)
        add(_NO_AUTH)
        add(_bare(COMMIT, zxid, -1, -1))
    return b"".join(out)


class PacketReader:
    """Cuts the stream of a quorum link into packets.

    Attributes:
        limit: largest packet data accepted; raise it once the peer is known.
    """

    __slots__ = ("_buffer", "_need", "limit")

    def __init__(self, limit: int = HANDSHAKE_BYTES_MAX) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._need = 16

    def feed(self, data: bytes) -> list[Packet]:
        """Packets that are complete now. Stops behind a SNAP: what follows it is another format (`rest`).

        Raises:
            ProtocolError: not a packet, or one larger than `limit`.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
        at, end, limit = 0, len(data), self.limit
        need = 16
        packets: list[Packet] = []
        kind: int
        zxid: int
        size: int
        while end - at >= 16:
            kind, zxid, size = _head_at(data, at)
            if size < 0:
                if size != -1:
                    raise ProtocolError(f"packet data of {size} bytes")
                stop = at + 16
            elif size > limit:
                raise ProtocolError(f"packet data of {size} bytes is larger than {limit}")
            else:
                stop = at + 16 + size
            if not 1 <= kind <= 19:
                raise ProtocolError(f"packet of unknown kind {kind}")
            if stop + 4 > end:
                need = stop + 4 - at
                break
            body = None if size < 0 else data[at + 16 : stop]
            authinfo: AuthInfo | None = None
            count: int = _int_at(data, stop)[0]
            stop += 4
            if count != -1:
                found = _authinfo(data, stop, end, count, limit)
                if found is None:
                    need = end - at + 1
                    break
                authinfo, stop = found
            packets.append((kind, zxid, body, authinfo))
            at = stop
            if kind == SNAP:
                break
        self._need = need
        if at < end:
            self._buffer = bytearray(data[at:] if at else data)
        elif buffer:
            self._buffer = bytearray()
        return packets

    def rest(self) -> bytes:
        """Take the bytes that were not cut into packets yet."""
        data = bytes(self._buffer)
        self._buffer = bytearray()
        self._need = 16
        return data


def _authinfo(data: bytes, at: int, end: int, count: int, limit: int) -> tuple[AuthInfo, int] | None:
    """The identities at `at` and where they end, or None if they are not complete."""
    if not 0 <= count <= AUTHINFO_MAX:
        raise ProtocolError(f"vector of {count} identities")
    texts: list[str] = []
    for _ in range(2 * count):
        if at + 4 > end:
            return None
        size: int = _int_at(data, at)[0]
        if size < -1 or size > limit:
            raise ProtocolError(f"identity of {size} bytes")
        at += 4
        if at + size > end:
            return None
        if size > 0:
            texts.append(data[at : at + size].decode("utf-8", "replace"))
            at += size
        else:
            texts.append("")
    return tuple(zip(texts[::2], texts[1::2], strict=True)), at


# ------------------------------------------------------------------------------------ data of packets
_LEARNER_INFO: Final = Struct(">qiq")
_REQUEST: Final = Struct(">qii")
REQUEST_HEAD_BYTES: Final = _REQUEST.size
_SESSION: Final = Struct(">qi")
_VALID: Final = Struct(">qB")


def learner_info(sid: int, config_version: int) -> bytes:
    """Data of FOLLOWERINFO and OBSERVERINFO."""
    return _LEARNER_INFO.pack(sid, PROTOCOL_VERSION, config_version)


def parse_learner_info(data: bytes | None) -> tuple[int, int, int]:
    """(sid, protocol version, config version) of a learner; older learners send less.

    Raises:
        ProtocolError: not even a sid. (ZooKeeper gives such learners a number of its own; they are no members.)
    """
    if data is None or len(data) < 8:
        raise ProtocolError("learner without a server id")
    padded = data[:20] if len(data) >= 20 else data[: 12 if len(data) >= 12 else 8].ljust(20, b"\0")
    sid, version, config = _LEARNER_INFO.unpack(padded)
    return sid, version, config


def request(session_id: int, cxid: int, op: int, body: bytes) -> bytes:
    """Data of REQUEST."""
    return _REQUEST.pack(session_id, cxid, op) + body


def parse_request(data: bytes | None) -> tuple[int, int, int, bytes]:
    """(session id, cxid, op, body) of a REQUEST."""
    if data is None or len(data) < REQUEST_HEAD_BYTES:
        raise ProtocolError("forwarded request is cut short")
    session_id, cxid, op = _REQUEST.unpack_from(data)
    return session_id, cxid, op, data[REQUEST_HEAD_BYTES:]


def sessions(touched: Iterable[tuple[int, int]]) -> bytes:
    """Data of a learner's PING (many sessions) and of its REVALIDATE (one)."""
    return b"".join([_SESSION.pack(session_id, timeout_ms) for session_id, timeout_ms in touched])


def parse_sessions(data: bytes | None) -> list[tuple[int, int]]:
    """(session id, timeout in ms) pairs of a learner's PING or REVALIDATE."""
    if not data:
        return []
    if len(data) % 12:
        raise ProtocolError("session list is cut short")
    return list(_SESSION.iter_unpack(data))


def revalidated(session_id: int, valid: bool) -> bytes:
    """Data of the leader's REVALIDATE."""
    return _VALID.pack(session_id, valid)


def parse_revalidated(data: bytes | None) -> tuple[int, bool]:
    """(session id, valid) of the leader's REVALIDATE."""
    if data is None or len(data) < 9:
        raise ProtocolError("answer about a session is cut short")
    session_id, valid = _VALID.unpack_from(data)
    return session_id, bool(valid)


def parse_int(data: bytes | None) -> int:
    """The number in LEADERINFO (protocol version) or ACKEPOCH (current epoch)."""
    if data is None or len(data) < 4:
        raise ProtocolError("number is missing in a packet of the discovery phase")
    return int.from_bytes(data[:4], "big", signed=True)


# -------------------------------------------------------------------------------------- election port
LOOKING: Final = 0
FOLLOWING: Final = 1
LEADING: Final = 2
OBSERVING: Final = 3
STATE_NAMES: Final = ("looking", "following", "leading", "observing")

HELLO_V1: Final = -65536
HELLO_V2: Final = -65535
ADDRESS_BYTES_MAX: Final = 2048
MESSAGE_BYTES_MAX: Final = 524288

_HELLO: Final = Struct(">qqi")
_NOTE: Final = Struct(">iqqqqii")
_NOTE_OLD: Final = Struct(">iqqq")


@dataclass(frozen=True, slots=True)
class Notification:
    """One message of fast leader election.

    Attributes:
        state: of the sender: LOOKING, FOLLOWING, LEADING or OBSERVING.
        leader, zxid, peer_epoch: the vote: who should lead, its last zxid and its current epoch.
        round: the sender's election round (ZooKeeper: electionEpoch, logical clock).
        version: of the message: 0 before 3.4.6, 1 without and 2 with a configuration.
        config: text of the sender's configuration.
    """

    state: int
    leader: int
    zxid: int
    round: int
    peer_epoch: int
    version: int = 2
    config: bytes = b""

    def encode(self) -> bytes:
        """The message without its length, in the present form."""
        head = _NOTE.pack(
            self.state, self.leader, self.zxid, self.round, self.peer_epoch, self.version, len(self.config)
        )
        return head + self.config


def parse_notification(data: bytes) -> Notification:
    """A message of any generation: 28 bytes (no epoch), 40 (no version), 44 and more (with a configuration).

    Raises:
        ProtocolError: too short, an unknown state, or a configuration that does not fit.
    """
    size = len(data)
    if size < 28:
        raise ProtocolError(f"notification of {size} bytes")
    state, leader, zxid, election_round = _NOTE_OLD.unpack_from(data)
    if not 0 <= state <= 3:
        raise ProtocolError(f"notification of the unknown state {state}")
    if size == 28:
        return Notification(state, leader, zxid, election_round, zxid >> 32, 0)
    if size < 40:
        raise ProtocolError(f"notification of {size} bytes")
    peer_epoch = int.from_bytes(data[28:36], "big", signed=True)
    if size == 40:
        return Notification(state, leader, zxid, election_round, peer_epoch, 0)
    version = int.from_bytes(data[36:40], "big", signed=True)
    if version <= 1:
        return Notification(state, leader, zxid, election_round, peer_epoch, version)
    if size < 44:
        raise ProtocolError(f"notification of {size} bytes")
    length = int.from_bytes(data[40:44], "big", signed=True)
    if not 0 <= length <= size - 44:
        raise ProtocolError(f"notification with a configuration of {length} bytes")
    return Notification(state, leader, zxid, election_round, peer_epoch, version, data[44 : 44 + length])


def hello(sid: int, address: str) -> bytes:
    """The initial message of the server that dials. `address` is its own election address, `host:port`."""
    raw = address.encode()
    return _HELLO.pack(HELLO_V1, sid, len(raw)) + raw


def frame(payload: bytes) -> bytes:
    """A message with its length."""
    return len(payload).to_bytes(4, "big") + payload


class ElectionReader:
    """Cuts the stream of an election link into messages.

    Args:
        expect_hello: the peer dialled, so its initial message comes first.

    Attributes:
        hello: (sid, addresses) once the initial message is there.
    """

    __slots__ = ("_buffer", "_expect_hello", "hello")

    def __init__(self, expect_hello: bool) -> None:
        self.hello: tuple[int, str] | None = None
        self._expect_hello = expect_hello
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads that are complete now; `hello` is set before the first of them.

        Raises:
            ProtocolError: a length that no server sends.
        """
        buffer = self._buffer
        buffer += data
        if self._expect_hello and not self._read_hello():
            return []
        messages: list[bytes] = []
        at, end = 0, len(buffer)
        while end - at >= 4:
            (size,) = _int_at(buffer, at)
            if not 1 <= size <= MESSAGE_BYTES_MAX:
                raise ProtocolError(f"election message of {size} bytes")
            if at + 4 + size > end:
                break
            messages.append(bytes(buffer[at + 4 : at + 4 + size]))
            at += 4 + size
        if at:
            del buffer[:at]
        return messages

    def _read_hello(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        version = int.from_bytes(buffer[:8], "big", signed=True)
        if version >= 0:  # before 3.5: a bare server id
            self.hello = (version, "")
            used = 8
        else:
            if version not in (HELLO_V1, HELLO_V2):
                raise ProtocolError(f"initial message of the unknown version {version}")
            if len(buffer) < 20:
                return False
            _, sid, size = _HELLO.unpack_from(buffer)
            if not 1 <= size <= ADDRESS_BYTES_MAX:
                raise ProtocolError(f"initial message with an address of {size} bytes")
            used = 20 + size
            if len(buffer) < used:
                return False
            self.hello = (sid, bytes(buffer[20:used]).decode("utf-8", "replace"))
        del buffer[:used]
        self._expect_hello = False
        return True
