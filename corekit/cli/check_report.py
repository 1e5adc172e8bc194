"""How `corekit check` shows what is wrong: the window of operations in the order of their calls, and when each ran.

Plain text, the same on a terminal and in a file. Not here: finding it (`corekit.testing.linear`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from corekit.testing.linear import Operation, Verdict, Violation
from corekit.testing.linear.history import CREATE, DELETE, GET, OK, SET
from corekit.testing.linear.znode import value_text

LANE = 32  # characters of the picture of times
SHOWN_MAX = 60  # operations of a window that could not be made small


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    text = f"{_count(verdict.operations, 'operation')} on {_count(verdict.keys, 'znode')}"
    if verdict.unknown:
        text += f", {verdict.unknown:,} of unknown outcome"
    checked = verdict.operations - verdict.plain
    good = [f"{checked:,} linearizable"] if checked and verdict.plain else ["linearizable"] if checked else []
    if verdict.plain:
        good.append(f"{_count(verdict.plain, 'plain read')} in order for each client")
    if verdict.violations:
        return f"{text}: VIOLATED, {_count(len(verdict.violations), 'contradiction')}"
    if verdict.undecided:
        return f"{text}: not decided for {_count(len(verdict.undecided), 'znode')}, no contradiction on the others"
    return f"{text}: {' and '.join(good)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def report(violation: Violation) -> Iterator[str]:
    """The lines that explain one violation."""
    yield f"{violation.key}: {violation.rule}"
    shown = violation.operations[-SHOWN_MAX:]
    if len(shown) < len(violation.operations):
        yield f"  (the newest {len(shown)} of {len(violation.operations)} operations that it takes)"
    rows = [*((one, True) for one in shown), *((one, False) for one in violation.context[-5:])]
    rows.sort(key=lambda row: (row[0].call, row[0].number))
    begin = min(one.call for one, _ in rows)
    last = max([one.call for one, _ in rows] + [one.end for one, _ in rows if one.end < math.inf])
    cells = [_cells(one, inside, one is violation.failed, begin, last) for one, inside in rows]
    titles = ("", "line", "client", "from ms", "to ms", "operation", "answer", "when")
    widths = [max(len(row[column]) for row in [titles, *cells]) for column in range(len(titles))]
    yield ""
    for row in [titles, *cells]:
        padded = [
            cell.rjust(width) if column in (1, 3, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(padded)).rstrip()
    yield ""
    if violation.states:
        yield f"  Before the answer marked > the znode could only be: {'; or '.join(violation.states[:6])}."
    if any(not inside for _, inside in rows):
        yield "  Lines in brackets are not needed for the contradiction: they say where a value comes from."
    yield "  Other writes are left out. They may have happened at any time, and do not help."


def _cells(one: Operation, inside: bool, failed: bool, begin: float, last: float) -> tuple[str, ...]:
    cells = (
        str(one.number),
        one.client,
        f"{(one.call - begin) * 1000:.3f}",
        "-" if one.end == math.inf else f"{(one.end - begin) * 1000:.3f}",
        _asked(one),
        _answered(one),
        _lane(one, begin, last),
    )
    if not inside:
        cells = (*cells[:4], f"({cells[4]})", *cells[5:])
    return (">" if failed else "", *cells)


def _asked(one: Operation) -> str:
    text = one.kind + (f" {value_text(one.value)}" if one.kind in (SET, CREATE) else "")
    if one.expect >= 0:
        text += f" if version {one.expect}"
    return f"{text} (plain)" if one.plain else text


def _answered(one: Operation) -> str:
    if not one.known:
        return "none"
    if one.result != OK:
        return one.result
    parts = [value_text(one.value)] if one.kind == GET else ["ok"]
    if one.version is not None and one.kind != DELETE:
        parts.append(f"version {one.version}")
    if one.zxid is not None:
        parts.append(f"zxid 0x{one.zxid:x}")
    return ", ".join(parts)


def _lane(one: Operation, begin: float, last: float) -> str:
    """`   |----|  `: when it was on its way."""
    span = (last - begin) or 1.0
    left = min(LANE - 1, int((one.call - begin) / span * (LANE - 1)))
    if one.end == math.inf:
        return " " * left + "|" + "-" * (LANE - left - 1) + ">"
    right = max(left, min(LANE - 1, int((one.end - begin) / span * (LANE - 1))))
    return " " * left + ("|" if right == left else "|" + "-" * (right - left - 1) + "|")


def as_json(verdict: Verdict, history: str) -> dict[str, Any]:
    """The verdict for programs."""
    return {
        "history": history,
        "ok": not verdict.violations and not verdict.undecided,
        "operations": verdict.operations,
        "znodes": verdict.keys,
        "unknown": verdict.unknown,
        "plain_reads": verdict.plain,
        "undecided": verdict.undecided,
        "violations": [
            {
                "key": violation.key,
                "rule": violation.rule,
                "failed": violation.failed.number,
                "states": list(violation.states),
                "operations": [{"line": one.number, **one.record()} for one in violation.operations],
                "context": [{"line": one.number, **one.record()} for one in violation.context],
            }
            for violation in verdict.violations
        ],
    }
