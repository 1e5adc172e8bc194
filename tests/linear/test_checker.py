"""The checker against brute force, and on histories that are known to be right or wrong. Pure: no server."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corekit.errors import UserError
from corekit.testing.linear import check
from corekit.testing.linear.history import ANSWERS, Operation, dump, load
from tests.linear.brute import Znode, explains, random_history

# What a znode may be before a history about which nothing is known: enough for versions and values up to these.
VALUES = ("a", "b", None)
VERSIONS = range(7)
ANY_ZNODE: list[Znode] = [None, *((value, version) for value in (*VALUES, "old") for version in VERSIONS)]


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """One operation with any answer, right or wrong."""
    kind = draw(st.sampled_from(sorted(ANSWERS)))
    result = draw(st.sampled_from(["ok", "ok", *sorted(ANSWERS[kind])]))
    if kind == "create" and result == "no-node":
        result = "ok"  # says that the parent is missing, which brute force knows nothing of
    if kind == "delete" and result == "not-empty":
        result = "bad-version"
    call = draw(st.integers(0, 12))
    has_version = result == "ok" and kind in ("get", "exists", "set") and draw(st.booleans())
    return Operation(
        number=1,
        client="c",
        kind=kind,
        key="/k",
        call=call,
        end=float("inf") if result == "unknown" else call + draw(st.integers(0, 8)),
        result=result,
        value=draw(st.sampled_from(VALUES)) if kind in ("get", "set", "create") else None,
        expect=draw(st.sampled_from([-1, -1, 0, 1])) if kind in ("set", "delete") else -1,
        version=draw(st.integers(0, 3)) if has_version else None,
    )


def by_brute_force(history: Sequence[Operation]) -> bool:
    return any(explains(history, znode) for znode in ANY_ZNODE)


def look(znode: Znode) -> Operation:
    """A read before everything else that says what there is."""
    result = "ok" if znode else "no-node"
    value, version = znode or (None, None)
    return Operation(0, "first", "get", "/k", -2, -1, result, value, version=version)


@settings(max_examples=600, deadline=None)
@given(st.lists(operations(), min_size=1, max_size=6), st.sampled_from([None, ("a", 0), ("b", 1), (None, 3)]))
def test_it_agrees_with_brute_force_on_any_answers(history: list[Operation], znode: Znode) -> None:
    history = [look(znode), *history]
    verdict = check(history)
    assert (not verdict.violations) == explains(history, znode)
    for violation in verdict.violations:
        assert not by_brute_force(with_context(history, violation.operations)), "the window is possible"


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), min_size=1, max_size=6))
def test_what_is_possible_is_never_refuted(history: list[Operation]) -> None:
    """Also if nothing is known of what was before. The other way round does not hold then."""
    if by_brute_force(history):
        assert not check(history).violations


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 7), st.data())
def test_it_agrees_with_brute_force_when_one_answer_is_changed(seed: int, count: int, data: st.DataObject) -> None:
    history = random_history(Random(seed), count, 3, unknown=0.2)
    assert not check(history).violations, "it refutes what a correct server answered"
    at = data.draw(st.integers(0, count - 1))
    one = history[at]
    if not one.known:
        return
    other = data.draw(st.sampled_from(sorted(ANSWERS[one.kind] - {"unknown", "not-empty"})))
    if one.kind == "create" and other == "no-node":
        return
    version = data.draw(st.sampled_from([None, 0, 1, 2])) if other == "ok" and one.kind in ("get", "set") else None
    value = data.draw(st.sampled_from([one.value, *(op.value for op in history)])) if one.kind == "get" else one.value
    history[at] = replace(one, result=other, version=version, value=value)
    history = [look(None), *history]
    assert (not check(history).violations) == explains(history, None)


def with_context(history: Sequence[Operation], window: Sequence[Operation]) -> list[Operation]:
    """The window, and all other writes of the history as ones that may have happened at any time after their call."""
    inside = {id(one) for one in window}
    begins = min(one.call for one in window)
    rest = [one for one in history if id(one) not in inside and one.changes and one.end >= begins]
    return [*window, *(replace(one, result="unknown", end=float("inf"), version=None) for one in rest)]


# ------------------------------------------------------------------------------------ what is known to be wrong
def op(client: str, kind: str, call: float, end: float, result: str = "ok", **more: object) -> Operation:
    return Operation(op.number(), client, kind, "/k", call, end, result, **more)  # type: ignore[arg-type,attr-defined]


op.number = iter(range(1, 1 << 30)).__next__  # type: ignore[attr-defined]

# Each begins with a znode that holds "0", version 0; the numbers say which operations are the window.
BAD: dict[str, tuple[list[Operation], list[int]]] = {
    "stale read": (
        [
            op("a", "set", 0, 1, value="1", version=1),
            op("a", "set", 2, 3, value="2", version=2),
            op("b", "get", 4, 5, value="1", version=1),
        ],
        [1, 2],
    ),
    "lost write": (
        [
            op("a", "set", 0, 1, value="1"),
            op("b", "set", 2, 3, value="2"),
            op("a", "get", 4, 5, value="1", version=1),
            op("b", "get", 6, 7, value="1"),
        ],
        [1, 2],
    ),
    "two winners of one version": (
        [
            op("a", "set", 0, 3, value="1", expect=0, version=1),
            op("b", "set", 1, 4, value="2", expect=0, version=1),
        ],
        [0, 1],
    ),
    "two creators": (
        [
            op("c", "delete", 0, 0.5),
            op("a", "create", 1, 3, value="1"),
            op("b", "create", 2, 4, value="2"),
        ],
        [1, 2],
    ),
    "deleted, and still there": (
        [op("a", "delete", 0, 1), op("b", "get", 2, 3, value="0"), op("c", "exists", 4, 5)],
        [0, 1],
    ),
    "a version refused that was right": (
        [op("a", "set", 0, 1, value="1", version=1), op("b", "set", 2, 3, "bad-version", value="2", expect=1)],
        [0, 1],
    ),
    "a value that vanishes again": (
        [
            op("a", "set", 0, 1, value="1", version=1),
            op("b", "set", 2, float("inf"), "unknown", value="2"),
            op("c", "get", 3, 4, value="2"),
            op("c", "get", 5, 6, value="1", version=1),
        ],
        [2, 3],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_known_violation_is_found_in_a_long_history(name: str) -> None:
    bad, window = BAD[name]
    history = random_history(Random(1), 400, 5, unknown=0.0)
    now = max(one.end for one in history) + 1
    if not check([*history, op("z", "exists", now, now)]).violations:
        history.append(op("z", "delete", now, now))
    history.append(op("z", "create", now + 1, now + 1, value="0"))
    history += [replace(one, call=one.call + now + 2, end=one.end + now + 2) for one in bad]
    assert not check(history[: -len(bad)]).violations
    history += [
        replace(one, call=one.call + now + 20, end=one.end + now + 20) for one in random_history(Random(2), 50, 5)
    ]
    verdict = check(history)
    assert len(verdict.violations) == 1
    found = verdict.violations[0]
    assert [one.number for one in found.operations] == [bad[at].number for at in window]
    assert found.failed.number == bad[window[-1]].number


def test_an_unknown_outcome_may_come_late_or_never() -> None:
    lost = op("a", "set", 0, float("inf"), "unknown", value="2")
    first = op("b", "get", 1, 2, value="1", version=0)
    late = op("b", "get", 3, 4, value="2", version=1)
    assert not check([lost, first, late]).violations
    assert not check([lost, first]).violations
    assert check([lost, first, late, op("b", "get", 5, 6, value="1", version=0)]).violations


def test_many_unknown_outcomes_can_be_borne() -> None:
    verdict = check(random_history(Random(3), 10_000, 8, keys=20, unknown=0.05))
    assert not verdict.violations
    assert not verdict.undecided
    assert verdict.unknown > 400


@pytest.mark.parametrize(("keys", "clients"), [(1, 10), (20, 30)])
def test_ten_thousand_operations_take_seconds(keys: int, clients: int) -> None:
    history = random_history(Random(4), 10_000, clients, keys=keys, unknown=0.001)
    began = time.process_time()
    verdict = check(history)
    assert not verdict.violations
    assert not verdict.undecided
    assert time.process_time() - began < 60  # a few seconds on a machine that has nothing else to do


def test_without_versions_too() -> None:
    history = [replace(one, version=None) for one in random_history(Random(5), 10_000, 8, unknown=0.0)]
    assert not check(history).violations


def test_a_set_without_a_version_may_come_before_the_znode_is_made_anew() -> None:
    """Parts of a multi are told no version. This one was left to the new znode, whose versions it does not fit."""
    history = [
        op("a", "set", 0, 1, value="1", version=13),
        op("a", "set", 2, 5, value="2"),
        op("b", "delete", 2, 5),
        op("c", "create", 2, 5, value="3"),
        op("d", "get", 3, 4, value="3", version=0),
        op("a", "set", 6, 7, value="4", version=1),
    ]
    assert not check(history).violations
    assert check([*history, op("d", "get", 8, 9, value="2", version=0)]).violations


def test_what_takes_too_much_effort_is_said_to_be_undecided() -> None:
    verdict = check(random_history(Random(6), 500, 8), effort=100)
    assert verdict.undecided == ["/k"]
    assert not verdict.violations


# ------------------------------------------------------------------------------------------------- plain reads
def seen(client: str, kind: str, call: float, end: float, zxid: int, **more: object) -> Operation:
    return op(client, kind, call, end, zxid=zxid, **more)


def other_key(one: Operation) -> Operation:
    return replace(one, key="/other")


WRITES = [
    seen("w", "create", 0, 1, 10, value="0"),
    seen("w", "set", 2, 3, 11, value="1", version=1),
    other_key(seen("w", "create", 4, 5, 12, value="x")),
    seen("w", "set", 6, 7, 13, value="2", version=2),
]
PLAIN: dict[str, tuple[list[Operation], str]] = {
    "old, but in order": (
        [
            seen("r", "get", 8, 9, 11, value="1", version=1, plain=True),
            seen("r", "get", 10, 11, 13, value="2", version=2, plain=True),
        ],
        "",
    ),
    "back in time": (
        [
            seen("r", "get", 8, 9, 13, value="2", version=2, plain=True),
            seen("r", "get", 10, 11, 11, value="1", version=1, plain=True),
        ],
        "older state",
    ),
    "not its own write": ([seen("w", "get", 8, 9, 11, value="1", version=1, plain=True)], "older state"),
    "older than another znode showed": (
        [
            other_key(seen("r", "get", 8, 9, 12, value="x", version=0, plain=True)),
            seen("r", "get", 10, 11, 10, value="0", version=0, plain=True),
        ],
        "older state",
    ),
    "absent after it was seen": (
        [
            seen("r", "get", 8, 9, 13, value="2", version=2, plain=True),
            op("r", "get", 10, 11, "no-node", plain=True),
        ],
        "older state",
    ),
    "absent, for who has seen nothing": ([op("r", "get", 10, 11, "no-node", plain=True)], ""),
    "from the future": ([seen("r", "get", 2, 3, 13, value="2", version=2, plain=True)], "before it was written"),
    "from nowhere": ([seen("r", "get", 2, 3, 11, value="?", plain=True)], "two ways|nobody wrote"),
    "two stories": ([seen("r", "get", 8, 9, 13, value="1", version=2, plain=True)], "two ways"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_reads(name: str) -> None:
    reads, rule = PLAIN[name]
    verdict = check([*WRITES, *reads])
    assert verdict.plain == len(reads)
    if rule:
        assert any(part in verdict.violations[0].rule for part in rule.split("|"))
        assert verdict.violations[0].failed in reads
    else:
        assert not verdict.violations


# ------------------------------------------------------------------------------------------------- the format
def test_a_history_comes_back_from_its_file() -> None:
    history = random_history(Random(7), 300, 4, keys=3)
    again = load(dump(history))
    assert [one.record() for one in again] == [one.record() for one in history]
    assert not check(again).violations


GOOD_LINE = {"client": 1, "op": "set", "key": "/k", "value": "v", "call": 1, "return": 2, "result": "ok"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"op": "put"}, "known are get, exists, set"),
        ({"result": "node-exists"}, '"result" of a set'),
        ({"value": 3}, "not a text or null"),
        ({"call": "now"}, "not a time"),
        ({"return": 0.5}, "before"),
        ({"return": None}, '"return" is None'),
        ({"versions": 3}, "unknown field 'versions'"),
        ({"version": "3"}, "not an integer"),
        ({"plain": True}, "only reads"),
        ({"key": None}, '"key" is None'),
    ],
)
def test_a_wrong_line_is_named(change: dict[str, object], words: str) -> None:
    lines = [json.dumps(GOOD_LINE), json.dumps(GOOD_LINE | change)]
    with pytest.raises(UserError, match=r"h\.jsonl, line 2: ") as raised:
        load(lines, "h.jsonl")
    assert words in str(raised.value)
    assert "docs/checking.md" in str(raised.value)


def test_what_is_no_history_is_named() -> None:
    with pytest.raises(UserError, match="line 1"):
        load(["not JSON"])
    with pytest.raises(UserError, match="no operation"):
        load([])
