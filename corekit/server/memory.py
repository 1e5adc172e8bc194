"""Keeps the process small: glibc's allocator is told to use few arenas, and gives back what it does not need.

RocksDB's memtables and Python's larger objects come from malloc; with an arena a thread and nothing given back, a
server with a million znodes holds a quarter more than it needs. Does nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_M_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Limit malloc's arenas. Call before threads are started."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return free memory to the system.

    Takes some milliseconds, without the interpreter lock: a worker thread's job.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None
