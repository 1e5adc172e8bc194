"""Paths of znodes: UTF-8 bytes inside the server. Rules as in ZooKeeper's `PathUtils.validatePath`."""

from __future__ import annotations

import re
from typing import Final

ROOT: Final = b"/"
ZOOKEEPER: Final = b"/zookeeper"
QUOTA: Final = b"/zookeeper/quota"
CONFIG: Final = b"/zookeeper/config"
RESERVED: Final = frozenset((ROOT, ZOOKEEPER, QUOTA, CONFIG))

# Java looks at UTF-16 units, so every character above U+FFFF counts as its two surrogates, which are not allowed.
_BAD_CHARACTERS: Final = re.compile(r"[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\U0010ffff]")
_PRINTABLE: Final = bytes(range(32, 127))

# As numbers: what is looked for as bytes is first taken for a number, which fails, and costs more than the search.
SLASH: Final = 47
NUL: Final = 0


def parent(path: bytes) -> bytes:
    """The parent of an absolute path; `/` for the children of the root."""
    return path[: path.rindex(b"/")] or ROOT


def is_valid(path: bytes | None) -> bool:
    """Whether a path may name a znode."""
    if path is None:
        return False
    if path == ROOT:
        return True
    if not path or path[0] != SLASH or path[-1] == SLASH:
        return False
    if not path.translate(None, _PRINTABLE) and path.find(b"//") < 0 and path.find(b"/.") < 0:
        return True  # nearly every path
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if _BAD_CHARACTERS.search(text):
        return False
    return all(part not in ("", ".", "..") for part in text[1:].split("/"))
