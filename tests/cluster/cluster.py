"""An ensemble whose network, disks, processes and data directories can be made to fail.

Not here: which faults happen when (`nemesis.py`), what clients do (`clients.py`), what must hold (`checks.py`).
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from corekit.testing.disk_faults import DiskFaults
from tests.support.proxy import Network
from tests.support.rawzk import RawClient
from tests.support.servers import Ensemble, Server, ServerFailed

# Short ticks, so that what is decided by time is decided soon; sessions may last long all the same.
FAST: Mapping[str, object] = {
    "tickTime": 200,
    "initLimit": 50,
    "syncLimit": 10,
    "maxSessionTimeout": 30_000,
    "snapCount": 100_000,
}
SYNC_S = 2.0  # tickTime * syncLimit


class Cluster(Ensemble):
    """An ensemble with handles for faults.

    Args:
        kinds: `corekit` or `java`, one a member.
        network: all traffic between members goes through it; without one they talk directly.
        disk_library: see `corekit.testing.disk_faults.build`; without it disks do not fail.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        directory: Path,
        settings: Mapping[str, object] | None = None,
        *,
        network: Network | None = None,
        disk_library: Path | None = None,
        observers: Sequence[int] = (),
    ) -> None:
        super().__init__(kinds, directory, {**FAST, **(settings or {})}, observers=observers)
        self.network = network
        self.observers = set(observers)
        self.disks: dict[int, DiskFaults] = {}
        self.paused: set[int] = set()
        if network is not None:
            self._route(network)
        if disk_library is not None:
            for number, member in enumerate(self.members, start=1):
                disk = DiskFaults(disk_library, member.directory / "disk_faults", below=member.data_directory)
                self.disks[number] = disk
                member.env.update(disk.environment({}))

    def _route(self, network: Network) -> None:
        """Every member is told other ports for every other member."""
        real = {number: str(self.members[0].settings[f"server.{number}"]) for number in self.numbers}
        for source, member in enumerate(self.members, start=1):
            for target, value in real.items():
                if target != source:
                    host, quorum, election, *role = value.split(":")
                    ports = [network.link(source, target, int(port)) for port in (quorum, election)]
                    member.settings[f"server.{target}"] = ":".join([host, *map(str, ports), *role])

    @property
    def numbers(self) -> list[int]:
        """Member numbers."""
        return list(range(1, len(self.members) + 1))

    def member(self, number: int) -> Server:
        """Member `number`."""
        return self.members[number - 1]

    def begin(self) -> Cluster:
        """Start all members and wait until each of them grants sessions."""
        for member in self.members:
            member.spawn()
        self.wait_all()
        return self

    def wait_all(self, seconds: float = 60.0) -> None:
        """Wait until every member grants sessions."""
        deadline = time.monotonic() + seconds
        for member in self.members:
            member.wait_ready(max(1.0, deadline - time.monotonic()))

    def leader_number(self, seconds: float = 30.0) -> int:
        """The number of the member that says it leads."""
        return self.members.index(self.leader(seconds)) + 1

    def modes(self) -> dict[int, str]:
        """What each member says it is; those that are stopped or paused say nothing."""
        awake = [n for n in self.numbers if n not in self.paused and self.member(n).is_running()]
        return {n: self.mode(self.member(n)) for n in awake}

    def make_leader(self, number: int) -> None:
        """Let a member win an election: it and a minority that knows less are left, then everybody comes back."""
        self.wait_all()
        leader = self.leader_number()
        if leader == number:
            return
        others = [n for n in self.numbers if n not in (number, leader) and n not in self.observers]
        voters = len(self.numbers) - len(self.observers)
        behind = others[: voters - 1 - (voters - 1) // 2]
        for n in behind:
            self.member(n).terminate()
        self._write_something(self.member(leader))
        for n in self.numbers:
            if n != number and n not in behind:
                self.member(n).terminate()
        for n in behind:
            self.up(n)
        eventually(lambda: self.mode(self.member(number)) == "leader", f"server.{number} leads", 30)
        for n in self.numbers:
            self.up(n)
        self.wait_all()

    def _write_something(self, member: Server) -> None:
        with RawClient("127.0.0.1", member.port) as client:
            client.handshake()
            client.set("/", b"")
            client.close_session()

    # ------------------------------------------------------------------------------------------- faults
    def up(self, number: int) -> None:
        """Start a member, if it does not run, without waiting for it."""
        if not self.member(number).is_running():
            self.member(number).spawn()

    def pause(self, number: int) -> None:
        """SIGSTOP."""
        os.kill(self.member(number).pid, signal.SIGSTOP)
        self.paused.add(number)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        self.paused.discard(number)
        if self.member(number).is_running():
            os.kill(self.member(number).pid, signal.SIGCONT)

    def wipe(self, number: int) -> None:
        """Lose the data of a member that does not run; its id stays."""
        member = self.member(number)
        if member.is_running():
            raise ServerFailed(f"server.{number} runs: its data cannot be wiped")
        shutil.rmtree(member.data_directory)
        member.data_directory.mkdir()
        (member.data_directory / "myid").write_text(f"{number}\n", encoding="ascii")

    def begin_anew(self, number: int) -> None:
        """Kill a member, wipe it when all others serve, and let it get everything from them. Its log begins anew."""
        member = self.member(number)
        member.kill()
        for other in self.numbers:
            if other != number:
                self.member(other).wait_ready()
        self.wipe(number)
        member.log_path.rename(member.log_path.with_name(f"server.log.{time.monotonic_ns()}"))
        member.spawn()
        member.wait_ready()

    def turn_into(self, number: int, kind: str) -> None:
        """Stop a member in good order; it starts again as another kind of server, without data."""
        member = self.member(number)
        member.terminate()
        self.wipe(number)
        member.kind = kind
        member.spawn()
        member.wait_ready()

    def heal(self) -> None:
        """Undo every fault but lost data; does not wait."""
        if self.network is not None:
            self.network.heal()
        for disk in self.disks.values():
            disk.set()
        for number in list(self.paused):
            self.resume(number)
        for number in self.numbers:
            self.up(number)

    def kill(self) -> None:
        """SIGKILL to every member; also to those that are paused."""
        for number in list(self.paused):
            self.resume(number)
        super().kill()

    def logs(self, size: int = 20_000) -> str:
        """The end of every member's log."""
        return "\n".join(
            f"--- server.{n} ({self.member(n).kind})\n{self.member(n).log()[-size:]}" for n in self.numbers
        )


def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Poll until `condition()` is true; raises AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for: {what}")
        time.sleep(0.01)
