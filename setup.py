"""What `pyproject.toml` cannot say yet: the modules in C, and those that mypyc compiles.

Both are for speed only: without a compiler or Python's headers the package is complete, and the same code runs as
Python. `COREKIT_COMPILE=0` leaves the compiled modules out.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The way of a request and of a transaction, as one group: calls between its modules are calls of C functions.
COMPILED = (
    "corekit/builtin/zookeeper_session.py",
    "corekit/codec/jute.py",
    "corekit/codec/quorum.py",
    "corekit/codec/txns.py",
    "corekit/model/*.py",
    "corekit/replica/*.py",
    "corekit/server/client_port.py",
    "corekit/server/peer_link.py",
    "plugins/zab/corekit_zab/*.py",
    "plugins/storage_rocks/corekit_storage_rocks/database.py",
    "plugins/storage_rocks/corekit_storage_rocks/floor.py",
    "plugins/storage_rocks/corekit_storage_rocks/journal.py",
    "plugins/storage_rocks/corekit_storage_rocks/records.py",
    "plugins/storage_rocks/corekit_storage_rocks/storage.py",
)
LEFT_OUT = ("__init__.py", "cnx.py", "conformance.py", "election.py", "options.py", "simulated.py")

# The packages that corekit needs are not there while it is built: what is imported from them is `Any`.
MYPY_FLAGS = ("--strict", "--ignore-missing-imports", "--explicit-package-bases", "--no-warn-unused-ignores")
MYPY_FLAGS += ("--no-warn-return-any", "--allow-subclassing-any", "--allow-untyped-decorators")


def compiled() -> list[Extension]:
    """The extensions that mypyc makes of `COMPILED`; none without mypy."""
    if os.environ.get("COREKIT_COMPILE") == "0" or not {"build_ext", "bdist_wheel", "editable_wheel"} & set(sys.argv):
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []
    os.environ["MYPYPATH"] = os.pathsep.join(sorted(glob("plugins/*")))
    sources = [path for pattern in COMPILED for path in sorted(glob(pattern)) if Path(path).name not in LEFT_OUT]
    flags = ["--config-file=", *MYPY_FLAGS]
    try:
        made: list[Extension] = mypycify(
            [*flags, *sources], opt_level="2", debug_level="0", multi_file=True, group_name="corekit._compiled"
        )
    except SystemExit:  # it has said what it does not like
        return []
    for extension in made:
        extension.include_dirs.append("build/corekit")  # where it puts the headers of a group in a package
    return made


class Build(build_ext):
    """Builds all compiled modules or none: half of them would not find the others."""

    def run(self) -> None:
        for old in Path(self.build_lib).rglob("*.so"):  # of an earlier build, and of other sources
            old.unlink()
        super().run()

    def build_extensions(self) -> None:
        fast = [extension for extension in self.extensions if extension in FAST]
        others = [extension for extension in self.extensions if extension not in FAST]
        self.extensions = fast
        try:
            super().build_extensions()
        except Exception as error:  # whatever a missing or a strange compiler raises
            self.announce(f"corekit runs as Python only, slower, because nothing can be compiled here: {error}", 3)
            fast = []
        self.extensions = others
        super().build_extensions()
        self.extensions = fast + others


FAST = compiled()
WRITER = Extension(
    "corekit_storage_rocks._writer", ["plugins/storage_rocks/corekit_storage_rocks/_writer.c"], optional=True
)
SOCKETS = Extension("corekit.server._sockets", ["corekit/server/_sockets.c"], optional=True)
setup(ext_modules=[*FAST, SOCKETS, WRITER], cmdclass={"build_ext": Build})
