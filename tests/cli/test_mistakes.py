"""What people do to every command: Ctrl-C at any moment, a reader that leaves, text that is no UTF-8, odd terminals."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import PATIENCE, SETTINGS, Tool, finish, until
from tests.cli.terminal import Terminal
from tests.support.servers import Server


@pytest.mark.parametrize("command", ["shell", "plugins"])
def test_ctrl_c_at_any_moment_of_the_start_is_no_traceback(tool: Tool, command: str) -> None:
    """The first of them die while Python itself starts, up to the first line of ours."""
    began = time.monotonic()
    processes = [tool.start(command, stdin=-1) for _ in range(8)]
    for number, process in enumerate(processes):
        while time.monotonic() < began + 0.2 * number:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    for process in processes:
        code, _, err = finish(process)
        assert code in (0, 128 + signal.SIGINT, -signal.SIGINT) or err.startswith("Fatal Python error: init"), err
        assert "corekit/cli" not in err, err


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("lock",), ("config", "show"), ("ls", "-R", "/zookeeper"), ("watch", "/"), ("shell",)],
    ids=" ".join,
)
def test_a_reader_that_leaves_ends_the_command_quietly(tool: Tool, root: str, arguments: tuple[str, ...]) -> None:
    process = tool.start(*arguments, stdin=-1)
    assert process.stdout is not None
    process.stdout.close()
    if arguments == ("watch", "/"):
        while process.poll() is None:  # it prints only what happens
            tool.run("create", "-s", root)
    elif arguments == ("shell",):
        assert process.stdin is not None
        process.stdin.write("ls /\n" * 3)
        process.stdin.close()
    assert process.wait(PATIENCE) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_ctrl_c_ends_a_benchmark_whose_server_is_gone(
    server_factory: Callable[..., Server], make_tool: Callable[[str], Tool]
) -> None:
    """It does not wait for a connection to remove its znodes, and names them."""
    server = server_factory(SETTINGS)
    tool = make_tool(server.hosts)
    process = tool.start("bench", "/b", "--seconds", "60", "--clients", "1")
    (base,) = until(lambda: tool.children("/b"), "it has begun")
    server.kill()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGINT
    assert err == f"corekit: the connection was lost, and /b/{base} is left; `corekit deleteall /b/{base}` removes it\n"


def test_a_locale_without_unicode(tool: Tool, root: str) -> None:
    tool.out("create", root)
    tool.out("create", f"{root}/ü", "ñ")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    done = tool.run("tree", root, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\\xfc\n")
    done = tool.run("get", f"{root}/ü", "--json", env=ascii_only)
    assert json.loads(done.stdout)["data"] == "ñ"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ls", b"/\xff"), "Invalid path"),
        (("ls", "/", "--auth", b"digest:\xff:x"), r"'\udcff:x' is not UTF-8"),
        (("group", "join", "/group", "--name", b"\xff", "--", "true"), r"'\udcff' is not UTF-8"),
    ],
)
def test_text_that_is_not_utf_8(tool: Tool, arguments: tuple[str, ...], text: str) -> None:
    done = tool.run(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_name_that_cannot_be_one(tool: Tool) -> None:
    done = tool.run("ls", "/", "-H", "two\u2028lines:2181")
    assert done.returncode == 69
    assert "cannot be a host name" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("status",), ("lock", "acquire", "--help"), ("top", "/zookeeper")], ids=" ".join)
def test_a_narrow_terminal(tool: Tool, arguments: tuple[str, ...]) -> None:
    terminal = Terminal(tool, *arguments, env={"COLUMNS": "12", "TERM": "xterm"})
    terminal.wait_for("\n")
    assert terminal.close() == 0
