"""`corekit check` as a process: verdicts on files, and histories recorded on servers of both kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from corekit.testing.linear import check
from corekit.testing.linear.history import dump, load
from tests.cluster.cluster import Cluster
from tests.cluster.nemesis import Nemesis
from tests.linear.brute import random_history
from tests.support.servers import Server, ServerFailed, free_port

Run = Callable[..., subprocess.CompletedProcess[str]]

STALE = """
{"client": "a", "op": "create", "key": "/k", "value": "1", "call": 0.000, "return": 0.001, "result": "ok"}
{"client": "a", "op": "set", "key": "/k", "value": "2", "call": 0.002, "return": 0.004, "result": "ok", "version": 1}
{"client": "b", "op": "exists", "key": "/k", "call": 0.003, "return": 0.009, "result": "ok"}
{"client": "b", "op": "get", "key": "/k", "call": 0.005, "return": 0.006, "result": "ok", "value": "1", "version": 0}
"""


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
    return own | {"COLUMNS": "200", "TERM": "dumb"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_check(*arguments: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "corekit", "check", *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run_check


def test_a_good_history(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text("\n".join(dump(random_history(Random(1), 500, 4, keys=3))))
    done = run("h.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("500 operations on 3 znodes, ")
    assert done.stdout.endswith("linearizable\n")


def test_a_bad_history_is_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text(STALE)
    done = run("h.jsonl")
    assert done.returncode == 1
    assert "VIOLATED, 1 contradiction" in done.stdout
    assert 'the znode could only be: "2", version 1.' in done.stdout
    assert "exists" not in done.stdout, "what is not needed is shown"
    shown = json.loads(run("h.jsonl", "--json").stdout)
    assert shown["ok"] is False
    assert shown["violations"][0]["failed"] == 5
    assert [one["line"] for one in shown["violations"][0]["operations"]] == [3, 5]
    assert [one["line"] for one in shown["violations"][0]["context"]] == [2]


def test_the_page_about_it_is_right(run: Run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "checking.md").read_text()
    lines = [line.strip() for line in page.splitlines() if line.startswith("    {")]
    assert not check(load(lines)).violations
    (tmp_path / "h.jsonl").write_text(STALE)
    report = run("h.jsonl").stdout.partition("  Lines in brackets")[0]
    assert textwrap.indent(report.strip(), "    ").replace("    \n", "\n") in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a HISTORY"),
        (["h.jsonl", "--record", "127.0.0.1:1"], "name a HISTORY"),
        (["none.jsonl"], "none.jsonl cannot be read: No such file"),
        (["."], ". cannot be read"),
        (["other"], "other, line 1: "),
        (["binary"], "binary is no history: it is not UTF-8"),
        (["--record", "127.0.0.1:1", "-o", "no/such/folder"], "no/such/folder cannot be written"),
    ],
)
def test_wrong_use_is_one_line(run: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "other").write_text("hello\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_what_cannot_be_decided_is_not_called_good(run: Run, tmp_path: Path) -> None:
    # Without a single version in them, overlapping writes of a hundred clients can have any order.
    lines = [
        {"client": n, "op": "set", "key": "/k", "value": f"{n}", "call": 0, "return": 9 + n, "result": "ok"}
        for n in range(30)
    ] + [
        {"client": f"r{n}", "op": "get", "key": "/k", "value": f"{n}", "call": 0, "return": 10 + n, "result": "ok"}
        for n in range(30)
    ]
    (tmp_path / "h.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = run("h.jsonl", "--effort", "1")
    assert done.returncode == 2
    assert "not decided for 1 znode" in done.stdout
    assert "Raise --effort for /k." in done.stdout


def test_no_server_is_said_so(run: Run) -> None:
    done = run("--record", f"127.0.0.1:{free_port()}", "-o", "h.jsonl")
    assert done.returncode == 69
    assert "Is the server running?" in done.stderr


def recorded(run: Run, tmp_path: Path, hosts: str, *more: str) -> None:
    for reads in ("sync", "plain"):
        done = run("--record", hosts, "--seconds", "1", "--reads", reads, "-o", f"{reads}.jsonl", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "linearizable" in done.stdout
        with open(tmp_path / f"{reads}.jsonl") as lines:
            operations = load(lines)
        assert len(operations) > 20
        assert any(one.plain for one in operations) == (reads == "plain")


def test_recording_on_a_server(run: Run, tmp_path: Path, corekit_server: Server) -> None:
    recorded(run, tmp_path, corekit_server.hosts)
    assert "corekit-check" not in corekit_server.four("dump")


@pytest.mark.interop
def test_recording_on_apache_zookeeper(run: Run, tmp_path: Path, server_factory: Callable[..., Server]) -> None:
    server = server_factory({}, kind="java")
    recorded(run, tmp_path, server.hosts)


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["sync", "plain"])
def test_recording_while_servers_fail(run: Run, tmp_path: Path, reads: str) -> None:
    """Leaders are killed and paused; what clients saw must be linearizable all the same, unknown outcomes included."""
    cluster = Cluster(["corekit"] * 3, tmp_path / "cluster").begin()
    hosts = ",".join(member.hosts for member in cluster.members)
    command = [sys.executable, "-m", "corekit", "check", "--record", hosts, "--seconds", "60", "--reads", reads]
    command += ["--keys", "6", "--json", "-o", "h.jsonl", "--session-timeout", "5"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    nemesis = Nemesis(cluster, 1, ["kill_leader", "pause_leader", "kill_follower", "kill_all"])
    try:
        for _ in range(10):
            if process.poll() is None:
                nemesis.round()
                cluster.wait_all()
        output, errors = process.communicate(timeout=240)
    except (ServerFailed, subprocess.TimeoutExpired) as error:
        process.kill()
        raise AssertionError(f"{error}\n{cluster.logs()}") from error
    finally:
        cluster.kill()
    assert process.returncode == 0, output + errors
    verdict = json.loads(output)
    print({name: verdict[name] for name in ("operations", "unknown", "znodes", "plain_reads")}, dict(nemesis.done))
    assert verdict["unknown"] > 0, "no connection broke: nothing was tried"
