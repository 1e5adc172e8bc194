"""`python -m tests.bench.clients`: the same work through kazoo and through `corekit.client`, on one server.

Both clients keep `--flight` requests on their way on one session, each in the way its documentation gives for bulk
work: kazoo with its `_async` calls and a window of results, corekit with `Client.stream`. Every answer is read and
counted. Rounds alternate between the two; the best round of each counts, so that other load matters least.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
from kazoo.client import KazooClient

from corekit.client import Client, connect, op
from tests.support.servers import KINDS, Server

KIND_NAMES = ("get", "exists", "children", "set", "create")
DATA = b"x" * 100
NODES = 100


def kazoo_calls(zk: KazooClient, kind: str, base: str, count: int) -> Iterator[Any]:
    """Start one kazoo request after the other; yields the results to wait for."""
    start: Callable[[int], Any] = {
        "get": lambda n: zk.get_async(f"{base}/{n % NODES}"),
        "exists": lambda n: zk.exists_async(f"{base}/{n % NODES}"),
        "children": lambda n: zk.get_children_async(f"{base}/{n % NODES}", include_data=True),
        "set": lambda n: zk.set_async(f"{base}/{n % NODES}", DATA),
        "create": lambda n: zk.create_async(f"{base}/made-", DATA, sequence=True, include_data=True),
    }[kind]
    return map(start, range(count))


def corekit_requests(kind: str, base: str, count: int) -> Iterator[op.Request[Any]]:
    """The same requests for `Client.stream`."""
    make: Callable[[int], op.Request[Any]] = {
        "get": lambda n: op.get(f"{base}/{n % NODES}"),
        "exists": lambda n: op.exists(f"{base}/{n % NODES}"),
        "children": lambda n: op.children(f"{base}/{n % NODES}"),
        "set": lambda n: op.set(f"{base}/{n % NODES}", DATA),
        "create": lambda n: op.create(f"{base}/made-", DATA, sequential=True),
    }[kind]
    return map(make, range(count))


def with_kazoo(hosts: str, kind: str, base: str, count: int, flight: int) -> float:
    """Operations a second."""
    zk = KazooClient(hosts)
    zk.start()
    try:
        began = time.perf_counter()
        window: deque[Any] = deque()
        answered = 0
        for result in kazoo_calls(zk, kind, base, count):
            window.append(result)
            if len(window) >= flight:
                window.popleft().get()
                answered += 1
        for result in window:
            result.get()
            answered += 1
        assert answered == count
        return count / (time.perf_counter() - began)
    finally:
        zk.stop()
        zk.close()


def with_corekit(hosts: str, kind: str, base: str, count: int, flight: int, backend: str) -> float:
    """Operations a second."""

    async def main() -> float:
        async with connect(hosts, flight=flight) as zk:
            began = time.perf_counter()
            answered = 0
            async for _ in zk.stream(corekit_requests(kind, base, count), flight=flight):
                answered += 1
            assert answered == count
            return count / (time.perf_counter() - began)

    return anyio.run(main, backend=backend)


async def prepare(hosts: str, base: str) -> None:
    """The znodes that are read and written."""
    async with connect(hosts) as zk:
        await zk.ensure(base)
        await zk.gather(*(op.create(f"{base}/{number}", DATA) for number in range(NODES)))


async def clean(hosts: str, base: str) -> None:
    """Remove everything below `base`."""
    async with connect(hosts) as zk:
        await _clean(zk, base)


async def _clean(zk: Client, base: str) -> None:
    await zk.delete_tree(base)


def compare(hosts: str, kinds: list[str], count: int, flight: int, rounds: int, backend: str) -> list[dict[str, Any]]:
    """Measure every kind; one row each with both rates and their ratio."""
    rows = []
    for kind in kinds:
        base = f"/bench-clients/{kind}"
        anyio.run(prepare, hosts, base)
        kazoo = ours = 0.0
        for _ in range(rounds):
            kazoo = max(kazoo, with_kazoo(hosts, kind, base, count, flight))
            ours = max(ours, with_corekit(hosts, kind, base, count, flight, backend))
        anyio.run(clean, hosts, base)
        rows.append({"op": kind, "kazoo": round(kazoo), "corekit": round(ours), "ratio": round(ours / kazoo, 2)})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the rows; exit code 1 if `--at-least` is given and a ratio is below it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clients", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="corekit", help="the server's kind")
    parser.add_argument("--ops", default=",".join(KIND_NAMES))
    parser.add_argument("--count", type=int, default=20_000, help="requests a round")
    parser.add_argument("--flight", type=int, default=200, help="requests on their way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="RATIO")
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="corekit-bench-") as directory,
        Server.start(given.kind, Path(directory)) as server,
    ):
        rows = compare(server.hosts, given.ops.split(","), given.count, given.flight, given.rounds, given.backend)
    print(json.dumps(rows, indent=2))
    return 0 if all(row["ratio"] >= given.at_least for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
