"""The command lines of the README do what stands below them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from http_client import port_of

from corekit.testing.process import ServerProcess

README = Path(__file__).parent.parent / "README.md"


def steps() -> list[tuple[str, str]]:
    """Command lines and what they print."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"(?:^(?:    .*)?\n)+", README.read_text("utf-8"), re.MULTILINE):
        lines = [line.removeprefix("    ") for line in block.strip("\n").splitlines()]
        for line in lines:
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif found and lines[0].startswith("$ "):
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def test_the_command_lines_of_the_readme(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        assert "CI" not in os.environ, "install curl"
        pytest.skip("needs curl")
    commands = steps()
    assert len(commands) > 15
    with ServerProcess(
        "-p", "zookeeper,http,memory", "-s", "plugin.http.port=0", "--data-dir", str(tmp_path)
    ) as server:
        script = "\n".join(f"{command}; wait; printf '\\n--\\n'" for command, _ in commands)
        script = script.replace("localhost:8182", f"127.0.0.1:{port_of(server)}")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True)
        printed = done.stdout.split("\n--\n")
        assert server.stop() == 0
    for (command, due), got in zip(commands, printed, strict=False):
        pattern = ".*".join(re.escape(part) for part in due.strip().split("..."))
        assert re.fullmatch(pattern, got.strip(), re.DOTALL), f"{command}\nprinted {got!r}\nshould {due!r}"
