"""`python -m tests.fuzz`: hostile inputs for the client port of a server, or for the ports between three servers.

Exit code 0 when everything held, 1 when not (what did not hold is printed, with the seed that repeats it).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz_client_port


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--kind", default="corekit", help="kind of the server (corekit or java)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            figures = fuzz_client_port(options.kind, Path(scratch) / "server", options.seed, options.inputs)
        except AssertionError as error:
            print(error)
            return 1
    print(figures)
    return 0


sys.exit(main())
