"""A linearizability checker that tries everything: slow, and simple enough to be believed. And histories for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from corekit.testing.linear.history import Operation

Znode = tuple[str | None, int] | None  # value and version, or None where there is none


def apply(znode: Znode, kind: str, value: str | None, expect: int) -> tuple[Znode, str, str | None, int | None]:
    """What ZooKeeper does: the znode afterwards, the result, the value and the version in the answer."""
    if kind == "create":
        return ((value, 0), "ok", value, None) if znode is None else (znode, "node-exists", None, None)
    if znode is None:
        return None, "no-node", None, None
    if kind in ("get", "exists"):
        return znode, "ok", znode[0] if kind == "get" else None, znode[1]
    if expect not in (-1, znode[1]):
        return znode, "bad-version", None, None
    if kind == "delete":
        return None, "ok", None, None
    return (value, znode[1] + 1), "ok", value, znode[1] + 1


def explains(operations: Sequence[Operation], znode: Znode) -> bool:
    """Whether some order, beginning with this znode, gives all the answers."""
    if not any(one.known for one in operations):
        return True
    first_end = min(one.end for one in operations)
    for one in operations:
        if one.call > first_end:
            continue
        after, result, value, version = apply(znode, one.kind, one.value, one.expect)
        if one.known:
            same_value = one.kind != "get" or result != "ok" or value == one.value
            if result != one.result or not same_value or (one.version is not None and version != one.version):
                continue
        rest = [other for other in operations if other is not one]
        if explains(rest, after):
            return True
    return False


def random_history(random: Random, count: int, clients: int, *, keys: int = 1, unknown: float = 0.1) -> list[Operation]:
    """A history that a correct server could have given: operations take effect at a moment while they are on their way.

    Every written value is another one, unless there are few.
    """
    znodes: dict[str, Znode] = {}
    free = {f"c{number}": 0.0 for number in range(clients)}
    effects: list[tuple[float, Operation]] = []
    for number in range(1, count + 1):
        client = min(free, key=lambda name: (free[name], name))
        call = free[client] + random.random()
        moment = call + random.random() * 2
        end = moment + random.random() * 2
        free[client] = end
        kind = random.choices(["get", "exists", "set", "create", "delete"], [5, 1, 5, 2, 1])[0]
        expect = random.choice([-1, -1, 0, 1, 2]) if kind in ("set", "delete") else -1
        value = f"{client}-{number}" if kind in ("set", "create") else None
        one = Operation(
            number, client, kind, f"/k{random.randrange(keys)}" if keys > 1 else "/k", call, end, "ok", value, expect
        )
        effects.append((moment, one))
    found = []
    for _, one in sorted(effects, key=lambda effect: effect[0]):
        lost = random.random() < unknown
        if lost and random.random() < 0.5:
            result, value, version = "unknown", one.value, None
        else:
            znodes[one.key], result, value, version = apply(znodes.get(one.key), one.kind, one.value, one.expect)
        if lost:
            found.append(replace(one, result="unknown", end=math.inf))
        else:
            told = version if result == "ok" else None
            kept = value if result == "ok" and one.kind == "get" else one.value
            found.append(replace(one, result=result, value=kept, version=told))
    return sorted(found, key=lambda one: one.number)
