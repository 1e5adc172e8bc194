"""Transactions: what `decode` makes of each form that an entry can have, and of entries that are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.codec import ops
from corekit.codec.txns import DIGEST, HEADER, Txn, decode, pack_acl, pack_string
from corekit.errors import ProtocolError
from corekit.model.acl import OPEN

HEAD = (0x1000_0000_0000_0001, 7, 0x2_0000_0003, 1_700_000_000_000)
READ_ONLY = ((1, "world", "anyone"),)

buffers = st.one_of(st.just(b"\xff\xff\xff\xff"), st.binary(max_size=40).map(pack_string))
paths = st.binary(min_size=1, max_size=20)
counters = st.integers(-(2**31), 2**31 - 1)
digests = st.one_of(st.none(), st.integers(0, 2**64 - 1))


def entry(kind: int, body: bytes, digest: int | None, version: int = 2) -> bytes:
    """As a server logs it."""
    return HEADER.pack(*HEAD, kind) + body + (b"" if digest is None else DIGEST.pack(version, digest))


@given(paths, buffers, counters, digests)
def test_set_data(path: bytes, data: bytes, version: int, digest: int | None) -> None:
    body = pack_string(path) + data + version.to_bytes(4, "big", signed=True)
    expected = Txn(*HEAD, ops.SET_DATA, path=path, data=data, version=version, digest=digest)
    assert decode(entry(ops.SET_DATA, body, digest)) == expected


@given(paths, buffers, st.sampled_from([OPEN, READ_ONLY, ()]), st.booleans(), counters, digests)
def test_create(path: bytes, data: bytes, acl: Any, ephemeral: bool, version: int, digest: int | None) -> None:
    body = pack_string(path) + data + pack_acl(acl) + bytes([ephemeral]) + version.to_bytes(4, "big", signed=True)
    expected = Txn(
        *HEAD, ops.CREATE, path=path, data=data, acl=acl, ephemeral=ephemeral, version=version, digest=digest
    )
    assert decode(entry(ops.CREATE, body, digest)) == expected


def test_a_create_of_an_old_log_has_no_version() -> None:
    body = pack_string(b"/a") + pack_string(b"x") + pack_acl(OPEN) + b"\0"
    expected = Txn(*HEAD, ops.CREATE, path=b"/a", data=pack_string(b"x"), version=-1)
    assert decode(entry(ops.CREATE, body, None)) == expected


def test_a_digest_of_another_version_is_not_compared() -> None:
    body = pack_string(b"/a") + pack_string(b"x") + bytes(4)
    assert decode(entry(ops.SET_DATA, body, 5, version=3)).digest is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ops.SET_DATA, pack_string(b"/path") + pack_string(b"data") + bytes(4)),
        (ops.CREATE, pack_string(b"/path") + pack_string(b"data") + pack_acl(READ_ONLY) + bytes(5)),
        (ops.CREATE, pack_string(b"/path") + pack_string(b"data") + pack_acl(OPEN) + bytes(5)),
    ],
    ids=["setData", "create", "open create"],
)
def test_what_is_cut_short_is_refused(kind: int, body: bytes) -> None:
    whole = entry(kind, body, None)
    # A create without its last number, or with a part of it, is taken for one of a log older than ZooKeeper 3.4.
    for end in range(len(whole) - (4 if kind == ops.CREATE else 0)):
        with pytest.raises(ProtocolError):
            decode(whole[:end])
