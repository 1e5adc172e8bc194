"""Normal forms of what programs print, so that two servers can be compared line by line.

Only what must differ between two servers is replaced: clock times, ports, session ids, addresses of objects. Watch
events are printed by another thread than command results, so they are taken out and compared on their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_EVENT = re.compile(r"WatchedEvent (state:\S+ type:\S+ path:\S+)")
_RULES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d [A-Z]+ (?!1970)\d{4}"), "<date>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"(ephemeralOwner = )0x[0-9a-f]{9,16}"), r"\1<session>"),
)


def events_and_rest(output: str) -> tuple[list[str], str]:
    """Take zkCli's watch events out of its output: (events in order, everything else)."""
    return _EVENT.findall(output), _EVENT.sub("", output).replace("WATCHER::", "")


def sort_lists(text: str) -> str:
    """Sort lines that are a list in brackets, and the identities of `whoami`: servers keep neither in any order."""

    def ordered(match: re.Match[str]) -> str:
        return "[" + ", ".join(sorted(match.group(1).split(", "))) + "]"

    text = re.sub(r"^\[(/?[^\]\n]*)\]$", ordered, text, flags=re.MULTILINE)
    identities = re.compile(r"(?:^(?:ip|digest): \S+\n)+", re.MULTILINE)
    return identities.sub(lambda match: "".join(sorted(match.group().splitlines(keepends=True))), text)


def normal(text: str) -> list[str]:
    """The lines of `text` with everything replaced that differs between two servers by its nature."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return [line.rstrip() for line in sort_lists(text).splitlines() if line.strip()]
