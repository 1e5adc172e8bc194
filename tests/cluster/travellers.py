"""kazoo and the Java client at work while the servers under them are replaced.

Both write sequential znodes below `BASE/seq` and a register of their own, hold an ephemeral, and wait for a change of
`BASE/quiet`. A write without an answer is counted and not judged.

Not here: what happens to the servers (`test_migration.py`).
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, KazooException, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

from tests.interop.programs import JVM_OPTIONS, build
from tests.support.servers import find_program, java_class_path

BASE = "/travel"
SESSION_SECONDS = 10.0
SOURCE = Path(__file__).parent / "java" / "Traveller.java"


@dataclass
class Journey:
    """What one client was told.

    Attributes:
        sequence: (name, value) in the order of the answers.
        register: the last acknowledged value of its register.
        unknown: writes without an answer.
        reconnects: how often it found another server.
        seen: changes of `quiet` that it was told of.
    """

    sequence: list[tuple[str, str]] = field(default_factory=list)
    register: int = 0
    unknown: int = 0
    reconnects: int = -1
    seen: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class KazooTraveller(threading.Thread):
    """One session of kazoo's."""

    def __init__(self, hosts: str) -> None:
        super().__init__(name="kazoo", daemon=True)
        self.journey = Journey()
        self.stop = threading.Event()
        self._quit = False
        self.client = KazooClient(hosts, timeout=SESSION_SECONDS, randomize_hosts=True)
        self.client.add_listener(self._state)

    def _state(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self.journey.reconnects += 1
        elif state == KazooState.LOST and not self._quit:
            self.journey.wrong.append("kazoo lost its session")

    def _changed(self, data: bytes | None, _: object) -> None:
        if data:
            self.journey.seen.append(data.decode())

    def run(self) -> None:
        try:
            self.client.start(30)
            self.client.create(f"{BASE}/kazoo-mine", ephemeral=True)
            self.client.create(f"{BASE}/kazoo-register", b"0")
            self.client.DataWatch(f"{BASE}/quiet", self._changed)
            number = 0
            while not self.stop.wait(0.002):
                number += 1
                self._write(number)
            self._arrive()
        except Exception as error:  # a thread that dies must not go unseen
            self.journey.wrong.append(f"kazoo: {error!r}")
            raise
        finally:
            self._quit = True
            self.client.stop()
            self.client.close()

    def _write(self, number: int) -> None:
        journey = self.journey
        try:
            name = self.client.create(f"{BASE}/seq/n-", f"kazoo-{number}".encode(), sequence=True)
            journey.sequence.append((name, f"kazoo-{number}"))
            self.client.set(f"{BASE}/kazoo-register", str(number).encode())
            journey.register = number
            found = int(self.client.get(f"{BASE}/kazoo-register")[0])
            if found < number:
                journey.wrong.append(f"kazoo read {found} after {number}")
        except (ConnectionLoss, KazooTimeoutError):
            journey.unknown += 1
        except SessionExpiredError:
            journey.unknown += 1  # said of a request while the connection is being made anew, too; see `_state`
        except KazooException as error:
            journey.wrong.append(f"kazoo: {error!r}")

    def _arrive(self) -> None:
        stat = self.client.retry(self.client.exists, f"{BASE}/kazoo-mine")
        session, _ = self.client.client_id
        if stat is None or stat.ephemeralOwner != session:
            self.journey.wrong.append(f"kazoo's ephemeral: {stat}")


class JavaTraveller:
    """One session of the Java client's, in a process of its own."""

    def __init__(self, hosts: str, folder: Path) -> None:
        class_path = java_class_path()
        javac = find_program("javac", "default-jdk-headless")
        folder.mkdir()
        build([javac, "-nowarn", "-d", str(folder), "-cp", class_path, str(SOURCE)])
        self.journey = Journey()
        self._errors = open(folder / "stderr", "wb")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [
                find_program("java", "default-jre-headless"),
                *JVM_OPTIONS,
                "-cp",
                f"{folder}{os.pathsep}{class_path}",
                "Traveller",
                hosts,
                BASE,
                str(int(SESSION_SECONDS * 1000)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        journey = self.journey
        done = False
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "SEQ":
                name, _, value = rest.partition(" ")
                journey.sequence.append((name, value))
            elif word == "SET":
                journey.register = int(rest)
            elif word == "UNKNOWN":
                journey.unknown += 1
            elif word == "EVENT":
                journey.seen.append(rest)
            elif word == "STATE" and rest == "SyncConnected":
                journey.reconnects += 1
            elif word == "DONE":
                owner, _, session = rest.partition(" ")
                done = True
                if owner != session:
                    journey.wrong.append(f"Java's ephemeral belongs to {owner}, its session is {session}")
            elif not (word == "STATE" and rest in ("Disconnected", "Closed")):
                journey.wrong.append(f"Java: {line.strip()}")
        if not done:
            journey.wrong.append("the Java client did not end well")

    def arrive(self) -> None:
        """Let it end, and wait for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self._reader.join(10)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                stream.close()


def judge(journeys: Mapping[str, Journey], values: Mapping[str, str], registers: Mapping[str, int]) -> list[str]:
    """What is wrong with what the clients were told.

    Args:
        values: of all znodes below `seq`, by path.
        registers: the value of each client's register.
    """
    wrong = []
    told: dict[str, str] = {}
    for who, journey in journeys.items():
        wrong += journey.wrong
        names = [name for name, _ in journey.sequence]
        if names != sorted(set(names)):
            wrong.append(f"the sequence numbers of {who} do not rise")
        for name, value in journey.sequence:
            if name in told:
                wrong.append(f"{name} was given to {told[name]} and {value}")
            told[name] = value
            if values.get(name) != value:
                wrong.append(f"{name} was acknowledged with {value}, and is {values.get(name)}")
        if registers[who] < journey.register:
            wrong.append(f"the register of {who} is {registers[who]}, but {journey.register} was acknowledged")
    known = {value for journey in journeys.values() for _, value in journey.sequence}
    extra = [value for value in values.values() if value not in known]
    unknown = sum(journey.unknown for journey in journeys.values())
    if len(extra) > unknown:
        wrong.append(f"{len(extra)} znodes are there that nobody was told of, but only {unknown} writes had no answer")
    return wrong
