"""A command under a lock never outlives the lock: whatever is killed or stopped, and with many who want it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bodies import Body
from tests.cli.conftest import SETTINGS, Tool, finish, until
from tests.cli.terminal import Terminal
from tests.support.servers import Server

SESSION = 3.0  # seconds
SHORT = ("--session-timeout", str(SESSION))


@pytest.fixture
def body(tmp_path: Path) -> Body:
    return Body(tmp_path / "body")


@pytest.fixture
def child(body: Body) -> Body:
    return Body(Path(f"{body.base}-child"))


def held(tool: Tool, path: str, body: Body, child: Body, *more: str) -> subprocess.Popen[str]:
    """A running holder whose command, and its child, ignore SIGTERM."""
    process = tool.start("lock", "acquire", path, *SHORT, *more, *body.command("deaf", "child"))
    body.wait_alive()
    child.wait_alive()
    return process


def guard_of(process: subprocess.Popen[str], body: Body) -> int:
    """The process id of the guard: the parent of the command."""
    stat = Path(f"/proc/{body.signs()[0].pid}/stat").read_text()
    found = int(stat.rpartition(")")[2].split()[1])
    assert found != process.pid
    return found


@pytest.mark.parametrize(
    ("number", "server_kind"),
    [
        (signal.SIGKILL, "corekit"),
        (signal.SIGSTOP, "corekit"),
        pytest.param(signal.SIGSTOP, "java", marks=pytest.mark.interop),
    ],
)
def test_without_a_server_the_command_ends_before_the_session_can(
    server_factory: Callable[..., Server],
    make_tool: Callable[[str], Tool],
    body: Body,
    child: Body,
    number: int,
    server_kind: str,
) -> None:
    server = server_factory(SETTINGS, kind=server_kind)
    process = held(make_tool(server.hosts), "/l", body, child)
    cut = time.monotonic()
    os.kill(server.pid, number)
    code, _, err = finish(process)
    if number == signal.SIGSTOP:
        os.kill(server.pid, signal.SIGCONT)
    assert code == 70
    assert err.startswith("corekit: /l was lost while held: ")
    assert err.count("\n") == 1
    assert body.signals() == child.signals() == ["SIGTERM"]
    # The server heard of the session at `cut` at the latest, so nobody else can have had the lock before this:
    assert max(body.last_sign(), child.last_sign()) < cut + SESSION


def test_a_server_that_comes_back_in_time_is_not_noticed(
    server_factory: Callable[..., Server], make_tool: Callable[[str], Tool], body: Body
) -> None:
    server = server_factory(SETTINGS)
    process = make_tool(server.hosts).start("lock", "acquire", "/l", "--session-timeout", "30", *body.command())
    body.wait_alive()
    server.restart(hard=True)
    assert len(make_tool(server.hosts).children("/l")) == 1
    body.stop()
    assert finish(process) == (0, "", "")
    assert body.signals() == []


def test_a_killed_corekit_takes_its_command_along(tool: Tool, root: str, body: Body, child: Body) -> None:
    process = held(tool, root, body, child)
    killed = time.monotonic()
    process.kill()
    process.wait()
    body.wait_silent()
    child.wait_silent()
    assert body.signals() == child.signals() == ["SIGTERM"]
    assert max(body.last_sign(), child.last_sign()) < killed + SESSION


def test_a_stopped_corekit_does_not_keep_its_command_alive(tool: Tool, root: str, body: Body, child: Body) -> None:
    process = held(tool, root, body, child)
    stopped = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    next_body = Body(body.base.with_name("next"))
    waiter = tool.start("lock", "acquire", root, *next_body.command("0"))
    body.wait_silent()
    child.wait_silent()
    assert max(body.last_sign(), child.last_sign()) < stopped + SESSION
    assert finish(waiter)[0] == 0
    assert next_body.signs()[0].time > max(body.last_sign(), child.last_sign())
    process.send_signal(signal.SIGCONT)
    assert finish(process)[0] == 70


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the guard in /proc")
def test_without_its_guard_the_command_is_killed(tool: Tool, root: str, body: Body, child: Body) -> None:
    process = held(tool, root, body, child)
    os.kill(guard_of(process, body), signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 1
    assert "guarded" in err
    body.wait_silent()
    child.wait_silent()
    assert tool.children(root) == []


def test_many_with_killed_holders_never_overlap(tool: Tool, root: str, body: Body) -> None:
    """Every command takes a file lock of the system, which tells of any two at once."""
    chance = random.Random(5)
    arguments = ("lock", "acquire", root, "--session-timeout", "1.5", *body.command("0.1"))
    processes = [tool.start(*arguments) for _ in range(4)]
    left, killed = 8, 0
    while processes:
        for process in list(processes):
            if process.poll() is None:
                continue
            processes.remove(process)
            assert process.returncode in (0, -signal.SIGKILL)
            if left:
                left -= 1
                processes.append(tool.start(*arguments))
        if killed < 2 and processes and body.signs() and chance.random() < 0.05:
            chance.choice(processes).kill()
            killed += 1
        time.sleep(0.05)
    assert killed == 2
    assert body.overlaps() == []
    begun = [int(sign.token) for sign in body.signs() if sign.what == "begin"]
    assert begun == sorted(set(begun))
    assert len(begun) >= 10


# ---------------------------------------------------------------------------------------- a terminal
def test_the_command_has_the_terminal(tool: Tool, root: str) -> None:
    """It can read from it; Ctrl-C is its own; Ctrl-Z does not stop it, since its lock would be lost."""
    script = "import sys; print('ready', flush=True); print('got', input(), flush=True)\ntry: input()\n"
    script += "except KeyboardInterrupt: print('own ctrl-c', flush=True); sys.exit(5)"
    terminal = Terminal(tool, "lock", "acquire", root, "--", sys.executable, "-c", script)
    terminal.wait_for("ready")
    terminal.type("hello\n")
    terminal.wait_for("got hello")
    terminal.type("\x1a")
    terminal.wait_for("^Z")
    terminal.type("\x03")
    terminal.wait_for("own ctrl-c")
    assert terminal.close() == 5


def test_ctrl_c_while_waiting(tool: Tool, root: str) -> None:
    holder = tool.start("lock", "acquire", root)
    assert holder.stdout is not None
    holder.stdout.readline()
    terminal = Terminal(tool, "lock", "acquire", root, "--", "true")
    until(lambda: len(tool.children(root)) == 2, "the second waits")
    terminal.type("\x03")
    assert terminal.close() == 130
    assert len(tool.children(root)) == 1
