"""`bench`: a simple load on an ensemble, and how fast it answers.

Each client is a session of its own with `--flight` requests on their way. A latency is the time from a request's
being handed to the client library until its answer, waiting behind the others in flight included. The znodes it makes
are removed at the end. It measures this machine, the network and the ensemble together: run it from where your
programs run, and not on the machine that serves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.cli.output import print_table
from corekit.client import Client, State, op
from corekit.client.tasks import alongside
from corekit.errors import NoNodeError, NotEmptyError, UserError

KINDS = ("create", "set", "get", "exists", "delete")


async def bench(
    session: Session,
    path: PathArgument = "/corekit-bench",
    seconds: Annotated[float, typer.Option("--seconds", "-t", min=0.1, help="How long each kind runs.")] = 3.0,
    clients: Annotated[int, typer.Option("--clients", "-c", min=1, help="Sessions.")] = 4,
    flight: Annotated[int, typer.Option("--flight", "-f", min=1, help="Requests on their way in each session.")] = 20,
    size: Annotated[int, typer.Option("--size", "-s", min=0, help="Bytes of data in each znode.")] = 100,
    kinds: Annotated[
        str, typer.Option("--ops", help=f"What to measure, out of {','.join(KINDS)}.", show_default=False)
    ] = ",".join(KINDS),
) -> None:
    """Put load on an ensemble and print operations a second and latencies.

    [bold]Examples[/bold]

      corekit bench

      corekit bench --ops get,set --clients 16 --flight 1 --seconds 10 --json
    """
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    unknown = set(wanted) - set(KINDS)
    if unknown or not wanted:
        raise UserError(f"--ops {kinds}: kinds are {', '.join(KINDS)}")
    base = f"{path.rstrip('/')}/{os.getpid()}-{time.time_ns():x}"
    fresh = await session.zk.exists(path) is None
    await session.zk.ensure(base)
    results: list[dict[str, Any]] = []
    try:
        async with anyio.create_task_group() as tasks:
            zks = [await tasks.start(_client, session, number) for number in range(clients)]
            for kind in wanted:
                results.append(await _measure(zks, kind, base, seconds, flight, size))
            tasks.cancel_scope.cancel()
    finally:
        await _remove(session.zk, base, path if fresh else None)
    if session.json:
        session.answer({"clients": clients, "flight": flight, "size": size, "results": results})
        return
    rows = [
        (
            result["op"],
            f"{result['ops_per_second']:,.0f}",
            *(f"{result[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
            str(result["errors"]),
        )
        for result in results
    ]
    print_table(("op", "ops/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "errors"), rows)


async def _remove(zk: Client, base: str, parent: str | None) -> None:
    """Remove what was made, also after Ctrl-C; but not longer than there is a connection."""
    with anyio.CancelScope(shield=True) as cleaning:

        async def give_up() -> None:
            await zk.wait_state(State.SUSPENDED, State.LOST)
            cleaning.cancel()

        async with alongside(give_up):
            await zk.within(60).delete_tree(base)
            if parent is not None:
                await _forget(zk, parent)
    if cleaning.cancelled_caught:
        print(
            f"corekit: the connection was lost, and {base} is left; `corekit deleteall {base}` removes it",
            file=sys.stderr,
        )


async def _forget(zk: Client, path: str) -> None:
    try:
        await zk.delete(path)
    except (NoNodeError, NotEmptyError):
        pass  # another run uses it


async def _client(session: Session, number: int, *, task_status: anyio.abc.TaskStatus[Client]) -> None:
    async with session.target.connect() as zk:
        task_status.started(zk)
        await anyio.sleep_forever()


Operation = Callable[[], Awaitable[Any]]


async def _measure(zks: list[Client], kind: str, base: str, seconds: float, flight: int, size: int) -> dict[str, Any]:
    took: list[float] = []
    errors = 0
    data = b"x" * size
    deletes = max(1, round(seconds * DELETES_A_SECOND))
    await _prepare(zks, kind, base, flight, data, deletes)
    began = anyio.current_time()
    ends = began + seconds

    async def load(zk: Client, lane: str) -> None:
        nonlocal errors
        number = 0
        while (now := anyio.current_time()) < ends and not (kind == "delete" and number == deletes):
            number += 1
            try:
                await zk.call(_request(kind, lane, number, data))
            except Exception:  # counted; too many are raised
                errors += 1
                if errors > 1000:
                    raise
            else:
                took.append(anyio.current_time() - now)

    async with anyio.create_task_group() as tasks:
        for client, zk in enumerate(zks):
            for lane in range(flight):
                tasks.start_soon(load, zk, f"{base}/{client}-{lane}")
    wall = anyio.current_time() - began
    took.sort()
    return {
        "op": kind,
        "count": len(took),
        "ops_per_second": len(took) / wall,
        **{f"p{percent}_ms": _percentile(took, percent) * 1000 for percent in (50, 95, 99)},
        "max_ms": took[-1] * 1000 if took else 0.0,
        "errors": errors,
    }


def _request(kind: str, lane: str, number: int, data: bytes) -> op.Request[Any]:
    if kind == "create":
        return op.create(f"{lane}/{number}", data)
    if kind == "delete":
        return op.delete(f"{lane}/d{number}")
    if kind == "set":
        return op.set(lane, data)
    return op.get(lane) if kind == "get" else op.exists(lane)


DELETES_A_SECOND = 100  # znodes in each lane, made before deletes are measured


async def _prepare(zks: list[Client], kind: str, base: str, flight: int, data: bytes, deletes: int) -> None:
    lanes = [f"{base}/{client}-{lane}" for client in range(len(zks)) for lane in range(flight)]
    async for _ in zks[0].stream((op.create(lane, data) for lane in lanes), errors=True):
        pass
    if kind == "delete":
        wanted = (op.create(f"{lane}/d{number}", data) for lane in lanes for number in range(1, deletes + 1))
        async for _ in zks[0].stream(wanted, errors=True):
            pass


def _percentile(sorted_values: list[float], percent: int) -> float:
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, len(sorted_values) * percent // 100)]
