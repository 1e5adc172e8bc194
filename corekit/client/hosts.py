"""Connect strings: `host:port,host:port/chroot`, as every ZooKeeper client takes them (`ConnectStringParser`).

Beside those, `unix:/path/of/socket` for a server of this machine whose transport is Unix sockets. A chroot follows
after a second colon: `unix:/run/corekit/client.sock:/app`.

Not here: names are resolved at each dial, in `dial.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from corekit.errors import UserError
from corekit.model.paths import is_valid

DEFAULT_PORT = 2181


_UNIX = "unix:"


class Host(NamedTuple):
    """A server as written: a name or an address, and a port; or the path of a Unix socket and 0."""

    name: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is reached over a Unix socket."""
        return self.name.startswith("/")

    def __str__(self) -> str:
        if self.is_socket:
            return _UNIX + self.name
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def parse_hosts(text: str) -> tuple[list[Host], str]:
    """Split a connect string into its hosts and its chroot ("" if it has none).

    IPv6 addresses stand in brackets when a port follows: `[::1]:2181`. Without a port 2181 is meant.

    Raises:
        UserError: no host, a bad port, or a chroot that is not a path.
    """
    if text.strip().startswith(_UNIX):
        path, colon, chroot = text.strip().removeprefix(_UNIX).partition(":/")
        if not path.startswith("/"):
            raise UserError(f"{text!r}: a Unix socket is written with its full path, unix:/run/corekit/client.sock")
        hosts = [Host(path, 0)]
    else:
        servers, colon, chroot = text.strip().partition("/")
        hosts = [_host(part.strip(), text) for part in servers.split(",") if part.strip()]
    chroot = ("/" + chroot).rstrip("/") if colon else ""
    if chroot and not is_valid(chroot.encode()):
        raise UserError(f"chroot {chroot!r} in {text!r} is not a valid path")
    if not hosts:
        raise UserError(f"no server in {text!r}; write host:port,host:port/chroot")
    return list(dict.fromkeys(hosts)), chroot


def _host(part: str, text: str) -> Host:
    name, port = part, ""
    if part.startswith("["):
        name, bracket, port = part[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UserError(f"{part!r} in {text!r}: an IPv6 address is written [::1]:2181")
        port = port[1:]
    elif part.count(":") == 1:
        name, _, port = part.partition(":")
    if not name:
        raise UserError(f"{part!r} in {text!r} has no host name")
    if not port:
        return Host(name, DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{part!r} in {text!r}: the port must be a number from 1 to 65535")
    return Host(name, int(port))
