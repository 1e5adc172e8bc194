"""Facts about the process and its machine, under the names that ZooKeeper gives to those of a JVM.

A fact that only a JVM has gets the nearest true one of Python: `java.version` is Python's version, `java.class.path` is
`sys.path`. Read when asked for; nothing here is secret (no environment variables).
"""

from __future__ import annotations

import getpass
import locale
import os
import platform
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path

_MIB = 1024 * 1024


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in many containers
        return str(os.getuid())


def resident_bytes() -> int:
    """Memory of this process now, or its peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def memory_bytes() -> tuple[int, int]:
    """(free, all) memory of the machine; 0 for what is not known."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    except (ValueError, OSError):
        return 0, 0


def open_files() -> int:
    """Open file descriptors; -1 if it is not known."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # without the one that reads the folder
        except OSError:
            continue
    return -1


def open_files_max() -> int:
    """How many file descriptors the process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def environment(version: str) -> list[tuple[str, str]]:
    """What `envi` shows, in ZooKeeper's order (`org.apache.zookeeper.Environment`)."""
    uname = platform.uname()
    free, most = memory_bytes()
    return [
        ("zookeeper.version", version),
        ("host.name", socket.gethostname()),
        ("java.version", platform.python_version()),
        ("java.vendor", platform.python_implementation()),
        ("java.home", sys.prefix),
        ("java.class.path", os.pathsep.join(sys.path)),
        ("java.library.path", sys.exec_prefix),
        ("java.io.tmpdir", tempfile.gettempdir()),
        ("java.compiler", platform.python_compiler()),
        ("os.name", uname.system),
        ("os.arch", uname.machine),
        ("os.version", uname.release),
        ("user.name", _user()),
        ("user.home", os.path.expanduser("~")),
        ("user.dir", os.getcwd()),
        ("os.memory.free", f"{free // _MIB}MB"),
        ("os.memory.max", f"{most // _MIB}MB"),
        ("os.memory.total", f"{resident_bytes() // _MIB}MB"),
    ]


def system_properties(version: str) -> dict[str, str]:
    """What the admin command `system_properties` shows, sorted."""
    facts = {
        "file.encoding": locale.getpreferredencoding(False),
        "file.separator": os.sep,
        "line.separator": os.linesep,
        "path.separator": os.pathsep,
        "python.build": " ".join(platform.python_build()),
        "python.executable": sys.executable,
        "python.implementation": platform.python_implementation(),
        "python.version": platform.python_version(),
        "user.timezone": time.strftime("%Z"),
        **dict(environment(version)),
    }
    return dict(sorted(facts.items()))
