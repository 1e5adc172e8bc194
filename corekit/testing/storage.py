"""Conformance suite for storages: what the server relies on, wherever the data is kept.

Use: subclass `StorageSuite` in a test file and override `make_storage`; pytest collects the rest.

    class TestMine(StorageSuite):
        factory = "my_package:MyStorage"      # for the test that kills a process; leave it out if there is none

        def make_storage(self, path: Path) -> Storage:
            return MyStorage(path)

A storage that does not keep files below `path` also overrides `crash`, and sets `exclusive` to what it does. What a
storage cannot be made to do (a damaged log, a failing disk) is skipped, with the name of the method to override.

Rules that it checks
- What was synced is there after a restart and after a crash. What was not is there as a prefix, each call as a whole.
- Reads see what was staged. A call that is refused changes nothing.
- A failure is for good, a damage is reported until it is mended.

Not here: failing disks under a real process (`disk_faults.py` makes them), how fast it is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from corekit.api import BackgroundSync, DiskUsage, Recovery, Storage
from corekit.errors import DataDirError, StorageError
from corekit.testing.storage_crash import CrashTest
from corekit.testing.storage_harness import StorageHarness
from corekit.testing.storage_harness import entries_of as entries_of
from corekit.testing.storage_harness import log_of as log_of
from corekit.testing.storage_model import Model, perform, random_op, read_all, sync_in_background

EPOCH_1 = 1 << 32
EPOCH_2 = 2 << 32

_SEEDS = range(12)
_STEPS = 150
_KILLS = 20
_KILL_SECONDS = 0.15


class StorageSuite(StorageHarness):
    """Subclass it in a test file, see above."""

    # ---------------------------------------------------------------------------------------------- log
    def test_entries_come_back_in_order_and_with_their_zxids(self, storage: Storage, path: Path) -> None:
        storage.append(EPOCH_1 + 1, entries_of(EPOCH_1 + 1, EPOCH_1 + 1), EPOCH_1 + 1)
        storage.append(EPOCH_1 + 2, entries_of(EPOCH_1 + 2, EPOCH_1 + 4097), EPOCH_1 + 4097)
        storage.append(EPOCH_2 + 1, entries_of(EPOCH_2 + 1, EPOCH_2 + 3), EPOCH_2 + 3)
        due = [*range(EPOCH_1 + 1, EPOCH_1 + 4098), *range(EPOCH_2 + 1, EPOCH_2 + 4)]
        assert log_of(storage, 0) == due
        storage.sync()
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(0, 0, 0, EPOCH_2 + 3, fresh=False)
        assert log_of(storage, 0) == due
        assert storage.first_zxid() == EPOCH_1 + 1
        storage.close()

    def test_reading_starts_anywhere_and_stops_at_the_limit(self, storage: Storage) -> None:
        storage.append(1, [b"x" * 100] * 10, 10)
        storage.append(11, [b"y" * 100] * 10, 20)
        assert [zxid for zxid, _ in storage.read_log(4, 300)] == [5, 6, 7]
        assert [zxid for zxid, _ in storage.read_log(8, 400)] == [9, 10, 11, 12]
        assert [zxid for zxid, _ in storage.read_log(19, 1)] == [20]
        assert storage.read_log(20, 1000) == []
        assert storage.read_log(EPOCH_1, 1000) == []

    def test_any_bytes_are_entries(self, storage: Storage, path: Path) -> None:
        odd = [b"", b"\0", b"\xff" * 3, bytes(range(256)), b"z" * 1_000_000, b""]
        storage.append(1, odd, 6)
        storage.append(7, [b""], 7)
        storage, _ = self.reopen(storage, path)
        assert [entry for _, entry in read_all(storage, 0)] == [*odd, b""]
        storage.close()

    def test_a_batch_that_does_not_fit_is_refused(self, storage: Storage) -> None:
        storage.append(5, [b"a", b"b"], 6)
        for first, entries, last in ((6, [b"c"], 6), (1, [b"c"], 1), (7, [b"c"], 8), (7, [b"c", b"d"], 7), (7, [], 6)):
            with pytest.raises(ValueError):
                storage.append(first, entries, last)
        assert storage.read_log(0, 1000) == [(5, b"a"), (6, b"b")]
        storage.append(7, [b"c"], 7)

    def test_epochs_are_kept(self, storage: Storage, path: Path) -> None:
        storage.save_epochs(7, 6)
        storage.sync()
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(7, 6, 0, 0, fresh=False)
        storage.save_epochs(8, 8)
        storage, recovery = self.reopen(storage, path)
        assert (recovery.accepted_epoch, recovery.current_epoch) == (8, 8)
        storage.close()

    # ----------------------------------------------------------------------------------------- truncate
    @pytest.mark.parametrize("cut", range(10))
    def test_truncation_anywhere(self, storage: Storage, path: Path, cut: int) -> None:
        storage.append(1, entries_of(1, 3), 3)
        storage.append(4, entries_of(4, 4), 4)
        storage.append(5, entries_of(5, 8), 8)
        storage.sync()
        storage.truncate(cut)
        left = list(range(1, min(cut, 8) + 1))
        assert log_of(storage, 0) == left
        storage.append(EPOCH_1 + 1, entries_of(EPOCH_1 + 1, EPOCH_1 + 2), EPOCH_1 + 2)
        storage, recovery = self.reopen(storage, path)
        assert recovery.damage is None
        assert log_of(storage, 0) == [*left, EPOCH_1 + 1, EPOCH_1 + 2]
        storage.close()

    def test_truncated_zxids_can_be_written_anew(self, storage: Storage, path: Path) -> None:
        storage.append(1, [b"a", b"b", b"c"], 3)
        storage.sync()
        storage.truncate(1)
        storage.append(2, [b"B"], 2)
        storage, recovery = self.reopen(storage, path)
        assert recovery.last_zxid == 2
        assert storage.read_log(0, 1000) == [(1, b"a"), (2, b"B")]
        storage.close()

    def test_truncation_to_a_zxid_between_epochs(self, storage: Storage, path: Path) -> None:
        storage.append(EPOCH_1 + 1, entries_of(EPOCH_1 + 1, EPOCH_1 + 2), EPOCH_1 + 2)
        storage.append(EPOCH_2 + 1, entries_of(EPOCH_2 + 1, EPOCH_2 + 1), EPOCH_2 + 1)
        storage.truncate(EPOCH_1 + 9)
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(0, 0, 0, EPOCH_1 + 2, fresh=False)
        storage.close()

    def test_a_truncation_below_the_state_is_refused(self, storage: Storage) -> None:
        storage.append(1, entries_of(1, 9), 9)
        storage.write_state(5, [(b"/a", b"1")], [])
        with pytest.raises(LookupError):
            storage.truncate(4)
        assert log_of(storage, 0) == list(range(1, 10))
        storage.truncate(5)
        assert log_of(storage, 0) == [1, 2, 3, 4, 5]
        assert list(storage.read_state()) == [(b"/a", b"1")]

    # ------------------------------------------------------------------------------------------- state
    def test_state_steps(self, storage: Storage, path: Path) -> None:
        storage.append(1, entries_of(1, 9), 9)
        storage.write_state(3, [(b"/b", b"1"), (b"/a", b""), (b"", b"root"), (b"\xff\xff", b"high")], [b"/none"])
        assert list(storage.read_state()) == [(b"", b"root"), (b"/a", b""), (b"/b", b"1"), (b"\xff\xff", b"high")]
        storage.write_state(3, iter([(b"/b", b"2")]), iter([b"/a"]))
        storage.write_state(7, [(b"/c", b"3")], [b"/c"])  # deletes come after puts
        storage, recovery = self.reopen(storage, path)
        assert (recovery.state_zxid, recovery.last_zxid) == (7, 9)
        assert list(storage.read_state()) == [(b"", b"root"), (b"/b", b"2"), (b"\xff\xff", b"high")]
        assert log_of(storage, 7) == [8, 9]
        storage.close()

    def test_a_state_out_of_turn_is_refused(self, storage: Storage) -> None:
        storage.append(1, entries_of(1, 9), 9)
        storage.write_state(5, [(b"/a", b"1")], [])
        for zxid in (4, 10):
            with pytest.raises(ValueError):
                storage.write_state(zxid, [(b"/a", b"2")], [])
        assert list(storage.read_state()) == [(b"/a", b"1")]

    def test_a_large_state_streams_in_key_order(self, storage: Storage) -> None:
        storage.append(1, [b"x"], 1)
        for start in range(0, 20_000, 2000):
            storage.write_state(
                1, [(b"/n%05d" % (n * 7919 % 20_000), b"v" * 100) for n in range(start, start + 2000)], []
            )
        assert [key for key, _ in storage.read_state()] == [b"/n%05d" % n for n in range(20_000)]

    def test_a_read_of_the_state_sees_one_moment(self, storage: Storage) -> None:
        storage.append(1, [b"x"], 1)
        storage.write_state(1, [(b"/n%04d" % n, b"old") for n in range(3000)], [])
        pairs = storage.read_state()
        first = next(pairs)
        storage.write_state(1, [(b"/n%04d" % n, b"new") for n in range(3000)], [b"/n2999"])
        assert [first, *pairs] == [(b"/n%04d" % n, b"old") for n in range(3000)]

    def test_usage_is_told(self, storage: Storage) -> None:
        storage.append(1, [b"x" * 100_000], 1)
        storage.write_state(1, [(b"/a", b"x")], [])
        usage = storage.usage()
        assert isinstance(usage, DiskUsage)
        assert usage.log_bytes >= 0
        assert usage.state_bytes >= 0
        assert usage.free_bytes >= -1, "-1 stands for unknown"

    # ----------------------------------------------------------------------------------- received state
    def test_a_received_state_replaces_state_and_log(self, storage: Storage, path: Path) -> None:
        storage.append(1, entries_of(1, 9), 9)
        storage.write_state(5, [(b"/old", b"1"), (b"/both", b"1")], [])
        storage.begin_state()
        storage.stage_state([(b"/both", b"2")])
        storage.stage_state([(b"/new", b"2")])
        assert list(storage.read_state()) == [(b"/both", b"1"), (b"/old", b"1")]
        storage.commit_state(EPOCH_1 + 7)
        for _ in range(2):
            assert list(storage.read_state()) == [(b"/both", b"2"), (b"/new", b"2")]
            assert storage.read_log(EPOCH_1 + 7, 1000) == []
            assert storage.first_zxid() == 0
            with pytest.raises(LookupError):
                storage.read_log(EPOCH_1 + 6, 1000)
            storage, recovery = self.reopen(storage, path)
            assert recovery == Recovery(0, 0, EPOCH_1 + 7, EPOCH_1 + 7, fresh=False)
        with pytest.raises(ValueError):
            storage.append(EPOCH_1 + 7, [b"x"], EPOCH_1 + 7)
        storage.append(EPOCH_1 + 8, entries_of(EPOCH_1 + 8, EPOCH_1 + 8), EPOCH_1 + 8)
        assert log_of(storage, EPOCH_1 + 7) == [EPOCH_1 + 8]
        storage.close()

    def test_a_received_state_may_be_older_than_the_log(self, storage: Storage, path: Path) -> None:
        storage.append(1, entries_of(1, 9), 9)
        storage.write_state(8, [(b"/a", b"8")], [])
        storage.sync()
        storage.begin_state()
        storage.stage_state([(b"/a", b"3")])
        storage.commit_state(3)
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(0, 0, 3, 3, fresh=False)
        assert list(storage.read_state()) == [(b"/a", b"3")]
        storage.close()

    def test_an_unfinished_state_leaves_no_trace(self, storage: Storage, path: Path) -> None:
        storage.append(1, entries_of(1, 2), 2)
        storage.write_state(2, [(b"/a", b"1")], [])
        storage.begin_state()
        storage.stage_state([(b"/a", b"2"), (b"/rubbish", b"")])
        storage.begin_state()
        storage.stage_state([(b"/more", b"")])
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(0, 0, 2, 2, fresh=False)
        assert list(storage.read_state()) == [(b"/a", b"1")]
        with pytest.raises(ValueError):
            storage.stage_state([(b"/a", b"2")])
        with pytest.raises(ValueError):
            storage.commit_state(5)
        storage.begin_state()
        storage.commit_state(5)
        storage, _ = self.reopen(storage, path)
        assert list(storage.read_state()) == []
        storage.close()

    # ------------------------------------------------------------------------------------------- purge
    def test_purge_never_takes_what_recovery_needs(self, storage: Storage, path: Path) -> None:
        for zxid in range(1, 21):
            storage.append(zxid, entries_of(zxid, zxid), zxid)
        storage.write_state(10, [], [])
        storage.sync()
        storage.purge(4)
        assert set(range(5, 21)) <= set(log_of(storage, max(storage.first_zxid(), 1) - 1)), "more was purged than asked"
        storage.purge(99)
        left = log_of(storage, 10)
        assert left == list(range(11, 21))
        storage, recovery = self.reopen(storage, path)
        assert (recovery.state_zxid, recovery.last_zxid, recovery.damage) == (10, 20, None)
        assert log_of(storage, 10) == left
        first = storage.first_zxid()
        assert first > 1, "nothing was purged"
        with pytest.raises(LookupError):
            storage.read_log(first - 2, 1000)
        storage.close()

    def test_the_log_may_become_empty_and_goes_on(self, storage: Storage, path: Path) -> None:
        for zxid in range(1, 5):
            storage.append(zxid, entries_of(zxid, zxid), zxid)
        storage.write_state(4, [(b"/a", b"1")], [])
        storage.sync()
        storage.purge(4)
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(0, 0, 4, 4, fresh=False)
        with pytest.raises(ValueError):
            storage.append(4, [b"x"], 4)
        storage.append(5, entries_of(5, 5), 5)
        storage.truncate(4)
        storage.append(5, entries_of(5, 6), 6)
        storage, recovery = self.reopen(storage, path)
        assert recovery.last_zxid == 6
        assert log_of(storage, 4) == [5, 6]
        storage.close()

    # ------------------------------------------------------------------------------- life, failure, damage
    def test_close_is_idempotent_and_final(self, storage: Storage) -> None:
        storage.close()
        storage.close()
        calls: tuple[Callable[[], object], ...] = (
            lambda: storage.append(1, [b"x"], 1),
            storage.sync,
            lambda: storage.read_log(0, 10),
        )
        for call in calls:
            with pytest.raises(StorageError):
                call()
        assert storage.open().damage is None

    def test_the_second_opener_is_refused(self, storage: Storage, path: Path) -> None:
        if not self.exclusive:
            pytest.skip("not exclusive")
        storage.append(1, [b"x"], 1)
        with pytest.raises(DataDirError):
            self.make_storage(path).open()
        storage.sync()
        storage, recovery = self.reopen(storage, path)
        assert recovery.last_zxid == 1
        storage.close()

    def test_a_failure_is_for_good(self, storage: Storage) -> None:
        storage.append(1, [b"x"], 1)
        storage.sync()
        self.break_disk(storage)
        try:
            storage.append(2, [b"x"], 2)  # a storage may notice only when it syncs
        except StorageError:
            pass
        with pytest.raises(StorageError):
            storage.sync()
        calls: tuple[Callable[[], object], ...] = (
            lambda: storage.append(3, [b"x"], 3),
            lambda: storage.save_epochs(1, 1),
            lambda: storage.truncate(0),
            lambda: storage.write_state(1, [], []),
            storage.sync,
        )
        for call in calls:
            with pytest.raises(StorageError):
                call()

    def test_a_failure_in_the_background_is_for_good(self, storage: Storage) -> None:
        storage.append(1, [b"x"], 1)
        storage.sync()
        if not isinstance(storage, BackgroundSync):
            pytest.skip("it does not sync in the background")
        self.break_disk(storage)
        storage.append(2, [b"x"], 2)
        with pytest.raises(StorageError):
            assert sync_in_background(storage), "nothing was begun"
        with pytest.raises(StorageError):
            storage.append(3, [b"x"], 3)
        with pytest.raises(StorageError):
            storage.sync()

    def test_a_close_waits_for_a_sync_in_the_background(self, storage: Storage, path: Path) -> None:
        storage.append(1, [b"x"], 1)
        storage.sync()
        if not isinstance(storage, BackgroundSync):
            pytest.skip("it does not sync in the background")
        storage.append(2, [b"x" * 500_000], 2)
        wake = os.eventfd(0)
        assert storage.start_sync(wake)
        storage.append(3, [b"x"], 3)
        storage, recovery = self.reopen(storage, path)
        assert recovery.last_zxid == 3
        storage.close()
        os.close(wake)

    def test_damage_is_told_until_it_is_mended(self, storage: Storage, path: Path) -> None:
        for zxid in range(1, 9):
            storage.append(zxid, entries_of(zxid, zxid), zxid)
            storage.sync()
        storage.save_epochs(3, 2)
        storage.close()
        self.lose_end(storage, path, 5)
        storage = self.make_storage(path)
        recovery = storage.open(set_aside=True)
        assert recovery.damage
        assert recovery.last_zxid <= 5
        assert not recovery.fresh
        assert (recovery.accepted_epoch, recovery.current_epoch) == (3, 2), "an epoch that was promised is forgotten"
        storage.begin_state()
        storage.stage_state([(b"/a", b"1")])
        storage.commit_state(7)
        storage.append(8, entries_of(8, 20), 20)
        storage, recovery = self.reopen(storage, path)
        assert recovery.damage, "it is not for the storage to say that all is well"
        storage.clear_damage()
        storage, recovery = self.reopen(storage, path)
        assert recovery == Recovery(3, 2, 7, 20, fresh=False)
        storage.close()

    # ----------------------------------------------------------------------------------------- crashes
    def test_what_was_synced_survives_a_crash(self, storage: Storage, path: Path) -> None:
        rng = Random(1)
        last = 0
        for _ in range(5):
            storage.append(last + 1, entries_of(last + 1, last + 3), last + 3)
            storage.save_epochs(last + 1, last)
            storage.sync()
            last += 3
            storage.append(last + 1, entries_of(last + 1, last + 1), last + 1)
            storage, path = self.crash(storage, path, rng)
            recovery = storage.open()
            assert recovery.damage is None
            assert recovery.last_zxid in (last, last + 1)
            assert (recovery.accepted_epoch, recovery.current_epoch) == (last - 2, last - 3)
            last = recovery.last_zxid
            assert log_of(storage, 0) == list(range(1, last + 1))
        storage.close()

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_random_operations_restarts_and_crashes(self, path: Path, seed: int) -> None:
        rng = Random(seed)
        storage = self.make_storage(path)
        storage.open()
        candidates = [Model()]  # after the last sync, and after each call since
        for _ in range(_STEPS):
            dice = rng.random()
            if dice < 0.04:
                storage.close()
                candidates[-1].sync()
                storage = self.make_storage(path)
                candidates = [self._match(storage, candidates[-1:])]
            elif dice < 0.10:
                storage, path = self.crash(storage, path, rng)
                candidates = [self._match(storage, candidates)]
            else:
                op = random_op(candidates[-1], rng)
                if op[0] == "sync":
                    candidates = candidates[-1:]
                else:
                    candidates.append(candidates[-1].copy())
                perform(op, storage)
                perform(op, candidates[-1])
                if dice > 0.8:
                    differs = candidates[-1].difference(storage)
                    assert differs is None, f"after {op!r:.200}: {differs}"
        storage.close()

    def _match(self, storage: Storage, candidates: list[Model]) -> Model:
        """The model, of those allowed, that an opened storage holds."""
        recovery = storage.open()
        differences = [model.difference(storage, recovery) for model in candidates]
        assert None in differences, f"no prefix fits; synced: {differences[0]}; all: {differences[-1]}"
        # Two models can look the same by the epoch of the last of them: take the longest.
        model = candidates[len(differences) - 1 - differences[::-1].index(None)]
        model.sync()
        model.used = max(candidate.used for candidate in candidates)
        return model

    def test_syncs_beside_appends(self, storage: Storage, path: Path) -> None:
        """The event loop stages while the worker syncs: nothing gets lost between the two."""
        staged = durable = 0
        stop = threading.Event()
        errors: list[BaseException] = []

        def work() -> None:
            nonlocal durable
            try:
                while not stop.is_set():
                    covered = staged
                    storage.sync()
                    durable = covered
            except BaseException as error:
                errors.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        rng = Random(5)
        while staged < 20_000:
            count = rng.choice((1, 1, 20, 200))
            storage.append(staged + 1, entries_of(staged + 1, staged + count), staged + count)
            staged += count
            if rng.random() < 0.05:
                storage.write_state(staged - rng.randrange(5), [(b"/n%d" % staged, b"v")], [])
            if rng.random() < 0.05:
                storage.save_epochs(staged, staged)
        stop.set()
        worker.join()
        assert not errors
        storage, path = self.crash(storage, path, rng)
        recovery = storage.open()
        assert recovery.damage is None
        assert durable <= recovery.last_zxid <= staged
        assert log_of(storage, 0) == list(range(1, recovery.last_zxid + 1))
        storage.close()

    def test_kill_9(self, path: Path) -> None:
        """A process that works on the storage is killed at random moments."""
        if self.factory is None:
            pytest.skip("factory is not set")
        test = CrashTest(self.factory, path)
        rng = Random(9)
        for _ in range(_KILLS):
            child = test.start(rng.randrange(1 << 30))
            test.listen(child, rng.random() * _KILL_SECONDS)
            test.kill(child)
            test.look()
        assert test.operations > _KILLS, "the child did nothing"
