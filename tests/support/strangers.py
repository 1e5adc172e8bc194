"""Packages of strangers made on the spot, and `corekit serve` with them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import TracebackType

from corekit.api import API_VERSION

DEADLINE_S = 30.0
HEAD = f"from corekit.hooks import hookimpl\napi_version = {API_VERSION}\n"


def install(site: Path, name: str, source: str, *, version: str = "2.3") -> str:
    """A distribution `corekit-NAME` with one plugin, in a folder to put on the import path; its module."""
    site.mkdir(exist_ok=True)
    module = f"corekit_{name}_plugin"
    (site / f"{module}.py").write_text(HEAD + textwrap.dedent(source))
    info = site / f"corekit_{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: corekit-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[corekit]\n{name} = {module}\n")
    return module


class Serving:
    """A `corekit serve` on a free port. Use it as a context manager.

    Attributes:
        lines: what it has printed on stderr so far.
    """

    def __init__(self, site: Path, directory: Path, *arguments: str) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
        command = [sys.executable, "-m", "corekit", "serve", "--client-port", "0", "--data-dir", str(directory)]
        self.process = subprocess.Popen(
            [*command, "-s", "admin.enableServer=false", *arguments],
            env=environ | {"PYTHONPATH": str(site)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def read_until(self, text: str) -> str:
        """The next line with this text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"{text!r} was never printed:\n" + "\n".join(self.lines))

    def port(self) -> int:
        """Where it listens, once it does."""
        return int(self.read_until("listens on").split("listens on ")[1].split(",")[0].rpartition(":")[2])

    def end(self) -> int:
        """Wait for it to end by itself; its exit code."""
        assert self.process.stderr is not None
        self.lines += self.process.stderr.read().splitlines()
        return self.process.wait(DEADLINE_S)
