"""Conformance suites for consensus: what the server relies on, however the order is made.

Use: subclass `ConsensusSuite` in a test file and override `make_consensus`; pytest collects the rest.

    class TestMine(ConsensusSuite):
        def make_consensus(self) -> Consensus:
            return MyConsensus()

A consensus among several servers passes it as an ensemble of one, and also subclasses
`EnsembleSuite`, which runs several of them in a simulated network with faults.

Rules that it checks
- Order: what is proposed is logged once, unchanged, in the order of the calls.
- On a server that is alone, decided means durable there; nothing that was decided is ever missing or moved.
- `committed`, `serve` and `suspend` never come from inside `propose`; nothing comes after `stop`.
- It serves only with everything applied, with zxids that were never used, in an epoch that was saved.
- It is pure: the same calls lead to the same calls, and two objects share nothing.

Not here: how fast it elects, what it says to other servers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ClassVar

import pytest

from corekit.api import Consensus, ConsensusStatus, EnsembleConsensus
from corekit.contracts import breaches
from corekit.limits import BATCH_ENTRIES_MAX
from corekit.testing.consensus_host import LEADING, WatchfulHost, entry_of
from corekit.testing.sim.campaign import Cluster, Maker, Setup, run_seed
from corekit.testing.sim.disk import SimDisk
from corekit.testing.sim.world import MS, SECOND, World

_SEEDS = range(10)
_STEPS = 60
_NEAR_THE_END = (1 << 32) | 0xFFFFFFF0  # a zxid whose counter has room for 15 more


class ConsensusSuite:
    """One server. Subclass it in a test file, see above.

    Attributes:
        mode: the word with which a server that is alone serves; empty: any with which it leads.
        patience_ms: how long it may take until it serves.
    """

    mode: ClassVar[str] = ""
    patience_ms: ClassVar[int] = 60_000

    def make_consensus(self) -> Consensus:
        """A consensus that is not started, for a server that needs no other."""
        raise NotImplementedError("override make_consensus()")

    def host(self, disk: SimDisk | None = None) -> WatchfulHost:
        """A server on this disk (a new one by default), not started."""
        return WatchfulHost(SimDisk(Random(0)) if disk is None else disk, self.make_consensus())

    def served(self, disk: SimDisk | None = None) -> WatchfulHost:
        """A server that serves."""
        return self.host(disk).boot_and_serve(self.patience_ms)

    # ------------------------------------------------------------------------------------------- start
    def test_fulfils_the_contract(self) -> None:
        consensus = self.make_consensus()
        assert breaches(consensus, Consensus) == []
        if isinstance(consensus, EnsembleConsensus):
            assert breaches(consensus, EnsembleConsensus) == []

    def test_a_new_server_serves(self) -> None:
        host = self.served()
        assert self.mode in ("", host.serving)
        assert host.serving in LEADING, "a server that is alone must lead"

    def test_everything_in_the_log_is_decided_before_it_serves(self) -> None:
        disk = SimDisk(Random(0))
        disk.save_epochs(1, 1)
        disk.append((1 << 32) + 1, [entry_of((1 << 32) + n) for n in range(1, 11)], (1 << 32) + 10)
        disk.write_state(
            (1 << 32) + 4,
            [(((1 << 32) + n).to_bytes(8, "big"), entry_of((1 << 32) + n)) for n in range(1, 5)],
            (),
        )
        disk.sync()
        host = self.served(disk)
        assert [zxid & 0xFF for zxid, _ in host.history] == list(range(1, 11))

    def test_it_says_what_it_is(self) -> None:
        host = self.host().boot()
        assert isinstance(host.consensus.status(), ConsensusStatus), "status is asked for before clients are served too"
        host.until_served(self.patience_ms)
        status = host.consensus.status()
        assert status.mode == host.serving
        host.propose()
        host.settle()
        assert host.consensus.status().epoch == host.applied >> 32
        for key, value in status.details.items():
            assert isinstance(key, str)
            assert not key.startswith("zk_"), "keys of details come without zk_"
            assert isinstance(value, int | float | str)

    # ------------------------------------------------------------------------------------------- order
    def test_what_is_proposed_is_logged_once_in_order_and_unchanged(self) -> None:
        host = self.served()
        rng = Random(3)
        due = []
        for number in range(50):
            batch = [bytes(rng.randrange(256) for _ in range(rng.randrange(30))) for _ in range(rng.choice((1, 1, 5)))]
            first, _ = host.propose(batch)
            due += list(enumerate(batch, first))
            if number % 7 == 0:
                host.settle()
        host.settle()
        assert host.disk.read_log(0, 1 << 62) == due
        assert host.history == due

    def test_nothing_is_decided_before_it_is_durable(self) -> None:
        host = self.served()
        before = host.applied
        host.propose(count=3)
        for _ in range(20):
            host.later(10)
        assert host.applied == before
        assert host.serving, "a slow disk is no reason to stop serving"

    def test_what_is_durable_is_decided(self) -> None:
        host = self.served()
        _, last = host.propose(count=3)
        host.sync()
        assert host.applied == last

    def test_a_sync_decides_what_it_covers_and_nothing_else(self) -> None:
        host = self.served()
        _, covered = host.propose(count=2)
        host.begin_sync()
        _, later = host.propose(count=2)
        host.end_sync()
        assert host.applied == covered
        host.settle()
        assert host.applied == later

    @pytest.mark.parametrize("one_by_one", [True, False])
    def test_one_answer_may_cover_several_batches(self, one_by_one: bool) -> None:
        host = self.served()
        for _ in range(5):
            _, last = host.propose(count=2)
        host.begin_sync()
        host.end_sync(one_by_one=one_by_one)
        assert host.applied == last
        assert len(host.history) == 10

    def test_a_full_batch_is_taken(self) -> None:
        host = self.served()
        for _ in range(3):
            _, last = host.propose(count=BATCH_ENTRIES_MAX)
        host.settle()
        assert host.applied == last

    def test_the_counter_of_the_zxid_never_runs_over(self) -> None:
        """Close to its end a new epoch begins, without losing anything."""
        disk = SimDisk(Random(0))
        disk.save_epochs(1, 1)
        disk.append(_NEAR_THE_END, [entry_of(_NEAR_THE_END)], _NEAR_THE_END)
        disk.sync()
        host = self.served(disk)
        proposed = [_NEAR_THE_END]
        for number in range(40):
            if not host.serving:
                host.until_served(self.patience_ms)
            proposed.append(host.propose()[0])
            if number % 3 == 0:
                host.settle()
        host.settle()
        assert proposed[-1] >> 32 > 1
        assert proposed == sorted(set(proposed))
        assert [zxid for zxid, _ in host.history] == proposed

    # -------------------------------------------------------------------------------------------- time
    def test_time_alone_changes_nothing(self) -> None:
        host = self.served()
        host.propose()
        host.settle()
        entries, epochs = len(host.history), (host.disk.volatile.accepted, host.disk.volatile.current)
        for _ in range(600):
            host.later(100)
            host.settle()
        assert host.serving, "a healthy server that nobody disturbs goes on serving"
        assert len(host.history) == entries
        assert (host.disk.volatile.accepted, host.disk.volatile.current) == epochs

    def test_it_asks_to_be_woken_later_only(self) -> None:
        """A `wake_at` that stays in the past would make the server spin."""
        host = self.served()
        spins = 0
        for _ in range(100):
            wake = host.consensus.wake_at
            assert isinstance(wake, int)
            if wake - host.now_ms > 3_600_000:
                return
            spins = spins + 1 if wake <= host.now_ms else 0
            assert spins < 3, "wake_at stays in the past after tick"
            host.later(max(0, wake - host.now_ms))
            host.settle()

    def test_the_same_moment_may_come_twice(self) -> None:
        host = self.served()
        _, last = host.propose()
        for _ in range(5):
            host.later(0)
        host.settle()
        host.later(0)
        assert host.applied == last

    # --------------------------------------------------------------------------------- restart, crashes
    def test_a_restart_goes_on_where_it_was(self) -> None:
        host = self.served()
        for _ in range(3):
            host.propose(count=4)
            host.settle()
        before = host.history
        host.stop()
        again = self.served(host.disk)
        assert again.history == before
        _, last = again.propose()
        again.settle()
        assert again.applied == last
        assert again.history[: len(before)] == before

    def test_an_epoch_never_falls(self) -> None:
        disk = SimDisk(Random(0))
        disk.save_epochs(7, 7)
        disk.append((7 << 32) + 1, [entry_of((7 << 32) + 1)], (7 << 32) + 1)
        disk.sync()
        host = self.served(disk)
        first, _ = host.propose()
        assert first >> 32 >= 7
        assert host.disk.volatile.accepted >= 7
        assert host.disk.volatile.current >= 7

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_nothing_decided_is_lost_in_crashes(self, seed: int) -> None:
        """What was applied is there again after every crash, in its place; what was not is there as a prefix or not."""
        rng = Random(seed)
        host = self.served(SimDisk(Random(seed)))
        decided: list[tuple[int, bytes]] = []
        staged: list[tuple[int, bytes]] = []
        for step in range(_STEPS):
            dice = rng.random()
            if dice < 0.5:
                if not host.serving:
                    host.until_served(self.patience_ms)
                at = len(host.tail)
                host.propose([b"%d/%d" % (step, n) for n in range(rng.choice((1, 1, 3, 20)))])
                staged += list(host.tail)[at:]
            elif dice < 0.75:
                host.sync()
            elif dice < 0.85:
                host.later(rng.choice((1, 50, 2000)))
            elif dice < 0.9:
                host.write_state()
            else:
                decided = host.history
                if rng.random() < 0.3:
                    host.stop()
                    decided = [*decided, *host.tail]
                else:
                    host.crash()
                host = self.served(host.disk)
                assert host.history[: len(decided)] == decided, "what was decided is missing or has moved"
                survived = host.history[len(decided) :]
                unsure = [pair for pair in staged if pair not in decided]
                assert survived == unsure[: len(survived)], "what was not decided survived otherwise than as a prefix"
                staged = []
        host.settle()
        assert not host.tail

    # -------------------------------------------------------------------------------------- stop, purity
    def test_stopping_decides_nothing(self) -> None:
        host = self.served()
        host.propose(count=2)
        host.stop()
        assert len(host.tail) == 2
        assert len(self.served(host.disk).history) == 2

    def test_it_can_be_stopped_before_it_serves(self) -> None:
        host = self.host().boot()
        host.stop()
        self.served(host.disk)

    def test_the_same_calls_lead_to_the_same_calls(self) -> None:
        calls = []
        for _ in range(2):
            host = self.served()
            rng = Random(7)
            for _ in range(60):
                act = rng.choice((host.propose, host.sync, lambda at=host: at.later(50)))
                act()
            calls.append(host.calls)
        assert calls[0] == calls[1]

    def test_two_servers_share_nothing(self) -> None:
        one, two = self.served(), self.host()
        one.propose(count=3)
        two.boot_and_serve(self.patience_ms)
        one.propose(count=2)
        two.propose(count=1)
        one.settle()
        two.settle()
        assert (len(one.history), len(two.history)) == (5, 1)


class EnsembleSuite:
    """Several servers in a simulated network (`corekit.testing.sim`). Subclass it and override `maker`.

    Server N listens on host `nN`, ports 2888 and 3888; a setting `rollover_at` of 0 means the usual one.

    Attributes:
        servers: how many vote.
        seeds: of the runs with faults.
        seconds: of simulated time with faults, in each run.
    """

    servers: ClassVar[int] = 3
    seeds: ClassVar[int] = 3
    seconds: ClassVar[float] = 10

    def maker(self, setup: Setup) -> Callable[[int, Random, bool], EnsembleConsensus]:
        """Makes the consensus of a server from (its number, a generator, whether this is its first start)."""
        raise NotImplementedError("override maker()")

    def cluster(self, seed: int = 1) -> Cluster:
        """An ensemble without faults, booted."""
        setup = Setup(self.servers, 0, 500, 0, True)
        cluster = Cluster(World(seed), setup, self.maker(setup))
        cluster.boot()
        return cluster

    def _come_together(self, cluster: Cluster, sids: set[int]) -> None:
        cluster.world.run(cluster.world.now + 60 * SECOND, lambda: cluster.settled(sids))
        assert cluster.settled(sids), f"{sorted(sids)} do not elect a leader within a minute"

    def _work(self, cluster: Cluster, ms: int) -> None:
        cluster.world.run(cluster.world.now + ms * MS)

    def test_an_ensemble_comes_together(self) -> None:
        cluster = self.cluster()
        self._come_together(cluster, set(range(1, self.servers + 1)))

    def test_everybody_applies_the_same(self) -> None:
        cluster = self.cluster()
        everybody = set(range(1, self.servers + 1))
        self._come_together(cluster, everybody)
        cluster.add_clients(3, keys=5)
        self._work(cluster, 3000)
        for client in cluster.clients:
            client.stopped = True
        self._come_together(cluster, everybody)
        states = {(node.replica.applied, node.replica.digest) for node in cluster.nodes}
        assert len(states) == 1
        assert states.pop()[0] & 0xFFFFFFFF > 3, "nothing was written"

    def test_the_loss_of_the_leader_is_survived(self) -> None:
        cluster = self.cluster()
        everybody = set(range(1, self.servers + 1))
        self._come_together(cluster, everybody)
        cluster.add_clients(2, keys=3)
        for _ in range(2):
            self._work(cluster, 1000)
            leader = cluster.leader()
            assert leader is not None
            leader.crash(power=False)
            cluster.world.run(cluster.world.now + 60 * SECOND, lambda: cluster.leader() is not None)
            assert cluster.leader() is not None, "the others elect nobody"
            leader.boot()
        for client in cluster.clients:
            client.stopped = True
        self._come_together(cluster, everybody)
        assert len({node.replica.digest for node in cluster.nodes}) == 1

    def test_a_minority_serves_nobody(self) -> None:
        cluster = self.cluster()
        everybody = set(range(1, self.servers + 1))
        self._come_together(cluster, everybody)
        for node in cluster.nodes[: self.servers // 2 + 1]:
            node.crash(power=True)
        self._work(cluster, 60_000)
        assert [node.serving for node in cluster.nodes if node.up and node.serving in LEADING] == []

    def test_faults_violate_nothing(self) -> None:
        maker: Maker = self.maker
        for seed in range(1, self.seeds + 1):
            result = run_seed(seed, maker, seconds=self.seconds, servers=self.servers)
            assert result.ok, result.report()
