"""`corekit queue`, `barrier`, `counter`, `group`, `service`, `config`, `task`, `master`, `worker`, `lock list`."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE, Tool, finish, until


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a command that goes on."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def interrupt(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(PATIENCE)


# --------------------------------------------------------------------------------------------- queues
def test_a_queue(tool: Tool, root: str) -> None:
    assert tool.out("queue", "put", root, "one", "two") == ""
    assert json.loads(tool.out("queue", "put", root, "--lines", "--json", text="three\nfour\n")) == {"put": 2}
    tool.out("queue", "put", root, "urgent", "--priority", "1")
    shown = [line.split("\t") for line in tool.out("queue", "list", root).splitlines()]
    assert [fields[3] for fields in shown] == ["urgent", "one", "two", "three", "four"]
    assert tool.out("queue", "take", root) == "urgent\n"
    taken = tool.out("queue", "take", root, "-n", "2", "--json").splitlines()
    assert [json.loads(line) for line in taken] == [{"data": "one"}, {"data": "two"}]
    follower = tool.start("queue", "take", root, "--follow")
    assert [line_of(follower), line_of(follower)] == ["three", "four"]
    tool.out("queue", "put", root, "five")
    assert line_of(follower) == "five"
    assert interrupt(follower) in (0, 130)
    assert tool.run("queue", "take", root, "--try").returncode == 75
    assert tool.run("queue", "take", root, "--timeout", "0.1").returncode == 75


def test_items_come_back_unless_the_command_succeeds(tool: Tool, root: str) -> None:
    tool.out("queue", "put", root, "--claim", "a", "b", "c")
    done = tool.run("queue", "take", root, "--claim", "--", "sh", "-c", "cat; exit 3")
    assert (done.returncode, done.stdout) == (3, "a")
    listed = json.loads(tool.out("queue", "list", root, "--claim", "--json"))
    assert [(item["data"], item["taken"]) for item in listed] == [("a", False), ("b", False), ("c", False)]
    assert tool.out("queue", "take", root, "--claim", "-n", "2", "--", "cat") == "ab"
    assert tool.out("queue", "take", root, "--claim", "--try", "--", "sh", "-c", "echo $COREKIT_ITEM").startswith(
        "entry"
    )
    assert tool.run("queue", "take", root, "--claim", "--try", "--", "cat").returncode == 75


def test_delayed_items(tool: Tool, root: str) -> None:
    tool.out("queue", "put", root, "later", "--delay", "3600")
    tool.out("queue", "put", root, "now", "--delay", "0")
    assert tool.out("queue", "take", root, "--delayed") == "now\n"
    assert tool.run("queue", "take", root, "--delayed", "--try").returncode == 75


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("put",), "queue put needs items: as arguments, with --file or with --lines"),
        (("put", "x", "--delay", "1", "--claim"), "--delay goes with neither --claim nor --priority"),
        (("take", "--claim"), "--claim needs a command: the item is removed when the command has succeeded"),
        (("take", "--claim", "--delayed"), "--claim and --delayed exclude each other"),
        (("take", "--", "true"), "a command needs --claim: the items of other queues cannot come back when it fails"),
    ],
)
def test_queue_options_that_do_not_go_together(tool: Tool, arguments: tuple[str, ...], text: str) -> None:
    done = tool.run("queue", arguments[0], "/queue", *arguments[1:])
    assert (done.returncode, done.stderr) == (2, f"corekit: {text}\n")


# -------------------------------------------------------------------------------- barriers and counters
def test_a_barrier(tool: Tool, root: str) -> None:
    tool.out("barrier", "close", root)
    done = tool.run("barrier", "wait", root, "--timeout", "0.1")
    assert (done.returncode, done.stderr) == (75, f"corekit: {root} was not released within 0.1 s\n")
    waiting = tool.start("barrier", "wait", root, "--json")
    assert tool.out("barrier", "release", root) == ""
    assert json.loads(finish(waiting)[1]) == {"path": root, "released": True}
    assert tool.out("barrier", "release", root) == f"{root} was open\n"
    assert tool.out("barrier", "wait", root) == ""


def test_a_counter(tool: Tool, root: str) -> None:
    assert tool.out("counter", "get", root) == "0\n"
    assert tool.out("counter", "add", root) == "1\n"
    assert tool.out("counter", "add", root, "-5") == "-4\n"
    assert json.loads(tool.out("counter", "add", root, "46", "--json")) == {"path": root, "value": 42}
    tool.out("counter", "set", root, "2147483647", "--form", "int32")
    done = tool.run("counter", "add", root, "--form", "int32")
    assert (done.returncode, done.stderr) == (
        2,
        "corekit: 2147483648 does not fit into a counter of the form int32\n",
    )
    done = tool.run("counter", "get", root, "--form", "int64")
    assert done.returncode == 2
    assert done.stderr.endswith("is not a counter of the form int64\n")


# --------------------------------------------------------------------------------- groups and services
def test_a_group(tool: Tool, root: str) -> None:
    watcher = tool.start("group", "watch", root)
    assert line_of(watcher) == "-"
    member = tool.start("group", "join", root, "--name", "ann")
    assert line_of(member) == f"COREKIT_GROUP={root}"
    assert line_of(watcher) == "ann"
    (listed,) = json.loads(tool.out("group", "list", root, "--json"))
    assert listed["name"] == "ann"
    inside = tool.run("group", "join", root, "--name", "bob", "--", "sh", "-c", "exit 4")
    assert inside.returncode == 4
    assert {line_of(watcher), line_of(watcher)} == {"ann bob", "ann"}
    assert interrupt(member) == 0
    assert line_of(watcher) == "-"
    assert interrupt(watcher) == 0
    assert tool.out("group", "list", root) == ""


def test_services(tool: Tool, root: str) -> None:
    base = ("--base", root)
    watcher = tool.start("service", "watch", "api", *base)
    assert line_of(watcher) == "-"
    one = tool.start("service", "register", "api", "10.0.0.1:80", "--id", "one", "--payload", '{"load": 3}', *base)
    assert line_of(watcher) == "10.0.0.1:80"
    two = tool.start("service", "register", "api", "[::1]:81", "--id", "two", "--payload", '{"load": 1}', *base)
    assert len(line_of(watcher).split()) == 2
    assert tool.out("service", "pick", "api", "--strategy", "least-loaded", *base) == "[::1]:81\n"
    picked = {tool.out("service", "pick", "api", "--key", "user42", *base) for _ in range(3)}
    assert len(picked) == 1
    assert json.loads(tool.out("service", "pick", "api", "--json", *base))["id"] in ("one", "two")
    assert len(tool.out("service", "list", *base).splitlines()) == 2
    assert len(json.loads(tool.out("service", "list", "api", "--json", *base))["api"]) == 2
    for process in (one, two, watcher):
        assert interrupt(process) == 0
    done = tool.run("service", "pick", "api", *base)
    assert (done.returncode, done.stderr) == (1, f"corekit: no instance of api is registered in {root}\n")


@pytest.mark.parametrize("address", ["nonsense", ":80", "h:", "h:65536"])
def test_addresses_that_are_none(tool: Tool, address: str) -> None:
    done = tool.run("service", "register", "api", address, "--", "true")
    assert (done.returncode, done.stderr) == (2, f"corekit: {address} is not ADDRESS:PORT\n")


# --------------------------------------------------------------------------------------- configuration
def test_configuration(tool: Tool, root: str) -> None:
    base = ("--base", root)
    watcher = tool.start("config", "watch", "db/url", *base)
    assert line_of(watcher) == "-"
    tool.out("config", "set", "db/url=pg://a", "db/pool=10", *base)
    assert line_of(watcher) == "pg://a"
    assert tool.out("config", "get", "db/url", *base) == "pg://a\n"
    assert json.loads(tool.out("config", "get", "--json", *base)) == {"db/url": "pg://a", "db/pool": "10"}
    tool.out("config", "set", "db/url-", "never/was-", *base)
    assert json.loads(tool.out("config", "get", "--json", *base)) == {"db/pool": "10"}
    assert line_of(watcher) == "-"
    assert interrupt(watcher) == 0
    done = tool.run("config", "get", "db/url", *base)
    assert (done.returncode, done.stderr) == (1, f"corekit: db/url is not set in {root}\n")
    assert tool.run("config", "set", "nonsense", *base).returncode == 2


def test_a_command_is_restarted_when_the_configuration_changes(tool: Tool, root: str, tmp_path: Path) -> None:
    base = ("--base", root)
    tool.out("config", "set", "color=red", *base)
    seen = tmp_path / "seen"
    script = f'echo "$COLOR" >> {seen}; exec sleep 600'
    running = tool.start("config", "exec", "--prefix", "", *base, "--", "sh", "-c", script)

    def shown() -> list[str]:
        return seen.read_text().split() if seen.exists() else []

    until(lambda: shown() == ["red"], "the command runs")
    tool.out("config", "set", "color=blue", *base)
    until(lambda: shown() == ["red", "blue"], "the command was restarted")
    assert interrupt(running) in (0, 130)


def test_what_happens_to_that_command_is_told_as_json(tool: Tool, root: str) -> None:
    base = ("--base", root)
    tool.out("config", "set", "db/color=red", "same=1", *base)
    script = 'echo "$DB_COLOR"; test "$DB_COLOR" = blue && exit 4; exec sleep 600'
    running = tool.start("config", "exec", "--json", *base, "--", "sh", "-c", script)
    assert line_of(running) == "red"
    tool.out("config", "set", "db/color=blue", *base)
    code, out, err = finish(running)
    assert (code, out) == (4, "blue\n")
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in events] == ["starting", "restarting", "ended", "starting", "ended"]
    assert events[0]["variables"] == ["DB_COLOR", "SAME"]
    assert events[1]["changed"] == ["db/color"]
    assert events[-1]["exit_code"] == 4


# ------------------------------------------------------------------------------------ master and worker
def test_tasks_are_given_to_workers(tool: Tool, root: str) -> None:
    early = tool.out("task", "submit", root, "early").strip()
    assert tool.out("task", "state", root, early) == "pending\n"
    assert tool.out("task", "list", root).startswith(f"{early}\tpending")
    dropped = tool.out("task", "submit", root, "dropped", "--id", "dropped").strip()
    tool.out("task", "cancel", root, dropped)
    done = tool.run("task", "cancel", root, dropped)
    assert (done.returncode, done.stderr) == (1, f"corekit: there is no unfinished task dropped in {root}\n")
    master = tool.start("master", root)
    assert line_of(master).startswith("leading, term ")
    script = 'tr a-z A-Z; test "$COREKIT_TASK_ATTEMPT" -le 3'
    worker = tool.start("worker", root, "--json", "--", "sh", "-c", script)
    assert tool.out("task", "result", root, early) == "EARLY\n"
    assert tool.out("task", "submit", root, "late", "--wait") == "LATE\n"
    assert tool.out("task", "state", root, early) == "done\n"
    assert {task["state"] for task in json.loads(tool.out("task", "list", root, "--json"))["tasks"]} == {"done"}
    told = [json.loads(line_of(worker)) for _ in range(4)]
    assert [(one["event"], one["exit_code"]) for one in told] == [("started", None), ("succeeded", 0)] * 2
    assert [one["id"] for one in told[:2]] == [early, early]
    assert interrupt(worker) in (0, 130)
    assert interrupt(master) in (0, 130)
    done = tool.run("task", "result", root, "nobody", "--within", "0.1")
    assert (done.returncode, done.stderr) == (75, "corekit: no result of nobody within 0.1 s\n")


def test_a_task_whose_command_fails_every_time_has_failed(tool: Tool, root: str) -> None:
    master = tool.start("master", root, "--max-attempts", "2")
    worker = tool.start("worker", root, "--max-attempts", "2", "--", "false")
    done = tool.run("task", "submit", root, "x", "--id", "bad", "--wait")
    assert done.returncode == 1
    assert tool.out("task", "state", root, "bad") == "failed\n"
    told = [line_of(worker) for _ in range(4)]
    assert told[::2] == ["bad started, attempt 1", "bad started, attempt 2"]
    assert told[1::2] == ["bad failed, attempt 1, exit code 1", "bad failed, attempt 2, exit code 1"]
    for process in (worker, master):
        interrupt(process)


# ----------------------------------------------------------------------------------------------- locks
def test_locks_are_listed_with_their_holders(tool: Tool, root: str) -> None:
    tool.out("create", root)
    holder = tool.start("lock", "acquire", f"{root}/a", "--name", "ann")
    line_of(holder)
    assert tool.out("lock", "list", root).split("\t")[:2] == [f"{root}/a", "ann"]
    done = tool.run("lock", "acquire", f"{root}/a", "--try", "--", "true")
    assert (done.returncode, done.stderr) == (75, f"corekit: {root}/a was not acquired; ann holds it\n")
    assert interrupt(holder) == 0
    assert tool.out("lock", "list", root) == ""
    assert tool.run("lock", "show", f"{root}/a").returncode == 1
