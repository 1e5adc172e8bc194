"""`corekit serve` as a process: what it prints, how it stops, what it exits with."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import free_port

DEADLINE_S = 20.0
Start = Callable[..., "Serving"]


class Serving:
    """A running `corekit serve`; `lines` holds what it has printed on stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"{text!r} was never printed:\n" + "\n".join(self.lines))

    @property
    def port(self) -> int:
        line = next((line for line in self.lines if "listens on" in line), None) or self.read_until("listens on")
        return int(line.split("listens on ")[1].split(",")[0].rpartition(":")[2])

    def word(self, word: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as plain:
            plain.sendall(word.encode())
            return b"".join(iter(lambda: plain.recv(65536), b"")).decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr.read().splitlines())
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start_server(*arguments: str, stdout: int | None = None, **variables: str) -> Serving:
            environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
            process = subprocess.Popen(
                [sys.executable, "-m", "corekit", "serve", *arguments],
                cwd=tmp_path,
                env=environ | variables,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Serving(process)

        yield start_server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_stops_in_good_order(start: Start, tmp_path: Path, number: int) -> None:
    began = time.monotonic()
    server = start("--client-port", "0", "-s", "4lw.commands.whitelist=ruok")
    server.read_until("plugins: ")
    assert time.monotonic() - began < 5  # far above the usual 0.3 s, far below a hang
    assert f"data in {tmp_path / 'corekit-data'}" in "\n".join(server.lines)
    assert server.lines[-1] == "plugins: digest, rocks, solo, tcp, zookeeper"
    assert server.word("ruok") == "imok"
    began = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - began < 5
    assert "Traceback" not in "\n".join(server.lines)


def test_plugins_and_json_logs(start: Start) -> None:
    server = start("--client-port", "0", "-p", "memory,no:digest", "--log-format", "json", "--set", "qqq=1")
    server.read_until('"message": "listening"')
    assert json.loads(server.lines[-1])["plugins"] == ["memory", "solo", "tcp", "zookeeper"]
    assert server.stop() == 0
    records = [json.loads(line) for line in server.lines]
    assert {"level": "warning", "logger": "corekit.config", "message": "--set qqq: unknown key qqq"}.items() <= records[
        0
    ].items()
    assert any(record["message"] == "stopping" and record["signal"] == "SIGTERM" for record in records)


def test_json_is_one_line_on_standard_output_and_the_log(start: Start, tmp_path: Path) -> None:
    server = start("--client-port", "0", "-p", "memory", "--json", stdout=subprocess.PIPE)
    assert server.process.stdout is not None
    told = json.loads(server.process.stdout.readline())
    assert told["pid"] == server.process.pid
    assert told["data_dir"] == str(tmp_path / "corekit-data")
    assert told["plugins"] == ["digest", "memory", "solo", "tcp", "zookeeper"]
    (where,) = told["listens"]
    with socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), timeout=DEADLINE_S):
        pass
    assert server.stop() == 0
    assert server.process.stdout.read() == ""
    assert {json.loads(line)["message"] for line in server.lines} >= {"started", "stopping"}


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
def test_a_log_that_cannot_be_written_is_no_reason_not_to_serve(tmp_path: Path, stderr: str) -> None:
    port = free_port()
    command = f'exec "$0" -m corekit serve -p memory --client-port {port} -s admin.enableServer=false {stderr}'
    with subprocess.Popen(["sh", "-c", command, sys.executable], cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            answer = b""
            while not answer and time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as plain:
                    plain.sendall(b"srvr")
                    answer = plain.recv(100)
            assert answer.startswith(b"Zookeeper version: ")
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


def test_a_config_file_of_zookeeper(start: Start, tmp_path: Path) -> None:
    (tmp_path / "zoo.cfg").write_text(f"dataDir={tmp_path / 'zk'}\nclientPort=0\nsnapshot.compression.method=gz\n")
    server = start("--config", "zoo.cfg")
    server.read_until("plugins: ")
    assert "zoo.cfg:3: snapshot.compression.method has no effect: " in "\n".join(server.lines)
    assert "Mode: standalone" in server.word("srvr")
    assert server.stop() == 0
    assert (tmp_path / "zk").is_dir()


def test_a_single_voter_begins_an_ensemble_and_counts_its_election(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "myid").write_text("1")
    ports = free_port(2)
    (tmp_path / "zoo.cfg").write_text(
        f"dataDir={tmp_path}/data\nclientPort=0\nstandaloneEnabled=false\nadmin.enableServer=false\ntickTime=500\n"
        f"4lw.commands.whitelist=*\nserver.1=127.0.0.1:{ports}:{ports + 1}\n"
    )
    server = start("--config", "zoo.cfg")
    server.read_until("serving mode=leader")
    assert "zk_cnt_election_time\t1\n" in server.word("mntr")
    assert server.stop() == 0


def test_a_port_in_use_is_exit_code_14(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start("--client-port", str(port), "-s", "clientPortAddress=127.0.0.1", "-p", "memory")
        line = server.read_until("the port is in use")
        assert line.startswith(f"corekit: cannot listen on 127.0.0.1:{port}: ")
        assert "check myid" in line  # two servers of one machine with one number
        assert server.process.wait(DEADLINE_S) == 14
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


def test_a_data_directory_in_use_is_exit_code_3(start: Start) -> None:
    first = start("--client-port", "0", "--data-dir", "d")
    first.read_until("plugins: ")
    second = start("--client-port", "0", "--data-dir", "d")
    line = second.read_until("corekit: ")
    assert line.startswith("corekit: ")
    assert second.process.wait(DEADLINE_S) == 3
    assert first.stop() == 0


def test_no_plugin_is_imported_that_is_not_used(start: Start, tmp_path: Path) -> None:
    info = tmp_path / "site" / "corekit_boom-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "boom.py").write_text("raise SystemExit(9)")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corekit-boom\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[corekit]\nboom = boom\n")
    server = start("--client-port", "0", "-p", "memory", PYTHONPATH=str(tmp_path / "site"))
    server.read_until("plugins: ")
    assert server.stop() == 0
    named = start("--client-port", "0", "-p", "memory,boom", PYTHONPATH=str(tmp_path / "site"))
    assert named.read_until("boom") == "corekit: plugin boom (corekit-boom 1.0) cannot be imported: SystemExit: 9"
    assert named.process.wait(DEADLINE_S) == 2
