"""Servers put together from parts: one `corekit serve` process for solo, three for zab, on TCP or on Unix sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler

from corekit.testing.process import ServerProcess

CONSENSUS = ("solo", "zab")
STORAGE = ("rocks", "memory", "sqlite")
TRANSPORT = ("tcp", "unix")

_PORTS = range(10_000, 32_000)  # below those that Linux gives to outgoing connections
_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on, given once."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class UnixHandler(SequentialThreadingHandler):
    """kazoo on Unix sockets: a host `127.0.0.1:N` stands for the N-th path."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self._paths = paths

    def create_connection(self, address: tuple[str, int], *_: Any, **named: Any) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(named.get("timeout"))
            sock.connect(str(self._paths[address[1] - 1]))
        except BaseException:
            sock.close()
            raise
        return sock


class Cell:
    """The servers of one cell of the matrix; use it as a context manager.

    Args:
        plugins: as after `--plugins`, if it is more than the three.
        settings: more of them, as `name=value`.
        folder: for data and sockets; keep it short, the path of a Unix socket is.

    Attributes:
        servers: None where one was killed.
        ports: where each of them serves; with `unix`, its number.
    """

    def __init__(
        self,
        consensus: str,
        storage: str,
        transport: str,
        folder: Path,
        plugins: str = "",
        settings: Sequence[str] = (),
    ) -> None:
        self.plugins = plugins or ",".join((transport, storage, consensus))
        self.unix = transport == "unix"
        self.folder = folder
        count = 3 if consensus == "zab" else 1
        self.servers: list[ServerProcess | None] = [None] * count
        self.ports = [number + 1 if self.unix else free_port() for number in range(count)]
        self._settings = [text for setting in settings for text in ("-s", setting)]
        self._members: list[str] = []
        for number in range(1, count + 1) if count > 1 else ():
            self._members += ["-s", f"server.{number}=127.0.0.1:{free_port()}:{free_port()}"]

    def path(self, number: int) -> Path:
        """The Unix socket of a server."""
        return self.folder / f"{number}.sock"

    def start(self, number: int) -> ServerProcess:
        """Start one of the servers."""
        data = self.folder / f"data{number}"
        data.mkdir(exist_ok=True)
        arguments = ["-p", self.plugins, "--data-dir", str(data), *self._members, *self._settings, "-s", "tickTime=500"]
        if self._members:
            (data / "myid").write_text(f"{number + 1}\n")
            arguments += ["-s", "initLimit=20", "-s", "syncLimit=10"]
        where = str(self.path(number)) if self.unix else "127.0.0.1"
        arguments += ["-s", f"clientPortAddress={where}"]
        if not self.unix:
            arguments += ["--client-port", str(self.ports[number])]
        server = ServerProcess(*arguments, directory=self.folder)
        self.servers[number] = server
        return server

    def kill(self, number: int) -> None:
        """kill -9."""
        server = self.servers[number]
        assert server is not None
        self.servers[number] = None
        server.kill()

    def __enter__(self) -> Cell:
        try:
            for number in range(len(self.servers)):
                self.start(number)
            for server in self.servers:
                assert server is not None
                server.wait_for("corekit listens on ")
                server.wait_for("plugins: ")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End every server."""
        for server in self.servers:
            if server is not None:
                server.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hosts(self, number: int) -> str:
        """A server, as the corekit client takes it."""
        return f"unix:{self.path(number)}" if self.unix else f"127.0.0.1:{self.ports[number]}"

    def kazoo(self, *numbers: int) -> KazooClient:
        """A kazoo client of servers (by default all), connected."""
        chosen = numbers or range(len(self.servers))
        handler = UnixHandler([self.path(number) for number in range(len(self.servers))]) if self.unix else None
        hosts = ",".join(f"127.0.0.1:{self.ports[number]}" for number in chosen)
        client = KazooClient(hosts, timeout=10, handler=handler)
        client.start(timeout=60)
        return client

    def leader(self) -> int:
        """The number of the server that leads."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for number, server in enumerate(self.servers):
                if server is not None and "Mode: leader" in self._srvr(number):
                    return number
            time.sleep(0.05)
        raise AssertionError("no leader")

    def _srvr(self, number: int) -> str:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET) as sock:
            sock.settimeout(10)
            sock.connect(str(self.path(number)) if self.unix else ("127.0.0.1", self.ports[number]))
            sock.sendall(b"srvr")
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        return ""
