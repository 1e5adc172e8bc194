"""The `digest` scheme: a user name and a password, proved once a connection (`DigestAuthenticationProvider`).

Rules
- The identity is `user:base64(hash(user:password))`; the hash is SHA1 unless `digestAlg` names another.
- A client that proves the `superDigest` also gets the identity `("super", "")`, which passes every ACL.
- An ACL id is two non-empty-tailed parts around one colon, as Java's `String.split(":")` counts them: `a:b` and `:b`
  are valid, `a`, `a:` and `a:b:c` are not. Whether the second part is a digest at all is not checked.

Not here: the expansion of the ACL scheme `auth` to these identities, which the kernel does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from corekit.api import Identity, Peer
from corekit.errors import ConfigError

SUPER: Identity = ("super", "")


def hash_name(algorithm: str) -> str:
    """hashlib's name for a Java message digest name (`SHA1`, `SHA-256`, `SHA-512/256`, `SHA3-256`, `MD5`).

    Raises:
        ConfigError: this Python has no such hash of a fixed length.
    """
    wanted = algorithm.strip().lower()
    name = wanted.replace("-", "_", 1) if wanted.startswith("sha3") else wanted.replace("-", "")
    name = name.replace("/", "_")
    try:
        if hashlib.new(name, usedforsecurity=False).digest_size > 0:
            return name
    except ValueError:
        pass
    raise ConfigError(
        f"DigestAuthenticationProvider.digestAlg={algorithm}: there is no such hash; use SHA1, SHA-256 or SHA-512"
    )


def generate_digest(user_password: str, algorithm: str = "SHA1") -> str:
    """The identity of a `user:password` text, also the form of an ACL id and of the `superDigest` setting."""
    return _digest(user_password, hash_name(algorithm))


def _digest(user_password: str, name: str) -> str:
    digest = hashlib.new(name, user_password.encode(), usedforsecurity=False).digest()
    user, _, _ = user_password.partition(":")
    return f"{user}:{base64.b64encode(digest).decode('ascii')}"


class DigestScheme:
    """`digest`.

    Args:
        super_digest: identity that stands for the super user, or None.
        algorithm: Java's name of the hash.

    Raises:
        ConfigError: the hash is not known.
    """

    name = "digest"
    authenticated = True

    def __init__(self, super_digest: str | None = None, algorithm: str = "SHA1") -> None:
        self._hash = hash_name(algorithm)
        self._super = super_digest.encode() if super_digest else None

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        """Any `user:password` is accepted: it proves only that the client knows what hashes to this identity."""
        identity = _digest(data.decode("utf-8", "replace"), self._hash)
        if self._super is not None and hmac.compare_digest(identity.encode(), self._super):
            return (SUPER, (self.name, identity))
        return ((self.name, identity),)

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        """A connection has no digest identity by itself."""
        return ()

    def valid(self, acl_id: str) -> bool:
        """Two parts around a colon, after empty parts at the end are dropped."""
        return acl_id.rstrip(":").count(":") == 1

    def matches(self, identity: str, acl_id: str) -> bool:
        """Equality of the whole `user:digest` text."""
        return identity == acl_id
