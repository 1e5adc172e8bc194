"""`python -m tests.differential`: compare two servers over many random operations and print figures.

Exit code 0 when nothing differs, 1 at a difference (printed with its context and its seed).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.differential.lockstep import Mismatch
from tests.differential.run import Figures, compare, shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__.splitlines()[0])
    parser.add_argument("--a", default="java", help="kind of the first server (java or corekit)")
    parser.add_argument("--b", default="corekit", help="kind of the second server")
    parser.add_argument("--jar-a", help="jar of an Apache ZooKeeper for the first server (default: Debian's)")
    parser.add_argument("--jar-b", help="the same for the second server")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--operations", type=int, default=50_000)
    parser.add_argument("--game", type=int, default=10_000, help="operations between fresh servers")
    parser.add_argument("--shrink", action="store_true", help="replay a difference with fewer steps until it is small")
    parser.add_argument("--directory", type=Path, help="where servers keep data and logs (default: a new one)")
    options = parser.parse_args()
    kinds, jars = (options.a, options.b), (options.jar_a, options.jar_b)
    figures = Figures()
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.directory or Path(scratch)
        seed = options.seed
        while figures.operations < options.operations:
            try:
                compare(kinds, directory / str(seed), seed, options.game, figures, jars)
            except Mismatch as mismatch:
                print(f"seed {seed}: {mismatch}")
                if options.shrink:
                    print("shrinking ...", flush=True)
                    print(shrink(kinds, directory / "shrink", mismatch.steps, jars))
                print(figures)
                return 1
            seed += 1
    print(f"seeds {options.seed} to {seed - 1}: {figures}")
    return 0


sys.exit(main())
