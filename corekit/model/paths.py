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
# The common case in one match: printable ASCII, no empty, `.` or `..` component, no trailing slash.
_plain: Final = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[!-.0-~ ]+)+\Z").match


def parent(path: bytes) -> bytes:
    """The parent of an absolute path; `/` for the children of the root."""
    return path[: path.rindex(b"/")] or ROOT


def is_valid(path: bytes | None) -> bool:
    """Whether a path may name a znode."""
    if path is None:
        return False
    if _plain(path) is not None or path == ROOT:
        return True
    if not path.startswith(b"/") or path.endswith(b"/"):
        return False
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if _BAD_CHARACTERS.search(text):
        return False
    return all(part not in ("", ".", "..") for part in text[1:].split("/"))
