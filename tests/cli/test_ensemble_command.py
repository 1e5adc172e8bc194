"""`corekit ensemble create` and `up` as processes: files that work, and an ensemble in one terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import until
from tests.support.rawzk import RawClient
from tests.support.servers import free_port

State = dict[str, Any]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corekit", "ensemble", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(*arguments: str) -> str:
    """The one line with which a command ends that cannot be done."""
    done = run(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("corekit: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def port_of(client: str) -> int:
    return int(client.rpartition(":")[2])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Up:
    """A running `corekit ensemble up --json`; `states` holds the newest line of each server."""

    def __init__(self, directory: Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "corekit", "ensemble", "up", "--dir", str(directory), "--json"],
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.states: dict[int, State] = {}
        self.pids: set[int] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            state = json.loads(line)
            self.pids |= {state["pid"]} - {None}
            self.states[state["server"]] = state

    def roles(self) -> list[str]:
        return sorted(str(state["role"]) for state in list(self.states.values()))

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code and what was said on stderr; nothing that was started may be left."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(40)
        self._reader.join(10)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert [pid for pid in self.pids if is_alive(pid)] == []
        return code, said


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """`begin(directory)` runs `up`; whatever it leaves is ended with the test."""
    started: list[Up] = []

    def up(directory: Path, env: dict[str, str] | None = None) -> Up:
        started.append(Up(directory, env))
        return started[-1]

    yield up
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)
        for pid in one.pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------- create
def test_what_is_written(tmp_path: Path) -> None:
    first = [free_port(3) for _ in range(3)]
    options = [f"--client-port={first[0]}", f"--quorum-port={first[1]}", f"--election-port={first[2]}"]
    done = run("create", "--servers", "2", "--observers", "1", "--dir", "trial", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where = tmp_path / "trial"
    assert f"corekit serve --config {where}/server3/zoo.cfg" in done.stdout
    assert f"corekit ensemble up --dir {where}" in done.stdout
    lines = (where / "server3" / "zoo.cfg").read_text().splitlines()
    assert [line for line in lines if line.startswith("server.")] == [
        f"server.{n}=127.0.0.1:{first[1] + n - 1}:{first[2] + n - 1}{role};127.0.0.1:{first[0] + n - 1}"
        for n, role in ((1, ""), (2, ""), (3, ":observer"))
    ]
    assert "peerType=observer" in lines
    assert f"dataDir={where}/server3/data" in lines
    assert "peerType=observer" not in (where / "server1" / "zoo.cfg").read_text()
    assert [(where / f"server{n}" / "data" / "myid").read_text() for n in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


def test_what_is_told_to_programs(tmp_path: Path) -> None:
    done = run("create", "--dir", str(tmp_path / "trial"), "--free-ports", "--json")
    told = json.loads(done.stdout)
    assert told["directory"] == str(tmp_path / "trial")
    assert told["hosts"] == ",".join(server["client"] for server in told["servers"])
    assert [server["number"] for server in told["servers"]] == [1, 2, 3]
    ports = {server[key] for server in told["servers"] for key in ("quorum_port", "election_port")}
    assert len(ports | {port_of(server["client"]) for server in told["servers"]}) == 9
    assert all(server["start"][-1] == server["config"] for server in told["servers"])


def test_what_create_refuses(tmp_path: Path) -> None:
    where = tmp_path / "trial"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}, for server 1, is in use" in refused(
            "create", "--dir", str(where), f"--client-port={port}"
        )
    high = ("create", "--dir", str(where), f"--client-port={free_port(3)}", "--quorum-port", "65535")
    assert "--quorum-port 65535: server 2 would get 65536" in refused(*high)
    port = free_port()
    twice = ("create", "--dir", str(where), f"--client-port={port}", f"--quorum-port={port}")
    assert f"port {port} would be used twice" in refused(*twice)
    assert "192.0.2.1 is no address of this machine" in refused("create", "--dir", str(where), "--host", "192.0.2.1")
    assert not where.exists(), "nothing is written before everything fits"
    where.mkdir()
    (where / "mine").touch()
    assert f"{where} is not empty" in refused("create", "--dir", str(where))
    assert "mine is not empty" in refused("create", "--dir", str(where / "mine"))


# -------------------------------------------------------------------------------------------------- up
def test_an_ensemble_in_one_terminal(tmp_path: Path, begin: Callable[..., Up]) -> None:
    where = tmp_path / "trial"
    told = json.loads(run("create", "--observers", "1", "--dir", str(where), "--free-ports", "--json").stdout)
    # Variables that would make all servers one are not for them.
    up = begin(where, {"COREKIT_CLIENT_PORT": "1", "ZOO_MY_ID": "2"})
    until(lambda: up.roles() == ["follower", "follower", "leader", "observer"], "all servers serve")
    epochs = {state["epoch"] for state in up.states.values()}
    assert len(epochs) == 1
    assert min(epochs) >= 1, "although nothing was written yet"
    with RawClient("127.0.0.1", port_of(told["servers"][3]["client"])) as client:
        client.handshake()
        assert client.create("/through-the-observer").err == 0
        client.close_session()

    named = ["status", "-H", told["servers"][0]["client"], "--json"]
    shown = json.loads(subprocess.check_output([sys.executable, "-m", "corekit", *named]))["servers"]
    assert sorted(one["role"] for one in shown) == ["follower", "follower", "leader", "observer"], "one names them all"

    # One that is killed stays down until somebody starts it.
    leader = next(number for number, state in up.states.items() if state["role"] == "leader")
    os.kill(up.states[leader]["pid"], signal.SIGKILL)
    until(lambda: up.states[leader]["exit_code"] == -signal.SIGKILL, "the end of the leader is told")
    until(lambda: up.roles() == ["None", "follower", "leader", "observer"], "the others elect")
    by_hand = subprocess.Popen([where / f"server{leader}" / "start"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: up.states[leader]["role"] == "follower", "it is seen again")
        assert up.states[leader]["reason"] == "runs again, not from here"
        code, said = up.stop()
        assert by_hand.poll() is None, "what was not started by `up` is not ended by it"
    finally:
        by_hand.terminate()
        by_hand.wait(20)
    assert code == 1
    assert said == f"corekit: server.{leader} ended by SIGKILL: see {where}/server{leader}/server.log\n"

    # The data is there, and a stop in good order is one.
    up = begin(where)
    until(lambda: up.roles() == ["follower", "follower", "leader", "observer"], "all servers serve again")
    with RawClient("127.0.0.1", port_of(told["servers"][0]["client"])) as client:
        client.handshake()
        client.sync("/")
        assert client.exists("/through-the-observer").err == 0
        client.close_session()
    assert up.stop(signal.SIGTERM) == (0, "")


def test_servers_that_cannot_start_are_told(tmp_path: Path, begin: Callable[..., Up]) -> None:
    where = tmp_path / "trial"
    told = json.loads(run("create", "--servers", "1", "--dir", str(where), "--free-ports", "--json").stdout)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(told["servers"][0]["client"])))
        taken.listen()
        up = begin(where)
        code, said = up.ended()
    assert code == 1
    assert said.startswith("corekit: server.1 exited with 14: corekit: ")
    assert up.states[1]["exit_code"] == 14


def test_what_up_refuses(tmp_path: Path) -> None:
    assert "corekit ensemble create --dir" in refused("up", "--dir", str(tmp_path))
    where = tmp_path / "trial"
    run("create", "--dir", str(where), "--free-ports")
    (where / "server2" / "data" / "myid").write_text("3\n")
    assert f"{where}/server2 is the directory of server 2, but its myid says 3" in refused("up", "--dir", str(where))
    (where / "server2" / "data" / "myid").write_text("2\n")
    with open(where / "server3" / "zoo.cfg", "a") as config:
        config.write("tickTime=soon\n")
    assert "tickTime" in refused("up", "--dir", str(where))


def test_a_table_for_people(tmp_path: Path) -> None:
    where = tmp_path / "trial"
    run("create", "--servers", "1", "--dir", str(where), "--free-ports")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "corekit", "ensemble", "up", "--dir", str(where)],
        env={**os.environ, "COLUMNS": "160", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while b"standalone" not in shown:
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        os.close(ours)
    assert b"Ctrl-C stops all" in shown
    assert b"Traceback" not in shown
