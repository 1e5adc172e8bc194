"""A job every few seconds, on one of many machines: start this on all of them.

    python cron_leader.py PATH SECONDS COMMAND...

If the leader dies or is cut off, another goes on; the job of the old one is cancelled before. The job finds its term in
$TERM_TOKEN: it rises with every leader, so that what receives the job's effects can refuse those of an older one.
"""

import os
import sys

import trio
from corekit_recipes.contender import Grant
from corekit_recipes.election import Election

from corekit.client import connect


async def main(path: str, seconds: float, command: list[str]) -> None:
    async def lead(term: Grant) -> None:
        while True:
            environment = {**os.environ, "TERM_TOKEN": str(term.token)}
            await trio.run_process(command, env=environment, check=False)  # killed if leadership ends
            await trio.sleep(seconds)

    async with connect(os.environ.get("COREKIT_HOSTS", "127.0.0.1:2181")) as zk:
        await Election(zk, path, identifier=f"process {os.getpid()}").lead_always(lead)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], float(sys.argv[2]), sys.argv[3:])
    except KeyboardInterrupt:
        pass
