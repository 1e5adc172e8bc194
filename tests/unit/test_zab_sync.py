"""When a learner is sent a snapshot although the log would do."""

from __future__ import annotations

from typing import Any

import pytest
from corekit_zab.options import FEED_ENTRIES_MAX, Options
from corekit_zab.sync import snapshot_is_cheaper

AFTER = Options().snap_after
EPOCH = 5 << 32


class State:
    """Of the consensus's host only what is looked at here."""

    def __init__(self, znodes: int, size: int) -> None:
        self._sizes = znodes, size

    def state_size(self) -> tuple[int, int]:
        return self._sizes


def cheaper(znodes: int, size: int, *, peer: int, committed: int, applied: int | None = None) -> bool:
    host: Any = State(znodes, size)
    return snapshot_is_cheaper(host, peer, committed, committed if applied is None else applied, AFTER)


@pytest.mark.parametrize(
    ("znodes", "size", "missing", "expected"),
    [
        (1000, 100_000, AFTER - 1, False),  # so few that the learner may keep its log
        (1000, 100_000, AFTER, True),
        (100_000, 11_000_000, 100_000, True),  # as many znodes as entries: a znode is cheaper
        (150_000, 0, 100_000, True),
        (150_001, 0, 100_000, False),
        (1000, 149_000 * 1024, 100_000, True),  # few znodes, but large
        (1000, 149_002 * 1024, 100_000, False),
        (10_000_000, 1 << 30, FEED_ENTRIES_MAX, False),
        (10_000_000, 1 << 30, FEED_ENTRIES_MAX + 1, True),
    ],
)
def test_cost(znodes: int, size: int, missing: int, expected: bool) -> None:
    assert cheaper(znodes, size, peer=EPOCH + 7, committed=EPOCH + 7 + missing) == expected


def test_entries_of_an_older_epoch_are_not_counted() -> None:
    """How many that epoch had after the learner's last is not known; there are at least those of the present one."""
    assert not cheaper(10, 100, peer=(4 << 32) + 1, committed=EPOCH + AFTER - 1)
    assert cheaper(10, 100, peer=(4 << 32) + 1, committed=EPOCH + AFTER)


def test_never_one_that_ends_before_the_learners_log() -> None:
    peer = EPOCH + 100
    assert not cheaper(10, 100, peer=peer, committed=peer + 2 * AFTER, applied=peer - 1)
    assert not cheaper(10, 100, peer=peer, committed=peer + 2 * FEED_ENTRIES_MAX, applied=peer - 1)
    assert cheaper(10, 100, peer=peer, committed=peer + 2 * AFTER, applied=peer)
