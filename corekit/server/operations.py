"""What a server runs for those who operate it: metrics, the admin port and the metrics port.

Rules
- The admin port is on by default, as in ZooKeeper 3.9, but on loopback. If nobody asked for it and its port is taken,
  the server goes on without it and says so once; if it was configured, the start fails with exit code 4.
- The metrics port is only opened when `metricsProvider.httpPort` or `metricsProvider.className` asks for it.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from corekit.config import Loaded
from corekit.errors import EXIT_ADMIN, UserError
from corekit.server.admin import AdminRoutes, MetricsRoutes, index_commands, is_loopback, serve_http
from corekit.server.admin_commands import zookeeper_commands
from corekit.server.admission import Admission
from corekit.server.client_port import FastPort
from corekit.server.http import Handler, HttpServer
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry
from corekit.server.server_metrics import ServerMetrics
from corekit.server.view import View

if TYPE_CHECKING:
    from corekit.hooks import Parts

log = logging.getLogger("corekit.admin")

_SECRET_LINE = re.compile(r"(?im)^([^#=\n]*(?:passw|secret|token|credential|superdigest)[^=\n]*=).*$")
_ADMIN_FIELDS = ("admin_enabled", "admin_address", "admin_port")


class Operations:
    """Metrics and HTTP ports of one server.

    Args:
        turn: runs something that changes state as a turn of the server.

    Attributes:
        metrics: what is counted.
        where: addresses that are served over HTTP, for people.
    """

    def __init__(
        self,
        loaded: Loaded,
        parts: Parts,
        kernel: Kernel,
        view: View,
        registry: Registry,
        admission: Admission,
        port: FastPort,
        turn: Callable[[Callable[[], None]], None],
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._parts = parts
        self._kernel = kernel
        self._view = view
        self._registry = registry
        self._turn = turn
        self.metrics = ServerMetrics(registry, kernel, view, admission, port)
        self.where: list[str] = []
        view.monitor_lines = self.metrics.monitor
        view.shed = self._shed
        view.initial_text = readable_configuration(loaded.config_file)

    def _shed(self, percentage: int) -> int:
        connections = [connection for connection in self._kernel.replica.connections if connection.ready]
        chosen = random.sample(connections, len(connections) * percentage // 100)

        def close() -> None:
            for connection in chosen:
                connection.close("the operator asked to shed connections")

        self._turn(close)
        return len(chosen)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when the ports are bound.

        Raises:
            UserError: a port that the configuration asks for cannot be bound.
        """
        s = self._settings
        process = s.metrics_export_process_info
        commands = index_commands(zookeeper_commands(self._view), self._parts.admin_commands, self._kernel)
        routes = AdminRoutes(
            self._view, commands, self._kernel.replica.schemes, self._registry, process, s.admin_command_url
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.metrics.rotate)
            nursery.start_soon(
                self.metrics.watch_stalls,
                *(s.stall_check_interval_ms, s.stall_info_threshold_ms, s.stall_warn_threshold_ms),
            )
            if s.admin_enabled:
                asked = any(self._loaded.origins.get(field, "default") != "default" for field in _ADMIN_FIELDS)
                await self._open(nursery, "admin", s.admin_address, s.admin_port, routes.handle, asked)
            if s.metrics_http_port >= 0:
                handler = MetricsRoutes(self._registry, process).handle
                await self._open(nursery, "metrics", s.metrics_http_host, s.metrics_http_port, handler, True)
            task_status.started()
            await trio.sleep_forever()

    async def _open(
        self, nursery: trio.Nursery, name: str, address: str, port: int, handler: Handler, asked: bool
    ) -> None:
        try:
            listeners: Sequence[trio.SocketListener] = await trio.open_tcp_listeners(port, host=address or None)
        except OSError as error:
            why = f"the {name} port {address}:{port} cannot be opened: {error.strerror or error}"
            if asked:
                raise UserError(f"{why}. Choose another with {name_of_setting(name)}", EXIT_ADMIN) from None
            log.warning("no admin port", extra={"why": why, "setting": name_of_setting(name)})
            return
        bound = listeners[0].socket.getsockname()
        self.where.append(f"http://{address or '0.0.0.0'}:{bound[1]}")
        log.info("http", extra={"port": name, "address": bound[0], "number": bound[1]})
        server = HttpServer(
            handler, idle_timeout_s=self._settings.admin_idle_timeout_ms / 1000, loopback=is_loopback(address)
        )
        nursery.start_soon(serve_http, listeners, server)


def name_of_setting(port: str) -> str:
    """The key that moves a port."""
    return "admin.serverPort" if port == "admin" else "metricsProvider.httpPort"


def readable_configuration(config_file: str | None) -> str | None:
    """The text of a configuration file, secrets hidden."""
    if config_file is None:
        return None
    try:
        text = Path(config_file).read_text(errors="replace")
    except OSError:
        return None
    return _SECRET_LINE.sub(r"\1********", text)
