"""Unix sockets for corekit: who connects is known by user and group, and ACLs can name them (scheme `unix`).

Settings

    clientPortAddress=/run/corekit/client.sock    where clients connect; without it, client-PORT.sock below `dir`
    plugin.unix.dir=/run/corekit                  for listeners without an address; the data directory by default
    plugin.unix.mode=660                          permissions of the sockets
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corekit.api import AuthScheme
from corekit.errors import ConfigError
from corekit.hooks import Context, hookimpl

if TYPE_CHECKING:
    from corekit_unix.transport import UnixTransport

kind = "transport"
api_version = 1
suite = "corekit_unix.conformance"

_MODE = "660"
_OPTIONS = frozenset(("dir", "mode"))


@hookimpl
def make_transport(context: Context) -> UnixTransport:
    """Unix sockets; TCP for addresses that are no paths."""
    from corekit_unix.transport import UnixTransport

    options = context.options
    if unknown := sorted(set(options) - _OPTIONS):
        raise ConfigError(f"plugin.{context.name}.{unknown[0]} is not known; known are dir and mode")
    mode = options.get("mode", _MODE)
    if not (mode.isascii() and mode.isdigit() and set(mode) <= set("01234567") and len(mode) <= 4):
        raise ConfigError(f"plugin.{context.name}.mode={mode} is not accepted; accepted are permissions such as 660")
    return UnixTransport(Path(options.get("dir", context.data_dir)), mode=int(mode, 8))


@hookimpl
def register_auth_schemes() -> list[AuthScheme]:
    """`unix:uid:1000` and `unix:gid:100` in ACLs."""
    from corekit_unix.scheme import UnixScheme

    return [UnixScheme()]
