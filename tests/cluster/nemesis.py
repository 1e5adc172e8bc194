"""Faults in random order, from a seed.

A fault is a method of `Nemesis` that does something and returns what ends it; `heal` ends everything. Faults of one
round may overlap. Not here: what clients see meanwhile.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from tests.cluster.cluster import Cluster, eventually

Fault = Callable[["Nemesis"], None]


class Nemesis:
    """Does harm to a cluster.

    Args:
        faults: names of methods that may be drawn.

    Attributes:
        done: how often each fault was done.
        diary: what was done when, to be printed with a failure.
    """

    def __init__(self, cluster: Cluster, seed: int, faults: Sequence[str]) -> None:
        self.cluster = cluster
        self.random = Random(seed)
        self.faults = list(faults)
        self.done: Counter[str] = Counter()
        self.diary: list[str] = []
        self._bag: list[str] = []
        self._began = time.monotonic()

    def round(self) -> None:
        """One or two faults, some time, and all is well again (at least nothing is done to the contrary)."""
        for name in self._draw(2 if self.random.random() < 0.3 else 1):
            self.note(name)
            self.done[name] += 1
            getattr(self, name)()
            time.sleep(self.random.uniform(0.0, 0.3))
        time.sleep(self.random.choice([0.05, 0.3, 1.0, 2.5, 4.0]) * self.random.uniform(0.5, 1.2))
        self.cluster.heal()
        self.note("healed")

    def _draw(self, count: int) -> list[str]:
        """The next faults: in random order, and each one before any comes again."""
        drawn = []
        for _ in range(count):
            self._bag = self._bag or self.random.sample(self.faults, len(self.faults))
            drawn.append(self._bag.pop())
        return drawn

    def note(self, text: str) -> None:
        """Write into the diary."""
        self.diary.append(f"{time.monotonic() - self._began:8.3f} {text}")

    def _pick(self, role: str) -> int:
        """A member that runs: the leader, another, or any."""
        modes = self.cluster.modes()
        leaders = [n for n, mode in modes.items() if mode == "leader"]
        others = [n for n in modes if n not in leaders]
        chosen = {"leader": leaders, "other": others, "any": list(modes)}[role] or list(modes) or self.cluster.numbers
        number = self.random.choice(chosen)
        self.note(f"  server.{number} ({modes.get(number, 'not running')})")
        return number

    def _minority(self) -> list[int]:
        voters = [n for n in self.cluster.numbers if n not in self.cluster.observers]
        return self.random.sample(voters, self.random.randint(1, (len(voters) - 1) // 2))

    # ---------------------------------------------------------------------------------------- processes
    def kill_leader(self) -> None:
        """SIGKILL."""
        self.cluster.member(self._pick("leader")).kill()

    def kill_follower(self) -> None:
        """SIGKILL."""
        self.cluster.member(self._pick("other")).kill()

    def kill_minority(self) -> None:
        """SIGKILL to as many as the ensemble can bear at most, at once."""
        for number in self._minority():
            self.note(f"  server.{number}")
            self.cluster.member(number).kill()

    def kill_all(self) -> None:
        """SIGKILL to every member; they come back one after the other."""
        for number in self.random.sample(self.cluster.numbers, len(self.cluster.numbers)):
            if self.cluster.member(number).is_running():
                os.kill(self.cluster.member(number).pid, signal.SIGKILL)
        for member in self.cluster.members:
            member.kill()
        for number in self.random.sample(self.cluster.numbers, len(self.cluster.numbers)):
            time.sleep(self.random.uniform(0.0, 0.4))
            self.cluster.up(number)

    def kill_and_return(self) -> None:
        """A member is killed again and again while it starts, joins and catches up."""
        number = self._pick("any")
        for _ in range(self.random.randint(2, 4)):
            self.cluster.member(number).kill()
            self.cluster.up(number)
            time.sleep(self.random.uniform(0.0, 0.9))
        self.cluster.member(number).kill()

    def stop_leader(self) -> None:
        """SIGTERM."""
        number = self._pick("leader")
        self.cluster.resume(number)
        if self.cluster.member(number).is_running():
            self.cluster.member(number).terminate()

    def wipe_one(self) -> None:
        """A member loses its data. Only while all others have theirs, and until it has everything again."""
        self.cluster.heal()
        self.cluster.wait_all()
        number = self._pick("any")
        self.cluster.member(number).kill()
        self.cluster.wipe(number)
        time.sleep(self.random.uniform(0.0, 0.5))
        self.cluster.up(number)
        self.cluster.member(number).wait_ready()

    def pause_leader(self) -> None:
        """SIGSTOP until the end of the round."""
        self.cluster.pause(self._pick("leader"))

    def pause_follower(self) -> None:
        """SIGSTOP until the end of the round."""
        self.cluster.pause(self._pick("other"))

    def pause_all(self) -> None:
        """Everybody stands still for a while, as when a virtual machine host does."""
        for number in self.cluster.numbers:
            if self.cluster.member(number).is_running():
                self.cluster.pause(number)

    # ------------------------------------------------------------------------------------------ network
    def _rest(self, group: Sequence[int]) -> set[int]:
        return set(self.cluster.numbers) - set(group)

    def isolate_leader(self) -> None:
        """Nothing to and from the leader."""
        number = self._pick("leader")
        assert self.cluster.network is not None
        self.cluster.network.partition({number}, self._rest([number]))

    def isolate_follower(self) -> None:
        """Nothing to and from one other."""
        number = self._pick("other")
        assert self.cluster.network is not None
        self.cluster.network.partition({number}, self._rest([number]))

    def split(self) -> None:
        """A minority on the other side."""
        group = self._minority()
        self.note(f"  {group}")
        assert self.cluster.network is not None
        self.cluster.network.partition(set(group), self._rest(group))

    def deaf_leader(self) -> None:
        """The leader is heard, but hears nobody."""
        number = self._pick("leader")
        assert self.cluster.network is not None
        self.cluster.network.partition(self._rest([number]), {number}, both_ways=False)

    def mute_leader(self) -> None:
        """The leader hears all, but nobody hears it."""
        number = self._pick("leader")
        assert self.cluster.network is not None
        self.cluster.network.partition({number}, self._rest([number]), both_ways=False)

    def cut_pair(self) -> None:
        """Two members do not reach each other; all others reach both."""
        one, other = self.random.sample(self.cluster.numbers, 2)
        self.note(f"  {one} and {other}")
        assert self.cluster.network is not None
        self.cluster.network.partition({one}, {other}, both_ways=self.random.random() < 0.5)

    def refuse_pair(self) -> None:
        """Connections between two members are reset."""
        one, other = self.random.sample(self.cluster.numbers, 2)
        self.note(f"  {one} and {other}")
        assert self.cluster.network is not None
        self.cluster.network.refuse(one, other)
        self.cluster.network.refuse(other, one)

    def flap(self) -> None:
        """The leader's links come and go."""
        number = self._pick("leader")
        network = self.cluster.network
        assert network is not None
        for _ in range(self.random.randint(3, 8)):
            network.partition({number}, self._rest([number]))
            time.sleep(self.random.uniform(0.02, 0.6))
            network.heal()
            time.sleep(self.random.uniform(0.02, 0.4))

    def reset_links(self) -> None:
        """All links of one member are reset once or several times."""
        number = self._pick("any")
        network = self.cluster.network
        assert network is not None
        for _ in range(self.random.randint(1, 4)):
            for other in self._rest([number]):
                network.reset(number, other)
            time.sleep(self.random.uniform(0.0, 0.3))

    def half_open(self) -> None:
        """One member loses its links, and the others do not notice."""
        number = self._pick("any")
        assert self.cluster.network is not None
        for other in self._rest([number]):
            self.cluster.network.half_open(other, number)

    def slow_network(self) -> None:
        """Every message takes some time."""
        assert self.cluster.network is not None
        for one in self.cluster.numbers:
            for other in self._rest([one]):
                self.cluster.network.delay(one, other, self.random.uniform(1, 80))

    # --------------------------------------------------------------------------------------------- disk
    def slow_disk_leader(self) -> None:
        """Every sync of the leader takes long."""
        self._slow_disk([self._pick("leader")])

    def slow_disk_follower(self) -> None:
        """Every sync of one other takes long."""
        self._slow_disk([self._pick("other")])

    def slow_disks(self) -> None:
        """Every sync takes some time."""
        for number in self.cluster.numbers:
            self.cluster.disks[number].set(fsync_delay_ms=self.random.randint(5, 60))

    def _slow_disk(self, numbers: Sequence[int]) -> None:
        delay = self.random.choice([20, 100, 500, 1500])
        self.note(f"  {delay} ms a sync")
        for number in numbers:
            self.cluster.disks[number].set(fsync_delay_ms=delay)

    def broken_disk(self) -> None:
        """A sync fails: the process must stop, with the exit code that says so."""
        number = self._pick("any")
        member = self.cluster.member(number)
        if not member.is_running():
            return
        self.cluster.disks[number].set(fsync_errno=5)
        eventually(lambda: not member.is_running(), f"server.{number} stops when its disk fails", 30)
        assert member.process is not None
        assert member.process.returncode == 20, f"exit code {member.process.returncode}\n{member.log()[-2000:]}"
        self.cluster.disks[number].set()


PROCESSES = (
    "kill_leader", "kill_follower", "kill_minority", "kill_all", "kill_and_return", "stop_leader", "pause_leader",
    "pause_follower", "pause_all",
)  # fmt: skip
NETWORK = (
    "isolate_leader", "isolate_follower", "split", "deaf_leader", "mute_leader", "cut_pair", "refuse_pair", "flap",
    "reset_links", "half_open", "slow_network",
)  # fmt: skip
DISK = ("slow_disk_leader", "slow_disk_follower", "slow_disks", "broken_disk", "wipe_one")
