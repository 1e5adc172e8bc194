"""A disk of a few megabytes: a tmpfs in a mount namespace of its own, which vanishes with its keeper.

Works as root with the right to mount, and for others where user namespaces are allowed. Paths inside are seen from
outside through `/proc`, so nothing is mounted for anybody else.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_WAYS = (("-m",), ("-U", "-r", "-m"))  # of unshare: as root; as somebody with a user namespace
_ENTER = (("-m",), ("-U", "-m", "--preserve-credentials"))


class NoSmallDisk(Exception):
    """This machine lets us mount nothing; the text says why."""


class SmallDisk:
    """A tmpfs.

    Args:
        at: a folder; inside the namespace, the disk is mounted there.
        size: bytes.

    Attributes:
        within: runs a command where the disk is seen (`ServerProcess`).
        path: the disk, seen from outside.

    Raises:
        NoSmallDisk: see there.
    """

    def __init__(self, at: Path, size: int) -> None:
        script = f'mount -t tmpfs -o size={size},mode=0700 small "$0" && echo mounted && exec cat'
        reasons = []
        for unshare, enter in zip(_WAYS, _ENTER, strict=True):
            self._keeper = subprocess.Popen(
                ["unshare", *unshare, "sh", "-c", script, str(at)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert self._keeper.stdout is not None
            if self._keeper.stdout.readline() == "mounted\n":
                keeper = self._keeper.pid
                self.within: Sequence[str] = ("nsenter", "-t", str(keeper), *enter, "--")
                self.path = Path(f"/proc/{keeper}/root{at}")
                self._ballast = self.path / "ballast"
                return
            _, error = self._keeper.communicate()
            reasons.append(error.strip())
        raise NoSmallDisk("; ".join(dict.fromkeys(reasons)))

    @property
    def free(self) -> int:
        """Bytes that are left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Leave so many bytes."""
        with open(self._ballast, "ab") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, ballast.tell() + self.free - leave)

    def empty(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink()

    def close(self) -> None:
        """The disk is gone."""
        self._keeper.communicate()
