"""`connect`: opens a session, lends it to the block under it, and ends it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from corekit.client.acl import OPEN
from corekit.client.client import Client
from corekit.client.dial import Dial, dial
from corekit.client.hosts import parse_hosts
from corekit.client.paths import path_bytes
from corekit.client.runner import Options, Runner
from corekit.client.tasks import alongside
from corekit.client.types import State, StateChange
from corekit.errors import ConnectionLossError, UserError
from corekit.limits import JUTE_MAX_BUFFER


@asynccontextmanager
async def connect(
    hosts: str = "127.0.0.1:2181",
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - the session's timeout, ZooKeeper's word
    auth: Sequence[tuple[str, str | bytes]] = (),
    read_only: bool = False,
    renew: bool = True,
    connect_timeout: float | None = 15.0,
    patient: bool = True,
    call_timeout: float | None = None,
    flight: int = 1000,
    tls: ssl.SSLContext | None = None,
    default_acl: Sequence[tuple[int, str, str]] = OPEN,
    request_bytes_max: int = JUTE_MAX_BUFFER,
    reply_bytes_max: int = 64 * 1024 * 1024,
    dial: Dial = dial,
) -> AsyncIterator[Client]:
    """A session for the length of a block; runs on trio and on asyncio.

    Example:
        async with connect("h1:2181,h2:2181/app", auth=[("digest", "ada:s3cret")]) as zk:
            await zk.create("/config", b"1", parents=True)

    Args:
        hosts: `host:port,host:port/chroot`; tried in random order, names resolved at each try. Or the path of a Unix
            socket, `unix:/run/corekit/client.sock`, with a chroot after another colon: `unix:/path:/chroot`.
        timeout: session timeout in seconds to ask for: how long the ensemble waits for a silent client.
        auth: credentials, presented on every connection.
        read_only: servers that have lost their quorum will do as well (state CONNECTED_READ_ONLY).
        renew: begin a new session after one has expired. The state is LOST in between; watches, leases and writes of
            the old session end with `SessionExpiredError` (or `OutcomeUnknown`), reads go on in the new one. Without
            it everything ends, and every later call raises that error.
        connect_timeout: seconds to wait for the first session; None waits for ever.
        patient: wait that long even if no server can be reached. Without it, the first session is given up as soon as
            every host has refused the connection once.
        call_timeout: seconds for each call, None for no limit; see also `Client.within`.
        flight: requests sent and not yet answered at once; others wait here.
        tls: use TLS; the host names are checked as this context says.
        default_acl: for nodes created without an ACL of their own, those of recipes included.
        request_bytes_max: requests above this are refused here with a clear error, because servers answer them by
            hanging up. Their limit is `jute.maxbuffer`, 1 MiB by default.
        reply_bytes_max: replies above this end the request with `ProtocolError`.
        dial: opens the stream to a server, if not over TCP: a tunnel, a Unix socket, a server in the same process.

    Raises:
        ConnectionLossError: no server granted a session in time; the text says what the last one did.
        AuthFailedError: the credentials were refused.
        UserError: the hosts or a number make no sense.
    """
    parsed, chroot = parse_hosts(hosts)
    if tls is not None and any(host.is_socket for host in parsed):
        raise UserError(f"{hosts}: there is no TLS on a Unix socket; leave it out")
    if timeout <= 0 or flight < 1:
        raise UserError("timeout must be above 0 and flight at least 1")
    options = Options(
        hosts=parsed,
        timeout=timeout,
        read_only=read_only,
        renew=renew,
        flight=flight,
        call_timeout=call_timeout,
        request_bytes_max=request_bytes_max,
        reply_bytes_max=reply_bytes_max,
        tls=tls,
        default_acl=tuple(default_acl),
        dial=dial,
    )
    credentials = [(scheme, data.encode() if isinstance(data, str) else data) for scheme, data in auth]
    runner = Runner(options, credentials)
    # The tasks are shielded, so that a cancelled block can still say goodbye to the server.
    shelter = anyio.CancelScope(shield=True)

    async def serve() -> None:
        with shelter:
            async with anyio.create_task_group() as jobs:
                runner.jobs = jobs
                jobs.start_soon(runner.run)
                if read_only:
                    jobs.start_soon(runner.seek_quorum)

    async with alongside(serve):
        try:
            await _first_session(runner, connect_timeout, patient)
            yield Client(runner, path_bytes(chroot), call_timeout)
        finally:
            runner.jobs = None
            with anyio.CancelScope(shield=True):
                await runner.close()
            shelter.cancel()


async def _first_session(runner: Runner, seconds: float | None, patient: bool) -> None:
    def decided(now: StateChange) -> bool:
        return now.state.connected or now.state is State.AUTH_FAILED or (not patient and runner.unreachable)

    with anyio.move_on_after(seconds):
        change = await runner.board.wait(decided)
        if runner.session.ended is not None:
            raise runner.session.ended()
        if change.state.connected:
            return
    why = "; ".join(f"{host}: {reason}" for host, reason in runner.failures.items()) or runner.board.now.reason
    limit = "" if runner.unreachable and not patient else f" within {seconds} s"
    raise ConnectionLossError(f"no session{limit}: {why}")
