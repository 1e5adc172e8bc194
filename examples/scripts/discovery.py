"""Who serves which customer: all who ask get the same answer, without asking anybody, and when an instance comes or
goes only its own customers move (rendezvous hashing).

    python discovery.py BASE serve NAME ADDRESS:PORT       # registered until it ends
    python discovery.py BASE find NAME CUSTOMER...
"""

import os
import sys

import trio
from corekit_recipes.service import Instance, Services, rendezvous

from corekit.client import connect


async def main(base: str, what: str, name: str, *rest: str) -> None:
    async with connect(os.environ.get("COREKIT_HOSTS", "127.0.0.1:2181")) as zk:
        services = Services(zk, base)
        if what == "serve":
            address, _, port = rest[0].rpartition(":")
            async with services.register(Instance(name, address, int(port), id=rest[0])):
                print("registered", flush=True)
                await trio.sleep_forever()
        async with services.pool(name, rendezvous) as pool:
            await pool.wait()
            for customer in rest:
                instance = pool.pick(key=customer)
                print(customer, f"{instance.address}:{instance.port}")


if __name__ == "__main__":
    try:
        trio.run(main, *sys.argv[1:])
    except KeyboardInterrupt:
        pass
