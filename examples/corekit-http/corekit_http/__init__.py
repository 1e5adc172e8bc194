"""HTTP for corekit: znodes as resources, sessions, watches as server-sent events; described by `/openapi.json`.

Settings

    plugin.http.port=8182          0 picks a free one
    plugin.http.address=127.0.0.1  0.0.0.0 for everybody; passwords and tokens then pass in the clear
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corekit.errors import ConfigError
from corekit.hooks import Context, Service, hookimpl

if TYPE_CHECKING:
    from corekit_http.protocol import HttpProtocol

kind = "protocol"
api_version = 1
suite = "corekit_http.conformance"

_OPTIONS = {"port": "8182", "address": "127.0.0.1"}
_PORT_MAX = 65535


_made: dict[str, HttpProtocol] = {}  # for the second of the two hooks


@hookimpl
def make_client_protocol(context: Context) -> HttpProtocol:
    """The protocol, with the port of the settings."""
    from corekit_http.protocol import HttpProtocol

    if unknown := sorted(set(context.options) - set(_OPTIONS)):
        raise ConfigError(f"plugin.{context.name}.{unknown[0]} is not known; known are {' and '.join(_OPTIONS)}")
    options = {**_OPTIONS, **context.options}
    port = options["port"]
    if not (port.isascii() and port.isdigit() and int(port) <= _PORT_MAX):
        raise ConfigError(f"plugin.{context.name}.port={port} is not accepted; accepted are 0 to {_PORT_MAX}")
    made = _made[context.name] = HttpProtocol(context, options["address"], int(port))
    return made


@hookimpl
def register_services(context: Context) -> list[Service]:
    """Keeps streams alive, and closes what is idle."""
    return [Service(context.name, _made[context.name].look_after)]
