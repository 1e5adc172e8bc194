"""A pool of workers on a queue. An item comes back when its worker dies or fails, so the work may be done twice: what
it changes elsewhere should carry the token, which is higher at each attempt.

    python workers.py PATH put ITEM...
    python workers.py PATH work [COUNT]        # until the queue has been empty for two seconds
"""

import asyncio
import os
import sys

from corekit_recipes.claim_queue import ClaimQueue

from corekit.client import Client, LeaseLost, NotAcquired, connect


async def work(zk: Client, path: str, who: int) -> None:
    while True:
        try:
            async with ClaimQueue(zk, path).claim(wait=2) as item:
                print(f"worker {who}: {item.data.decode()} (token {item.token})", flush=True)
                await asyncio.sleep(0.01)  # the work
        except NotAcquired:
            return
        except LeaseLost as error:
            print(f"worker {who}: {error}; somebody else will do it", file=sys.stderr)


async def main(path: str, what: str, *rest: str) -> None:
    async with connect(os.environ.get("COREKIT_HOSTS", "127.0.0.1:2181")) as zk:
        if what == "put":
            await ClaimQueue(zk, path).put_all([item.encode() for item in rest])
        else:
            async with asyncio.TaskGroup() as group:
                for who in range(int(rest[0]) if rest else 4):
                    group.create_task(work(zk, path, who))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
