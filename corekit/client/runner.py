"""Keeps a session connected: dials, writes, reads, beats, and tells what happens. The anyio shell around `Session`.

Rules
- One task for the life of the client, three more while connected (read, write, beat). No task per request.
- Whoever submits a call wakes the writer, which sends everything that has gathered by then in one write.
- Hosts are tried in an order shuffled once; waits between tries are random up to a bound that doubles, so that a
  thousand clients of a dead server do not come back at once.
- After an expiry a new session is begun (`renew`), never silently: the state is LOST first, and all that belonged to
  the old session has ended with `SessionExpiredError`.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
from anyio.abc import ByteStream, TaskGroup

from corekit.client import op
from corekit.client.dial import Dial, DialError, serves_writes, why
from corekit.client.errors import ClientClosedError, OutcomeUnknown
from corekit.client.hosts import Host
from corekit.client.lease import LeaseBook
from corekit.client.protocol import Call, packet_size
from corekit.client.session import Credential, Notice, Session, expired
from corekit.client.state import StateBoard
from corekit.client.types import State, StateChange
from corekit.errors import AuthFailedError, BadArgumentsError, RequestTimeoutError

T = TypeVar("T")

RECEIVE_BYTES = 256 * 1024
BACKOFF_FIRST = 0.05  # seconds: bound of the first random wait
BACKOFF_LAST = 5.0
GOOD_SECONDS = 1.0  # a connection that lasted this long makes the next waits short again
DIAL_SECONDS_MIN = 0.25
CLOSE_SECONDS = 2.0  # how long leaving waits for the server to confirm
SEEK_FIRST, SEEK_LAST = 0.1, 60.0  # looking for a server with a quorum while on one without


@dataclass(slots=True)
class Options:
    """How to connect. See `connect` for what they mean."""

    hosts: list[Host]
    timeout: float
    read_only: bool
    renew: bool
    flight: int
    call_timeout: float | None
    request_bytes_max: int
    reply_bytes_max: int
    tls: ssl.SSLContext | None
    default_acl: tuple[tuple[int, str, str], ...]
    dial: Dial


class Runner:
    """One client's session and the tasks that serve it."""

    def __init__(self, options: Options, credentials: list[tuple[str, bytes]]) -> None:
        self.options = options
        self.board = StateBoard()
        self.credentials = [Credential(scheme, data) for scheme, data in credentials]
        self.session = self._new_session()
        self.leases = LeaseBook()
        self.failures: dict[str, str] = {}  # why the last connection to each host failed
        self._undialled: set[Host] = set()  # hosts whose last dial failed
        self._ring = random.sample(options.hosts, len(options.hosts))
        self._next = 0
        self._last_heard = 0.0
        self._dirty = anyio.Event()
        self._beat_now = anyio.Event()
        self._redial: Host | None = None  # go there next
        self._leave = ""  # why the present connection is to be left
        self._closing = False
        self.jobs: TaskGroup | None = None  # lives as long as the client

    def _new_session(self) -> Session:
        options = self.options
        return Session(
            options.timeout, options.flight, options.reply_bytes_max, options.read_only, list(self.credentials)
        )

    # Calls
    def submit(self, call: Call[Any], session: Session | None = None) -> None:
        """Send a call when its turn comes, in the present session or the one meant (and fail if that has ended).

        Raises:
            BadArgumentsError: the packet is larger than servers accept, so none would answer.
        """
        if packet_size(call) > self.options.request_bytes_max:
            raise BadArgumentsError(
                f"request of {packet_size(call)} bytes; servers accept {self.options.request_bytes_max} (their "
                "jute.maxbuffer; set request_bytes_max if they are configured for more)",
                path=call.path,
            )
        call.bound = session is not None
        (session or self.session).submit(call)
        if not self._dirty.is_set():
            self._dirty.set()

    async def finish(self, call: Call[T], seconds: float | None) -> T:
        """Wait for a submitted call and return its result."""
        if not call.done:
            arrived = anyio.Event()
            call.wake = arrived.set
            try:
                if seconds is None:
                    await arrived.wait()
                else:
                    with anyio.move_on_after(seconds):
                        await arrived.wait()
            finally:
                call.abandoned = not call.done
            if not call.done:
                raise self._too_late(call, seconds)
        return call.result()

    def _too_late(self, call: Call[Any], seconds: float | None) -> Exception:
        reason = f"no answer within {seconds:g} s; {self.board.now.state.value}: {self.board.now.reason}"
        if call.sent and not call.request.retry:
            unknown = OutcomeUnknown(call.request.op, call.path, reason)
            unknown.where = self.session.where
            return unknown
        late = RequestTimeoutError(reason, path=call.path)
        late.where = f"{call.request!r} at {self.session.where}"
        return late

    async def authenticate(self, scheme: str, data: bytes, seconds: float | None) -> None:
        """Add credentials for this and every later connection; wait until the server has accepted them."""
        credential = Credential(scheme, data)
        self.credentials.append(credential)
        self.session.add_credential(credential)
        self._dirty.set()
        with anyio.move_on_after(seconds):
            while not credential.accepted:
                if self.session.ended is not None:
                    raise self.session.ended()
                told = anyio.Event()
                credential.wake = told.set  # accepted, or the session has ended; another may have taken its place
                await told.wait()
        if not credential.accepted:
            raise RequestTimeoutError(f"authentication was not answered within {seconds} s")

    async def prove(self) -> float:
        """Ask the ensemble whether the session lives; returns the moment before which it cannot have expired."""
        call = Call(op.sync("/"))
        call.bound = True
        call.beat_at = anyio.current_time()
        self.session.submit(call)
        self._dirty.set()
        await self.finish(call, None)
        return self.session.safe_until

    def wake_beats(self) -> None:
        """The rate of heartbeats has changed."""
        self._beat_now.set()

    # Life
    async def run(self) -> None:
        """Serve until cancelled, or until the session ends for good."""
        tries = 0
        while True:
            state = State.SUSPENDED if self.session.granted else State.CONNECTING
            host = self._redial or self._ring[self._next % len(self._ring)]
            self._redial = None
            self._next += 1
            try:
                stream = await self.options.dial(host, self._dial_seconds(), self.options.tls)
            except (*DialError, TimeoutError) as error:
                self._undialled.add(host)
                self.failures[str(host)] = why(error)
                self._tell(state, f"{host}: {why(error)}", str(host))
            else:
                self._undialled.discard(host)
                began = anyio.current_time()
                reason = await self._serve(stream, host)
                if self._closing:
                    return
                if self.session.ended is not None:
                    return
                state = State.SUSPENDED if self.session.granted else State.CONNECTING
                self.failures[str(host)] = reason
                self._tell(state, f"{host}: {reason}", str(host))
                if anyio.current_time() - began > GOOD_SECONDS:
                    tries = 0
            await anyio.sleep(random.uniform(0, self._wait_max(tries)))
            tries += 1

    @property
    def unreachable(self) -> bool:
        """Whether no host could be dialled when it was last tried."""
        return self._undialled.issuperset(self._ring)

    def _wait_max(self, tries: int) -> float:
        """All hosts are tried quickly once, then ever more slowly."""
        rounds = min(max(0, tries + 1 - len(self._ring)), 16)
        return min(BACKOFF_LAST, self.session.timeout / 4, BACKOFF_FIRST * 2.0**rounds)

    def _dial_seconds(self) -> float:
        return max(DIAL_SECONDS_MIN, self.session.timeout / max(2, len(self._ring)))

    def _tell(self, state: State, reason: str, server: str) -> None:
        now = self.board.now
        if now.state is not state or now.reason != reason:
            self.board.set(StateChange(state, reason, server, self.session.id))

    async def _serve(self, stream: ByteStream, host: Host) -> str:
        """Use a connection until it ends; returns why it did."""
        session = self.session
        now = self._last_heard = anyio.current_time()
        session.attach(str(host), now)
        if not session.granted:
            self._tell(State.ASSOCIATING, f"{host} answered the dial", str(host))
        reason = "the connection broke"
        self._leave = ""
        try:
            async with anyio.create_task_group() as tasks:

                async def stop_when(job: Callable[[ByteStream], Any]) -> None:
                    nonlocal reason
                    try:
                        reason = await job(stream)
                    except DialError as error:
                        reason = why(error)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(stop_when, self._write)
                tasks.start_soon(stop_when, self._beat)
                await stop_when(self._read)
        finally:
            session.detach(f"{host}: {reason}")
            with anyio.move_on_after(0, shield=True):
                await stream.aclose()
        return reason

    async def _read(self, stream: ByteStream) -> str:
        session = self.session
        while True:
            data = await stream.receive(RECEIVE_BYTES)
            self._last_heard = now = anyio.current_time()
            notice = session.feed(data, now)
            if session.connection is not None and session.connection.unsent:
                self._dirty.set()
            if notice is None:
                self.leases.extend(session.safe_until)
            elif notice is Notice.OPENED:
                self._opened()
            elif notice is Notice.EXPIRED:
                return self._lose()
            elif notice is Notice.AUTH_FAILED:
                return self._refuse()
            else:
                return session.break_reason

    async def _write(self, stream: ByteStream) -> str:
        connection = self.session.connection
        assert connection is not None
        while True:
            self._dirty = anyio.Event()
            data = connection.take()
            if data:
                await stream.send(data)
            else:
                await self._dirty.wait()

    async def _beat(self, stream: ByteStream) -> str:
        session = self.session
        connection = session.connection
        assert connection is not None
        next_beat = self._last_heard + session.beat_every
        while True:
            now = anyio.current_time()
            patience = session.silence_max if connection.opened else self._dial_seconds()
            silent_at = self._last_heard + patience
            if self._leave:
                return self._leave
            if now >= silent_at:
                return f"nothing heard for {now - self._last_heard:.1f} s"
            if now >= next_beat and connection.opened:
                session.beat(now)
                self._dirty.set()
                next_beat = now + session.beat_every
            wait = min(silent_at, next_beat) - now if connection.opened else silent_at - now
            self._beat_now = anyio.Event()
            with anyio.move_on_after(max(wait, 0)):
                await self._beat_now.wait()
                next_beat = min(next_beat, anyio.current_time() + session.beat_every)

    # What happened
    def _opened(self) -> None:
        session = self.session
        self.leases.extend(session.safe_until)
        self.wake_beats()
        state = State.CONNECTED_READ_ONLY if session.read_only else State.CONNECTED
        self.board.set(StateChange(state, f"{session.server} granted the session", session.server, session.id))

    def _lose(self) -> str:
        lost = self.session
        reason = f"{lost.server} says that the session has expired"
        heir = self._new_session() if self.options.renew else None
        lost.end(expired, heir)
        self.leases.lose(reason)
        self._tell(State.LOST, reason, lost.server)
        if heir is not None:
            heir.last_zxid = lost.last_zxid  # no server shows it an older state than was seen before
            self.session = heir  # calls from now on wait for it
        return reason

    def _refuse(self) -> str:
        reason = f"{self.session.server} refused the credentials"
        self.session.end(lambda: AuthFailedError(reason))
        self.leases.lose(reason)
        self._tell(State.AUTH_FAILED, reason, self.session.server)
        return reason

    async def seek_quorum(self) -> None:
        """While on a server without quorum, look for one that has it, and go there."""
        pause = SEEK_FIRST
        while True:
            try:
                await self.board.wait(lambda change: change.state is State.CONNECTED_READ_ONLY)
            except ClientClosedError:
                return
            await anyio.sleep(pause)
            pause = min(SEEK_LAST, pause * 2)
            host = random.choice(self._ring)
            if await serves_writes(host, self._dial_seconds(), self.options.tls, self.options.dial):
                pause = SEEK_FIRST
                self._redial = host
                self._go("moving to a server with a quorum")

    def _go(self, why_so: str) -> None:
        """Leave the present server."""
        self._leave = why_so
        self._beat_now.set()

    def set_hosts(self, hosts: list[Host]) -> None:
        """Use other servers from now on; leave the present one if it is not among them."""
        self._ring = random.sample(hosts, len(hosts))
        self._next = 0
        if self.session.connection is not None and self.session.server not in map(str, hosts):
            self._go("the server is no longer in the list")

    async def close(self) -> None:
        """End the session politely, within two seconds."""
        session = self.session
        self._closing = True
        if session.ended is None and session.connection is not None and session.connection.opened:
            call = Call(op.close_session())
            call.bound = True
            session.submit(call)
            self._dirty.set()
            try:
                await self.finish(call, CLOSE_SECONDS)
            except Exception:
                pass  # the server will expire the session by itself
        session.end(lambda: ClientClosedError("the client was closed"))
        self.leases.lose("the client was closed")
        self._tell(State.CLOSED, "closed by its user", session.server)
