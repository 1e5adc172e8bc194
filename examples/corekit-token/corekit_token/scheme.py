"""The scheme `token`: the identity is whom a valid token is for.

Rules
- Whatever a client sends, a method returns and does not raise. Why a token was refused is logged, the token is not.
- The answer to an `auth` packet depends on the keys and the clock; that to an ACL check on nothing but its arguments.
- As with every scheme of ZooKeeper a connection keeps what it has proved: a token that expires ends no connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corekit.api import Identity, Peer
from corekit_token.jwt import TokenError, check

SUBJECT = re.compile(r"[A-Za-z0-9._@/+=-]{1,256}")  # stands in ACLs: no colon, no comma, no space


class Keys(Protocol):
    """Where the scheme looks for keys at every token."""

    keys: Mapping[str, Ed25519PublicKey]


class TokenScheme:
    """The scheme. See `corekit.api.AuthScheme` for what each method promises.

    Args:
        wall_ms: the clock, milliseconds since 1970.
        skew_ms: how far clocks may be apart.
        audience: what a token's `aud` must name, or None.
    """

    name = "token"
    authenticated = True

    def __init__(
        self,
        keys: Keys,
        wall_ms: Callable[[], int],
        *,
        skew_ms: int,
        audience: str | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._keys = keys
        self._wall_ms = wall_ms
        self._skew_ms = skew_ms
        self._audience = audience
        self._log = logger or logging.getLogger(__name__)

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """A valid token proves its subject."""
        try:
            claims = check(data, self._keys.keys, self._wall_ms(), skew_ms=self._skew_ms, audience=self._audience)
            subject = claims["sub"]
            if not self.valid(subject):
                raise TokenError(f"its subject {subject[:60]!r} cannot stand in an ACL")
        except TokenError as error:
            self._log.warning("token of %s refused: %s", peer.address, error)
            return None
        return ((self.name, subject),)

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """Nothing without a token."""
        return ()

    def valid(self, acl_id: str) -> bool:
        """A subject: letters, digits and `._@/+=-`, at most 256."""
        return SUBJECT.fullmatch(acl_id) is not None

    def matches(self, identity: str, acl_id: str) -> bool:
        """The same subject."""
        return identity == acl_id and self.valid(acl_id)
