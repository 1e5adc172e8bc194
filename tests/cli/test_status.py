"""`corekit status`: one line for each server, its exit code, `--json`, `--watch`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from tests.cli.conftest import PATIENCE, Tool
from tests.cli.terminal import Terminal
from tests.conftest import ServerFactory


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
    done = first.run("status")
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == named
    assert ("not every member is shown" in done.stderr) is (len(named) < len(tool.hosts.split(",")))
    assert len(first.out("status", "--listed").splitlines()) == 1


def test_members_without_a_client_address_are_told_of(
    make_tool: Callable[[str], Tool], server_factory: ServerFactory
) -> None:
    server = server_factory({"skipACL": "yes"})
    one = make_tool(server.hosts)
    members = f"server.1=127.0.0.1:1:2;{server.port}\nserver.2=h2:1:2:participant\nserver.3=h3:1:2"
    one.out("set", "/zookeeper/config", members)
    done = one.run("status")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert done.stderr.startswith(
        "corekit: warning: not every member is shown: the configuration has no client address of server.2, server.3; "
    )
    assert json.loads(one.out("status", "--json"))["not_shown"] == ["server.2", "server.3"]
    assert one.run("status", "--listed").stderr == ""
    assert make_tool(f"{server.hosts},127.0.0.1:1,127.0.0.1:2").run("status").stderr == "", "all three are named"


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
