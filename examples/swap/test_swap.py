"""The swap matrix: whatever a server is made of, its clients see the same. See examples/README.md."""

from __future__ import annotations

import json
import queue
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import trio
from cells import CONSENSUS, STORAGE, TRANSPORT, Cell
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError, NotEmptyError
from kazoo.security import make_digest_acl

from corekit.client import connect
from corekit.errors import EXIT_USAGE
from corekit.testing.process import ServerProcess


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="swap-") as name:
        yield Path(name)


def test_it_is_the_wheels_that_are_tested() -> None:
    packages = {point.dist.name: point.dist for point in entry_points(group="corekit") if point.dist is not None}
    assert {"corekit", "corekit-audit", "corekit-sqlite", "corekit-http", "corekit-token", "corekit-unix"} <= set(
        packages
    )
    for package in packages.values():
        assert Path(str(package.locate_file(""))).is_relative_to(sys.prefix)


# ------------------------------------------------------------------------------------------ acceptance
def accept(cell: Cell) -> None:
    """What every client relies on, with two clients of kazoo (of different servers, if there are several)."""
    one, two = cell.kazoo(0), cell.kazoo(len(cell.servers) - 1)
    try:
        nodes(one, two)
        transactions(one, two)
        permissions(one, two)
        watches(one, two)
        sessions(cell, two)
        recipes(one, two)
        trio.run(our_client, cell, two)
    finally:
        for client in (one, two):
            client.stop()
            client.close()


def nodes(one: KazooClient, two: KazooClient) -> None:
    assert one.create("/app", b"") == "/app"
    assert one.create("/app/a", b"1") == "/app/a"
    two.sync("/")
    assert two.get("/app/a")[0] == b"1"
    assert two.set("/app/a", b"two", version=0).version == 1
    for wrong, action in (
        (BadVersionError, lambda: one.set("/app/a", b"x", version=0)),
        (NodeExistsError, lambda: one.create("/app/a")),
        (NoNodeError, lambda: one.create("/none/a")),
        (NotEmptyError, lambda: one.delete("/app")),
    ):
        with pytest.raises(wrong):
            action()
    assert one.get("/app/a")[0] == b"two"
    names = [client.create("/app/s-", sequence=True) for client in (one, two, one)]
    assert names == sorted(names)
    big = bytes(range(256)) * 3000
    one.create("/app/big", big)
    two.sync("/")
    assert two.get("/app/big")[0] == big


def transactions(one: KazooClient, two: KazooClient) -> None:
    together = one.transaction()
    together.create("/app/t1", b"")
    together.check("/app/a", 1)
    together.set_data("/app/a", b"three")
    assert not [result for result in together.commit() if isinstance(result, Exception)]
    apart = two.transaction()
    apart.create("/app/t2", b"")
    apart.check("/app/a", 1)
    assert [type(result).__name__ for result in apart.commit()] == ["RolledBackError", "BadVersionError"]
    assert not two.exists("/app/t2")


def permissions(one: KazooClient, two: KazooClient) -> None:
    one.add_auth("digest", "ada:secret")
    one.create("/app/mine", b"", acl=[make_digest_acl("ada", "secret", all=True)])
    two.sync("/")
    with pytest.raises(NoAuthError):
        two.get("/app/mine")
    assert one.get("/app/mine")[0] == b""


def watches(one: KazooClient, two: KazooClient) -> None:
    seen: queue.Queue[tuple[str, str]] = queue.Queue()
    two.get("/app/a", watch=lambda event: seen.put((event.type, event.path)))
    two.get_children("/app", watch=lambda event: seen.put((event.type, event.path)))
    one.set("/app/a", b"four")
    one.create("/app/new", b"")
    assert [seen.get(timeout=30) for _ in range(2)] == [("CHANGED", "/app/a"), ("CHILD", "/app")]


def sessions(cell: Cell, two: KazooClient) -> None:
    gone = cell.kazoo()
    gone.create("/app/here", b"", ephemeral=True)
    two.sync("/")
    left: queue.Queue[str] = queue.Queue()
    assert two.exists("/app/here", watch=lambda event: left.put(event.type)).ephemeralOwner == gone.client_id[0]
    gone.stop()
    gone.close()
    assert left.get(timeout=30) == "DELETED"


def recipes(one: KazooClient, two: KazooClient) -> None:
    with one.Lock("/app/lock", "one"):
        assert not two.Lock("/app/lock", "two").acquire(blocking=False)
    assert two.Lock("/app/lock", "two").acquire(timeout=30)


async def our_client(cell: Cell, two: KazooClient) -> None:
    with trio.fail_after(60):
        async with connect(cell.hosts(0)) as zk, zk.watch("/app", recursive=True) as events:
            assert (await zk.get("/app/a", fresh=True)).data == b"four"
            await trio.to_thread.run_sync(two.create, "/app/from-kazoo", b"5")
            await trio.to_thread.run_sync(two.delete, "/app/from-kazoo")
            seen = [await anext(events) for _ in range(2)]
            assert [(str(event.type.name), event.path) for event in seen] == [
                ("CREATED", "/app/from-kazoo"),
                ("DELETED", "/app/from-kazoo"),
            ]


def survive(cell: Cell, storage: str) -> None:
    """kill -9: of the only server, or of the leader of three while a client writes on."""
    client = cell.kazoo()
    client.create("/kept", b"1")
    if len(cell.servers) == 1:
        client.stop()
        client.close()
        cell.kill(0)
        cell.start(0).wait_for("plugins: ")
        client = cell.kazoo()
        assert bool(client.exists("/kept")) == (storage != "memory"), "memory forgets, what is durable does not"
    else:
        session, lost = client.client_id, cell.leader()
        cell.kill(lost)
        assert client.retry(client.set, "/kept", b"2").version >= 1
        assert client.client_id == session, "its session goes on"
        cell.start(lost).wait_for("plugins: ")
        back = cell.kazoo(lost)
        back.sync("/")
        assert back.get("/kept")[0] == b"2", "it has caught up"
        back.stop()
        back.close()
    client.stop()
    client.close()


@pytest.mark.parametrize("transport", TRANSPORT)
@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("consensus", CONSENSUS)
def test_clients_see_the_same(consensus: str, storage: str, transport: str, folder: Path) -> None:
    with Cell(consensus, storage, transport, folder) as cell:
        accept(cell)
        survive(cell, storage)
        for server in cell.servers:
            assert server is not None
            assert server.stop() == 0


# ------------------------------------------------------------------------ another protocol, several servers
def http(cell: Cell, number: int, method: str, target: str, body: bytes = b"", session: str = "") -> tuple[int, bytes]:
    """A request to one of the servers; status and body of the answer."""
    server = cell.servers[number]
    assert server is not None
    port = server.wait_for("corekit listens on ").split("127.0.0.1:")[1].split(",")[0]
    connection = HTTPConnection("127.0.0.1", int(port), timeout=60)
    try:
        connection.request(method, target, body, {"Session": session} if session else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_session_over_http_goes_from_server_to_server(folder: Path) -> None:
    plugins = "zab,memory,zookeeper,http"
    with Cell("zab", "memory", "tcp", folder, plugins, ["plugin.http.port=0"]) as cell:
        lost = cell.leader()
        one, two = (number for number in range(3) if number != lost)
        status, body = http(cell, lost, "POST", "/session", b'{"timeout_ms": 10000}')
        token = json.loads(body)["session"]
        assert status == 201
        assert http(cell, lost, "POST", "/tree/here?ephemeral", b"1", token)[0] == 201
        assert http(cell, one, "GET", "/tree/here?fresh") == (200, b"1")
        cell.kill(lost)
        cell.leader()
        statuses, end = {503}, time.monotonic() + 60  # 503 until it has found the new leader
        while 503 in statuses and time.monotonic() < end:
            statuses = {http(cell, number, "PUT", "/session", b"", token)[0] for number in (one, two)}
        assert statuses == {204}
        assert http(cell, two, "POST", "/tree/there", b"2")[0] == 201
        assert http(cell, one, "GET", "/tree/here?fresh") == (200, b"1"), "its session lives"
        assert http(cell, two, "DELETE", "/session", b"", token)[0] == 204
        assert http(cell, one, "GET", "/tree/here?fresh")[0] == 404
        client = cell.kazoo(one)
        assert client.get("/there")[0] == b"2"
        client.stop()
        client.close()


# ----------------------------------------------------------------------------- what cannot be combined
def refused(*arguments: str, folder: Path) -> str:
    with ServerProcess("--data-dir", str(folder), *arguments, directory=folder) as server:
        assert server.wait() == EXIT_USAGE
        return server.lines[-1]


def test_combinations_without_a_meaning_are_refused(folder: Path) -> None:
    assert "rocks and sqlite are both of kind storage" in refused("-p", "sqlite,rocks", folder=folder)
    assert "zab needs the members of the ensemble" in refused("-p", "zab,memory", folder=folder)
    (folder / "myid").write_text("1\n")
    members = [text for n in (1, 2, 3) for text in ("-s", f"server.{n}=127.0.0.1:{20000 + n}:{21000 + n}")]
    line = refused("-p", "solo,memory", *members, folder=folder)
    assert line.endswith(
        "solo is the consensus of a single server, and the settings name 3: leave out solo or the others"
    )


# -------------------------------------------------------------------------------------- only what is used
_TELL = """
import atexit, os, sys
def tell():
    with open(os.environ["TOLD"], "w") as file:
        print(*sys.modules, file=file)
atexit.register(tell)
"""
_OF_PLUGINS = ("corekit_", "rocksdict", "sqlite3")


def imported(plugins: str, folder: Path) -> set[str]:
    """Top-level modules of plugins, and of what only they need, in a server that has served and stopped."""
    (folder / "sitecustomize.py").write_text(_TELL)
    told = folder / "told"
    environ = {"PYTHONPATH": str(folder), "TOLD": str(told)}
    arguments = ("-p", plugins, "--data-dir", str(folder / "data"), "-s", f"clientPortAddress={folder}/a.sock")
    if "unix" not in plugins:
        arguments = (*arguments[:-1], "clientPortAddress=127.0.0.1")
    if "http" in plugins:
        arguments = (*arguments, "-s", "plugin.http.port=0")
    with ServerProcess(*arguments, environ=environ, directory=folder) as server:
        server.wait_for("plugins: ")
        assert server.stop() == 0
    tops = {name.partition(".")[0] for name in told.read_text().split()}
    return {name for name in tops if name.startswith(_OF_PLUGINS)}


@pytest.mark.parametrize(
    ("plugins", "due"),
    [
        ("memory", {"corekit_acl_digest"}),
        ("rocks", {"corekit_acl_digest", "corekit_storage_rocks", "rocksdict"}),
        ("sqlite", {"corekit_acl_digest", "corekit_sqlite", "sqlite3"}),
        ("unix,memory,no:digest", {"corekit_unix"}),
        ("memory,audit,digest", {"corekit_acl_digest", "corekit_audit"}),
        ("memory,http,no:digest", {"corekit_http"}),
    ],
)
def test_nothing_is_imported_that_is_not_used(plugins: str, due: set[str], folder: Path) -> None:
    """Every plugin is installed here. What is not imported costs no start-up time and cannot be attacked."""
    assert imported(plugins, folder) == due


def test_the_order_of_names_never_matters(folder: Path) -> None:
    names = ("sqlite", "unix", "audit", "zookeeper", "digest", "http")
    shown = set()
    for number, order in enumerate((names, names[::-1], names[2:] + names[:2])):
        home = folder / str(number)
        home.mkdir()
        with Cell("solo", "sqlite", "unix", home, ",".join(order), ["plugin.http.port=0"]) as cell:
            server = cell.servers[0]
            assert server is not None
            shown.add(server.wait_for("plugins: "))
            client = cell.kazoo()
            assert client.create("/a", b"", acl=None) == "/a"
            client.stop()
            client.close()
            assert server.stop() == 0
    assert shown == {"plugins: audit, digest, http, solo, sqlite, unix, zookeeper"}
