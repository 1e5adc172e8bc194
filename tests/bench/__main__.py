"""`make bench`: a fresh server on this machine under `corekit bench`. Arguments are handed on, e.g. `--clients 16`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.servers import Server


def main() -> int:
    """Start a server, measure it, stop it; the exit code is that of `corekit bench`."""
    with (
        tempfile.TemporaryDirectory(prefix="corekit-bench-") as directory,
        Server.start("corekit", Path(directory)) as server,
    ):
        command = [sys.executable, "-m", "corekit", "bench", "-H", server.hosts, *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode


sys.exit(main())
