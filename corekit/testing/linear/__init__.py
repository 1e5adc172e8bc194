"""Checking recorded histories for linearizability; see docs/checking.md.

`check` takes operations (`history.load` reads them from a file) and returns what is wrong with them. Writes, and reads
behind a `sync`, must be linearizable, each znode by itself (linearizability is local: Herlihy and Wing, 1990). Plain
reads must keep ZooKeeper's weaker promises (`reads.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from corekit.testing.linear.history import Operation
from corekit.testing.linear.reads import check_plain_reads
from corekit.testing.linear.search import EFFORT, Search, Undecided
from corekit.testing.linear.window import Shrinker, Violation

__all__ = ["EFFORT", "Operation", "Verdict", "Violation", "check"]


@dataclass(slots=True)
class Verdict:
    """What became of a history.

    Attributes:
        operations, keys, unknown, plain: how many operations, znodes, unknown outcomes and plain reads there are.
        violations: what no correct server answers; at most one a znode, and one a plain read.
        undecided: znodes that would take more effort than was allowed.
    """

    operations: int
    keys: int
    unknown: int
    plain: int
    violations: list[Violation] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def check(
    operations: Sequence[Operation], *, effort: int = EFFORT, progress: Callable[[], None] = lambda: None
) -> Verdict:
    """Check a history.

    Args:
        effort: steps for each znode (some hundred thousand a second) before it is given up as undecided.
        progress: called for each answered operation.
    """
    by_key: dict[str, list[Operation]] = {}
    for one in operations:
        if not one.plain:
            by_key.setdefault(one.key, []).append(one)
    plain = [one for one in operations if one.plain]
    verdict = Verdict(
        operations=len(operations),
        keys=len({one.key for one in operations}),
        unknown=sum(1 for one in operations if not one.known),
        plain=len(plain),
    )
    for key, history in sorted(by_key.items()):
        try:
            failure = Search(history, effort).run(progress)
        except Undecided:
            verdict.undecided.append(key)
            continue
        if failure is not None:
            verdict.violations.append(Shrinker(history, failure).window())
    if plain:
        verdict.violations += check_plain_reads(operations)
        for _ in plain:
            progress()
    return verdict
