"""`corekit shell`: lines from a pipe and from a terminal; zkCli.sh's words for what happens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Tool
from tests.cli.terminal import Terminal


def lines(tool: Tool, *typed: str) -> list[str]:
    """What the shell prints, without the events of watches and empty lines; errors come on stderr."""
    done = tool.run("shell", text="\n".join(("printwatches off", *typed, "")))
    assert "Traceback" not in done.stderr
    ours = [line for line in done.stdout.splitlines() if line and not line.startswith(("WATCHER", "WatchedEvent"))]
    return ours + [f"! {line}" for line in done.stderr.splitlines()]


def test_commands_of_zkcli(tool: Tool, root: str) -> None:
    assert lines(
        tool,
        f"create {root} data",
        f'set {root} "two words"',
        f"get {root}",
        f"create -e {root}/mine",
        f"getEphemerals {root}",
        f"ls {root}",
        f"getAcl {root}",
        f"deleteall {root}",
        f"stat {root}",
    ) == [
        f"Created {root}",
        "two words",
        f"Created {root}/mine",
        f"[{root}/mine]",
        "[mine]",
        "'world,'anyone",
        ": cdrwa",
        f"! Node does not exist: {root}",
    ]


def test_a_wrong_line_is_told_and_the_next_is_run(tool: Tool, root: str) -> None:
    assert lines(tool, "nonsense", "ls --nonsense", "get", "get relative", "redo 99", f"create {root}") == [
        f"Created {root}",
        "! nonsense: No such command 'nonsense'.",
        "! ls: No such option: --nonsense",
        "! get: Missing argument 'PATH'.",
        "! get: Invalid value for 'PATH': Path must start with / character: relative",
        "! redo takes the number of a command in the history",
    ]


def test_watches_are_printed_when_they_fire(tool: Tool, root: str) -> None:
    done = tool.run(
        "shell",
        text=f"create {root} a\nget -w {root}\nset {root} b\naddWatch {root}\ncreate {root}/child\n"
        f"removewatches {root}\ncreate {root}/unseen\nremovewatches {root}\n",
    )
    events = re.findall(r"type:(Node\w+|\w+Removed) path:(\S+)", done.stdout)
    assert events == [("NodeDataChanged", root), ("NodeCreated", f"{root}/child"), ("PersistentWatchRemoved", root)]
    assert done.stderr == f"no such watch [{root}]\n"


def test_authentication_history_and_sessions(tool: Tool, root: str) -> None:
    shown = lines(
        tool,
        "addauth digest ann:pw",
        "whoami",
        "close",
        "ls /",
        "connect",
        "whoami",
        f"create {root}",
        "history",
        "redo 7",
    )
    assert "digest: ann" in shown[:4]
    assert "! Not connected" in shown
    assert shown.count("digest: ann") == 1  # another session knows nothing of the first one's credentials
    assert f"7 - create {root}" in shown
    assert shown[-1] == f"! Node already exists: {root}"


def test_credentials_that_are_refused(tool: Tool) -> None:
    shown = lines(tool, "addauth nonsense x", "ls /")
    assert len(shown) == 2
    assert all("refused the credentials" in line for line in shown)


def test_the_exit_code_is_that_of_the_last_command(tool: Tool, root: str) -> None:
    assert tool.run("shell", text=f"get {root}\ncreate {root}\n").returncode == 0
    assert tool.run("shell", text=f"ls {root}\nget {root}/none\n").returncode == 1
    assert tool.run("shell", text="ls --nonsense\nquit\n").returncode == 2


def test_a_command_as_arguments_is_run_alone(tool: Tool, root: str) -> None:
    assert tool.out("shell", "-server", tool.hosts, "create", "-e", root, "two words") == f"Created {root}\n"
    assert tool.out("shell", "ls", "-R", "/zookeeper/quota") == "/zookeeper/quota\n"
    done = tool.run("shell", "get", f"{root}/none")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Node does not exist: {root}/none\n")


def test_everything_is_a_json_value_a_line(tool: Tool, root: str) -> None:
    typed = [
        f"create {root} {{}}",
        f"get -w {root}",
        f"get {root}/none",
        f"get {root} --nonsense",
        "redo 77",
        f"addWatch -m PERSISTENT {root}",
        f"removewatches {root}",
        "printwatches off",
        f"tree {root}",
        "history",
        "close",
        "whoami",
    ]
    done = tool.run("shell", "--json", text="\n".join((*typed, "")))
    assert (done.returncode, done.stderr) == (1, "")
    created, got, *others = [one for one in map(json.loads, done.stdout.splitlines()) if "event" not in one]
    assert (created["path"], got["data"]) == (root, "{}")
    assert others[:4] == [
        {"error": f"Node does not exist: {root}/none", "exit_code": 1},
        {"error": "get: No such option: --nonsense", "exit_code": 2},
        {"error": "redo takes the number of a command in the history", "exit_code": 2},
        {"path": root, "mode": "PERSISTENT"},
    ]
    removed, watches, tree, history, *closed = others[4:]
    assert sorted(removed["removed"]) == ["DataWatchRemoved", "PersistentWatchRemoved"]
    assert watches == {"printwatches": "off"}
    assert tree["name"] == root[1:]
    assert list(history.values()) == [*typed[:4], *typed[5:10]]
    assert closed == [{"connected": False}, {"error": "Not connected", "exit_code": 1}]
    events = [json.loads(line)["event"] for line in done.stdout.splitlines() if '{"event"' in line]
    assert events[0] == {"type": "None", "path": None, "state": "SyncConnected"}
    assert {(event["type"], event["path"]) for event in events[1:]} == {
        ("DataWatchRemoved", root),
        ("PersistentWatchRemoved", root),
    }


def test_help_lists_the_commands_and_explains_one(tool: Tool) -> None:
    done = tool.run("shell", text="help\nhelp create\n")
    assert done.returncode == 0
    assert "Print how many znodes are below a path." in done.stdout
    assert "It goes when the session ends." in done.stdout


def test_options_of_zkcli(make_tool: Callable[[str], Tool], tool: Tool) -> None:
    done = make_tool("127.0.0.1:1").run("shell", "-server", tool.hosts, "-timeout", "6000", "-r", text="ls /\n")
    assert done.returncode == 0
    assert "zookeeper]" in done.stdout
    done = tool.run("shell", "-waitforconnection", "ls", "/zookeeper/quota")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    done = tool.run("shell", "-secure", "-timeout", "2000", "ls", "/")
    assert done.returncode == 69
    assert "no TLS there" in done.stderr or "closed the connection" in done.stderr
    done = tool.run("shell", "-client-configuration", "client.properties", "ls", "/")
    assert (done.returncode, done.stdout) == (2, "")
    assert "use --tls-ca and --tls-cert" in done.stderr


def test_without_a_server_it_does_not_begin(make_tool: Callable[[str], Tool]) -> None:
    done = make_tool("127.0.0.1:1").run("shell", text="ls /\n")
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1


def test_a_terminal_has_completion_and_a_history(tool: Tool, root: str, tmp_path: Path) -> None:
    pytest.importorskip("readline")
    tool.out("create", root)
    tool.out("create", f"{root}/only", "found")
    kept = tmp_path / "history"
    for typed in (f"get {root}/o\t\n", "\x1b[A\x1b[A\n"):  # Tab; in the next run, twice the arrow up
        terminal = Terminal(tool, "shell", env={"COREKIT_HISTORY": str(kept), "TERM": "xterm"})
        terminal.wait_for(f"[zk: {tool.hosts}(CONNECTED) 0]")
        terminal.type(typed)
        terminal.wait_for("found")
        terminal.type("getAllCh\t\x15quit\n")  # a command is completed, and given up
        terminal.wait_for("getAllChildrenNumber")
        assert terminal.close() == 0
    assert kept.read_text().splitlines()[:2] == [f"get {root}/only", "quit"]
    assert kept.stat().st_mode & 0o77 == 0


def test_ctrl_c_gives_up_a_line_and_ctrl_d_ends(tool: Tool) -> None:
    terminal = Terminal(tool, "shell")
    terminal.wait_for("0] ")
    terminal.type("delete /impor")
    terminal.wait_for("/impor")
    terminal.type("\x03")
    terminal.wait_for("/impor\r\n[zk: ")
    terminal.type("version\n")
    terminal.wait_for("plugin API")
    terminal.type("\x04")
    assert terminal.close() == 0
