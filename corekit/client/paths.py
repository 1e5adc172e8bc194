"""Paths at the client's edge: text outside, UTF-8 bytes inside, the chroot put on and taken off.

Names that are no UTF-8 survive a round trip (`surrogateescape`).
"""

from __future__ import annotations


def path_bytes(path: str) -> bytes:
    """A path for the wire."""
    return path.encode("utf-8", "surrogateescape")


def path_text(path: bytes, skip: int = 0) -> str:
    """A path or a name from the wire, without the first `skip` bytes (the chroot)."""
    return (path[skip:] or b"/" if skip else path).decode("utf-8", "surrogateescape")


def under(chroot: bytes, path: bytes) -> bytes:
    """The server's path for a path of the client."""
    return chroot + path if path != b"/" else chroot or path


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return f"{parent}{name}" if parent.endswith("/") else f"{parent}/{name}"


def parent(path: str) -> str:
    """The path of the parent; "/" for the root's children and the root itself."""
    return path.rstrip("/").rpartition("/")[0] or "/"


def name(path: str) -> str:
    """The last component."""
    return path.rpartition("/")[2]
