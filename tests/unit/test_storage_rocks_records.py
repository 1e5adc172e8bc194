"""Byte layouts of the log's records and of the floor record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corekit_storage_rocks.floor import Floor, FloorFile
from corekit_storage_rocks.records import (
    DamagedRecord,
    LogMeta,
    batch_chain,
    generation_prefix,
    key_zxid,
    log_key,
    pack_batch,
    pack_state_meta,
    unpack_batch,
    unpack_log_meta,
    unpack_state_meta,
)
from hypothesis import given
from hypothesis import strategies as st

ENTRIES = st.lists(st.binary(max_size=40), min_size=1, max_size=12)
CHAINS = st.integers(0, 2**32 - 1)
ZXIDS = st.integers(0, 2**63 - 1)


@given(ENTRIES, CHAINS)
def test_a_batch_comes_back(entries: list[bytes], chain: int) -> None:
    value, after = pack_batch(entries, chain)
    assert unpack_batch(value, chain) == (entries, after)
    assert unpack_batch(value, None) == (entries, after)
    assert batch_chain(value) == (len(entries), after)


@given(ENTRIES, ENTRIES, CHAINS)
def test_the_chain_does_not_depend_on_how_entries_are_batched(a: list[bytes], b: list[bytes], chain: int) -> None:
    _, middle = pack_batch(a, chain)
    assert pack_batch(b, middle)[1] == pack_batch([*a, *b], chain)[1]


@given(ENTRIES, CHAINS, st.data())
def test_a_changed_batch_is_noticed(entries: list[bytes], chain: int, data: st.DataObject) -> None:
    value = bytearray(pack_batch(entries, chain)[0])
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= 1 << data.draw(st.integers(0, 7))
    lengths = range(8, 8 + 4 * len(entries))
    if at in lengths and len(entries) > 1:
        return  # a length is caught when the sum is wrong; RocksDB's own checksum guards the rest
    with pytest.raises(DamagedRecord):
        unpack_batch(bytes(value), chain)


@given(ENTRIES, CHAINS, st.data())
def test_a_batch_that_is_cut_is_noticed(entries: list[bytes], chain: int, data: st.DataObject) -> None:
    value, _ = pack_batch(entries, chain)
    for wrong in (value[: data.draw(st.integers(0, len(value) - 1))], value + b"x"):
        with pytest.raises(DamagedRecord):
            unpack_batch(wrong, chain)


def test_a_batch_out_of_place_is_noticed() -> None:
    first, chain = pack_batch([b"one", b"two"], 0)
    second, _ = pack_batch([b"three", b"four"], chain)
    third, _ = pack_batch([b"five"], chain)
    for value in (second, third):
        with pytest.raises(DamagedRecord, match="hash chain"):
            unpack_batch(value, 0)
    assert unpack_batch(first, 0)[1] == chain


@given(ZXIDS, ZXIDS)
def test_keys_sort_as_zxids(a: int, b: int) -> None:
    assert (log_key(a) < log_key(b)) == (a < b)
    assert key_zxid(log_key(a)) == a


def test_bookkeeping_comes_back() -> None:
    meta = LogMeta(7, 6, 5 << 32, 2**32 - 1, 3, 1 << 40, 9)
    assert unpack_log_meta(meta.pack()) == meta
    assert unpack_state_meta(pack_state_meta(9, 1 << 40)) == (9, 1 << 40)
    assert generation_prefix(1) < generation_prefix(256) < generation_prefix(2**31)
    for wrong in (b"", meta.pack() + b"x", b"\2" + meta.pack()[1:]):
        with pytest.raises(DamagedRecord):
            unpack_log_meta(wrong)
        with pytest.raises(DamagedRecord):
            unpack_state_meta(wrong)


# ------------------------------------------------------------------------------------------------- floor
@pytest.fixture
def floor_path(tmp_path: Path) -> Path:
    FloorFile(tmp_path / "floor", create=True).close()
    return tmp_path / "floor"


def read(path: Path) -> Floor:
    file = FloorFile(path, create=False)
    file.close()
    return file.value


def test_the_newest_slot_counts(floor_path: Path) -> None:
    assert read(floor_path) == Floor()
    for round_ in range(1, 8):
        file = FloorFile(floor_path, create=False)
        file.settle(Floor(round_ * 10, 1, round_, round_, 0))
        file.note(Floor(round_ * 10 + 1, 2, round_, round_, 0))
        if round_ % 2:
            file.settle(Floor(round_ * 10 + 2, 3, round_, round_, 0))
        file.close()
        assert read(floor_path).zxid == round_ * 10 + 1 + round_ % 2


def test_a_torn_write_costs_one_slot_at_most(floor_path: Path) -> None:
    file = FloorFile(floor_path, create=False)
    for zxid in range(1, 40):
        file.settle(Floor(zxid))
        whole = floor_path.read_bytes()
        for offset in (0, 1024, 2048):
            torn = bytearray(whole)
            torn[offset + 8 : offset + 20] = os.urandom(12)
            floor_path.with_name("torn").write_bytes(torn)
            assert read(floor_path.with_name("torn")).zxid in (zxid, zxid - 1)
    file.close()


def test_after_a_power_cut_the_synced_slots_count(floor_path: Path) -> None:
    """What `note` wrote may be gone, or torn; what `settle` wrote is not overwritten by the next `settle`."""
    for zxid in range(1, 9):
        file = FloorFile(floor_path, create=False)
        file.settle(Floor(zxid * 100))
        synced = floor_path.read_bytes()
        for step in range(1, 4):
            file.note(Floor(zxid * 100 + step))
        file.close()
        floor_path.write_bytes(synced)
        assert read(floor_path).zxid == zxid * 100


def test_a_floor_without_a_valid_slot_is_refused(floor_path: Path) -> None:
    for data in (b"", b"\0" * 4096, os.urandom(4096), floor_path.read_bytes()[:2000]):
        floor_path.write_bytes(data)
        with pytest.raises(ValueError, match="no slot"):
            FloorFile(floor_path, create=False)
