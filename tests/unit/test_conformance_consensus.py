"""The conformance suites for consensus: ours pass them, and each kind of broken one is caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest
from corekit_zab.conformance import TestAlone, TestAmongThree
from corekit_zab.engine import Zab
from corekit_zab.simulated import make as zab

from corekit.api import Consensus, ConsensusHost, ConsensusStatus, EnsembleConsensus, Recovery
from corekit.builtin.solo import SoloConsensus
from corekit.testing.consensus import ConsensusSuite, EnsembleSuite
from corekit.testing.sim.campaign import Setup

__all__ = ["TestAlone", "TestAmongThree"]


class TestSolo(ConsensusSuite):
    mode = "standalone"

    def make_consensus(self) -> Consensus:
        return SoloConsensus()


# ------------------------------------------------------------------------------------- what is broken
class Hasty(SoloConsensus):
    """Decides before it is durable."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        super().propose(first_zxid, entries, last_zxid)
        self._host.committed(last_zxid)


class Impatient(SoloConsensus):
    """Decides when time passes, whatever the disk says."""

    def tick(self, now_ms: int) -> None:
        self._host.committed(self._last)


class Deaf(SoloConsensus):
    """Takes one answer for one batch."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        self.batches: list[int] = []
        super().start(host, recovery, now_ms)

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self.batches.append(last_zxid)
        super().propose(first_zxid, entries, last_zxid)

    def persisted(self, upto_zxid: int) -> None:
        self._host.committed(self.batches.pop(0))


class Retouching(SoloConsensus):
    """Changes what it logs."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        super().propose(first_zxid, [entry + b"\0" for entry in entries], last_zxid)


class Dropping(SoloConsensus):
    """Forgets a batch now and then."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        if len(entries) != 2:
            super().propose(first_zxid, entries, last_zxid)


class Early(SoloConsensus):
    """Serves before the log is applied."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        self._host, self._last = host, recovery.last_zxid
        host.serve("standalone", recovery.last_zxid + 1)
        host.committed(recovery.last_zxid)


class Reusing(SoloConsensus):
    """Uses the last zxid again."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        self._host, self._last = host, max(recovery.last_zxid - 1, 0)
        host.committed(recovery.last_zxid)
        host.serve("standalone", max(recovery.last_zxid, 1))


class Overflowing(SoloConsensus):
    """Never begins a new epoch."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        self._last = last_zxid
        self._host.persist(first_zxid, entries, last_zxid)


class Forgetful(SoloConsensus):
    """Begins a new epoch without saving it."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        self._host = host
        self._last = (recovery.current_epoch + 1) << 32
        host.committed(recovery.last_zxid)
        host.serve("standalone", self._last + 1)


class Amnesiac(SoloConsensus):
    """Begins with epoch 1 each time."""

    def start(self, host: ConsensusHost, recovery: Recovery, now_ms: int) -> None:
        host.save_epochs(1, 1)
        super().start(host, recovery, now_ms)


class Spinning(SoloConsensus):
    """Wants to be woken all the time."""

    wake_at = 0


class Restless(SoloConsensus):
    """Leaves and comes back although nothing happened."""

    def tick(self, now_ms: int) -> None:
        if now_ms % 5000 == 0:
            self._host.suspend("bored")


class Talkative(SoloConsensus):
    """Decides on its way out."""

    def stop(self) -> None:
        self._host.committed(self._last)


class Mislabelled(SoloConsensus):
    """Says something else than what it serves as."""

    def status(self) -> ConsensusStatus:
        return ConsensusStatus("primary", self._last >> 32)


class Sharing(SoloConsensus):
    """Keeps its state in the class."""

    last = 0

    @property
    def _last(self) -> int:
        return Sharing.last

    @_last.setter
    def _last(self, value: int) -> None:
        Sharing.last = value


class Moody(SoloConsensus):
    """Does not do the same twice."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Moody.made += 1
        self._odd = Moody.made % 2

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        super().propose(first_zxid, entries, last_zxid)
        if self._odd:
            self._host.save_epochs(0, 0)


class Partial(SoloConsensus):
    """Has no `tick`."""

    tick = None


BROKEN = [
    (Hasty, "test_what_is_durable_is_decided", "inside propose"),
    (Impatient, "test_nothing_is_decided_before_it_is_durable", "is durable, and there is no other server"),
    (Deaf, "test_one_answer_may_cover_several_batches", None),
    (Retouching, "test_what_is_proposed_is_logged_once_in_order_and_unchanged", "not what was proposed"),
    (Dropping, "test_a_sync_decides_what_it_covers_and_nothing_else", "did not persist"),
    (Early, "test_everything_in_the_log_is_decided_before_it_serves", "not decided"),
    (Reusing, "test_a_restart_goes_on_where_it_was", "was used before"),
    (Overflowing, "test_the_counter_of_the_zxid_never_runs_over", "ran over into the epoch"),
    (Forgetful, "test_a_new_server_serves", "is not saved"),
    (Amnesiac, "test_an_epoch_never_falls", "falls from 7 to 1"),
    (Spinning, "test_it_asks_to_be_woken_later_only", "stays in the past"),
    (Restless, "test_time_alone_changes_nothing", "goes on serving"),
    (Talkative, "test_stopping_decides_nothing", "is durable, and there is no other server"),
    (Mislabelled, "test_it_says_what_it_is", "primary"),
    (Sharing, "test_two_servers_share_nothing", "consecutive"),
    (Moody, "test_the_same_calls_lead_to_the_same_calls", None),
    (Partial, "test_fulfils_the_contract", "tick is not a method"),
]


@pytest.mark.parametrize(("broken", "caught_by", "words"), BROKEN, ids=[broken.__name__ for broken, _, _ in BROKEN])
def test_what_is_broken_is_caught(broken: type[SoloConsensus], caught_by: str, words: str | None) -> None:
    suite = ConsensusSuite()
    suite.make_consensus = broken
    test = getattr(suite, caught_by)
    arguments = {"one_by_one": False} if caught_by == "test_one_answer_may_cover_several_batches" else {}
    with pytest.raises(AssertionError, match=words):
        test(**arguments)


def test_a_decision_too_early_is_lost_in_a_crash_and_found() -> None:
    """The seeds do find it, not only the rule of the host."""

    class Unwatched(ConsensusSuite):
        def make_consensus(self) -> Consensus:
            return Impatient()

    caught = 0
    for seed in range(5):
        try:
            Unwatched().test_nothing_decided_is_lost_in_crashes(seed)
        except AssertionError:
            caught += 1
    assert caught == 5


class Deposed(Zab):
    """A leader that decides alone."""

    def propose(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        super().propose(first_zxid, entries, last_zxid)
        self.host.committed(last_zxid)


def test_a_leader_that_decides_alone_is_caught() -> None:
    class Alone(EnsembleSuite):
        def maker(self, setup: Setup) -> Callable[[int, Random, bool], EnsembleConsensus]:
            return zab(setup, Deposed)

    with pytest.raises(AssertionError):
        Alone().test_everybody_applies_the_same()
    with pytest.raises(AssertionError):
        Alone().test_faults_violate_nothing()
