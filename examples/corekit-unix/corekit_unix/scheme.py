"""The ACL scheme `unix`: users and groups of the machine, by number.

    unix:uid:1000        the user 1000
    unix:gid:100         processes whose effective group is 100 (not those that have it beside another)

The kernel says who is at the other end of a Unix socket, so nobody can claim an identity with an `auth` packet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from corekit.api import Identity, Peer

NAME = "unix"

_ID = re.compile(r"[ug]id:(0|[1-9][0-9]{0,9})", re.ASCII)


class UnixScheme:
    """`unix`."""

    name = NAME
    authenticated = True

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """Nothing: data proves nothing."""
        return None

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """Nothing beside what the transport has said already (`Peer.identities`)."""
        return ()

    def valid(self, acl_id: str) -> bool:
        """`uid:N` or `gid:N`."""
        return _ID.fullmatch(acl_id) is not None

    def matches(self, identity: str, acl_id: str) -> bool:
        """The same."""
        return identity == acl_id and self.valid(acl_id)
