"""What a socket's peer name says about a client."""

from __future__ import annotations

from typing import Any

from corekit.api import Peer


def peer_of(name: Any, *, tls: bool = False) -> Peer:
    """The `Peer` for a socket's peer name; an IPv4 client of a dual-stack socket is shown as IPv4."""
    host = name[0]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return Peer(host.split("%", 1)[0], name[1], tls)
