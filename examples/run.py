"""Builds corekit and the packages of this folder as wheels, installs them where nothing else is, and tests them there.

    python examples/run.py              what `make examples` and the continuous integration run
    python examples/run.py sqlite swap  these only

Each package runs its own tests, among them the conformance suite of its kind; then comes the swap matrix (`swap/`).
The checkout is not on the import path: what passes is what a user installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent
PACKAGES = sorted(path.parent.name.removeprefix("corekit-") for path in HERE.glob("corekit-*/pyproject.toml"))
SWAP = ("swap-solo", "swap-zab", "swap-rest")  # so that two of them run at once
_LONG = ("sqlite", "swap-zab", "swap-rest")  # begun first
_CHOSEN = {"swap-solo": "same and solo", "swap-zab": "same and zab", "swap-rest": "not same"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output.

    Raises:
        SystemExit: it failed; everything it printed is printed.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COREKIT_", "ZOO_"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}\nexit code {done.returncode}")
    return done.stdout


def copy(source: Path, target: Path) -> None:
    """What belongs to a package, without what building and testing it leave behind."""
    out = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "docs", "examples")
    shutil.copytree(source, target, ignore=out)


def install(home: Path) -> Path:
    """Wheels of everything in a new environment; its Python."""
    for source in (ROOT, *(HERE / f"corekit-{name}" for name in PACKAGES)):
        copy(source, home / "source" / source.name)
    run(sys.executable, "-m", "venv", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "setuptools>=77", "wheel", "mypy>=2.4,<3", cwd=home)
    sources = [home / "source" / ROOT.name, *(home / "source" / f"corekit-{name}" for name in PACKAGES)]
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", home / "wheels")
    run(python, "-m", "pip", *build, *sources, cwd=home)
    wheels = [f"{wheel}[test]" for wheel in sorted((home / "wheels").glob("*.whl"))]
    run(python, "-m", "pip", "install", "-q", *wheels, cwd=home)
    run(python, "-m", "pip", "check", cwd=home)
    return python


def test(python: Path, home: Path, name: str) -> str:
    """One set of tests; a line about it, or everything that it printed."""
    began = time.monotonic()
    folder = home / name
    folder.mkdir()
    where = HERE / "swap" if name in SWAP else HERE / f"corekit-{name}" / "tests"
    more = ("-k", _CHOSEN[name]) if name in SWAP else ()
    pytest = ("-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--durations", "3", "--basetemp", folder / "tmp")
    try:
        shown = run(python, *pytest, *more, where, cwd=folder)
    except SystemExit as error:
        return f"== {name} FAILED ({time.monotonic() - began:.0f} s)\n{error}"
    return f"== {name}: {shown.strip().splitlines()[-1].strip('= ')} ({time.monotonic() - began:.0f} s)"


def main(chosen: Sequence[str]) -> None:
    everything = sorted((*SWAP, *PACKAGES), key=lambda name: name not in _LONG)
    names = [name for name in everything if not chosen or {name, name.partition("-")[0]} & set(chosen)]
    if unknown := set(chosen) - {"swap", *SWAP, *PACKAGES}:
        raise SystemExit(f"{', '.join(sorted(unknown))}: known are swap, {', '.join(PACKAGES)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="examples-") as text:
        home = Path(text)
        python = install(home)
        print(f"== wheels of corekit, {', '.join(PACKAGES)} installed ({time.monotonic() - began:.0f} s)", flush=True)
        with ThreadPoolExecutor(2) as both:
            failed = False
            for line in both.map(lambda name: test(python, home, name), names):
                print(line, flush=True)
                failed = failed or "FAILED" in line.partition("\n")[0]
    print(f"== {time.monotonic() - began:.0f} s")
    if failed:
        raise SystemExit("examples: some failed, see above")


if __name__ == "__main__":
    main(sys.argv[1:])
