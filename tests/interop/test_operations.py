"""Four-letter words and admin commands: the same clients on corekit and on Apache ZooKeeper, the answers compared.

What cannot be equal is replaced by its kind: session ids, ports, times, sizes on disk, the version. Everything else
must be, letter by letter for the words, key by key for JSON.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.conftest import needs
from tests.support.servers import Server, free_port, package_file

pytestmark = pytest.mark.interop


@dataclass
class Side:
    """A server with two clients on it."""

    server: Server
    clients: list[KazooClient]
    admin_port: int

    def normal(self, text: str) -> str:
        for number, client in enumerate(self.clients):
            text = text.replace(f"{client.client_id[0]:x}", f"SESSION{number}")
            text = text.replace(str(client.client_id[0]), f"{number + 1}{number + 1}{number + 1}")
        text = re.sub(r"127\.0\.0\.1:\d+", "PEER", text)
        text = re.sub(r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}", "DATE", text)
        text = re.sub(r"\b(est|lresp|llat|minlat|avglat|maxlat)=\d+", r"\1=N", text)
        return re.sub(r"Zookeeper version: .*", "Zookeeper version: V", text)

    def word(self, word: str | bytes) -> str:
        return self.normal(self.server.four(word))

    def command(self, name: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.admin_port}/commands/{name}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            found: dict[str, Any] = json.loads(self.normal(answer.read().decode()))
        return found


@pytest.fixture(scope="module", name="sides")
def both_sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """corekit and Apache ZooKeeper, after the same requests."""
    sides: list[Side] = []
    for kind in ("corekit", "java"):
        admin_port = free_port()
        settings = {
            "admin.enableServer": "true",
            "admin.serverPort": admin_port,
            "admin.serverAddress": "127.0.0.1",
            "4lw.commands.whitelist": "*",
        }
        # Debian's zookeeper.jar names every jar that its admin server needs but this one.
        servlets = needs(package_file, "libservlet-api-java", "/servlet-api.jar")
        more = [f"-Xbootclasspath/a:{servlets}"] if kind == "java" else []
        server = needs(Server.start, kind, tmp_path_factory.mktemp(kind), settings, extra_args=more)
        clients = [KazooClient(server.hosts, timeout=30) for _ in range(2)]
        for client in clients:
            client.start()
        side = Side(server, clients, admin_port)
        first, second = clients
        first.ensure_path("/a/b")
        first.create("/a/e", b"x", ephemeral=True)
        second.create("/a/ü", b"x", ephemeral=True)
        first.get("/a/b", watch=print)
        first.get("/a/e", watch=print)
        first.exists("/nope", watch=print)
        first.get_children("/a", watch=print)
        second.get("/a/b", watch=print)
        sides.append(side)
    yield sides[0], sides[1]
    for side in sides:
        for client in side.clients:
            client.stop()
            client.close()
        side.server.kill()


def blocks(text: str) -> list[str]:
    """Lines with the indented lines that follow them, in any order: Java prints from hash tables."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("\t") and found:
            found[-1].append(line)
        else:
            found.append([line])
    return sorted("\n".join([block[0], *sorted(block[1:])]) for block in found)


@pytest.mark.parametrize("word", ["ruok", "isro", "gtmk", "wchs", "xxxx", "hash", "\xff\xf4\xff\xfd"])
def test_short_words_are_equal(sides: tuple[Side, Side], word: str) -> None:
    ours, theirs = (side.word(word.encode("latin-1")) for side in sides)
    assert ours == theirs


@pytest.mark.parametrize("word", ["wchc", "wchp"])
def test_watches_are_equal(sides: tuple[Side, Side], word: str) -> None:
    ours, theirs = (side.word(word) for side in sides)
    assert blocks(ours) == blocks(theirs)


def test_srvr_has_the_same_lines(sides: tuple[Side, Side]) -> None:
    def normal(text: str) -> str:
        text = re.sub(r"min/avg/max: \d+/\d+\.\d+/\d+", "min/avg/max: L", text)
        return re.sub(r"(Received|Sent): \d+", r"\1: N", text)

    ours, theirs = (normal(side.word("srvr")) for side in sides)
    assert ours == theirs


def test_cons_and_stat_have_the_same_lines(sides: tuple[Side, Side]) -> None:
    def normal(text: str) -> list[str]:
        # The words' own connection: Java has cancelled its interest and counted it by now.
        text = re.sub(r"PEER\[\d\]\(queued=0,recved=[01],sent=0\)", "PEER of this word", text)
        return sorted(line for line in text.splitlines() if line.startswith(" "))

    for word in ("cons", "stat"):
        ours, theirs = (normal(side.word(word)) for side in sides)
        assert ours == theirs


def test_dump_has_the_same_sections(sides: tuple[Side, Side]) -> None:
    def normal(text: str) -> list[str]:
        text = re.sub(r"(Session|Connections) Sets \(\d+\)/", r"\1 Sets (N)/", text)
        text = re.sub(r"\d+ expire at DATE:", "N expire at DATE:", text)
        return sorted({line for line in text.splitlines() if line})

    ours, theirs = (normal(side.word("dump")) for side in sides)
    assert ours == theirs


def test_conf_has_the_same_keys_in_the_same_order(sides: tuple[Side, Side]) -> None:
    def keys(text: str) -> list[str]:
        return [line.partition("=")[0] for line in text.splitlines()]

    ours, theirs = (side.word("conf") for side in sides)
    assert keys(ours) == keys(theirs)
    same = {"tickTime", "maxClientCnxns", "minSessionTimeout", "maxSessionTimeout", "serverId", "secureClientPort"}
    pick = [[line for line in text.splitlines() if line.partition("=")[0] in same] for text in (ours, theirs)]
    assert pick[0] == pick[1]


def test_envi_has_the_same_keys_in_the_same_order(sides: tuple[Side, Side]) -> None:
    ours, theirs = ([line.partition("=")[0] for line in side.word("envi").splitlines()] for side in sides)
    assert ours == theirs


# Metrics of machinery that corekit does not have: it leaves them out rather than show a 0 that means nothing.
CORE = """version server_state avg_latency max_latency min_latency packets_received packets_sent num_alive_connections
outstanding_requests znode_count watch_count ephemerals_count approximate_data_size open_file_descriptor_count
max_file_descriptor_count uptime global_sessions local_sessions auth_failed_count"""


def test_mntr_has_what_dashboards_ask_for_with_equal_values(sides: tuple[Side, Side]) -> None:
    def values(text: str) -> dict[str, str]:
        pairs = [line.split("\t") for line in text.splitlines()]
        assert all(len(pair) == 2 and pair[0].startswith("zk_") for pair in pairs)
        return dict(pairs)

    ours, theirs = (values(side.word("mntr")) for side in sides)
    assert {f"zk_{name}" for name in CORE.split()} <= set(ours)
    for name in ("server_state", "znode_count", "watch_count", "ephemerals_count"):
        assert ours[f"zk_{name}"] == theirs[f"zk_{name}"], name
    # Java counts the characters of paths, we their bytes: one path has one character of two bytes.
    assert int(ours["zk_approximate_data_size"]) == int(theirs["zk_approximate_data_size"]) + 1
    for name in ("global_sessions", "local_sessions", "auth_failed_count", "num_alive_connections"):
        assert ours[f"zk_{name}"] == theirs[f"zk_{name}"], name
    for name in ("readlatency", "updatelatency", "fsynctime"):
        forms = [f"zk_{form}_{name}" for form in ("avg", "min", "max", "cnt", "sum")]
        assert set(forms) <= set(ours)
        assert set(forms) <= set(theirs)
        assert "." in ours[forms[0]]
        assert int(ours[forms[3]]) > 0


def shape(value: Any) -> Any:
    """Keys and kinds of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


SAME_SHAPE = """connections cons stats srvr dirs last_snapshot is_read_only ruok get_trace_mask
hash leader observers voting_view zabstate nope watch_summary"""


@pytest.mark.parametrize("name", SAME_SHAPE.split())
def test_admin_commands_have_the_same_keys(sides: tuple[Side, Side], name: str) -> None:
    ours, theirs = (shape(side.command(name)) for side in sides)
    assert ours == theirs


@pytest.mark.parametrize("name", ["watch_summary", "watches", "watches_by_path", "leader", "zabstate", "is_read_only"])
def test_admin_commands_have_the_same_values(sides: tuple[Side, Side], name: str) -> None:
    def normal(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: normal(member) for key, member in value.items()}
        return sorted(map(str, value)) if isinstance(value, list) else value

    ours, theirs = (normal(side.command(name)) for side in sides)
    assert ours == theirs


def test_admin_dump_and_configuration(sides: tuple[Side, Side]) -> None:
    ours, theirs = (side.command("dump")["session_id_to_ephemeral_paths"] for side in sides)
    assert ours == theirs
    mine, other = (side.command("configuration") for side in sides)
    # 3.8.0 writes the limits of sessions and connections under null only when they are not set; the others must agree.
    for key in ("tick_time", "server_id", "client_port_listen_backlog", "error", "command"):
        assert mine[key] == other[key]
    assert {"client_port", "data_dir", "data_log_dir"} <= set(mine)


def test_a_client_that_closes_its_side_still_gets_the_answer(sides: tuple[Side, Side]) -> None:
    for side in sides:
        with socket.create_connection(("127.0.0.1", side.server.port), timeout=10) as sock:
            sock.sendall(b"srvr")
            sock.shutdown(socket.SHUT_WR)
            data = b""
            while more := sock.recv(4096):
                data += more
        assert b"Mode: standalone\n" in data
