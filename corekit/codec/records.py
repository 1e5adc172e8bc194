"""Every record of the client protocol, in both directions, as `zookeeper.jute` lists them.

Rules
- The order of a record's attributes is the order on the wire.
- Strings are UTF-8 bytes, None is jute's null. Text is made at the client's edge, never here.
- This is the reference. Hot paths of server and client pack and unpack with `struct` on their own, and are tested
  against these classes.

Not here: framing beyond `frame`, transactions (`txns.py`), packets between servers (the consensus plugin's).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform, get_type_hints

from corekit.codec import ops
from corekit.codec.jute import NULL, Reader, pack_bool, pack_buffer, pack_int, pack_long, pack_strings, pack_vector
from corekit.errors import ProtocolError
from corekit.model.stat import STAT, STAT_SIZE, Stat

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, slots=True)
class Wire:
    """How one attribute is written and read."""

    encode: Callable[[Any], bytes]
    decode: Callable[[Reader], Any]


class Record:
    """Base of all records: encodes and decodes its attributes in order."""

    __slots__ = ()
    layout: ClassVar[tuple[tuple[str, Wire], ...]] = ()

    def encode(self) -> bytes:
        """The record's bytes, without a header or a length in front."""
        return b"".join([wire.encode(getattr(self, name)) for name, wire in self.layout])

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Take a record off the reader.

        Raises:
            ProtocolError: the bytes end early or a length is impossible.
        """
        return cls(*[wire.decode(reader) for _, wire in cls.layout])


@dataclass_transform()
def record(cls: type[R]) -> type[R]:
    """Make a slotted dataclass of the class, with its layout taken from the annotations."""
    made = dataclass(slots=True)(cls)
    hints = get_type_hints(made, include_extras=True)
    # mypy does not see in a type variable that it is a dataclass now.
    made.layout = tuple((name, hints[name].__metadata__[0]) for name in made.__dataclass_fields__)  # type: ignore[attr-defined]
    return made


def pack_stat(stat: Stat) -> bytes:
    """A Stat, 68 bytes."""
    return STAT.pack(*stat)


def read_stat(reader: Reader) -> Stat:
    """Take a Stat off the reader."""
    pos = reader.pos
    if pos + STAT_SIZE > reader.end:
        raise ProtocolError(f"packet ends inside a Stat (packet of {reader.end} bytes)")
    reader.pos = pos + STAT_SIZE
    return Stat._make(STAT.unpack_from(reader.buf, pos))


def _pack_records(values: list[Any] | None) -> bytes:
    return NULL if values is None else pack_vector([value.encode() for value in values])


def _vector_of(cls: type[Record], size_min: int) -> Wire:
    return Wire(_pack_records, lambda reader: reader.vector(cls.decode, size_min))


def _strings(reader: Reader) -> list[bytes] | None:
    return reader.vector(Reader.text, 4)


def _pack_optional_bool(value: bool | None) -> bytes:
    return b"" if value is None else pack_bool(value)


def _optional_bool(reader: Reader) -> bool | None:
    return None if reader.done() else reader.bool()


Int = Annotated[int, Wire(pack_int, Reader.int)]
Long = Annotated[int, Wire(pack_long, Reader.long)]
Bool = Annotated[bool, Wire(pack_bool, Reader.bool)]
String = Annotated[bytes | None, Wire(pack_buffer, Reader.buffer)]
Buffer = Annotated[bytes | None, Wire(pack_buffer, Reader.buffer)]
Strings = Annotated[list[bytes] | None, Wire(pack_strings, _strings)]
TrailingBool = Annotated[bool | None, Wire(_pack_optional_bool, _optional_bool)]
StatField = Annotated[Stat, Wire(pack_stat, read_stat)]


# ------------------------------------------------------------------------------------------- shared
@record
class Id(Record):
    scheme: String
    id: String


IdField = Annotated[Id, Wire(Id.encode, Id.decode)]


@record
class ACL(Record):
    perms: Int
    id: IdField


ACLs = Annotated[list[ACL] | None, _vector_of(ACL, 12)]


@record
class StatPersisted(Record):
    """A Stat as the tree stores it: `cversion` counts creations of children, the owner is not hidden."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    pzxid: Long


@record
class ClientInfo(Record):
    auth_scheme: String
    user: String


ClientInfos = Annotated[list[ClientInfo] | None, _vector_of(ClientInfo, 8)]


# ------------------------------------------------------------------------------- session and headers
@record
class ConnectRequest(Record):
    """The first packet of a connection, without a RequestHeader.

    Attributes:
        timeout_ms: the session timeout asked for.
        read_only: None when the byte is absent, as from clients of the 3.3 age.
    """

    protocol_version: Int
    last_zxid_seen: Long
    timeout_ms: Int
    session_id: Long
    password: Buffer
    read_only: TrailingBool = None


@record
class ConnectResponse(Record):
    """The answer: `timeout_ms` 0 means refused (expired, or a wrong password). The last byte mirrors the request's."""

    protocol_version: Int
    timeout_ms: Int
    session_id: Long
    password: Buffer
    read_only: TrailingBool = None


@record
class RequestHeader(Record):
    xid: Int
    type: Int


@record
class ReplyHeader(Record):
    xid: Int
    zxid: Long
    err: Int


@record
class WatcherEvent(Record):
    type: Int
    state: Int
    path: String


@record
class AuthPacket(Record):
    type: Int
    scheme: String
    auth: Buffer


# ------------------------------------------------------------------------------------------ requests
@record
class Empty(Record):
    """Nothing: ping, whoAmI, closeSession, and replies that are a header only."""


@record
class CreateRequest(Record):
    """create, create2 and createContainer."""

    path: String
    data: Buffer
    acl: ACLs
    flags: Int


@record
class CreateTTLRequest(Record):
    path: String
    data: Buffer
    acl: ACLs
    flags: Int
    ttl_ms: Long


@record
class DeleteRequest(Record):
    path: String
    version: Int


@record
class DeleteContainerRequest(Record):
    path: Buffer


@record
class PathWatchRequest(Record):
    """exists, getData, getChildren and getChildren2."""

    path: String
    watch: Bool


@record
class SetDataRequest(Record):
    path: String
    data: Buffer
    version: Int


@record
class SetACLRequest(Record):
    path: String
    acl: ACLs
    version: Int


@record
class PathRequest(Record):
    """getACL, sync, getEphemerals (a prefix) and getAllChildrenNumber."""

    path: String


@record
class CheckVersionRequest(Record):
    path: String
    version: Int


@record
class ReconfigRequest(Record):
    joining: String
    leaving: String
    members: String
    config_id: Long


@record
class WatchesRequest(Record):
    """checkWatches and removeWatches."""

    path: String
    type: Int


@record
class AddWatchRequest(Record):
    path: String
    mode: Int


@record
class SetWatches(Record):
    relative_zxid: Long
    data: Strings
    exist: Strings
    child: Strings


@record
class SetWatches2(Record):
    relative_zxid: Long
    data: Strings
    exist: Strings
    child: Strings
    persistent: Strings
    persistent_recursive: Strings


@record
class SaslToken(Record):
    """sasl, both ways."""

    token: Buffer


# ----------------------------------------------------------------------------------------- responses
@record
class PathResponse(Record):
    """create and sync."""

    path: String


@record
class Create2Response(Record):
    """create2, createContainer and createTTL."""

    path: String
    stat: StatField


@record
class StatResponse(Record):
    """exists, setData and setACL."""

    stat: StatField


@record
class DataResponse(Record):
    """getData and reconfig."""

    data: Buffer
    stat: StatField


@record
class GetACLResponse(Record):
    acl: ACLs
    stat: StatField


@record
class GetChildrenResponse(Record):
    children: Strings


@record
class GetChildren2Response(Record):
    children: Strings
    stat: StatField


@record
class GetEphemeralsResponse(Record):
    ephemerals: Strings


@record
class NumberResponse(Record):
    """getAllChildrenNumber."""

    total: Int


@record
class ErrorResponse(Record):
    """addWatch, and the body of an error in a multi."""

    err: Int


@record
class WhoAmIResponse(Record):
    client_info: ClientInfos


# --------------------------------------------------------------------------------------------- multi
@record
class MultiHeader(Record):
    type: Int
    done: Bool
    err: Int


_MULTI_END = MultiHeader(-1, True, -1).encode()

# What may stand in a multi and in a multiRead, by operation, with the record of the request and of the result.
MULTI_WRITES: dict[int, tuple[type[Record], type[Record]]] = {
    ops.CREATE: (CreateRequest, PathResponse),
    ops.CREATE2: (CreateRequest, Create2Response),
    ops.CREATE_CONTAINER: (CreateRequest, Create2Response),
    ops.CREATE_TTL: (CreateTTLRequest, Create2Response),
    ops.DELETE: (DeleteRequest, Empty),
    ops.SET_DATA: (SetDataRequest, StatResponse),
    ops.CHECK: (CheckVersionRequest, Empty),
}
MULTI_READS: dict[int, tuple[type[Record], type[Record]]] = {
    ops.GET_CHILDREN: (PathWatchRequest, GetChildrenResponse),
    ops.GET_DATA: (PathWatchRequest, DataResponse),
}


@dataclass(slots=True)
class MultiRequest(Record):
    """multi and multiRead: operations with their records."""

    parts: list[tuple[int, Record]]

    def encode(self) -> bytes:
        """All parts, each behind its MultiHeader, and the terminator."""
        chunks = []
        for op, body in self.parts:
            chunks += [MultiHeader(op, False, -1).encode(), body.encode()]
        chunks.append(_MULTI_END)
        return b"".join(chunks)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Take all parts up to the terminator.

        Raises:
            ProtocolError: also for an operation that may not stand here, or reads mixed with writes.
        """
        parts: list[tuple[int, Record]] = []
        allowed = MULTI_WRITES | MULTI_READS
        while not (header := MultiHeader.decode(reader)).done:
            kinds = allowed.get(header.type)
            if kinds is None:
                raise ProtocolError(f"{ops.op_name(header.type)} cannot be part of this multi")
            allowed = MULTI_WRITES if header.type in MULTI_WRITES else MULTI_READS
            parts.append((header.type, kinds[0].decode(reader)))
        return cls(parts)


@dataclass(slots=True)
class MultiResponse(Record):
    """Results of multi and multiRead: (type, record); an error has type -1 and an `ErrorResponse`."""

    results: list[tuple[int, Record]]

    def encode(self) -> bytes:
        """All results, each behind its MultiHeader, and the terminator."""
        chunks = []
        for op, body in self.results:
            err = body.err if isinstance(body, ErrorResponse) else 0
            chunks += [MultiHeader(op, False, err).encode(), body.encode()]
        chunks.append(_MULTI_END)
        return b"".join(chunks)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Take all results up to the terminator.

        Raises:
            ProtocolError: also for a type that is no result.
        """
        results: list[tuple[int, Record]] = []
        known = MULTI_WRITES | MULTI_READS
        while not (header := MultiHeader.decode(reader)).done:
            if header.type == ops.ERROR:
                results.append((ops.ERROR, ErrorResponse.decode(reader)))
                continue
            kinds = known.get(header.type)
            if kinds is None:
                raise ProtocolError(f"{ops.op_name(header.type)} cannot be a result of a multi")
            results.append((header.type, kinds[1].decode(reader)))
        return cls(results)


# ------------------------------------------------------------------------------------------- by opcode
# The records of the request and of a successful reply.
RECORDS: dict[int, tuple[type[Record], type[Record]]] = {
    ops.CREATE: (CreateRequest, PathResponse),
    ops.DELETE: (DeleteRequest, Empty),
    ops.EXISTS: (PathWatchRequest, StatResponse),
    ops.GET_DATA: (PathWatchRequest, DataResponse),
    ops.SET_DATA: (SetDataRequest, StatResponse),
    ops.GET_ACL: (PathRequest, GetACLResponse),
    ops.SET_ACL: (SetACLRequest, StatResponse),
    ops.GET_CHILDREN: (PathWatchRequest, GetChildrenResponse),
    ops.SYNC: (PathRequest, PathResponse),
    ops.PING: (Empty, Empty),
    ops.GET_CHILDREN2: (PathWatchRequest, GetChildren2Response),
    ops.CHECK: (CheckVersionRequest, Empty),
    ops.MULTI: (MultiRequest, MultiResponse),
    ops.CREATE2: (CreateRequest, Create2Response),
    ops.RECONFIG: (ReconfigRequest, DataResponse),
    ops.CHECK_WATCHES: (WatchesRequest, Empty),
    ops.REMOVE_WATCHES: (WatchesRequest, Empty),
    ops.CREATE_CONTAINER: (CreateRequest, Create2Response),
    ops.DELETE_CONTAINER: (DeleteContainerRequest, Empty),
    ops.CREATE_TTL: (CreateTTLRequest, Create2Response),
    ops.MULTI_READ: (MultiRequest, MultiResponse),
    ops.AUTH: (AuthPacket, Empty),
    ops.SET_WATCHES: (SetWatches, Empty),
    ops.SASL: (SaslToken, SaslToken),
    ops.GET_EPHEMERALS: (PathRequest, GetEphemeralsResponse),
    ops.GET_ALL_CHILDREN_NUMBER: (PathRequest, NumberResponse),
    ops.SET_WATCHES2: (SetWatches2, Empty),
    ops.ADD_WATCH: (AddWatchRequest, ErrorResponse),
    ops.WHO_AM_I: (Empty, WhoAmIResponse),
    ops.CLOSE_SESSION: (Empty, Empty),
}


_REQUEST_HEAD = Struct(">iii")


def frame(body: bytes) -> bytes:
    """A packet: the length, then the body."""
    return pack_int(len(body)) + body


def request(xid: int, op: int, body: bytes) -> bytes:
    """A whole packet: length, RequestHeader, body."""
    return _REQUEST_HEAD.pack(len(body) + 8, xid, op) + body
