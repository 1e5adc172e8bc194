"""Sockets: recv and send for many in one call, and what a peer name says.

`receive` and `send` are those of `_sockets.c`. Where that could not be built they are `receive_in_python` and
`send_in_python`, which do the same.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from corekit.api import Peer
from corekit.limits import RECV_BYTES

__all__ = ["peer_of", "receive", "receive_in_python", "send", "send_in_python"]


def receive_in_python(fds: list[int], /) -> list[bytes | int]:
    """Receive from each of these sockets, which do not block.

    Returns:
        For each what arrived, at most `RECV_BYTES` (nothing: the other end closed), or the errno of what went wrong.
    """
    got: list[bytes | int] = []
    for fd in fds:
        try:
            got.append(os.read(fd, RECV_BYTES))
        except OSError as error:
            got.append(error.errno or errno.EIO)
    return got


def send_in_python(fds: list[int], outs: list[bytes], /) -> list[int]:
    """Send to each of these sockets, which do not block, its data; nothing is not sent at all.

    Returns:
        For each the number of bytes that it took, or minus the errno of what went wrong.
    """
    taken: list[int] = []
    for fd, out in zip(fds, outs, strict=True):
        try:
            taken.append(os.write(fd, out) if out != b"" else 0)
        except OSError as error:
            taken.append(-(error.errno or errno.EIO))
    return taken


def peer_of(name: Any, *, tls: bool = False) -> Peer:
    """The `Peer` for a socket's peer name; an IPv4 client of a dual-stack socket is shown as IPv4."""
    host = name[0]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return Peer(host.split("%", 1)[0], name[1], tls)


try:
    from corekit.server._sockets import receive, send
except ImportError:  # built without a C compiler
    receive, send = receive_in_python, send_in_python
