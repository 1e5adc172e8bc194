"""What a plugin that fails does to the server: it is named, with its version, and nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corekit.api import DiskUsage, Peer, Recovery
from corekit.builtin.memory import MemoryStorage
from corekit.builtin.memory_transport import MemoryTransport
from corekit.builtin.solo import SoloConsensus
from corekit.errors import ContractError
from corekit.server import rules
from corekit.testing.consensus_host import entry_of
from corekit.testing.process import ServerProcess
from tests.support.rawzk import Closed, RawClient
from tests.support.strangers import install

STORAGE = """
from corekit.builtin.memory import MemoryStorage
kind = "storage"

class Store(MemoryStorage):
    METHOD

@hookimpl
def make_storage(context):
    return Store()
"""

CONSENSUS = """
from corekit.builtin.solo import SoloConsensus
kind = "consensus"

class Order(SoloConsensus):
    METHOD

@hookimpl
def make_consensus(context):
    return Order()
"""

PROTOCOL = """
from corekit.builtin.zookeeper import ZooKeeperProtocol, ZooKeeperSession
kind = "protocol"

class Session:
    def __init__(self, gateway, peer, woken):
        self.inner = ZooKeeperSession(gateway, peer, lambda _: woken(self))

    def __getattr__(self, name):
        return getattr(self.inner, name)

    METHOD

class Language(ZooKeeperProtocol):
    def open(self, peer, woken):
        return Session(self._gateway, peer, woken)

@hookimpl
def make_client_protocol(context):
    return Language(context)
"""

TRANSPORT = """
from corekit.builtin.tcp import TcpTransport
kind = "transport"

class Wires(TcpTransport):
    METHOD

@hookimpl
def make_transport(context):
    return Wires()
"""

AUTH = """
kind = "auth"

class Scheme:
    name = "token"
    authenticated = True
    def authenticate(self, data, peer):
        METHOD
    def on_connect(self, peer):
        return ()
    def valid(self, acl_id):
        return True
    def matches(self, identity, acl_id):
        return False

@hookimpl
def register_auth_schemes(context):
    return [Scheme()]
"""

SERVICE = """
from corekit.hooks import Service
kind = "service"

async def work(gateway):
    METHOD

@hookimpl
def register_services(context):
    return [Service("work", work)]
"""

OBSERVER = """
from corekit.api import Observer
kind = "observer"

class Watcher(Observer):
    def committed(self, zxid, entry):
        raise RuntimeError("no room on the page")

@hookimpl
def register_observers(context):
    return [Watcher()]
"""


def poke(port: int) -> None:
    """Open a session, prove something, write: whatever of that the server survives."""
    try:
        with RawClient("127.0.0.1", port) as client:
            client.handshake()
            client.create("/a", b"1")
            client.auth("token", b"x")
    except (Closed, OSError):
        pass


def serving(tmp_path: Path, plugins: str) -> ServerProcess:
    environ = {"PYTHONPATH": str(tmp_path / "site")}
    return ServerProcess("-p", plugins, "--data-dir", str(tmp_path / "data"), environ=environ)


def serve_until_it_ends(tmp_path: Path, source: str, *more: str) -> tuple[int, str]:
    """Exit code and last line of a server with a bad plugin."""
    install(tmp_path / "site", "bad", source)
    with serving(tmp_path, ",".join(["bad", *more])) as server:
        try:
            poke(server.port)
        except AssertionError:
            pass  # it ended before it listened
        return server.wait(), server.lines[-1]


BAD = "corekit: plugin bad (corekit-bad 2.3) "


@pytest.mark.parametrize(
    ("source", "method", "line"),
    [
        (
            STORAGE,
            "def append(self, first, entries, last): raise RuntimeError('out of\\n ink')",
            "failed, so the server stops: RuntimeError: out of ink",
        ),
        (
            STORAGE,
            "def sync(self): int('x')",
            "failed, so the server stops: ValueError: invalid literal for int() with base 10: 'x'",
        ),
        (
            STORAGE,
            "def open(self, *, set_aside=False): return None",
            "breaks its contract, so the server stops: open() returned NoneType, not a Recovery",
        ),
        (
            STORAGE,
            "def usage(self): return 5",
            "breaks its contract, so the server stops: usage() returned int, not a DiskUsage",
        ),
        (
            CONSENSUS,
            "def tick(self, now_ms): raise KeyError(7)",
            "failed, so the server stops: KeyError: 7",
        ),
        (
            CONSENSUS,
            "def propose(self, first, entries, last): self._host.committed(last)",
            "breaks its contract, so the server stops: committed() was called inside propose()",
        ),
        (
            PROTOCOL,
            "def received(self, data): raise IndexError('beyond')",
            "failed, so the server stops: IndexError: beyond",
        ),
        (
            PROTOCOL,
            "def take(self): return ['text']",
            "breaks its contract, so the server stops: take() returned ['text'], not a list of bytes",
        ),
        (
            TRANSPORT,
            "async def listen(self, address, port, *, tls=None, backlog=-1): return []",
            "breaks its contract, so the server stops: listen() returned [], not a list of listeners",
        ),
        (
            TRANSPORT,
            "async def listen(self, address, port, *, tls=None, backlog=-1): raise TypeError('no')",
            "failed, so the server stops: TypeError: no",
        ),
        (
            AUTH,
            "return ['token']",
            "breaks its contract, so the server stops: authenticate() of token returned 'token', not (scheme, id)",
        ),
        (AUTH, "import sys; sys.exit(0)", "failed, so the server stops: SystemExit: 0"),
        (
            SERVICE.replace("async def", "def"),
            "return 5",
            "breaks its contract, so the server stops: run of the service work is not async",
        ),
        (SERVICE, "raise LookupError('nothing to do')", "failed, so the server stops: LookupError: nothing to do"),
    ],
)
def test_a_part_that_fails_stops_the_server_with_its_name(tmp_path: Path, source: str, method: str, line: str) -> None:
    more = [] if source == STORAGE else ["memory"]
    more += ["zookeeper"] if source not in (PROTOCOL,) else []
    code, last = serve_until_it_ends(tmp_path, source.replace("METHOD", method), *more)
    assert last == BAD + line
    assert code == 1


def test_what_a_scheme_takes_for_true_is_true(tmp_path: Path) -> None:
    """Compiled or not: None is no, and a match of a regular expression is yes."""
    source = AUTH.replace("METHOD", "return [('token', data.decode())]")
    source = source.replace("return True", "return re.match('[ab]$', acl_id)").replace("return False", "return 1")
    install(tmp_path / "site", "bad", "import re\n" + source)
    with serving(tmp_path, "bad,digest,memory") as server, RawClient("127.0.0.1", server.port) as client:
        client.handshake()
        assert client.create("/a", b"1", acl=((1, "token", "a"),)).err == 0
        assert client.create("/c", b"1", acl=((1, "token", "c"),)).err == -114
        assert client.get("/a").err == -102
        assert client.auth("token", b"b").err == 0
        assert client.get("/a").err == 0


def test_an_observer_that_fails_is_named_and_unbound_and_the_server_goes_on(tmp_path: Path) -> None:
    install(tmp_path / "site", "bad", OBSERVER)
    with serving(tmp_path, "bad,memory") as server:
        with RawClient("127.0.0.1", server.port) as client:
            client.handshake()
            assert client.create("/a", b"1").err == 0
            line = server.wait_for("is not called any more")
            assert "an observer of plugin bad (corekit-bad 2.3) failed and is not called any more" in line
            assert client.set("/a", b"2").err == 0
            assert client.get("/a").err == 0
        assert server.stop() == 0
    assert server.lines.count("RuntimeError: no room on the page") == 1


def test_a_mistake_of_corekit_is_not_put_down_to_a_plugin(tmp_path: Path) -> None:
    """A plugin calls the kernel as it may, and the kernel fails: the traceback says so, no plugin is named."""
    source = CONSENSUS.replace("METHOD", "def tick(self, now_ms): pass") + (
        "\ndef fail(self, upto_zxid):\n"
        "    raise RuntimeError('the kernel itself')\n"
        "import types, corekit.replica.replica as home\n"
        "home.Replica.committed = types.FunctionType(fail.__code__, vars(home))\n"
    )
    code, last = serve_until_it_ends(tmp_path, source, "memory")
    assert code == 1
    assert last == "RuntimeError: the kernel itself"


# ------------------------------------------------------------------------------------- storage's answers
@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"state_zxid": 0}, "returned dict, not a Recovery"),
        (Recovery(state_zxid=9, last_zxid=8, fresh=False), "last_zxid is below state_zxid"),
        (Recovery(last_zxid=-1, fresh=False), "numbers from 0"),
        (Recovery(accepted_epoch=None, fresh=False), "numbers from 0"),
        (Recovery(last_zxid=5, fresh=True), "fresh and yet holds something"),
    ],
)
def test_what_open_returns_is_checked(found: Any, words: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(ContractError, match=words) as caught:
        rules.recovered(storage, found)
    assert caught.value.part is storage
    assert rules.recovered(storage, Recovery()) == Recovery()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "NoneType, not a list"),
        ([(5, bytearray(entry_of(5)))], "of type bytearray"),
        ([(6, entry_of(6)), (5, entry_of(5))], "0x5 after 0x6: out of order"),
        ([(4, entry_of(4))], "0x4 after 0x4: out of order"),
        ([(6, entry_of(5))], "the entry of 0x5 as 0x6"),
    ],
)
def test_what_read_log_returns_is_checked(found: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        rules.read_entries(MemoryStorage(), 4, found)
    good = [(5, entry_of(5)), (7, entry_of(7))]
    assert rules.read_entries(MemoryStorage(), 4, good) == good


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([(b"a", b"1"), (b"b", "2")], "brought .b'b', '2'., not a pair of bytes"),
        ([(b"a", b"1"), b"b2"], "brought b'b2', not a pair of bytes"),
        ([(b"b", b"1"), (b"a", b"2")], "brought b'a' after b'b': out of order"),
        ([(b"a", b"1"), (b"a", b"2")], "brought b'a' after b'a': out of order"),
    ],
)
def test_what_read_state_brings_is_checked(found: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        list(rules.state_pairs(MemoryStorage(), found))
    good = [(b"a", b""), (b"b", b"2")]
    assert list(rules.state_pairs(MemoryStorage(), good)) == [([b"a", b"b"], [b"", b"2"])]


def test_what_other_parts_return_is_checked() -> None:
    storage, transport = MemoryStorage(), MemoryTransport()
    assert rules.used(storage, DiskUsage()) == DiskUsage()
    assert rules.peer(transport, Peer("a")) == Peer("a")
    for check, found, words in (
        (lambda it: rules.used(storage, it), 5, "usage.. returned int"),
        (lambda it: rules.peer(transport, it), ("a", 1), "peer.. returned tuple"),
        (lambda it: rules.listeners(transport, it), (), "not a list of listeners"),
        (lambda it: rules.listeners(transport, it), [storage], "returned a MemoryStorage, not a trio Listener"),
        (lambda it: rules.wanted_listeners(storage, it), [("", "2181", None)], "not .address, port, TLS"),
        (lambda it: rules.session(storage, it), storage, "MemoryStorage, no ClientSession: received is missing"),
    ):
        with pytest.raises(ContractError, match=words):
            check(found)


# ---------------------------------------------------------------------------------- consensus's calls
def ruled(last_zxid: int = 5, *, alone: bool = True) -> rules.ConsensusRules:
    found = rules.ConsensusRules(SoloConsensus(), alone=alone)
    found.start(Recovery(accepted_epoch=3, last_zxid=last_zxid, fresh=False))
    return found


def stopped() -> rules.ConsensusRules:
    found = ruled()
    found.stop()
    return found


SERVE = {"proposing": False, "serving": False, "undecided": 0}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ruled().persist(6, [entry_of(6)], 7), "brings 1 entries"),
        (lambda: ruled().persist(6, [], 5), "brings 0 entries"),
        (lambda: ruled().persist(5, [entry_of(5)], 5), "the log ends at 0x5: out of order"),
        (lambda: ruled().persist(6, [entry_of(7)], 6), "the entry of 0x7 as 0x6"),
        (lambda: ruled().persist(6, ["text"], 6), "of type str, not bytes"),
        (lambda: ruled().committed(5, True), "inside propose"),
        (lambda: ruled().committed(6, False), "the log ends at 0x5"),
        (lambda: _persisted(ruled()).committed(6, False), "only 0x5 is durable"),
        (lambda: ruled().serve("primary", 6, **SERVE), "modes are"),
        (lambda: ruled().serve("leader", 6, **SERVE | {"proposing": True}), "inside propose"),
        (lambda: ruled().serve("leader", 6, **SERVE | {"serving": True}), "suspend.. comes first"),
        (lambda: ruled().serve("leader", 6, **SERVE | {"undecided": 2}), "2 entries of the log undecided"),
        (lambda: ruled().serve("leader", 5, **SERVE), "the log ends at 0x5"),
        (lambda: ruled().suspend(True), "inside propose"),
        (lambda: ruled().save_epochs(2), "falls from 3 to 2"),
        (lambda: ruled().renumber(1 << 32, False), "outside of propose"),
        (lambda: ruled().renumber(7, True), "higher epoch"),
        (lambda: ruled().truncate(3, 4), "0x4 is decided"),
        (lambda: stopped().persist(6, [entry_of(6)], 6), "persist.. was called after stop"),
        (lambda: stopped().serve("leader", 6, **SERVE), "serve.. was called after stop"),
        (lambda: stopped().call("mark"), "mark.. was called after stop"),
    ],
)
def test_a_call_that_breaks_the_contract_is_named(call: Callable[[], None], words: str) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        call()
    assert isinstance(caught.value.part, SoloConsensus)


def _persisted(found: rules.ConsensusRules) -> rules.ConsensusRules:
    found.persist(6, [entry_of(6)], 6)
    return found


def test_what_is_allowed_is_allowed() -> None:
    found = _persisted(ruled())
    found.durable_zxid = 6
    found.committed(6, False)
    found.serve("leader", 1 << 32 | 1, **SERVE)
    found.suspend(False)
    found.save_epochs(3)
    among = _persisted(ruled(alone=False))
    among.committed(6, False)
    among.truncate(5, 5)
    among.persist(6, [entry_of(6)], 6)
    among.installed(20)
    among.serve("follower", 3, **SERVE | {"undecided": 4})


def test_a_call_from_another_thread_is_named() -> None:
    import threading

    found, errors = ruled(), []

    def work() -> None:
        try:
            found.committed(5, False)
        except ContractError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["committed() was called from another thread; everything happens on the event loop"]
