"""Access control lists: interned, reference-counted, and the check itself.

An ACL is a tuple of (perms, scheme, id). Key 0 is `world:anyone` with all permissions, which most znodes have and which
costs nothing. What a scheme's ids mean is decided by its plugin (`AuthScheme`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from corekit.limits import ACL_VERDICTS_MAX

READ: Final = 1
WRITE: Final = 2
CREATE: Final = 4
DELETE: Final = 8
ADMIN: Final = 16
ALL: Final = 31

AclEntry = tuple[int, str, str]
Acl = tuple[AclEntry, ...]

OPEN: Acl = ((ALL, "world", "anyone"),)
OPEN_KEY: Final = 0
READ_ONLY: Acl = ((READ, "world", "anyone"),)


class Matcher(Protocol):
    """The part of `AuthScheme` that a check needs."""

    def matches(self, identity: str, acl_id: str) -> bool:
        """Whether the identity is covered by an ACL entry's id."""


class AclTable:
    """Keys for ACLs, so that a znode holds a small number instead of a list (`ReferenceCountedACLCache`)."""

    def __init__(self) -> None:
        self._by_key: dict[int, Acl] = {OPEN_KEY: OPEN}
        self._keys: dict[Acl, int] = {OPEN: OPEN_KEY}
        self._uses: dict[int, int] = {}
        self._next = 1
        self._verdicts: dict[tuple[int, int, int], tuple[Sequence[tuple[str, str]], bool]] = {}

    def key(self, acl: Acl) -> int:
        """The key of an ACL, new if it is not known. Does not count as a use."""
        key = self._keys.get(acl)
        if key is None:
            key = self._next
            self._next += 1
            self._keys[acl] = key
            self._by_key[key] = acl
            self._uses[key] = 0
        return key

    def restore(self, key: int, acl: Acl) -> None:
        """Put back an ACL under the key it had when it was stored."""
        self._verdicts.clear()
        self._by_key[key] = acl
        self._keys[acl] = key
        self._uses.setdefault(key, 0)
        self._next = max(self._next, key + 1)

    def acl(self, key: int) -> Acl:
        """The ACL of a key."""
        return self._by_key[key]

    def allows(
        self, key: int, perms: int, identities: Sequence[tuple[str, str]], schemes: Mapping[str, Matcher]
    ) -> bool:
        """`allows` for the ACL of a key, remembered: one packet can ask 40,000 times about an ACL of 10,000 entries.

        Args:
            identities: the same object for the same identities, never changed in place.
        """
        question = (key, perms, id(identities))
        known = self._verdicts.get(question)
        if known is not None and known[0] is identities:
            return known[1]
        verdict = allows(self._by_key[key], perms, identities, schemes)
        if len(self._verdicts) >= ACL_VERDICTS_MAX:
            self._verdicts.clear()
        self._verdicts[question] = (identities, verdict)
        return verdict

    def use(self, key: int) -> None:
        """A znode has this ACL now."""
        if key:
            self._uses[key] += 1

    def release(self, key: int) -> None:
        """A znode no longer has this ACL. It is freed by a later `sweep`: a pending create may be about to use it."""
        if key:
            self._uses[key] -= 1

    def sweep(self) -> list[int]:
        """Forget ACLs that no znode has; their keys. Only while no transaction is pending."""
        gone = [key for key, uses in self._uses.items() if not uses]
        for key in gone:
            del self._uses[key]
            acl = self._by_key.pop(key)
            if self._keys.get(acl) == key:  # a restored table may hold an ACL under an older key as well
                del self._keys[acl]
        return gone

    def __len__(self) -> int:
        return len(self._by_key)

    def items(self) -> Iterable[tuple[int, Acl]]:
        """Every key that is in use, with its ACL."""
        return ((key, acl) for key, acl in self._by_key.items() if key and self._uses[key])


def allows(acl: Acl, perms: int, identities: Iterable[tuple[str, str]], schemes: Mapping[str, Matcher]) -> bool:
    """Whether one of the identities has one of the permissions (`ZooKeeperServer.checkACL`)."""
    for scheme, _ in identities:
        if scheme == "super":
            return True
    for granted, scheme, acl_id in acl:
        if not granted & perms:
            continue
        if scheme == "world" and acl_id == "anyone":
            return True
        matcher: Any = schemes.get(scheme)  # a plugin's idea of true and false may be any object
        if matcher is None:
            continue
        for name, identity in identities:
            if name == scheme and matcher.matches(identity, acl_id):
                return True
    return False
