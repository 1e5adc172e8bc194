"""Conformance suite for authentication schemes: what the server relies on, whichever package a scheme comes from.

Use: subclass `AuthSuite` in a test file, override `scheme()` and fill in the samples; pytest collects the rest.

    class TestToken(AuthSuite):
        proofs = ((b"secret", LOCAL, ("token", "alice")),)
        refusals = ((b"wrong", LOCAL),)
        valid_ids = ("alice",)
        invalid_ids = ("",)
        matching = (("alice", "alice"),)
        not_matching = (("alice", "bob"),)

        def scheme(self) -> AuthScheme:
            return TokenScheme(b"secret")

Rules that it checks
- Whatever bytes or text a client sends, a method returns and does not raise.
- An identity is a pair of `str` that UTF-8 can carry, its scheme is the scheme's own or `super`.
- The same question has the same answer: ACL checks are repeated on every server of an ensemble.
- An ACL id that is not valid covers nobody.

Not here: the kernel's part, which is the expansion of the ACL scheme `auth`, the closing of connections after a
failed `auth` packet, and `world:anyone`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

from corekit.api import AuthScheme, Identity, Peer

LOCAL = Peer("127.0.0.1", 40000)
LOCAL_V6 = Peer("::1", 40000)
UNIX = Peer("unix")
PEERS = (LOCAL, LOCAL_V6, Peer("::ffff:192.0.2.7", 40000), Peer("fe80::1%eth0", 40000), UNIX)

RESERVED = ("auth", "super")  # the kernel's own: `auth` stands for the caller's identities, `super` passes every ACL

_TRIALS = 300


def _noise(seed: int) -> Iterator[bytes]:
    """Bytes as a hostile client sends them: empty, long, not UTF-8, and near misses of usual forms."""
    yield from (b"", b":", b"::", b"a", b"a:b", b"a:b:c", b"\x00", b"\xff\xfe", b"1.2.3.4/33", b"::/0", b"x" * 65536)
    rng = random.Random(seed)
    alphabet = b"0123456789abcdefABCDEF:./%=+ \x00\xc3\xa9\xff"
    for _ in range(_TRIALS):
        yield bytes(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))


def _texts() -> Iterator[str]:
    for data in _noise(2):
        yield data.decode("utf-8", "replace")
    yield "\u0661.2.3.4"  # a digit that is not ASCII
    yield "\ud800"  # a lone surrogate, which Java strings can hold


class AuthSuite:
    """The suite. Override `scheme` and the samples; every sample list may stay empty where it makes no sense.

    Attributes:
        proofs: (data of an `auth` packet, peer, an identity that it must prove).
        refusals: (data, peer) that prove nothing.
        connects: (peer, identities that it has by itself).
        valid_ids, invalid_ids: ids in ACLs of this scheme.
        matching, not_matching: (identity, ACL id).
    """

    proofs: ClassVar[Sequence[tuple[bytes, Peer, Identity]]] = ()
    refusals: ClassVar[Sequence[tuple[bytes, Peer]]] = ()
    connects: ClassVar[Sequence[tuple[Peer, Sequence[Identity]]]] = ()
    valid_ids: ClassVar[Sequence[str]] = ()
    invalid_ids: ClassVar[Sequence[str]] = ()
    matching: ClassVar[Sequence[tuple[str, str]]] = ()
    not_matching: ClassVar[Sequence[tuple[str, str]]] = ()

    def scheme(self) -> AuthScheme:
        """A new scheme under test."""
        raise NotImplementedError("override scheme()")

    def _check(self, scheme: AuthScheme, identities: Sequence[Identity]) -> None:
        for name, text in identities:
            assert name in (scheme.name, "super"), f"identity of a foreign scheme: {name}"
            assert isinstance(text, str)
            text.encode()  # goes into whoAmI replies and expanded ACLs

    def test_fulfils_the_contract(self) -> None:
        scheme = self.scheme()
        assert isinstance(scheme, AuthScheme)
        assert isinstance(scheme.authenticated, bool)

    def test_name_can_stand_in_an_acl(self) -> None:
        name = self.scheme().name
        assert name
        assert name.isascii()
        assert not set(name) & set(": \t\r\n,")
        assert name not in RESERVED

    def test_proofs_give_their_identity(self) -> None:
        scheme = self.scheme()
        for data, peer, identity in self.proofs:
            proved = scheme.authenticate(data, peer)
            assert proved is not None, f"{data!r} should prove {identity}"
            assert identity in list(proved)
            self._check(scheme, proved)

    def test_refusals_prove_nothing(self) -> None:
        scheme = self.scheme()
        for data, peer in self.refusals:
            assert scheme.authenticate(data, peer) is None, f"{data!r} should prove nothing"

    def test_any_bytes_are_survived(self) -> None:
        scheme = self.scheme()
        for data in _noise(1):
            for peer in PEERS:
                proved = scheme.authenticate(data, peer)
                if proved is not None:
                    assert len(proved) > 0, "an empty proof must be None"
                    self._check(scheme, proved)

    def test_connections_have_their_identities(self) -> None:
        scheme = self.scheme()
        for peer, identities in self.connects:
            assert list(scheme.on_connect(peer)) == list(identities)
        for peer in PEERS:
            self._check(scheme, scheme.on_connect(peer))

    def test_same_question_same_answer(self) -> None:
        one, two = self.scheme(), self.scheme()
        for data, peer, _ in self.proofs:
            assert list(one.authenticate(data, peer) or ()) == list(two.authenticate(data, peer) or ())
        for acl_id in (*self.valid_ids, *self.invalid_ids):
            assert one.valid(acl_id) is two.valid(acl_id) is one.valid(acl_id)

    def test_validity_of_acl_ids(self) -> None:
        scheme = self.scheme()
        for acl_id in self.valid_ids:
            assert scheme.valid(acl_id) is True, f"{acl_id!r} should be valid"
        for acl_id in self.invalid_ids:
            assert scheme.valid(acl_id) is False, f"{acl_id!r} should not be valid"

    def test_matching(self) -> None:
        scheme = self.scheme()
        for identity, acl_id in self.matching:
            assert scheme.matches(identity, acl_id) is True, f"{acl_id!r} should cover {identity!r}"
        for identity, acl_id in self.not_matching:
            assert scheme.matches(identity, acl_id) is False, f"{acl_id!r} should not cover {identity!r}"

    def test_proved_identity_is_covered_by_itself(self) -> None:
        """The expansion of `auth` writes the identity into the ACL: its owner must pass."""
        scheme = self.scheme()
        if not scheme.authenticated:
            return
        for data, peer, _ in self.proofs:
            for name, identity in scheme.authenticate(data, peer) or ():
                if name == scheme.name:
                    assert scheme.valid(identity)
                    assert scheme.matches(identity, identity)

    def test_any_acl_id_is_survived(self) -> None:
        scheme = self.scheme()
        known = [identity for _, _, (name, identity) in self.proofs if name == scheme.name]
        known += [identity for _, identities in self.connects for name, identity in identities if name == scheme.name]
        for acl_id in _texts():
            valid = scheme.valid(acl_id)
            assert isinstance(valid, bool)
            for identity in (acl_id, "", *known):
                covered = scheme.matches(identity, acl_id)
                assert isinstance(covered, bool)
                if not valid and identity in known:
                    assert not covered, f"{acl_id!r} is not valid and yet covers {identity!r}"
