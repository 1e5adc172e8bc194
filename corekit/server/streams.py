"""Client connections over any trio stream: TLS, Unix sockets, in-memory pipes.

Two tasks a connection, the same sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from corekit.api import ClientProtocol, ClientSession
from corekit.errors import ProtocolError
from corekit.limits import RECV_BYTES
from corekit.server import rules

if TYPE_CHECKING:
    from corekit.server.server import Server

log = logging.getLogger("corekit.client")

_LOOK_AGAIN_S = 0.05  # an overloaded server tells nobody when it has caught up


async def serve_stream(server: Server, stream: Any, protocol: ClientProtocol) -> None:
    """Serve one client until either side closes.

    Args:
        stream: a trio stream that the transport accepted; closed here.
    """
    transport = server.parts.transport
    peer = rules.peer(transport, transport.peer(stream))
    why = server.admission.refuse(peer)
    if why is not None:
        log.warning("connection refused", extra={"why": why, "peer": peer.address})
        await trio.aclose_forcefully(stream)
        return
    wake, unpaused = trio.Event(), trio.Event()

    def woken(_: ClientSession) -> None:
        wake.set()
        unpaused.set()

    session = rules.session(protocol, protocol.open(peer, woken))
    if session is None:
        server.admission.gone(peer)
        await trio.aclose_forcefully(stream)
        return
    server.admission.opened(session)

    async def send() -> None:
        nonlocal wake
        while True:
            out = session.take()
            try:
                data = b"".join(out)
            except TypeError:
                raise rules.no_bytes(session, out) from None
            if not session.paused():
                unpaused.set()  # if requests waited for this
            if data:
                await stream.send_all(data)
            elif session.closing is not None:
                return
            else:
                await wake.wait()
                wake = trio.Event()

    def feed(data: bytes) -> None:
        server.turn(lambda: session.received(data))
        wake.set()

    async def receive() -> None:
        nonlocal unpaused
        while session.closing is None:
            if session.paused():
                unpaused = trio.Event()
                with trio.move_on_after(_LOOK_AGAIN_S):
                    await unpaused.wait()
                feed(b"")
                continue
            data = await stream.receive_some(RECV_BYTES)
            if data:
                feed(data)
            else:
                session.end_of_input()
                wake.set()
        await trio.sleep_forever()  # what is in `out` is still sent

    async def until_it_ends(work: Callable[[], Awaitable[None]]) -> None:
        """What a client does ends its connection, never the server: caught here, before the nursery wraps it."""
        try:
            await work()
        except ProtocolError as error:
            log.warning("connection closed", extra={"why": str(error), "peer": peer.address})
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_it_ends, send)
            await until_it_ends(receive)
    finally:
        server.admission.closed(session)
        server.admission.gone(peer)
        session.closed(session.closing or "connection ended")
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
