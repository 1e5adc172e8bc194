"""Many clients, and clients that take nothing: the server goes on for everybody else, within its bounds."""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import eventually
from tests.fuzz.run import rss_mb
from tests.support.rawzk import GET_DATA, RawClient, frame, text
from tests.support.servers import Server

SPARE_FILES = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server.start("corekit", tmp_path / "server", {"maxClientCnxns": 0, "tickTime": 500}) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    with RawClient("127.0.0.1", server.port, timeout=60.0) as connected:
        connected.handshake(10_000)
        yield connected


def connections(server: Server, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port), timeout=30.0) for _ in range(count)]


def test_a_flood_of_connections_that_say_nothing(server: Server, client: RawClient) -> None:
    flood = connections(server, 800)
    for n in range(50):
        assert client.create(f"/n{n}").err == 0
    with RawClient("127.0.0.1", server.port, timeout=30.0) as another:
        assert another.handshake(10_000).timeout_ms == 10_000
    for sock in flood:
        sock.close()
    assert client.ping().err == 0


def test_without_file_descriptors_sessions_go_on_and_new_ones_come_later(server: Server, client: RawClient) -> None:
    """`accept` fails with EMFILE: it is said in the log, and tried again."""
    have = len(os.listdir(f"/proc/{server.pid}/fd"))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (have + SPARE_FILES, have + SPARE_FILES))
    flood = connections(server, 2 * SPARE_FILES)
    eventually(lambda: "raise the limit of open files" in server.log(), "the log names the limit")
    for n in range(50):
        assert client.create(f"/n{n}").err == 0
    for sock in flood:
        sock.close()
    with RawClient("127.0.0.1", server.port, timeout=30.0) as another:
        assert another.handshake(10_000).timeout_ms == 10_000


def test_clients_that_do_not_read_cost_little_memory_and_nobody_elses_time(server: Server, client: RawClient) -> None:
    assert client.create("/large", bytes(500_000)).err == 0
    before = rss_mb(server.pid)
    ask = b"".join(frame(struct.pack(">ii", xid, GET_DATA) + text("/large") + b"\0") for xid in range(1, 201))
    deaf = []
    for _ in range(10):  # 1 GB of answers that nobody takes
        one = RawClient("127.0.0.1", server.port, timeout=30.0)
        one.handshake(10_000)
        one.sock.sendall(ask)
        deaf.append(one)
    for n in range(50):
        assert client.create(f"/n{n}").err == 0
    assert rss_mb(server.pid) - before < 150
    for one in deaf:
        one.close()
    assert client.ping().err == 0
