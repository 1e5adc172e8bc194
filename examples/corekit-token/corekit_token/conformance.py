"""What `corekit plugin test token` and the tests run: the conformance suite of corekit."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from corekit.api import AuthScheme
from corekit.testing.auth import LOCAL, UNIX, AuthSuite
from corekit_token.jwt import sign
from corekit_token.scheme import TokenScheme

NOW_S = 1_700_000_000
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes((n,)) * 32) for n in (1, 2))


class Known:
    """The keys of the server under test."""

    keys: Mapping[str, Ed25519PublicKey] = {"one": KEY.public_key()}


def minted(sub: object = "alice", exp: object = NOW_S + 60, kid: str = "one", **claims: object) -> bytes:
    """A token of the known key."""
    return sign(KEY, kid, {"sub": sub, "exp": exp, **claims}).encode()


class TestToken(AuthSuite):
    """What the server relies on."""

    proofs = (
        (minted(), LOCAL, ("token", "alice")),
        (minted("svc/billing@prod"), UNIX, ("token", "svc/billing@prod")),
        (minted(exp=NOW_S - 5), LOCAL, ("token", "alice")),
        (minted(nbf=NOW_S + 5), LOCAL, ("token", "alice")),
    )
    refusals = (
        (minted(exp=NOW_S - 11), LOCAL),
        (minted(nbf=NOW_S + 11), LOCAL),
        (minted(kid="unknown"), LOCAL),
        (minted("has:colon"), LOCAL),
        (minted(""), LOCAL),
        (minted(7), LOCAL),
        (minted(exp=None), LOCAL),
        (minted(exp="never"), LOCAL),
        (minted(exp=True), LOCAL),
        (sign(OTHER, "one", {"sub": "alice", "exp": NOW_S + 60}).encode(), LOCAL),
        (minted()[:-4] + b"AAAA", LOCAL),
        (minted() + b".", LOCAL),
        (b"[" * 4000 + b"..", LOCAL),
    )
    connects = ((LOCAL, ()),)
    valid_ids = ("alice", "svc/billing@prod", "a.b-c_d+e=")
    invalid_ids = ("", "a:b", "a b", "a,b", "\u00e4", "x" * 257, "a\n")
    matching = (("alice", "alice"),)
    not_matching = (("alice", "bob"), ("alice", ""), ("", ""))

    def scheme(self) -> AuthScheme:
        return TokenScheme(Known(), lambda: NOW_S * 1000, skew_ms=10_000)
