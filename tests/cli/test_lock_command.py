"""`corekit lock acquire` as a process: the command's environment, exit codes, signals, waiting, and its kin."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bodies import Body
from tests.cli.conftest import PATIENCE, Tool, finish, until
from tests.support.servers import Server

PRINT_ENV = "import os; print(*(os.environ[n] for n in ('COREKIT_LOCK_PATH', 'COREKIT_LOCK_NODE', 'COREKIT_LOCK_TOKEN', 'COREKIT_SESSION')))"  # noqa: E501


@pytest.fixture
def body(tmp_path: Path) -> Body:
    return Body(tmp_path / "body")


@pytest.mark.parametrize("server_kind", ["corekit", pytest.param("java", marks=pytest.mark.interop)])
def test_the_command_learns_what_is_held_and_its_exit_code_is_ours(
    server_factory: Callable[..., Server], make_tool: Callable[[str], Tool], server_kind: str
) -> None:
    tool = make_tool(server_factory(kind=server_kind).hosts)
    tokens = []
    for _ in range(2):
        path, node, token, session = tool.out("lock", "acquire", "/l", "--", sys.executable, "-c", PRINT_ENV).split()
        assert path == "/l"
        assert node.startswith("/l/")
        assert session.startswith("0x")
        tokens.append(int(token))
    assert tokens[0] < tokens[1]
    assert tool.run("lock", "acquire", "/l", "--", "sh", "-c", "exit 7").returncode == 7
    assert tool.run("lock", "acquire", "/l", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert tool.run("lock", "show", "/l").returncode == 1


def test_a_command_that_cannot_be_run(tool: Tool, root: str, tmp_path: Path) -> None:
    done = tool.run("lock", "acquire", root, "--", "no-such-command")
    assert (done.returncode, done.stderr) == (127, "corekit: there is no command no-such-command\n")
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    done = tool.run("lock", "acquire", root, "--", str(broken))
    assert done.returncode == 127
    assert done.stderr.startswith(f"corekit: cannot run {broken}: ")
    broken.chmod(0o644)
    done = tool.run("lock", "acquire", root, "--", str(broken))
    assert (done.returncode, done.stderr) == (126, f"corekit: cannot run {broken}: it is not an executable file\n")
    assert tool.children(root) == []


def test_json_changes_what_is_printed_and_nothing_else(tool: Tool, root: str) -> None:
    done = tool.run("lock", "acquire", root, "--json", "--", "echo", "once")
    assert (done.returncode, done.stdout) == (0, "once\n")
    holder = tool.start("lock", "acquire", root, "--json")
    assert holder.stdout is not None
    text = "".join(iter(holder.stdout.readline, "}\n")) + "}"
    assert json.loads(text)["COREKIT_LOCK_PATH"] == root
    holder.send_signal(signal.SIGINT)
    holder.wait(PATIENCE)


def test_not_acquired_in_time(tool: Tool, root: str, body: Body) -> None:
    holder = tool.start("lock", "acquire", root, "--name", "the first", *body.command())
    body.wait_alive()
    done = tool.run("lock", "acquire", root, "--try", "--", "true")
    assert (done.returncode, done.stderr) == (75, f"corekit: {root} was not acquired; the first holds it\n")
    done = tool.run("lock", "acquire", root, "-w", "0.2", "-E", "9", "--", "true")
    assert (done.returncode, done.stderr) == (9, f"corekit: {root} was not acquired within 0.2 s; the first holds it\n")
    (entry,) = json.loads(tool.out("lock", "show", root, "--json"))
    assert (entry["state"], entry["identifier"]) == ("holds", "the first")
    assert root in tool.run("lock", "list").stdout  # of the whole server, where other tests hide znodes
    holder.terminate()
    assert finish(holder)[0] == 128 + signal.SIGTERM


def test_waiting_ends_when_the_holder_does(tool: Tool, root: str, body: Body) -> None:
    holder = tool.start("lock", "acquire", root, *body.command())
    body.wait_alive()
    waiter = tool.start("lock", "acquire", root, "--timeout", "30", *body.command("0"))
    until(lambda: len(tool.children(root)) == 2, "the second waits")
    body.stop()
    assert finish(holder)[0] == 0
    assert finish(waiter)[0] == 0
    assert body.overlaps() == []
    assert [sign.what for sign in body.signs() if sign.what != "alive"] == ["begin", "end"] * 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_waiting_gives_up_and_leaves_nothing(tool: Tool, root: str, body: Body, name: str) -> None:
    number = getattr(signal, name)
    holder = tool.start("lock", "acquire", root, *body.command())
    body.wait_alive()
    waiter = tool.start("lock", "acquire", root, "--", "touch", "never")
    until(lambda: len(tool.children(root)) == 2, "the second waits")
    waiter.send_signal(number)
    code, out, err = finish(waiter)
    assert (code, out, err) == (128 + number, "", "")
    assert len(tool.children(root)) == 1
    assert not (tool.directory / "never").exists()
    assert body.signals() == []
    holder.terminate()
    holder.wait()


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.45, 0.6, 0.8])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing(tool: Tool, root: str, body: Body, delay: float) -> None:
    process = tool.start("lock", "acquire", root, *body.command())
    asked = time.monotonic() + delay
    while time.monotonic() < asked:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code = finish(process)[0]
    assert code in (128 + signal.SIGTERM, -signal.SIGTERM)  # the latter: before Python ran a line of ours
    body.wait_silent(0.2)
    assert tool.children(root) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_reach_the_whole_group_of_the_command(tool: Tool, root: str, body: Body, name: str) -> None:
    child = Body(Path(f"{body.base}-child"))
    process = tool.start("lock", "acquire", root, *body.command("child"))
    body.wait_alive()
    child.wait_alive()
    number = getattr(signal, name)
    process.send_signal(number)
    assert finish(process)[0] == 128 + number
    until(child.signals, "the child of the command got the signal")
    assert body.signals() == child.signals() == [name]


def test_the_lock_is_kept_until_a_command_that_takes_its_time_has_ended(tool: Tool, root: str, body: Body) -> None:
    process = tool.start("lock", "acquire", root, *body.command("deaf"))
    body.wait_alive()
    second = Body(body.base.with_name("second"))
    waiter = tool.start("lock", "acquire", root, *second.command("0"))
    until(lambda: len(tool.children(root)) == 2, "the second waits")
    process.terminate()
    until(body.signals, "the signal arrives")
    assert len(tool.children(root)) == 2
    body.stop()
    assert finish(process)[0] == 0
    assert finish(waiter)[0] == 0
    assert body.signals() == ["SIGTERM"]
    assert body.last_sign() < second.signs()[0].time


def test_without_a_command_it_holds_until_ctrl_c(tool: Tool, root: str) -> None:
    process = tool.start("lock", "acquire", root)
    assert process.stdout is not None
    told = dict(process.stdout.readline().strip().split("=", 1) for _ in range(4))
    assert told["COREKIT_LOCK_PATH"] == root
    (entry,) = json.loads(tool.out("lock", "show", root, "--json"))
    assert str(entry["token"]) == told["COREKIT_LOCK_TOKEN"]
    assert entry["session"] == told["COREKIT_SESSION"]
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0
    assert tool.children(root) == []


def test_what_is_ignored_stays_ignored(tool: Tool, root: str, body: Body) -> None:
    """As under nohup."""
    process = tool.start(
        "lock", "acquire", root, *body.command(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    body.wait_alive()
    process.send_signal(signal.SIGHUP)
    body.stop()
    assert finish(process)[0] == 0
    assert body.signals() == []


def test_breaking_a_lock_ends_its_command(tool: Tool, root: str, body: Body) -> None:
    holder = tool.start("lock", "acquire", root, "--name", "old", *body.command("child"))
    body.wait_alive()
    done = tool.run("lock", "break", root)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert tool.out("lock", "break", root, "--yes") == "removed old\n"
    code, _, err = finish(holder)
    assert code == 70
    assert err.startswith(f"corekit: {root} was lost while held: ")
    assert err.count("\n") == 1
    assert body.signals() == ["SIGTERM"]
    Body(Path(f"{body.base}-child")).wait_silent()


def test_no_server(make_tool: Callable[[str], Tool]) -> None:
    done = make_tool("127.0.0.1:1").run("lock", "acquire", "/x", "--timeout", "0.3", "--", "true")
    assert done.returncode == 69
    assert done.stderr.startswith("corekit: no session within 0.3")
    assert "127.0.0.1:1: connection refused" in done.stderr
    assert done.stderr.count("\n") == 1


def test_too_long_a_grace_is_refused(tool: Tool, root: str) -> None:
    done = tool.run("lock", "acquire", root, "--session-timeout", "4", "--grace", "3", "--", "true")
    assert done.returncode == 2
    assert "--session-timeout" in done.stderr


# ------------------------------------------------------------------------------------------- its kin
@pytest.mark.parametrize("command", [("semaphore", "acquire"), ("lock", "acquire")])
def test_as_many_as_there_are_permits(tool: Tool, root: str, tmp_path: Path, command: tuple[str, str]) -> None:
    bodies = [Body(tmp_path / f"body{number}") for number in range(3)]
    holders = [tool.start(*command, root, "-n", "2", *one.command()) for one in bodies[:2]]
    for one in bodies[:2]:
        one.wait_alive()
    assert tool.run(*command, root, "-n", "2", "--try", "--", "true").returncode == 75
    waiter = tool.start(*command, root, "-n", "2", *bodies[2].command("0"))
    holders[0].terminate()
    assert finish(waiter)[0] == 0
    assert len(json.loads(tool.out("semaphore", "show", root, "--json"))) == 1
    holders[1].terminate()
    for holder in holders:
        holder.wait()
    assert tool.run(*command, root, "-n", "3", "--", "true").returncode == 2


def test_readers_together_writers_alone(tool: Tool, root: str, tmp_path: Path) -> None:
    readers = [Body(tmp_path / f"reader{number}") for number in range(2)]
    processes = [tool.start("rwlock", "read", root, *one.command()) for one in readers]
    for one in readers:
        one.wait_alive()
    writer = Body(tmp_path / "writer")
    processes.append(tool.start("rwlock", "write", root, *writer.command("0.3")))
    shown = until(
        lambda: (found := json.loads(tool.out("rwlock", "show", root, "--json"))) and len(found) == 3 and found,
        "the writer waits",
    )
    assert [entry["state"] for entry in shown] == ["reads", "reads", "waits (writes)"]
    assert writer.signs() == []
    assert tool.run("rwlock", "read", root, "--try", "--", "true").returncode == 75
    for process in processes[:2]:
        process.terminate()
        process.wait()
    assert finish(processes[2])[0] == 0
    assert max(one.last_sign() for one in readers) < writer.signs()[0].time


def test_a_leader_that_stays_leads_again_after_it_was_removed(tool: Tool, root: str, body: Body) -> None:
    leader = tool.start("elect", root, "--stay", "--name", "one", *body.command())
    first = body.wait_alive()
    tool.out("lock", "break", root, "--yes")
    second = until(lambda: [sign for sign in body.signs() if sign.token != first.token], "it leads again")[0]
    assert int(second.token) > int(first.token)
    assert body.overlaps() == []
    leader.terminate()
    code, _, err = finish(leader)
    assert code == 128 + signal.SIGTERM
    assert "waiting again" in err


def test_a_second_signal_does_not_wait(tool: Tool, root: str, server_factory: Callable[..., Server]) -> None:
    """The server is stopped, so that giving up cannot remove the contender."""
    server = server_factory()
    tool.hosts = server.hosts
    holder = tool.start("lock", "acquire", root)
    assert holder.stdout is not None
    holder.stdout.readline()
    waiter = tool.start("lock", "acquire", root, "--", "true")
    until(lambda: len(tool.children(root)) == 2, "the second waits")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        waiter.terminate()
        until(lambda: waiter.send_signal(signal.SIGTERM) or waiter.poll() is not None, "it leaves", 5)
        assert waiter.returncode == 128 + signal.SIGTERM
    finally:
        os.kill(server.pid, signal.SIGCONT)
