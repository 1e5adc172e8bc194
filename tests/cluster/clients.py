"""Clients that use an ensemble while it fails, and remember outside of it what they were told.

Rules
- Every value is unique, so that what is found says who wrote it.
- An operation without a reply may have happened or not; it is never sent again under the same name.
- A client that is told something impossible (a zxid that goes back, a reply out of order, an own write that it does
  not see, a session lost too early) writes it down in `Book.wrong` and goes on.

Not here: what must hold at the end (`checks.py`).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.support.rawzk import (
    CREATE,
    EPHEMERAL,
    GET_DATA,
    MULTI,
    OPEN_ACL,
    SEQUENTIAL,
    SET_DATA,
    RawClient,
    RawError,
    Reply,
    boolean,
    buffer,
    create_body,
    int32,
    multi_body,
    text,
)

OK, NO_NODE = 0, -101
OP_SECONDS = 4.0  # a server that does not answer for so long is left
LEASE_SECONDS = 2.5  # how long a follower serves without its leader: tickTime * syncLimit, and a bit


class Expired(Exception):
    """The server says that the session is gone."""


class Stop(Exception):
    """The run is over."""


@dataclass
class Write:
    """One write: when it was sent, and what became of it."""

    path: str
    value: str
    called: float
    returned: float = 0.0
    zxid: int = 0  # 0: no reply
    connection: int = 0


@dataclass
class Life:
    """One session and its ephemerals."""

    session_id: int = 0
    timeout_s: float = 0.0
    paths: set[str] = field(default_factory=set)  # acknowledged
    tried: set[str] = field(default_factory=set)  # sent
    ended: float = 0.0  # when it was closed (acknowledged) or given up
    gone: bool = False  # nothing of it may be left


@dataclass
class Book:
    """What all clients of a run saw. Lists are only appended to, by one thread each or under the GIL.

    Attributes:
        count_on: sessions number their requests on through all connections, as ZooKeeper's own clients do, and not from
            1 on each, as kazoo does. Of two requests of a session with one xid a follower of Apache ZooKeeper may
            answer the wrong one (`CommitProcessor` tells them apart by nothing else).
    """

    count_on: bool = False
    writes: list[Write] = field(default_factory=list)
    registers: dict[str, list[Write]] = field(default_factory=dict)
    sequences: list[tuple[int, str, str]] = field(default_factory=list)  # zxid, name, value
    lives: list[Life] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sessions_lost: int = 0
    reads: int = 0
    checked: int = 0  # looks at all ephemerals

    @property
    def acknowledged(self) -> int:
        """Writes that were acknowledged."""
        return sum(1 for write in self.writes if write.zxid)


class Session:
    """A session that finds its way from server to server.

    Args:
        hosts: ports of 127.0.0.1, tried in random order.
        stop: ends every wait with `Stop`.
    """

    def __init__(
        self, hosts: Sequence[int], timeout_s: float, random: Random, book: Book, stop: threading.Event, name: str
    ) -> None:
        self.hosts = list(hosts)
        self.timeout_s = timeout_s
        self.random = random
        self.book = book
        self.stop = stop
        self.name = name
        self.id = 0
        self.password = bytes(16)
        self.seen = 0  # largest zxid of any reply
        self.heard = time.monotonic()  # when the last request was sent that was answered
        self.client: RawClient | None = None
        self.connections = 0
        self.port = 0
        self.xid = 0  # where the next connection begins to count

    def connect(self) -> RawClient:
        """The connection, made anew if it broke.

        Raises:
            Expired: the session is gone.
            Stop: the run is over.
        """
        while self.client is None:
            if self.stop.is_set():
                raise Stop
            self.port = self.random.choice(self.hosts)
            client = None
            try:
                client = RawClient("127.0.0.1", self.port, timeout=OP_SECONDS)
                client.xid = self.xid
                sent = time.monotonic()
                session = client.handshake(int(self.timeout_s * 1000), self.id, self.password, self.seen)
            except (OSError, RawError, struct.error):
                if client is not None:
                    client.close()
                self.stop.wait(0.02)
                continue
            if session.timeout_ms == 0:
                client.close()
                self.expired()
            self.heard = sent
            self.id, self.password = session.session_id, session.password
            self.client = client
            self.connections += 1
        return self.client

    def expired(self) -> None:
        """The session is gone: note it if that came too early, and begin a new one."""
        silent = time.monotonic() - self.heard
        self.book.sessions_lost += 1
        # A follower that has lost its leader answers pings for a while that the leader does not hear of.
        if silent < self.timeout_s - LEASE_SECONDS:
            self.book.wrong.append(
                f"{self.name}: session 0x{self.id:x} lost after {silent:.2f} s of {self.timeout_s:g} s at {self.port}"
            )
        self.id, self.password, self.seen = 0, bytes(16), 0
        self.heard = time.monotonic()
        raise Expired

    def drop(self) -> None:
        """Close the connection, not the session."""
        if self.client is not None:
            self.client.close()
            self.xid = self.client.xid if self.book.count_on else 0
            self.client = None

    def noted(self, reply: Reply, what: str) -> None:
        """Check the zxid of a reply."""
        if reply.zxid > 0:
            if reply.zxid < self.seen:
                self.book.wrong.append(
                    f"{self.name}: zxid went back from 0x{self.seen:x} to 0x{reply.zxid:x} with {what} at {self.port}"
                )
            self.seen = max(self.seen, reply.zxid)

    def batch(self, requests: Sequence[tuple[int, bytes]]) -> list[Reply]:
        """Send requests at once and return the replies, as many as came before the connection broke.

        Raises:
            Expired, Stop: see `connect`.
        """
        client = self.connect()
        replies: list[Reply] = []
        sent = time.monotonic()
        try:
            xids = [client.send(op, body) for op, body in requests]
            for xid in xids:
                reply = client.reply()
                if reply.xid != xid:
                    self.book.wrong.append(f"{self.name}: reply to xid {reply.xid} where {xid} was due")
                self.noted(reply, f"the reply to operation {requests[len(replies)][0]}")
                replies.append(reply)
                self.heard = sent
        except (OSError, RawError, struct.error):
            self.drop()
        return replies


def set_body(path: str, value: str) -> bytes:
    return text(path) + buffer(value.encode()) + int32(-1)


def get_body(path: str) -> bytes:
    return text(path) + boolean(False)


class Writer(threading.Thread):
    """Creates znodes, sets a register of its own and reads it, deletes, and draws sequence numbers."""

    def __init__(self, number: int, hosts: Sequence[int], seed: int, book: Book, stop: threading.Event) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.number = number
        self.book = book
        self.stop = stop
        self.random = Random(seed)
        self.session = Session(hosts, 20.0, self.random, book, stop, self.name)
        self.register = f"/c/r{number}"
        self.count = 0
        self.sets: list[Write] = []
        book.registers[self.register] = self.sets

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    self.round()
                except Expired:
                    continue
                self.stop.wait(self.random.random() * 0.02)
        except Stop:
            pass
        except Exception as error:  # a thread that dies must not go unseen
            self.book.wrong.append(f"{self.name} failed: {error!r}")
            raise

    def round(self) -> None:
        """One pipelined batch: set, get, create, sequential create, multi of both kinds."""
        session = self.session
        session.connect()
        self.count += 1
        n = self.count
        value = f"{self.number}:{n}"
        now = time.monotonic()
        first = Write(self.register, value, now)
        node = Write(f"/c/n/w{self.number}-{n:06}", value, now, connection=session.connections)
        second = Write(self.register, f"{value}b", now)
        pair = Write(f"/c/n/w{self.number}-{n:06}m", value, now, connection=session.connections)
        requests = [
            (SET_DATA, set_body(self.register, first.value)),
            (GET_DATA, get_body(self.register)),
            (CREATE, create_body(node.path, value.encode())),
            (CREATE, create_body("/c/s/", value.encode(), SEQUENTIAL, OPEN_ACL)),
            (
                MULTI,
                multi_body(
                    [(SET_DATA, set_body(self.register, second.value)), (CREATE, create_body(pair.path, b"multi"))]
                ),
            ),
            (GET_DATA, get_body(self.register)),
        ]
        self.sets += [first, second]
        self.book.writes += [first, node, second, pair]
        replies = session.batch(requests)
        done = time.monotonic()
        for request, reply in enumerate(replies):
            if reply.err != OK:
                self.book.wrong.append(f"{self.name}: error {reply.err} for request {request} of round {n}")
                continue
            if request in (0, 2):
                write = first if request == 0 else node
                write.zxid, write.returned = reply.zxid, done
            elif request == 3:
                self.book.sequences.append((reply.zxid, reply.reader().text(), value))
            elif request == 4:
                for write in (second, pair):
                    write.zxid, write.returned = reply.zxid, done
            else:
                found = (reply.reader().buffer() or b"").decode()
                expected = first.value if request == 1 else second.value
                if found != expected:
                    self.book.wrong.append(f"{self.name}: read {found} after writing {expected}")


class Reader(threading.Thread):
    """Reads all registers from any server; in one session no value may go back. Checks with `sync` what is newest."""

    def __init__(
        self, number: int, hosts: Sequence[int], seed: int, book: Book, stop: threading.Event, sync_is_quorum: bool
    ) -> None:
        super().__init__(name=f"reader-{number}", daemon=True)
        self.book = book
        self.stop = stop
        self.random = Random(seed)
        self.session = Session(hosts, 20.0, self.random, book, stop, self.name)
        self.newest: dict[str, int] = {}
        self.sync_is_quorum = sync_is_quorum

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    self.round()
                except Expired:
                    self.newest.clear()
                self.stop.wait(self.random.random() * 0.05)
                if self.random.random() < 0.02:
                    self.session.drop()  # another server, the same session
        except Stop:
            pass
        except Exception as error:
            self.book.wrong.append(f"{self.name} failed: {error!r}")
            raise

    def round(self) -> None:
        """Sync, then read every register."""
        registers = list(self.book.registers)
        acknowledged = {path: _last_acknowledged(self.book.registers[path]) for path in registers}
        requests = [(9, text("/c"))] + [(GET_DATA, get_body(path)) for path in registers]
        replies = self.session.batch(requests)
        for path, reply in zip(registers, replies[1:], strict=False):
            if reply.err != OK:
                self.book.wrong.append(f"{self.name}: error {reply.err} for a read of {path}")
                continue
            self.book.reads += 1
            position = order_of((reply.reader().buffer() or b"").decode())
            before = self.newest.get(path, -1)
            if position < before:
                self.book.wrong.append(f"{self.name}: {path} went back from {before} to {position}")
            self.newest[path] = max(before, position)
            if self.sync_is_quorum and position < acknowledged[path]:
                self.book.wrong.append(
                    f"{self.name}: sync, then {path} is {position}, but {acknowledged[path]} is acked"
                )


def order_of(value: str) -> int:
    """Where a register's value stands in the order in which its writer wrote."""
    if not value:
        return -1
    number = value.partition(":")[2]
    return 2 * int(number.rstrip("b")) + number.endswith("b")


def _last_acknowledged(sets: Sequence[Write]) -> int:
    return next((order_of(write.value) for write in reversed(sets) if write.zxid), -1)


class Holder(threading.Thread):
    """Lives in sessions of limited length with some ephemerals each; ends them by closing, or by silence."""

    def __init__(self, number: int, hosts: Sequence[int], seed: int, book: Book, stop: threading.Event) -> None:
        super().__init__(name=f"holder-{number}", daemon=True)
        self.number = number
        self.book = book
        self.stop = stop
        self.random = Random(seed)
        self.hosts = hosts
        self.count = 0
        self.session: Session | None = None
        self.life = Life()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    self.live()
                except Expired:
                    self.life.gone = True
        except Stop:
            pass
        except Exception as error:
            self.book.wrong.append(f"{self.name} failed: {error!r}")
            raise

    def live(self) -> None:
        """One session."""
        self.count += 1
        timeout = self.random.choice([6.0, 9.0])
        self.session = session = Session(self.hosts, timeout, self.random, self.book, self.stop, self.name)
        session.connect()
        self.life = life = Life(session.id, timeout)
        self.book.lives.append(life)
        ends = time.monotonic() + self.random.uniform(1.0, 12.0)
        while time.monotonic() < ends or len(life.paths) < 2:
            if len(life.tried) < 5:
                path = f"/c/e/h{self.number}-{self.count}-{len(life.tried)}"
                life.tried.add(path)
                replies = session.batch([(CREATE, create_body(path, b"", EPHEMERAL))])
                if replies and replies[0].err == OK:
                    life.paths.add(path)
            else:
                session.batch([(GET_DATA, get_body("/c/e"))])  # heard by its server, as by a ping
            self.stop.wait(self.random.uniform(0.05, 0.5))
            if self.stop.is_set():
                return
        if self.random.random() < 0.6:
            life.ended = time.monotonic()
            if session.batch([(-11, b"")]):
                life.gone = True
        else:
            life.ended = time.monotonic()
        session.drop()


class Inspector(threading.Thread):
    """Looks at all ephemerals of a random server after a `sync`: those of the living are there, no others."""

    def __init__(self, hosts: Sequence[int], seed: int, book: Book, stop: threading.Event) -> None:
        super().__init__(name="inspector", daemon=True)
        self.hosts = hosts
        self.book = book
        self.stop = stop
        self.random = Random(seed)

    def run(self) -> None:
        try:
            while not self.stop.wait(0.1):
                self.look()
        except Exception as error:
            self.book.wrong.append(f"{self.name} failed: {error!r}")
            raise

    def look(self) -> None:
        """One look."""
        lives = list(self.book.lives)
        held = [(life, set(life.paths)) for life in lives if not life.ended and not life.gone]
        dead = {path for life in lives if life.gone for path in life.tried}
        port = self.random.choice(self.hosts)
        try:
            with RawClient("127.0.0.1", port, timeout=OP_SECONDS) as client:
                if client.handshake(10_000).timeout_ms == 0:
                    return
                if client.sync("/c/e").err != OK:
                    return
                found = {f"/c/e/{name}" for name in client.children("/c/e").reader().texts()}
                client.close_session()
        except (OSError, RawError, struct.error):
            return
        self.book.checked += 1
        for life, paths in held:
            missing = paths - found
            if missing and not life.ended and not life.gone and self.still_held(life):
                self.book.wrong.append(f"inspector: {sorted(missing)} of a living session are missing at {port}")
        if dead & found:
            self.book.wrong.append(f"inspector: {sorted(dead & found)} of ended sessions are still at {port}")

    def still_held(self, life: Life) -> bool:
        """Whether a session lives, asked of its owner, who knows soon enough if it does not."""
        deadline = time.monotonic() + life.timeout_s + 5.0
        heard = self._heard(life)
        while time.monotonic() < deadline and not self.stop.is_set():
            if life.gone or life.ended:
                return False
            if self._heard(life) > heard:
                return True
            time.sleep(0.05)
        return False

    def _heard(self, life: Life) -> float:
        for thread in threading.enumerate():
            if isinstance(thread, Holder) and thread.life is life and thread.session is not None:
                return thread.session.heard
        return 0.0
