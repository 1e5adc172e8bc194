"""The differences that are meant or known, each with its reason; docs/differences.md says the same to users.

The model is the newest 3.9. When one side is an Apache server of 3.8.0 these rules apply; between two servers of the
same kind none does.

- Events carry the zxid of their change since 3.9.0, -1 before: not compared against 3.8.
- Events are withheld from who may not READ the node since 3.8.4 / 3.9.2: an event more on the side of 3.8.0 is
  accepted when the ACL of the node denied READ to that client before or after the step (`Acls.hides`). An event that
  the newer server sends although it must not is a mismatch.
- `exists` needs READ since 3.8.4 / 3.9.2: on an unreadable node it is sent to the newer server only, which
  must refuse it.
- Not generated against 3.8.0 (`Requests.modest`): several watch modes of one connection on one path, watch types 4
  and 5, checkWatches of what exists (3.8 answers yes when anybody watches the path), create2 inside multi (its
  result has no Stat before 3.8.2), a write that cannot be decoded (it takes a zxid in 3.8, none in 3.9; a multi takes
  one in both), a null path, a null ACL or a wrong create flag inside a multi (-5 for the whole in 3.9), IPv6 in ACLs.
- Not generated at all: a stand-alone `check`, deleteContainer and createSession from a client. Apache 3.8.0
  accepts the three, corekit refuses them; tests of corekit alone cover that.
- Not generated at all, because corekit answers better than both: setWatches with null lists or paths (Java replays a
  part, then answers -5; corekit does nothing and answers -5), watches on and sync of strings that are no text for Java
  (it echoes other bytes), null ids in ACLs (-114 instead of -5), null credentials (taken for empty), addWatch of a
  null path (-5 instead of a watch on nothing), a null ACL list
  inside a multi (-114 in its result; so does 3.8).
- Never pipelined, because what Java does is a race between its threads: setACL with what follows it, writes below a
  path with a quota (its checks look at what is applied, not at what is in flight).
- Not generated at all: data that is no quota in `zookeeper_limits` or `zookeeper_stats`: an Apache server stops with
  an unrecoverable error and cannot start again, corekit takes such a node for one without limits. The same holds for
  createTTL with flags of another kind and a time to live out of range.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from tests.differential.sides import Item

Identities = Set[tuple[str, str]]
Entry = tuple[int, bytes | None, bytes | None]


class Acls:
    """The ACLs other than world:anyone:all, by path, as they were before the present step and as they are now."""

    def __init__(self) -> None:
        self.before: dict[bytes, tuple[Entry, ...]] = {}
        self.now: dict[bytes, tuple[Entry, ...]] = {}

    def begin(self) -> None:
        self.before = dict(self.now)

    def set(self, path: bytes, acl: Any) -> None:
        """`acl` is a decoded getACL list (count first), or None when the node is gone or open."""
        if acl is None or acl[1:] == ((31, b"world", b"anyone"),):
            self.now.pop(path, None)
        else:
            self.now[path] = acl[1:]

    def hides(self, path: bytes, identities: Identities) -> bool:
        """Whether the ACL before or after the step denies READ to these identities."""
        return any(path in acls and not may_read(acls[path], identities) for acls in (self.before, self.now))

    def shows(self, path: bytes, identities: Identities) -> bool:
        """Whether the ACL before or after the step grants READ (a node without an entry is open)."""
        return any(path not in acls or may_read(acls[path], identities) for acls in (self.before, self.now))


def may_read(acl: tuple[Entry, ...], identities: Identities) -> bool:
    """Whether an ACL grants READ to a client on this machine with these identities."""
    if ("super", "") in identities:
        return True
    for perms, scheme, text in acl:
        if perms & 1 and scheme is not None and text is not None:
            mine = {name for kind, name in identities if kind == scheme.decode()}
            if scheme == b"world" or text.decode() in mine or (scheme == b"ip" and text.startswith(b"127.0.0.")):
                return True
    return False


def without_event_zxid(items: list[Item]) -> list[Item]:
    return [(*item[:4], None, *item[5:]) if item[0] == "event" else item for item in items]


def align(older: list[Item], newer: list[Item], acls: Acls, identities: Identities) -> tuple[list[Item], list[Item]]:
    """Take out of the older server's items the events that the newer one rightly withheld."""
    kept: list[Item] = []
    at = 0
    for item in older:
        if at < len(newer) and newer[at] == item:
            at += 1
        elif item[0] == "event" and acls.hides(item[3], identities):
            continue
        else:
            at += 1
        kept.append(item)
    return kept, newer


def leaks(event: Item, acls: Acls, identities: Identities) -> bool:
    """Whether an event is about a node that this client may not read. Replayed ones (zxid -1) are not filtered."""
    return event[4] != -1 and not acls.shows(event[3], identities)
