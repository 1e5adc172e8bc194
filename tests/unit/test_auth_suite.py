"""The conformance suite for schemes passes a sound scheme of a stranger and fails each kind of broken one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from corekit.api import AuthScheme, Identity, Peer
from corekit.testing.auth import LOCAL, AuthSuite


class Token:
    """A stranger's scheme: whoever knows the token is `holder`."""

    name = "token"
    authenticated = True

    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        return (("token", "holder"),) if data == b"open sesame" else None

    def on_connect(self, peer: Peer) -> Sequence[Identity]:
        return ()

    def valid(self, acl_id: str) -> bool:
        return acl_id == "holder"

    def matches(self, identity: str, acl_id: str) -> bool:
        return identity == acl_id == "holder"


class TokenSuite(AuthSuite):
    proofs = ((b"open sesame", LOCAL, ("token", "holder")),)
    refusals = ((b"", LOCAL), (b"Open Sesame", LOCAL))
    connects = ((LOCAL, ()),)
    valid_ids = ("holder",)
    invalid_ids = ("", "Holder")
    matching = (("holder", "holder"),)
    not_matching = (("holder", "other"),)
    kind: type[Token] = Token

    def scheme(self) -> AuthScheme:
        return self.kind()


class TestToken(TokenSuite):
    pass


class Raises(Token):
    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        return super().authenticate(data.decode().encode(), peer)


class Everybody(Token):
    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        return (("token", "holder"),)


class Foreign(Token):
    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        return (("token", "holder"), ("digest", "a:b")) if data == b"open sesame" else None


class Empty(Token):
    def authenticate(self, data: bytes, peer: Peer) -> Sequence[Identity] | None:
        return super().authenticate(data, peer) or ()


class Loose(Token):
    def matches(self, identity: str, acl_id: str) -> bool:
        return True


class Lockout(Token):
    def matches(self, identity: str, acl_id: str) -> bool:
        return False


class Reserved(Token):
    name = "auth"


class Changing(Token):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self._odd = type(self).made % 2

    def valid(self, acl_id: str) -> bool:
        return bool(self._odd) == (acl_id == "holder")


class Nameless(Token):
    valid = None  # type: ignore[assignment]


TESTS = [name for name in dir(AuthSuite) if name.startswith("test_")]


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Raises, "test_any_bytes_are_survived"),
        (Everybody, "test_refusals_prove_nothing"),
        (Foreign, "test_proofs_give_their_identity"),
        (Empty, "test_any_bytes_are_survived"),
        (Loose, "test_any_acl_id_is_survived"),
        (Loose, "test_matching"),
        (Lockout, "test_proved_identity_is_covered_by_itself"),
        (Reserved, "test_name_can_stand_in_an_acl"),
        (Changing, "test_same_question_same_answer"),
        (Nameless, "test_validity_of_acl_ids"),
    ],
)
def test_what_is_broken_is_caught(broken: type[Token], caught_by: str) -> None:
    assert caught_by in TESTS
    suite = TokenSuite()
    suite.kind = broken
    with pytest.raises((AssertionError, UnicodeDecodeError, TypeError)):
        getattr(suite, caught_by)()
