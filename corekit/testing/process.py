"""A real server in a process of its own, for tests of commands, recipes and whole plugins.

    with ServerProcess("-p", "memory") as server:
        ...connect to f"127.0.0.1:{server.port}"

Rules: it listens on a free port; unless `--data-dir` is given, its data is in memory or in the directory it was started
in. It is killed at the end, whatever happens. What it printed is part of every error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

_START_S = 60.0
_STOP_S = 30.0


class ServerProcess:
    """`corekit serve` with these arguments and a free client port, the admin port closed.

    Args:
        environ: further variables of its environment.
        directory: where it runs; here by default.
        within: a command that runs it, such as `nsenter` with its options.

    Attributes:
        lines: what it has printed on stderr so far.
    """

    def __init__(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
        command = [sys.executable, "-m", "corekit", "serve", "--client-port", "0", "-s", "admin.enableServer=false"]
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*within, *command, *arguments],
            env=variables | dict(environ or {}),
            cwd=directory,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_for(self, text: str, seconds: float = _START_S) -> str:
        """The first line with this text, as soon as it is printed.

        Raises:
            AssertionError: it ended or went on without printing it; everything it printed is in the message.
        """

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or found() is not None, seconds)
            line = found()
            assert line is not None, f"{text!r} was not printed:\n" + "\n".join(self.lines)
            return line

    @property
    def port(self) -> int:
        """Where its first listener listens; waits until it does."""
        where = self.wait_for("corekit listens on ").split("corekit listens on ")[1]
        return int(where.split(",")[0].rpartition(":")[2])

    @property
    def hosts(self) -> str:
        """For clients."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ask it to stop in good order; its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self, seconds: float = _STOP_S) -> int:
        """Its exit code, once it has ended by itself."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(_STOP_S)
        self._reader.join(_STOP_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
