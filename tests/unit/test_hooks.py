"""Every hook of `corekit.hooks`, in one server whose four parts are a stranger's: when it is called, where, with what.

`tests/docs` asks for a `test_hook_NAME` here for each of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from corekit.api import Peer
from corekit.testing.memory_server import MemoryServer
from corekit.testing.process import ServerProcess
from tests.support.rawzk import RawClient
from tests.support.strangers import install

TELL = """
import os, sys, threading, trio

def tell(hook, *words):
    place = "loop" if trio.lowlevel.in_trio_run() else "start"
    main = threading.current_thread() is threading.main_thread()
    print("HOOK", hook, place if main else "thread", *words, file=sys.stderr, flush=True)
"""

STORAGE = """
from corekit.api import Observer
from corekit.builtin.memory import MemoryStorage
from corekit.hooks import AdminCommand, Service
kind = "storage"

class Scheme:
    name = "password"
    authenticated = True
    def authenticate(self, data, peer):
        return [("password", "friend")] if data == b"sesame" else None
    def on_connect(self, peer): return ()
    def valid(self, acl_id): return True
    def matches(self, identity, acl_id): return identity == acl_id

class Ears(Observer):
    def committed(self, zxid, entry):
        tell("observed")

@hookimpl
def register_auth_schemes(context):
    tell("register_auth_schemes", context.name)
    return [Scheme()]

@hookimpl
def make_storage(context):
    tell("make_storage", context.options["word"], os.path.basename(context.data_dir))
    return MemoryStorage()

@hookimpl
def register_observers():
    tell("register_observers")
    return [Ears()]

async def work(gateway):
    tell("service", type(gateway).__name__)
    try:
        await trio.sleep_forever()
    finally:
        tell("service-ended")

@hookimpl
def register_services(context):
    tell("register_services")
    return [Service("work", work)]

def run(gateway, query):
    tell("admin-command")
    return {"hello": query["name"]}

@hookimpl
def register_admin_commands(context):
    tell("register_admin_commands")
    return [AdminCommand(("greet",), "Say hello.", run)]

@hookimpl
def server_started(addresses):
    tell("server_started", *addresses)

@hookimpl
def role_changed(mode, epoch):
    tell("role_changed", mode, epoch)

@hookimpl
def server_stopping(why):
    tell("server_stopping", why)
"""

CONSENSUS = """
from corekit.builtin.solo import SoloConsensus
kind = "consensus"

class Order(SoloConsensus):
    def start(self, host, recovery, now_ms):
        tell("consensus-start")
        super().start(host, recovery, now_ms)

@hookimpl
def make_consensus():
    tell("make_consensus")
    return Order()
"""

TRANSPORT = """
from corekit.builtin.tcp import TcpTransport
kind = "transport"

class Wires(TcpTransport):
    async def listen(self, address, port, *, tls=None, backlog=-1):
        tell("transport-listen")
        return await super().listen(address, port, tls=tls, backlog=backlog)

@hookimpl
def make_transport(context):
    tell("make_transport")
    return Wires()
"""

PROTOCOL = """
from corekit.builtin.zookeeper import ZooKeeperProtocol
kind = "protocol"

class Language(ZooKeeperProtocol):
    def bind(self, gateway):
        tell("protocol-bind")
        super().bind(gateway)

@hookimpl
def make_client_protocol(context):
    tell("make_client_protocol")
    return Language(context)
"""

COMMAND = """
kind = "command"

@hookimpl
def register_commands(app):
    @app.command()
    def greet(name: str = "world") -> None:
        "Say hello."
        print("hello", name)
"""

PARTS = {"home": STORAGE, "order": CONSENSUS, "wires": TRANSPORT, "language": PROTOCOL}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What the hooks of one server told, from its start to its end: (hook, place, what it was given)."""
    directory = tmp_path_factory.mktemp("hooks")
    for name, source in PARTS.items():
        install(directory / "site", name, TELL + source)
    settings = ["-s", "plugin.home.word=hello", "-s", "admin.enableServer=true", "-s", "admin.serverPort=0"]
    settings += ["-s", "admin.serverAddress=127.0.0.1", "-d", str(directory / "data")]
    environ = {"PYTHONPATH": str(directory / "site")}
    with ServerProcess("-p", ",".join(PARTS), *settings, environ=environ) as server:
        where = server.wait_for("admin and metrics on ").split("admin and metrics on ")[1]
        with RawClient("127.0.0.1", server.port) as client:
            client.handshake()
            assert client.auth("password", b"sesame").err == 0
            assert client.create("/a", b"1").err == 0
        with urllib.request.urlopen(f"{where.split(',')[0]}/commands/greet?name=ada", timeout=10) as answer:
            said = json.load(answer)["hello"]
        assert said == "ada"
        assert server.stop() == 0
    return [line.split()[1:] for line in server.lines if line.startswith("HOOK ")]


def one(told: list[list[str]], hook: str) -> list[str]:
    """Where a hook was called and with what; it must have been called once."""
    found = [words[1:] for words in told if words[0] == hook]
    assert len(found) == 1, f"{hook} was called {len(found)} times"
    return found[0]


def order(told: list[list[str]]) -> list[str]:
    return [words[0] for words in told]


def test_hook_make_storage(told: list[list[str]]) -> None:
    assert one(told, "make_storage") == ["start", "hello", "data"]


def test_hook_make_consensus(told: list[list[str]]) -> None:
    assert one(told, "make_consensus") == ["start"]
    assert one(told, "consensus-start") == ["loop"]


def test_hook_make_transport(told: list[list[str]]) -> None:
    assert one(told, "make_transport") == ["start"]
    assert one(told, "transport-listen") == ["loop"]


def test_hook_make_client_protocol(told: list[list[str]]) -> None:
    assert one(told, "make_client_protocol") == ["start"]
    assert one(told, "protocol-bind") == ["loop"]


def test_hook_register_auth_schemes(told: list[list[str]]) -> None:
    assert one(told, "register_auth_schemes") == ["start", "home"]
    assert order(told).index("register_auth_schemes") < order(told).index("make_storage")


def test_hook_register_observers(told: list[list[str]]) -> None:
    assert one(told, "register_observers") == ["start"]
    assert order(told).index("make_storage") < order(told).index("register_observers")
    assert ["observed", "loop"] in told


def test_hook_register_services(told: list[list[str]]) -> None:
    assert one(told, "register_services") == ["start"]
    assert order(told).index("register_observers") < order(told).index("register_services")
    assert one(told, "service") == ["loop", "Kernel"]
    assert one(told, "service-ended") == ["loop"]


def test_hook_register_admin_commands(told: list[list[str]]) -> None:
    assert one(told, "register_admin_commands") == ["start"]
    assert order(told).index("register_services") < order(told).index("register_admin_commands")
    assert one(told, "admin-command") == ["loop"]


def test_hook_register_commands(tmp_path: Path) -> None:
    install(tmp_path / "site", "greeter", COMMAND)
    done = subprocess.run(
        [sys.executable, "-m", "corekit", "greet", "--name", "ada"],
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello ada\n"), done.stderr


def test_hook_server_started(told: list[list[str]]) -> None:
    place, address = one(told, "server_started")
    assert place == "loop"
    assert address.startswith("0.0.0.0:")
    assert not address.endswith(":0"), "the port that was found, not the one that was asked for"


def test_hook_role_changed(told: list[list[str]]) -> None:
    assert one(told, "role_changed") == ["loop", "standalone", "0"]
    assert order(told).index("role_changed") < order(told).index("server_started")


def test_hook_server_stopping(told: list[list[str]]) -> None:
    assert one(told, "server_stopping") == ["loop", "SIGTERM"]
    assert order(told).index("server_stopping") < order(told).index("service-ended")


def test_a_protocol_may_let_a_client_read_without_a_session() -> None:
    server = MemoryServer()
    guest = server.kernel.connect(Peer("127.0.0.1", 1), lambda _: None)
    assert not guest.ready
    server.kernel.admit(guest)
    assert (guest.ready, guest.session_id) == (True, 0)
