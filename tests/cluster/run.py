"""One run: clients at work, faults in rounds, and everything checked at the end and between."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.cluster import checks
from tests.cluster.clients import Book, Expired, Holder, Inspector, Reader, Session, Writer, get_body
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.nemesis import Nemesis
from tests.support.rawzk import CREATE, GET_DATA, RawError, create_body

PROGRESS_SECONDS = 20.0  # after a round every writer must get on within this


@dataclass
class Figures:
    """What a run came to."""

    rounds: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    reads: int = 0
    looks: int = 0
    sessions: int = 0
    sessions_lost: int = 0
    wiped: list[int] = field(default_factory=list)  # Java members with a hole in their log, that began anew
    spoiled: list[int] = field(default_factory=list)  # Java members that met bugs of theirs since
    left_out: list[int] = field(default_factory=list)  # and have a wrong history since
    gaps_ms: list[int] = field(default_factory=list)  # from the end of a round to the next write of every writer

    def __str__(self) -> str:
        slowest = max(self.gaps_ms, default=0)
        done = " ".join(f"{name}={count}" for name, count in sorted(self.faults.items()))
        return (
            f"rounds={self.rounds} acknowledged={self.acknowledged} reads={self.reads} looks={self.looks} "
            f"sessions={self.sessions} expired={self.sessions_lost} slowest_recovery_ms={slowest} "
            f"wiped={self.wiped} spoiled={self.spoiled} left_out={self.left_out} faults: {done}"
        )


class Run:
    """Clients and faults on one cluster.

    Args:
        sync_is_quorum: `sync` and a read show everything acknowledged before, whatever the faults. True of corekit's
            leaders, not of Apache ZooKeeper's (ZOOKEEPER-1675).
    """

    def __init__(self, cluster: Cluster, seed: int, faults: Sequence[str], sync_is_quorum: bool = True) -> None:
        self.cluster = cluster
        self.seed = seed
        self.book = Book(count_on=any(member.kind == "java" for member in cluster.members))
        self.stop = threading.Event()
        self.nemesis = Nemesis(cluster, seed, faults)
        random = Random(seed)
        ports = [member.port for member in cluster.members]
        self._prepare(ports, random)
        self.writers = [Writer(n, ports, random.randrange(1 << 30), self.book, self.stop) for n in range(3)]
        self.holders = [Holder(n, ports, random.randrange(1 << 30), self.book, self.stop) for n in range(3)]
        self.readers = [
            Reader(n, ports, random.randrange(1 << 30), self.book, self.stop, sync_is_quorum) for n in range(2)
        ]
        self.inspectors = [Inspector(ports, random.randrange(1 << 30), self.book, self.stop)] if sync_is_quorum else []
        self.figures = Figures()

    def _prepare(self, ports: Sequence[int], random: Random) -> None:
        session = Session(ports, 10.0, random, self.book, self.stop, "setup")
        paths = ["/c", "/c/n", "/c/s", "/c/e", *(f"/c/r{n}" for n in range(3))]
        while True:  # the first leader may still change
            replies = session.batch([(CREATE, create_body(path)) for path in paths])
            if len(replies) == len(paths) and all(reply.err in (0, -110) for reply in replies):
                break
        session.batch([(-11, b"")])
        session.drop()

    def go(self, rounds: int, check_every: int = 10) -> Figures:
        """Run; raises AssertionError with the seed, what is wrong, and what was done."""
        threads = [*self.writers, *self.holders, *self.readers, *self.inspectors]
        try:
            for thread in threads:
                thread.start()
            for number in range(1, rounds + 1):
                self.nemesis.round()
                self._wipe_spoiled()
                self._progress()
                self.figures.rounds = number
                if number % check_every == 0:
                    self._assert(self.book.wrong)
            self.cluster.wait_all()
            self.stop.set()
            for thread in threads:
                thread.join(30)
            self._assert([f"{thread.name} hangs" for thread in threads if thread.is_alive()])
            self._finish()
        except (AssertionError, RawError, OSError, RuntimeError) as error:
            self.stop.set()
            raise AssertionError(f"{error}\n{self._circumstances()}") from error
        finally:
            for thread in [*self.writers, *self.holders, *self.readers]:
                if thread.is_alive():
                    thread.join(10)
                if thread.session is not None:
                    thread.session.drop()
        return self._summary()

    def _progress(self) -> None:
        began = time.monotonic()
        before = [writer.session.seen for writer in self.writers]
        eventually(
            lambda: all(
                writer.session.seen > seen or self.book.wrong for writer, seen in zip(self.writers, before, strict=True)
            ),
            f"every writer gets on after round {self.figures.rounds + 1}",
            PROGRESS_SECONDS,
        )
        self.figures.gaps_ms.append(round((time.monotonic() - began) * 1000))

    def _wipe_spoiled(self) -> None:
        """What docs/ensembles.md tells operators to do with a Java member that has a hole in its log."""
        for number in checks.holed(self.cluster):
            self.nemesis.note(f"  server.{number} has a hole in its log: wiped")
            self.cluster.begin_anew(number)
            self.figures.wiped.append(number)

    def _finish(self) -> None:
        """Everything is well again: let the dead die, then compare all servers."""
        living = [holder for holder in self.holders if self._keep(holder)]
        over = threading.Event()
        keepers = [threading.Thread(target=self._keep_until, args=(holder, over), daemon=True) for holder in living]
        for keeper in keepers:
            keeper.start()
        try:
            lives = [holder.life for holder in living]
            held = {path for life in lives for path in life.tried}
            eventually(lambda: checks.ephemerals_now(self.cluster) <= held, "the ephemerals of the dead go", 60)
            found = checks.dumps(self.cluster)
        finally:
            over.set()
            for keeper in keepers:
                keeper.join(30)
        self.figures.spoiled = checks.spoiled(self.cluster)
        wrong, self.figures.left_out = checks.compare(self.cluster, found)
        for number in self.figures.left_out:
            del found[number]
        for number in found:
            wrong += checks.ephemerals(self.book.lives, found[number], lives)
        self._assert(wrong + checks.history(self.book, next(iter(found.values()))))

    def _keep(self, holder: Holder) -> bool:
        """Take up a holder's session once more, if it had one that it did not mean to end."""
        life, session = holder.life, holder.session
        if session is None or life.ended or life.gone:
            return False
        session.stop = threading.Event()
        try:
            return bool(session.batch([(GET_DATA, get_body("/c/e"))]))
        except Expired:
            life.gone = True
            return False

    def _keep_until(self, holder: Holder, over: threading.Event) -> None:
        while not over.wait(0.3):
            if not self._keep(holder):
                self.book.wrong.append(f"{holder.name} could not keep its session")

    def _assert(self, wrong: Sequence[str]) -> None:
        if wrong:
            raise AssertionError("\n".join(wrong[:20]))

    def _summary(self) -> Figures:
        figures = self.figures
        figures.faults = dict(self.nemesis.done)
        figures.acknowledged = self.book.acknowledged
        figures.reads = self.book.reads
        figures.looks = self.book.checked
        figures.sessions = len(self.book.lives)
        figures.sessions_lost = self.book.sessions_lost
        return figures

    def _circumstances(self) -> str:
        diary = "\n".join(self.nemesis.diary[-200:])
        return f"seed {self.seed}, {self._summary()}\n{diary}\n{self.cluster.logs()}"
