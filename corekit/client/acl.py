"""Access control lists for people: `ACL` entries, the usual lists, digest ids, and zkCli's text form.

Example:
    await zk.create("/secret", b"...", acl=[digest_acl("ada", "s3cret"), ACL(READ, "ip", "10.0.0.0/8")])
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from corekit.codec.jute import Reader, pack_int, pack_string
from corekit.errors import UserError

READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31
_LETTERS = {"c": CREATE, "d": DELETE, "r": READ, "w": WRITE, "a": ADMIN}


class ACL(NamedTuple):
    """One entry: permission bits for an identity, such as `ACL(READ | WRITE, "digest", "ada:base64hash")`."""

    perms: int
    scheme: str
    id: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.id}:{perms_text(self.perms)}"


OPEN = (ACL(ALL, "world", "anyone"),)
READ_ONLY = (ACL(READ, "world", "anyone"),)
CREATOR_ALL = (ACL(ALL, "auth", ""),)  # the server replaces it by every identity of the creator


def digest_id(user: str, password: str) -> str:
    """The id that a digest ACL holds: `user:base64(sha1(user:password))`."""
    digest = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def digest_acl(user: str, password: str, perms: int = ALL) -> ACL:
    """An entry for who authenticates with `("digest", "user:password")`."""
    return ACL(perms, "digest", digest_id(user, password))


def perms_text(perms: int) -> str:
    """Permissions as zkCli prints them: some of `cdrwa`."""
    return "".join(letter for letter, bit in _LETTERS.items() if perms & bit)


def parse_acl(text: str) -> list[ACL]:
    """Entries from zkCli's form, `scheme:id:perms[,scheme:id:perms...]`, e.g. `world:anyone:r,ip:10.0.0.1:cdrwa`.

    Raises:
        UserError: an entry that is not of this form.
    """
    entries = []
    for part in text.split(","):
        scheme, first, rest = part.strip().partition(":")
        acl_id, second, letters = rest.rpartition(":")
        if not (scheme and first and second and letters and set(letters) <= set(_LETTERS)):
            raise UserError(f"{part!r} is not an ACL entry; write scheme:id:perms with perms out of cdrwa")
        entries.append(ACL(sum(_LETTERS[letter] for letter in set(letters)), scheme, acl_id))
    return entries


def pack_acl(entries: Iterable[tuple[int, str, str]]) -> bytes:
    """The entries as a vector on the wire."""
    if entries is OPEN or entries == OPEN:
        return _OPEN_WIRE
    parts = []
    for perms, scheme, acl_id in entries:
        parts.append(pack_int(perms) + pack_string(scheme.encode()) + pack_string(acl_id.encode()))
    return pack_int(len(parts)) + b"".join(parts)


def read_acl(reader: Reader) -> list[ACL]:
    """Take a vector of entries off the reader."""

    return reader.vector(lambda r: ACL(r.int(), read_text(r), read_text(r)), 12) or []


def read_text(reader: Reader) -> str:
    """Take a string off the reader, as text."""
    return (reader.string() or b"").decode("utf-8", "replace")


_OPEN_WIRE = pack_acl(list(OPEN))
