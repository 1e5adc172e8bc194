"""The TCP transport.

One dual-stack socket a port, so that `0.0.0.0` and `::` are both served and port 0 is one port.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

import trio

from corekit.api import API_VERSION, Peer
from corekit.errors import EXIT_PORT, UserError
from corekit.hooks import Context, hookimpl
from corekit.server.sockets import peer_of

kind = "transport"
api_version = API_VERSION

_BACKLOG = 1024
_ANY = frozenset(("", "0.0.0.0", "::", "*"))


class TcpListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that also shows its plain socket, for the selector path of the client port.

    Attributes:
        plain: the listening socket, non-blocking.
    """

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self._inner = trio.SocketListener(trio.socket.from_stdlib_socket(plain))

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        return await self._inner.accept()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()


class TcpTransport:
    """TCP by name or address."""

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        """Bind. An empty address, `0.0.0.0` or `::` means every interface, both families."""
        size = backlog if backlog > 0 else _BACKLOG
        try:
            if address in _ANY:
                dual = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if dual else socket.AF_INET
                plain = socket.create_server(("", port), family=family, backlog=size, dualstack_ipv6=dual)
            else:
                infos = await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
                family, *_, where = infos[0]
                plain = socket.create_server(where, family=family, backlog=size)
        except OSError as error:
            raise _bind_error(address, port, error) from None
        plain.setblocking(False)
        listener = TcpListener(plain)
        return [listener if tls is None else trio.SSLListener(listener, tls)]

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        """Dial; the name is resolved at every call."""
        if tls is not None:
            return await trio.open_ssl_over_tcp_stream(address, port, ssl_context=tls)
        return await trio.open_tcp_stream(address, port)

    def peer(self, stream: Any) -> Peer:
        """Address and port of the other end; a client that has reset the connection by now has none."""
        secure = isinstance(stream, trio.SSLStream)
        inner = stream.transport_stream if secure else stream
        try:
            return peer_of(inner.socket.getpeername(), tls=secure)
        except OSError:
            return Peer("unknown", 0, secure)

    def describe(self, listener: Any) -> str:
        """`address:port` as bound."""
        inner: Any = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
        host, port = inner.plain.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host and host != "::" else f"{'0.0.0.0' if host == '::' else host}:{port}"


def _bind_error(address: str, port: int, error: OSError) -> UserError:
    where = f"{address or '0.0.0.0'}:{port}"
    if error.errno == errno.EADDRINUSE:
        text = (
            f"cannot listen on {where}: the port is in use. Stop what uses it, or choose another with --client-port; "
            "in an ensemble, check myid and the end of this server's server.N line"
        )
    elif error.errno == errno.EACCES:
        text = f"cannot listen on {where}: not permitted. Choose a port above 1023"
    elif isinstance(error, socket.gaierror):
        text = f"cannot listen on {where}: there is no such host name. Correct clientPortAddress or server.N"
    elif error.errno == errno.EADDRNOTAVAIL:
        text = f"cannot listen on {where}: this machine has no such address. Correct clientPortAddress or server.N"
    else:
        text = f"cannot listen on {where}: {os.strerror(error.errno) if error.errno else error}"
    return UserError(text, EXIT_PORT)


@hookimpl
def make_transport(context: Context) -> TcpTransport:
    """TCP."""
    return TcpTransport()
