"""`corekit status`: one line for each server, its exit code, `--json`, `--watch`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from tests.cli.conftest import PATIENCE, Tool
from tests.cli.terminal import Terminal


def test_every_server_is_shown(tool: Tool, site_name: str) -> None:
    shown = json.loads(tool.out("status", "--json"))["servers"]
    roles = sorted(one["role"] for one in shown)
    assert roles == (["follower", "follower", "leader"] if site_name == "ensemble" else ["standalone"])
    for one in shown:
        assert one["reachable"]
        assert one["reason"] is None
        assert one["lag"] is not None
        assert one["version"]
        assert one["epoch"] >= int(one["zxid"], 16) >> 32
        assert int(one["mntr"]["znode_count"]) == one["znodes"]
    rows = [line.split("\t") for line in tool.out("status").splitlines()]
    assert [row[0] for row in rows] == tool.hosts.split(",")


def test_members_that_are_not_named_are_found(tool: Tool, make_tool: Callable[[str], Tool]) -> None:
    first = make_tool(tool.hosts.partition(",")[0])
    clients = json.loads(tool.run("config", "ensemble", "--json").stdout)["clients"]  # those with a client address
    named = {first.hosts, *filter(None, clients.split(","))}
    assert {line.partition("\t")[0] for line in first.out("status").splitlines()} == named
    assert len(first.out("status", "--listed").splitlines()) == 1


def test_a_server_that_is_not_there_is_shown_as_such(tool: Tool, make_tool: Callable[[str], Tool]) -> None:
    one = tool.hosts.partition(",")[0]
    done = make_tool(f"{one},127.0.0.1:1").run("status", "--listed")
    assert done.returncode == 1
    assert "127.0.0.1:1\tunreachable" in done.stdout
    assert "connection refused" in done.stdout
    assert make_tool("127.0.0.1:1").run("status").returncode == 69


def test_watching(tool: Tool) -> None:
    watching = tool.start("status", "--watch", "0.1", "--json")
    assert watching.stdout is not None
    for _ in range(3):
        assert json.loads(watching.stdout.readline())["servers"][0]["reachable"]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE) == 130


def test_watching_on_a_terminal(tool: Tool) -> None:
    terminal = Terminal(tool, "status", "--watch", "0.1", env={"TERM": "xterm"})
    terminal.wait_for("latency ms")
    terminal.wait_for(tool.hosts.partition(",")[0])
    terminal.type("\x03")
    assert terminal.close() == 130
