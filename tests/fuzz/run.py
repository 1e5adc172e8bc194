"""Throws inputs at a server while a canary session works on, and looks at what must hold after every round.

After each round: the process lives and grants sessions, the canary's session was never disturbed and its replies were
right, memory is within its bound, no socket is left over; then the server is killed and started again, and its tree is
what it was (no input made a transaction that cannot be replayed).
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.differential.requests import SUPER_ID
from tests.fuzz.inputs import PATH, Input, Inputs
from tests.support import rawzk
from tests.support.rawzk import Closed, RawClient, RawError, frame, int32, text
from tests.support.servers import Server

POOL = 12
SLOW_AT_ONCE = 24
ANSWER_SECONDS = 30.0
TREE_NODES_MAX = 3000
SOCKET_SECONDS = 20.0
RESTART_EVERY = 10_000
RSS_GROWTH_MB = 250.0
SETTINGS: dict[str, object] = {
    "tickTime": 500,
    "maxSessionTimeout": 10_000,
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.enforceQuota": "true",
    "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_ID,
    "znode.container.checkIntervalMs": 100_000_000,
}
_PING = frame(int32(rawzk.XID_PING) + int32(rawzk.PING))
_PING_XID = int32(rawzk.XID_PING)
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Figures:
    """What a run did."""

    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    canary_calls: int = 0
    canary_slowest_ms: float = 0.0
    rss_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def __str__(self) -> str:
        worst = ", ".join(f"{ms:.0f} ms {kind}" for ms, kind in sorted(self.slowest, reverse=True)[:3])
        return (
            f"{self.inputs} inputs in {self.seconds:.0f} s ({self.inputs / max(self.seconds, 0.001):.0f}/s), canary "
            f"made {self.canary_calls} calls, slowest {self.canary_slowest_ms:.0f} ms, RSS {min(self.rss_mb):.0f} to "
            f"{max(self.rss_mb):.0f} MB, slowest answers: {worst}"
        )


class Canary:
    """A session in a thread of its own that must never notice anything."""

    def __init__(self, port: int) -> None:
        self.calls = 0
        self.slowest_ms = 0.0
        self.failure: str | None = None
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the canary hangs"
        assert self.failure is None, f"the canary's session was disturbed: {self.failure}"

    def _run(self) -> None:
        try:
            with RawClient("127.0.0.1", self._port, timeout=ANSWER_SECONDS) as client:
                session = client.handshake(timeout_ms=30_000)
                assert session.timeout_ms, "no session"
                created = client.create("/canary-", b"", rawzk.EPHEMERAL_SEQUENTIAL)
                path = created.reader().text()
                while not self._stop.wait(0.02):
                    self._round(client, path)
                client.close_session()
        except (AssertionError, OSError, RawError) as error:
            self.failure = repr(error)

    def _round(self, client: RawClient, path: str) -> None:
        value = b"%d" % self.calls
        started = time.monotonic()
        got = client.get(path, watch=True)
        assert got.err == 0, f"get: {got}"
        stat = client.set(path, value)
        assert stat.err == 0, f"set: {stat}"
        event = client.wait_event()
        assert (event.type, event.path) == (3, path), f"event: {event}"
        read = client.get(path).reader()
        assert read.buffer() == value, "read something else than was written"
        assert read.stat().version == self.calls + 1
        self.slowest_ms = max(self.slowest_ms, (time.monotonic() - started) * 1000)
        self.calls += 1


class Attack:
    """The attacker's side: a pool of sessions, and connections that trickle."""

    def __init__(self, port: int, inputs: Inputs, figures: Figures) -> None:
        self.port = port
        self.inputs = inputs
        self.figures = figures
        self._pool: list[RawClient | None] = [None] * POOL
        self._sessions: list[tuple[int, bytes]] = [(0, bytes(16))] * POOL
        self._slow: list[tuple[socket.socket, bytearray]] = []

    def throw(self, count: int) -> None:
        for _ in range(count):
            made = self.inputs.next()
            self.figures.inputs += 1
            self.figures.kinds[made.kind] += 1
            started = time.monotonic()
            try:
                self._throw(made)
            except TimeoutError:
                raise AssertionError(f"neither answered nor closed: {made.kind} {made.data[:200].hex()}") from None
            spent = (time.monotonic() - started) * 1000
            if not self.figures.slowest or spent > 50:
                self.figures.slowest.append((spent, made.kind))
            self._trickle()

    def close(self) -> None:
        for sock, _ in self._slow:
            sock.close()
        for client in self._pool:
            if client is not None:
                client.close()
        self._slow.clear()
        self._pool = [None] * POOL

    def _throw(self, made: Input) -> None:
        if made.slow:
            if len(self._slow) < SLOW_AT_ONCE:
                self._slow.append((self._connect(), bytearray(made.data)))
            return
        if made.fresh:
            self._first_contact(made)
            return
        slot = self.inputs.rng.randrange(POOL)
        client = self._established(slot)
        if client is None:
            return
        try:
            if not made.whole:
                client.send_bytes(made.data)
                raise Closed("given up in the middle of a frame")
            if made.data.startswith(b"\0\x0f"):  # near the limit: read while it is sent
                client.sock.settimeout(ANSWER_SECONDS)
            client.send_bytes(made.data + _PING)
            while not client.receive_frame().startswith(_PING_XID):
                pass
        except (Closed, ConnectionError, BrokenPipeError, RawError):
            if self.inputs.rng.random() < 0.5:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            self._pool[slot] = None

    def _first_contact(self, made: Input) -> None:
        with self._connect() as sock, contextlib.suppress(ConnectionError):
            sock.sendall(made.data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS)

    def _established(self, slot: int) -> RawClient | None:
        client = self._pool[slot]
        if client is not None:
            return client
        client = RawClient("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        session_id, password = self._sessions[slot]
        try:
            session = client.handshake(10_000, session_id, password)
            if not session.timeout_ms:
                raise Closed("the session is over")
        except (Closed, ConnectionError, RawError):
            client.close()
            self._sessions[slot] = (0, bytes(16))
            return None
        self._sessions[slot] = (session.session_id, session.password)
        self._pool[slot] = client
        return client

    def _trickle(self) -> None:
        """One byte on each slow connection."""
        for entry in list(self._slow):
            sock, rest = entry
            with contextlib.suppress(ConnectionError):
                sock.sendall(rest[:1])
            del rest[:1]
            readable, _, _ = select.select([sock], [], [], 0)
            if not rest or readable:
                sock.close()
                self._slow.remove(entry)


def rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return count


def wait_for_sockets(pid: int, most: int) -> None:
    """Until the process holds no more sockets than that."""
    deadline = time.monotonic() + SOCKET_SECONDS
    while (have := sockets_of(pid)) > most:
        assert time.monotonic() < deadline, f"{have} sockets are open, {most} were before"
        time.sleep(0.05)


def super_client(port: int) -> RawClient:
    client = RawClient("127.0.0.1", port, timeout=ANSWER_SECONDS)
    client.handshake(30_000)
    assert client.auth("digest", b"super:admin").err == 0
    return client


def tree_of(port: int) -> dict[str, tuple[bytes | None, object, object]]:
    """Every znode but those of live sessions: data, Stat and ACL."""
    tree: dict[str, tuple[bytes | None, object, object]] = {}
    with super_client(port) as client:
        todo = ["/"]
        while todo:
            path = todo.pop()
            got = client.get(path)
            if got.err:
                continue
            reader = got.reader()
            data, stat = reader.buffer(), reader.stat()
            if not stat.ephemeral_owner:
                tree[path] = (data, stat, client.get_acl(path).body)
            names = client.children(path).reader().texts()
            todo += [f"{path.rstrip('/')}/{name}" for name in names]
        client.close_session()
    return tree


def prune(port: int) -> int:
    """Delete what the inputs made when it is much; how many znodes there were."""
    tree = tree_of(port)
    if len(tree) > TREE_NODES_MAX:
        with super_client(port) as client:
            for path in sorted(tree, reverse=True):
                if not path.startswith("/zookeeper") and path != "/":
                    client.call(rawzk.DELETE, text(path) + int32(-1))
            client.close_session()
    return len(tree)


def fuzz_client_port(kind: str, directory: Path, seed: int, inputs: int) -> Figures:
    """Throw `inputs` at a server of its own.

    Raises:
        AssertionError: something did not hold; the text names the seed and how far it came.
    """
    figures = Figures()
    with Server.start(kind, directory, SETTINGS) as server:
        try:
            _attack(server, seed, inputs, figures)
            assert "Traceback" not in server.log(), server.log()[-4000:]
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, after {figures.inputs} inputs: {error}") from None
    return figures


def _attack(server: Server, seed: int, inputs: int, figures: Figures) -> None:
    source = Inputs(seed)
    started = time.monotonic()
    with RawClient("127.0.0.1", server.port) as client:
        client.handshake()
        client.create(PATH, b"here to be read and written")
        client.close_session()
    thrown = 0
    while thrown < inputs:
        idle = sockets_of(server.pid)
        before = rss_mb(server.pid)
        canary = Canary(server.port)
        attacker = Attack(server.port, source, figures)
        count = min(RESTART_EVERY, inputs - thrown)
        try:
            attacker.throw(count)
        finally:
            attacker.close()
        thrown += count
        canary.stop()
        figures.canary_calls += canary.calls
        figures.canary_slowest_ms = max(figures.canary_slowest_ms, canary.slowest_ms)
        assert server.is_running(), f"the server stopped:\n{server.log()[-4000:]}"
        wait_for_sockets(server.pid, idle)
        after = rss_mb(server.pid)
        figures.rss_mb += [before, after]
        assert after - before < RSS_GROWTH_MB, f"RSS grew from {before:.0f} to {after:.0f} MB in {count} inputs"
        prune(server.port)
        _restart_is_the_same(server, hard=random.Random(thrown).random() < 0.5)
    figures.seconds += time.monotonic() - started


def _restart_is_the_same(server: Server, hard: bool) -> None:
    """Sessions of the attack are over first, so that nothing changes by itself."""
    deadline = time.monotonic() + 60
    while "Sessions with Ephemerals (0)" not in server.four("dump"):
        assert time.monotonic() < deadline, "ephemerals of closed connections stay"
        time.sleep(0.2)
    before = tree_of(server.port)
    server.restart(hard=hard)
    after = tree_of(server.port)
    # What the two looks themselves did: their sessions are transactions, but change no znode.
    assert after == before, f"the tree is another after a restart: {_first_difference(before, after)}"


def _first_difference(before: dict[str, object], after: dict[str, object]) -> str:
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            return f"{path}: {before.get(path)!r:.300} became {after.get(path)!r:.300}"
    return "none"
