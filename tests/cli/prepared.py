"""`corekit` from a process that has imported everything already: a fork of it begins ten times sooner than Python does.

A fork runs the same command line as a new process, and ends as one ends. For commands that are run to their end
(`Tool.run`); those that tests send signals to, or give a terminal, are processes of their own (`Tool.start`).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
MESSAGE_BYTES = 64 * 1024


class Prepared:
    """The process that is forked."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.prepared", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                pass_fds=[theirs.fileno()],
            )

    def run(
        self,
        arguments: Sequence[str | bytes],
        env: Mapping[str, str],
        directory: Path,
        text: str | None,
        seconds: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with `text` as its standard input.

        Raises:
            subprocess.TimeoutExpired: it did not end within so many seconds; it has been killed.
        """
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(text or "")
            given.seek(0)
            words = [os.fsdecode(argument) for argument in arguments]
            request = {"arguments": words, "env": dict(env), "directory": str(directory)}
            files = [one.fileno() for one in (given, out, err)]
            socket.send_fds(self._link, [json.dumps(request).encode()], files)
            pid = int(self._link.recv(MESSAGE_BYTES))
            self._link.settimeout(seconds)
            try:
                code = int(self._link.recv(MESSAGE_BYTES))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._link.settimeout(None)
                self._link.recv(MESSAGE_BYTES)
                raise subprocess.TimeoutExpired(words, seconds) from None
            finally:
                self._link.settimeout(None)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())

    def close(self) -> None:
        """End it."""
        self._link.close()
        self._process.wait(20)


def _serve(link: socket.socket) -> None:
    """In the process that is forked: returns in a fork, once it is as a new process would be."""
    _import_all()
    gc.collect()
    gc.freeze()  # else each fork would look through all of it at its end
    while True:
        message, files, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 3)
        if not message:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            link.close()
            _become(json.loads(message), files)
            return
        for one in files:
            os.close(one)
        link.send(str(pid).encode())
        link.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _import_all() -> None:
    import anyio._backends._trio  # noqa: F401 - anyio imports it by name, when it is asked to run
    import rich.console
    import rich.table  # noqa: F401

    import corekit.client  # noqa: F401
    from corekit.cli.main import add_plugin_commands, build
    from corekit.cli.verbs import VERBS

    add_plugin_commands(build())
    for verb in VERBS.values():
        verb.load()


def _become(request: dict[str, object], files: list[int]) -> None:
    for number, one in enumerate(files):
        os.dup2(one, number)
        os.close(one)
    directory, env, arguments = request["directory"], request["env"], request["arguments"]
    assert isinstance(directory, str)
    assert isinstance(env, dict)
    assert isinstance(arguments, list)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv[1:] = arguments


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from corekit.__main__ import run

    run()
