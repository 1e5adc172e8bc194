"""The `world` scheme: everybody. Its only id is `anyone`.

The kernel answers `world:anyone` itself, because almost every znode has it; this object says that no other id exists.
"""

from __future__ import annotations

from collections.abc import Sequence

from corekit.api import Identity, Peer


class WorldScheme:
    """`world`."""

    name = "world"
    authenticated = False

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """Nobody can prove to be the world: an `auth` packet with this scheme fails."""
        return None

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """No identity is needed to be anyone."""
        return ()

    def valid(self, acl_id: str) -> bool:
        """Only `anyone`."""
        return acl_id == "anyone"

    def matches(self, identity: str, acl_id: str) -> bool:
        """Everybody is covered by `anyone`."""
        return acl_id == "anyone"
