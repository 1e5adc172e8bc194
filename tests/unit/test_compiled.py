"""The modules that setup.py compiles do the same as the Python that they are made from.

The tests themselves run the Python (`tests/__init__.py`), what they start as a process runs what is compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from corekit_zab.simulated import make as zab

from corekit.codec import ops
from corekit.replica import replica
from corekit.testing.process import ServerProcess
from corekit.testing.sim.campaign import run_seed
from tests import ROOT
from tests.support.rawzk import RawClient, create_body, int32, text
from tests.support.servers import MissingSoftware, find_program

TRACES = """
from corekit.replica import replica
from corekit.testing.sim.campaign import run_seed
from corekit_zab.simulated import make as zab
print(replica.__file__)
print([run_seed(3, zab, seconds=30, workload=workload).trace_hash for workload in ("keys", "sessions")])
"""

WORLD = """
from corekit.server import client_port
from corekit.testing.world import World, run
async def scenario(world: World) -> None:
    async with world.client() as zk:
        await zk.create("/hello", b"1")
        world.machines[0].kill(power=True)
        world.machines[0].start()
        world.note((await zk.get("/hello")).data)
print(client_port.__file__)
print([list(run(scenario, seed=3, servers=servers).trace) for servers in (1, 3)])
"""


def _compiler() -> None:
    find_program("cc", "gcc")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise MissingSoftware("python3-dev", "Python.h")


def _output(*words: str) -> str:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def compiler(needs: Callable[..., object]) -> None:
    needs(_compiler)


def test_what_is_installed_is_compiled_and_says_so() -> None:
    assert json.loads(_output("-m", "corekit", "version", "--json"))["compiled"] is True
    assert "compiled" in _output("-m", "corekit", "version")


def test_a_simulated_ensemble_does_the_same_compiled_and_as_python() -> None:
    """Each event of a run, in its order, with its time, is part of what is compared."""
    where, traces = _output("-c", TRACES).splitlines()
    assert not where.endswith(".py")
    assert str(replica.__file__).endswith(".py")
    here = [run_seed(3, zab, seconds=30, workload=workload).trace_hash for workload in ("keys", "sessions")]
    assert traces == str(here)


def test_a_world_is_the_same_compiled_and_as_python() -> None:
    """Its servers are subclasses, in Python, of what is compiled."""
    where, compiled = _output("-c", WORLD).splitlines()
    assert not where.endswith(".py")
    where, python = _output("-c", f"import tests\n{WORLD}").splitlines()
    assert where.endswith(".py")
    assert compiled == python
    assert compiled.count("b'1'") == 2


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (ops.EXISTS, text("/zookeeper/quota") + b"\1"),
        (ops.GET_DATA, text("/zookeeper/quota") + b"\1"),
        (ops.GET_CHILDREN, text("/zookeeper") + b"\0"),
        (ops.SET_DATA, text("/zookeeper") + text("data") + int32(7)),
        (ops.DELETE, text("/none") + int32(-1)),
        (ops.CREATE, create_body("/none/one")),
        (ops.SYNC, text("/")),
    ],
)
def test_a_request_cut_at_any_byte_has_an_answer(tmp_path: Path, op: int, body: bytes) -> None:
    """Compiled, a slice that ends before it begins is an error of the interpreter, which stopped the server."""
    with ServerProcess("--data-dir", str(tmp_path / "data")) as server, RawClient("127.0.0.1", server.port) as client:
        client.handshake()
        answers = [client.call(op, body[:size]).err for size in range(len(body))]
        assert answers[0] == -5
        assert client.ping().err == 0
