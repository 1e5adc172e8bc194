"""Names of contenders: how a line of znodes is written and read, ours, kazoo's and Curator's.

A contender's name is a GUID, a marker that says what it wants, and the sequence number that the server appends:
`<hex>__lock__0000000012` (kazoo) or `_c_<uuid>-lock-0000000012` (Curator). Sequence numbers come from one counter of
the parent, so that contenders written in different ways stand in one line. We read every way; which one is written is
chosen by `Layout`, because kazoo does not see Curator's names unless told (`extra_lock_patterns=["-lock-"]`), and
Curator never sees kazoo's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Layout(Enum):
    """Whose names are written."""

    KAZOO = "kazoo"
    CURATOR = "curator"


class Want(Enum):
    """What a contender wants."""

    LOCK = "lock"
    WRITE = "write"
    READ = "read"
    LATCH = "latch"


_MARKERS = {
    (Layout.KAZOO, Want.LOCK): "__lock__",
    (Layout.KAZOO, Want.WRITE): "__lock__",
    (Layout.KAZOO, Want.READ): "__rlock__",
    (Layout.KAZOO, Want.LATCH): "__lock__",
    (Layout.CURATOR, Want.LOCK): "lock-",
    (Layout.CURATOR, Want.WRITE): "__WRIT__",
    (Layout.CURATOR, Want.READ): "__READ__",
    (Layout.CURATOR, Want.LATCH): "latch-",
}
_NAME = re.compile(r"(__lock__|__rlock__|lock-|__READ__|__WRIT__|latch-)(\d{10}|-\d{9,10})$")


class Place(NamedTuple):
    """One contender in a line."""

    name: str
    sequence: int
    reads: bool


def new_prefix(layout: Layout, want: Want) -> str:
    """The name of a new contender up to its sequence number, with a GUID by which it can be found again."""
    guid = uuid.uuid4()
    lead = guid.hex if layout is Layout.KAZOO else f"_c_{guid}-"
    return lead + _MARKERS[layout, want]


def parse(name: str) -> Place | None:
    """A child as a contender; None if it is none."""
    found = _NAME.search(name)
    if found is None:
        return None
    return Place(name, int(found[2]), found[1] in ("__rlock__", "__READ__"))


def distance(sequence: int, origin: int) -> int:
    """How far a sequence number stands behind another; right also when the server's counter has passed 2^31."""
    return (sequence - origin + 0x80000000) % 0x100000000 - 0x80000000


def line(names: Iterable[str]) -> list[Place]:
    """The contenders among the children, oldest first."""
    places = [place for place in map(parse, names) if place is not None]
    if places:
        origin = places[0].sequence
        places.sort(key=lambda place: distance(place.sequence, origin))
    return places
