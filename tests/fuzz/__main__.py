"""`python -m tests.fuzz`: hostile inputs for the client port of a server, or for the ports between three servers.

    python -m tests.fuzz --inputs 1000000
    python -m tests.fuzz --port election --inputs 100000

Exit code 0 when everything held, 1 when not (what did not hold is printed, with the seed that repeats it).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.peers import fuzz_peer_ports
from tests.fuzz.run import fuzz_client_port


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--port", default="client", choices=("client", "quorum", "election"))
    parser.add_argument("--kind", default="corekit", help="kind of the server with a client port (corekit or java)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            directory = Path(scratch) / "server"
            if options.port == "client":
                print(fuzz_client_port(options.kind, directory, options.seed, options.inputs))
            else:
                print(fuzz_peer_ports(options.port, directory, options.seed, options.inputs))
        except AssertionError as error:
            print(error)
            return 1
    return 0


sys.exit(main())
