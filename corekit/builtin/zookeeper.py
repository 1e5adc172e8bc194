"""ZooKeeper's client protocol as a plugin: the client port, on which every connection is a `ZooKeeperSession`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from corekit.api import API_VERSION, ClientSession, Gateway, Peer
from corekit.builtin.zookeeper_session import ZooKeeperSession
from corekit.hooks import Context, hookimpl

kind = "protocol"
api_version = API_VERSION
suite = "corekit.testing.own.zookeeper"


class ZooKeeperProtocol:
    """The protocol on `clientPort` and `secureClientPort`."""

    name = "zookeeper"

    def __init__(self, context: Context) -> None:
        self._settings = context.settings
        self._gateway: Gateway | None = None

    def bind(self, gateway: Gateway) -> None:
        """Remember the kernel."""
        self._gateway = gateway

    def listeners(self) -> Sequence[tuple[str, int, Any | None]]:
        """The client port."""
        port = self._settings.client_port
        return [] if port < 0 else [(self._settings.client_port_address or "", port, None)]

    def open(self, peer: Peer, woken: Callable[[ClientSession], None]) -> ZooKeeperSession | None:
        """A client connected."""
        assert self._gateway is not None
        return ZooKeeperSession(self._gateway, peer, woken)


@hookimpl
def make_client_protocol(context: Context) -> ZooKeeperProtocol:
    """ZooKeeper's client protocol."""
    return ZooKeeperProtocol(context)
