"""The admin port: ZooKeeper's commands as JSON, probes for orchestrators, and metrics for Prometheus.

    GET  /commands, /commands/<name>     as ZooKeeper's AdminServer (`admin_commands.py`), and commands of plugins
    GET  /livez, /readyz, /startupz      200 or 503, with the reasons as JSON
    GET  /metrics                        Prometheus text

Rules
- ZooKeeper's first versions of this port were open to the world without a login. Ours listens on loopback unless the
  configuration says otherwise, and what changes data needs a login (`Authorization: digest user:password`) with all
  permissions on `/`.
- Unknown commands and a server that does not serve are answered with status 200 and an `error`, as ZooKeeper does.

Not here: HTTP itself (`http.py`), where the facts come from (`view.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import trio

from corekit.api import AuthScheme, Gateway, Peer
from corekit.codec.four_letter import NOT_SERVING
from corekit.errors import PluginError
from corekit.hooks import AdminCommand
from corekit.limits import ADMIN_CONNECTIONS_MAX
from corekit.server.admin_commands import AdminView, Command, Query, Refused
from corekit.server.http import HttpServer, Request, Response, as_json, text
from corekit.server.metrics import CONTENT_TYPE, Registry

log = logging.getLogger("corekit.admin")

_ACCEPT_RETRY_S = 0.1


class AdminRoutes:
    """What the paths of the admin port mean. No sockets.

    Args:
        view: the server.
        commands: by any of their names, see `index_commands`.
        schemes: for the `Authorization` header.
        registry: the metrics; None leaves `/metrics` out.
        process: metrics of the process are shown after the registry.
        command_url: where the commands are (`admin.commandURL`).
    """

    def __init__(
        self,
        view: AdminView,
        commands: Mapping[str, Command],
        schemes: Mapping[str, AuthScheme],
        registry: Registry | None,
        process: bool = False,
        command_url: str = "/commands",
    ) -> None:
        self._view = view
        self._commands = commands
        self._schemes = schemes
        self._registry = registry
        self._process = process
        self._url = "/" + command_url.strip("/")

    async def handle(self, request: Request) -> Response:
        """Answer a request."""
        path = request.path
        if path == self._url or path.startswith(self._url + "/"):
            return self._command(request, path[len(self._url) + 1 :])
        if request.method not in ("GET", "HEAD"):
            return text(405, "only GET")
        if path == "/":
            return text(200, f"{self._url}\n/livez\n/readyz\n/startupz\n/metrics")
        if path == "/metrics" and self._registry is not None:
            return metrics_page(self._registry, self._process)
        if path in ("/livez", "/readyz", "/startupz"):
            return self._probe(path)
        return text(404, "not found")

    # ------------------------------------------------------------------------------------------ probes
    def _probe(self, path: str) -> Response:
        health = self._view.health()
        good = health.failure is None
        if path == "/readyz":
            good = good and health.serving and health.has_leader
        elif path == "/startupz":
            good = good and health.started
        return as_json(200 if good else 503, {"status": "ok" if good else "failing", "details": asdict(health)})

    # ---------------------------------------------------------------------------------------- commands
    def _command(self, request: Request, name: str) -> Response:
        if request.method not in ("GET", "HEAD", "POST"):
            return text(405, "only GET and POST")
        if not name:
            return self._links()
        command = self._commands.get(name)
        if command is None:
            return _answer(200, name, {}, f"Unknown command: {name}")
        primary = command.names[0]
        if command.needs_server and not self._view.serving:
            return _answer(200, name, {}, NOT_SERVING)
        if command.post != (request.method == "POST"):
            return _answer(405, primary, {}, "only POST" if command.post else "only GET")
        query = Query(request.query, request.body)
        if command.perms:
            refused = self._authorize(request, command)
            if refused is not None:
                return refused
        try:
            fields = dict(command.run(query))
        except Refused as error:
            return _answer(error.status, primary, {}, str(error))
        return _answer(200, primary, fields, None)

    def _authorize(self, request: Request, command: Command) -> Response | None:
        """The refusal if the caller does not prove to have the permissions."""
        header = request.headers.get("authorization")
        if header is None:
            return _answer(401, command.names[0], {}, "Auth info is missing for the command")
        scheme_name, _, data = header.partition(" ")
        scheme = self._schemes.get(scheme_name)
        proved = scheme.authenticate(data.encode("latin-1"), request.peer) if scheme is not None else None
        if not proved:
            return _answer(401, command.names[0], {}, "Not authenticated")
        bits = (1 << at for at in range(command.perms.bit_length()) if command.perms >> at & 1)
        if not all(self._view.root_allows(proved, bit) for bit in bits):
            return _answer(403, command.names[0], {}, "Not authorized")
        return None

    def _links(self) -> Response:
        names = sorted({command.names[0] for command in self._commands.values()})
        lines = [f'<a href="{escape(self._url + "/" + quote(name))}">{escape(name)}</a>\n<br/>\n' for name in names]
        return Response(200, "".join(lines).encode(), "text/html; charset=utf-8")


def _answer(status: int, command: str, fields: dict[str, Any], error: str | None) -> Response:
    fields.setdefault("command", command)
    fields.setdefault("error", error)
    return as_json(status, fields)


def metrics_page(registry: Registry, process: bool) -> Response:
    """The answer to `/metrics`."""
    from corekit.server.prometheus import exposition  # not at every start: see there

    return Response(200, exposition(registry, process), CONTENT_TYPE)


class MetricsRoutes:
    """The separate metrics port (`metricsProvider.httpPort`): `/metrics` and nothing else."""

    def __init__(self, registry: Registry, process: bool = False) -> None:
        self._registry = registry
        self._process = process

    async def handle(self, request: Request) -> Response:
        """Answer a request."""
        if request.path != "/metrics":
            return text(404, "not found: the metrics are at /metrics")
        if request.method not in ("GET", "HEAD"):
            return text(405, "only GET")
        return metrics_page(self._registry, self._process)


def index_commands(
    own: Iterable[Command], of_plugins: Mapping[str, AdminCommand], gateway: Gateway
) -> dict[str, Command]:
    """Commands by each of their names; those of plugins are given the server.

    Raises:
        PluginError: a plugin's command has a name of ZooKeeper's.
    """
    index = {name: command for command in own for name in command.names}
    for name, command in of_plugins.items():
        if name in index:
            raise PluginError(f"the admin command {name} of a plugin has the name of one of ZooKeeper's: rename it")
        index[name] = _of_plugin(command, gateway)
    return index


def _of_plugin(command: AdminCommand, gateway: Gateway) -> Command:
    def run(query: Query) -> Mapping[str, Any]:
        try:
            return command.run(gateway, query.parameters)
        except Exception as error:
            log.exception("admin command of a plugin failed", extra={"command": command.names[0]})
            raise Refused(500, str(error) or type(error).__name__) from None

    return Command(command.names, run)


def is_loopback(address: str) -> bool:
    """Whether an address to listen on can only be reached from this machine."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


async def serve_http(listeners: Sequence[trio.SocketListener], server: HttpServer) -> None:
    """Accept and serve HTTP connections until cancelled; a bounded number at once."""
    slots = trio.Semaphore(ADMIN_CONNECTIONS_MAX)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept, listener, server, slots, nursery)


async def _accept(
    listener: trio.SocketListener, server: HttpServer, slots: trio.Semaphore, nursery: trio.Nursery
) -> None:
    while True:
        await slots.acquire()
        try:
            stream = await listener.accept()
        except OSError as error:  # out of file descriptors: the next second may be better
            slots.release()
            log.warning("admin port cannot accept", extra={"error": str(error)})
            await trio.sleep(_ACCEPT_RETRY_S)
            continue
        nursery.start_soon(_serve_one, stream, server, slots)


async def _serve_one(stream: trio.SocketStream, server: HttpServer, slots: trio.Semaphore) -> None:
    try:
        try:
            address = stream.socket.getpeername()
        except OSError:  # gone already
            await stream.aclose()
            return
        await server.serve(stream, Peer(str(address[0]), int(address[1])))
    finally:
        slots.release()
