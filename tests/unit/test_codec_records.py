"""Jute and the client protocol's records: ZooKeeper's own bytes, round trips, and packets that lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.codec import jute, ops, records
from corekit.codec.jute import Reader
from corekit.errors import ProtocolError
from corekit.model.stat import Stat

INT = st.integers(-(2**31), 2**31 - 1)
LONG = st.integers(-(2**63), 2**63 - 1)
BYTES = st.none() | st.binary(max_size=20)
NAMES = st.none() | st.lists(st.binary(max_size=8), max_size=4)
STAT = st.tuples(LONG, LONG, LONG, LONG, INT, INT, INT, LONG, INT, INT, LONG).map(lambda v: Stat(*v))
ID = st.builds(records.Id, BYTES, BYTES)
ACL = st.builds(records.ACL, INT, ID)
BY_WIRE = {
    records.Int: INT,
    records.Long: LONG,
    records.Bool: st.booleans(),
    records.String: BYTES,
    records.Buffer: BYTES,
    records.Strings: NAMES,
    records.TrailingBool: st.none() | st.booleans(),
    records.StatField: STAT,
    records.IdField: ID,
    records.ACLs: st.none() | st.lists(ACL, max_size=3),
    records.ClientInfos: st.none() | st.lists(st.builds(records.ClientInfo, BYTES, BYTES), max_size=3),
}
STRATEGY_OF_WIRE = {hint.__metadata__[0]: strategy for hint, strategy in BY_WIRE.items()}
PLAIN = sorted(
    (cls for cls in vars(records).values() if isinstance(cls, type) and issubclass(cls, records.Record) and cls.layout),
    key=lambda cls: cls.__name__,
)


def instances(cls: type[records.Record]) -> st.SearchStrategy[records.Record]:
    """Any value of a record."""
    return st.builds(cls, *[STRATEGY_OF_WIRE[wire] for _, wire in cls.layout])


def parts(kinds: dict[int, tuple[type[records.Record], type[records.Record]]], side: int) -> st.SearchStrategy[list]:
    """Parts or results of a multi."""
    return st.lists(
        st.one_of([st.tuples(st.just(op), instances(pair[side])) for op, pair in kinds.items()]), max_size=4
    )


def everything() -> Iterable[records.Record]:
    """Strategies for every record, the composed ones included."""
    yield from (instances(cls) for cls in PLAIN)
    for kinds in (records.MULTI_WRITES, records.MULTI_READS):
        yield st.builds(records.MultiRequest, parts(kinds, 0))
        with_errors = parts({**kinds, ops.ERROR: (records.Empty, records.ErrorResponse)}, 1)
        yield st.builds(records.MultiResponse, with_errors)


@given(st.one_of(list(everything())))
def test_round_trip(value: records.Record) -> None:
    encoded = value.encode()
    reader = Reader(encoded)
    assert type(value).decode(reader) == value
    assert reader.done()
    inside = Reader(memoryview(b"??" + encoded + b"!"), 2, 2 + len(encoded))
    if not isinstance(value, records.ConnectRequest | records.ConnectResponse):
        assert type(value).decode(inside) == value
        assert inside.pos == 2 + len(encoded)


@given(st.one_of(list(everything())), st.data())
def test_truncated_is_refused(value: records.Record, data: st.DataObject) -> None:
    encoded = value.encode()
    if not encoded:
        return
    cut = data.draw(st.integers(0, len(encoded) - 1))
    if isinstance(value, records.ConnectRequest | records.ConnectResponse) and cut == len(encoded) - 1:
        return  # without the last byte it is the older form
    with pytest.raises(ProtocolError):
        type(value).decode(Reader(encoded, 0, cut))


@given(st.binary(max_size=64), st.sampled_from([*PLAIN, records.MultiRequest, records.MultiResponse]))
def test_garbage_raises_nothing_else(garbage: bytes, cls: type[records.Record]) -> None:
    try:
        cls.decode(Reader(garbage))
    except ProtocolError:
        pass


def test_every_record_is_tried() -> None:
    assert len(PLAIN) > 30
    used = {cls for pair in records.RECORDS.values() for cls in pair}
    assert used - set(PLAIN) == {records.Empty, records.MultiRequest, records.MultiResponse}
    assert not any(ops.op_name(op).startswith("op ") for op in records.RECORDS)
    assert ops.op_name(12345) == "op 12345"


# ------------------------------------------------------------------------------------ ZooKeeper's bytes
VECTORS = [
    (
        records.frame(records.ConnectRequest(0, 0, 30000, 0, bytes(16), False).encode()),
        "0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010" + "00" * 16 + "00",
    ),
    (
        records.request(1, ops.GET_DATA, records.PathWatchRequest(b"/a", True).encode()),
        "0000000f 00000001 00000004 00000002 2f61 01",
    ),
    (records.request(ops.XID_PING, ops.PING, b""), "00000008 fffffffe 0000000b"),
    (
        records.frame(
            records.ReplyHeader(ops.XID_NOTIFICATION, 0x100000002, 0).encode()
            + records.WatcherEvent(ops.EVENT_NODE_DATA_CHANGED, ops.STATE_SYNC_CONNECTED, b"/a").encode()
        ),
        "0000001e ffffffff 0000000100000002 00000000 00000003 00000003 00000002 2f61",
    ),
    (
        records.CreateRequest(
            b"/a", b"x", [records.ACL(31, records.Id(b"world", b"anyone"))], ops.EPHEMERAL_SEQUENTIAL
        ).encode(),
        "00000002 2f61 00000001 78 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000003",
    ),
    (
        records.MultiRequest([(ops.DELETE, records.DeleteRequest(b"/a", -1))]).encode(),
        "00000002 00 ffffffff 00000002 2f61 ffffffff ffffffff 01 ffffffff",
    ),
    (
        records.MultiResponse([(ops.ERROR, records.ErrorResponse(-101))]).encode(),
        "ffffffff 00 ffffff9b ffffff9b ffffffff 01 ffffffff",
    ),
]


@pytest.mark.parametrize(("made", "expected"), VECTORS)
def test_vectors(made: bytes, expected: str) -> None:
    assert made.hex() == expected.replace(" ", "")


def test_sizes() -> None:
    assert len(records.pack_stat(Stat(*range(11)))) == 68
    assert len(records.StatPersisted(*range(9)).encode()) == 60
    for last_byte, request_size, response_size in ((False, 45, 37), (None, 44, 36)):
        assert len(records.ConnectRequest(0, 0, 0, 0, bytes(16), last_byte).encode()) == request_size
        assert len(records.ConnectResponse(0, 0, 0, bytes(16), last_byte).encode()) == response_size
    assert [field.name for field in fields(records.RequestHeader)] == ["xid", "type"]


# ------------------------------------------------------------------------------------ packets that lie
def test_lengths_that_lie() -> None:
    with pytest.raises(ProtocolError, match="bad length -2"):
        Reader(b"\xff\xff\xff\xfe").buffer()
    with pytest.raises(ProtocolError, match="only 1 bytes follow"):
        Reader(b"\x7f\xff\xff\xff1").buffer()
    with pytest.raises(ProtocolError, match="bad count -3"):
        Reader(b"\xff\xff\xff\xfd").vector(Reader.int)
    with pytest.raises(ProtocolError, match="null where"):
        Reader(jute.pack_strings([b"a"]) + jute.NULL, 9).text()


def test_a_count_is_checked_before_the_loop() -> None:
    taken: list[int] = []
    with pytest.raises(ProtocolError, match="count 2147483647"):
        Reader(b"\x7f\xff\xff\xff" + bytes(100)).vector(lambda reader: taken.append(reader.int()))
    assert not taken
    with pytest.raises(ProtocolError, match="count 3"):
        Reader(b"\0\0\0\3" + bytes(11)).vector(Reader.int, 4)


def test_null_is_not_empty() -> None:
    assert Reader(jute.NULL).buffer() is None
    assert Reader(jute.pack_buffer(b"")).buffer() == b""
    assert Reader(jute.NULL).vector(Reader.int) is None
    assert Reader(jute.pack_vector([])).vector(Reader.int) == []
    assert jute.pack_vector(None) == jute.pack_strings(None) == jute.pack_string(None) == jute.NULL
    assert Reader(jute.NULL).strings() == []


def test_any_byte_but_zero_is_true() -> None:
    assert [Reader(bytes([value])).bool() for value in (0, 1, 2, 255)] == [False, True, True, True]


def test_reads_and_writes_do_not_mix_in_a_multi() -> None:
    read = (ops.GET_DATA, records.PathWatchRequest(b"/a", False))
    write = (ops.DELETE, records.DeleteRequest(b"/a", -1))
    for mixed in ([read, write], [write, read], [(ops.EXISTS, records.PathWatchRequest(b"/a", False))]):
        with pytest.raises(ProtocolError, match="cannot be part"):
            records.MultiRequest.decode(Reader(records.MultiRequest(mixed).encode()))


def test_rest() -> None:
    reader = Reader(b"\0\0\0\1abc")
    assert reader.int() == 1
    assert reader.rest() == b"abc"
    assert reader.done()
