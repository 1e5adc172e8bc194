"""The admin and metrics ports of a running server process, with real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corekit_acl_digest.digest import generate_digest
from kazoo.client import KazooClient

from tests.support.rawzk import RawClient

DEADLINE_S = 20.0


class Process:
    """A `corekit serve` whose stderr goes to a file."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self._log = folder / f"log{len(list(folder.iterdir()))}"
        arguments = ["--client-port", "0", "--plugins", "memory", "--set", "clientPortAddress=127.0.0.1"]
        for setting in settings:
            arguments += ["--set", setting]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "corekit", "serve", *arguments], cwd=folder, env=environ, stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def find(self, pattern: str) -> str:
        """The first group of a pattern in the log, waited for."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = re.search(pattern, self.log)
            if found is not None:
                return found[1]
            assert time.monotonic() < deadline, f"{pattern} is not in the log:\n{self.log}"
            assert self.process.poll() is None, self.log
            time.sleep(0.02)

    @property
    def client_port(self) -> int:
        return int(self.find(r"listens on 127\.0\.0\.1:(\d+)"))

    def port(self, name: str) -> int:
        return int(self.find(rf"port={name} .*number=(\d+)"))

    def get(self, path: str, *, port: str = "admin", method: str = "GET", **more: object) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(port), timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request(method, path, **more)  # type: ignore[arg-type]
            answer = connection.getresponse()
            return answer.status, answer.read()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@pytest.fixture(name="start")
def starter(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*settings: str) -> Process:
        started.append(Process(tmp_path, *settings))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait(DEADLINE_S)


def test_probes_commands_and_metrics(start: Callable[..., Process]) -> None:
    server = start("admin.serverPort=0")
    for path in ("/livez", "/readyz", "/startupz"):
        status, body = server.get(path)
        assert (status, json.loads(body)["status"]) == (200, "ok")
    client = KazooClient(f"127.0.0.1:{server.client_port}", timeout=30)
    client.start()
    client.create("/a", b"x")
    client.get("/a")
    status, body = server.get("/commands/monitor")
    monitor = json.loads(body)
    assert status == 200
    assert monitor["server_state"] == "standalone"
    assert monitor["znode_count"] == 6
    assert monitor["cnt_updatelatency"] >= 2  # the session and the znode
    assert monitor["cnt_readlatency"] >= 1
    assert monitor["cnt_fsynctime"] >= 1
    assert monitor["connection_request_count"] == 1
    _, metrics = server.get("/metrics")
    assert b"\nznode_count 6.0\n" in metrics
    assert b'\nupdatelatency{quantile="0.99"} ' in metrics
    assert b"\nprocess_resident_memory_bytes " in metrics
    assert server.get("/commands/srst")[0] == 200
    assert json.loads(server.get("/commands/mntr")[1])["cnt_updatelatency"] == 0
    counted = re.search(rb"\nupdatelatency_count ([\d.]+)\n", server.get("/metrics")[1])
    assert counted is not None
    assert float(counted[1]) >= 2
    client.stop()
    client.close()
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_the_metrics_port_opens_when_it_is_asked_for(start: Callable[..., Process]) -> None:
    server = start("admin.enableServer=false", "metricsProvider.httpPort=0", "metricsProvider.httpHost=127.0.0.1")
    status, body = server.get("/metrics", port="metrics")
    assert status == 200
    assert b"\nnum_alive_connections " in body
    assert server.get("/commands/srvr", port="metrics")[0] == 404
    assert "port=admin" not in server.log


def test_a_taken_port_stops_only_who_asked_for_it(start: Callable[..., Process]) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # somebody else has it: as good
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        server = start()
        server.find("(no admin port)")
        assert "admin.serverPort" in server.log
        with socket.create_connection(("127.0.0.1", server.client_port), timeout=DEADLINE_S) as plain:
            plain.sendall(b"srvr")
            assert plain.recv(4096).startswith(b"Zookeeper version: ")
        assert server.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = start(f"admin.serverPort={port}")
        assert asked.process.wait(DEADLINE_S) == 4
        last = asked.log.splitlines()[-1]
        assert last.startswith(f"corekit: the admin port 127.0.0.1:{port} cannot be opened: ")
        assert "Traceback" not in asked.log


def test_shedding_needs_the_super_user_and_moves_clients(start: Callable[..., Process]) -> None:
    digest = generate_digest("super:secret")
    server = start("admin.serverPort=0", f"DigestAuthenticationProvider.superDigest={digest}")
    clients = [RawClient("127.0.0.1", server.client_port) for _ in range(4)]
    for client in clients:
        client.handshake()
    body = json.dumps({"percentage": 50})
    # The root znode is open to the world, so any login will do; none will not.
    assert server.get("/commands/shed", method="POST", body=body)[0] == 401
    login = {"Authorization": "digest super:secret"}
    status, answer = server.get("/commands/shed", method="POST", body=body, headers=login)
    assert (status, json.loads(answer)["connections_shed"]) == (200, 2)
    gone = 0
    for client in clients:
        try:
            client.ping()
        except Exception:
            gone += 1
        client.close()
    assert gone == 2


def test_noise_leaves_the_server_serving(start: Callable[..., Process]) -> None:
    server = start("admin.serverPort=0")
    port = server.port("admin")
    rng = random.Random(7)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain:
            data = rng.randbytes(rng.randrange(1, 400))
            if rng.random() < 0.5:
                data = b"GET /commands/" + data + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with contextlib.suppress(OSError):
                plain.sendall(data)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
    assert server.get("/livez")[0] == 200
    assert "Traceback" not in server.log


def test_open_connections_do_not_delay_the_end(start: Callable[..., Process]) -> None:
    server = start("admin.serverPort=0")
    with socket.create_connection(("127.0.0.1", server.port("admin")), timeout=DEADLINE_S) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /half")
        assert plain.recv(4096).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
