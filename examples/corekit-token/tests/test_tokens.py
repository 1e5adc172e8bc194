"""Tokens and keys: what is refused says why, and a JWT library that is not ours agrees."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import jwt as foreign
import pytest
from corekit_token import register_auth_schemes
from corekit_token.__main__ import main
from corekit_token.conformance import KEY, NOW_S, OTHER, Known, minted
from corekit_token.jwt import TokenError, check, sign
from corekit_token.keys import KeyFile, read_private, read_public, write_public

from corekit.errors import ConfigError, UserError
from corekit.testing.memory_server import MemoryServer

KEYS = Known.keys


def why(token: bytes, audience: str | None = None) -> str:
    with pytest.raises(TokenError) as error:
        check(token, KEYS, NOW_S * 1000, audience=audience)
    return str(error.value)


def test_a_library_that_is_not_ours_makes_and_reads_them() -> None:
    token = foreign.encode({"sub": "bob", "exp": NOW_S + 9}, KEY, algorithm="EdDSA", headers={"kid": "one"})
    assert check(token.encode(), KEYS, NOW_S * 1000)["sub"] == "bob"
    options = {"verify_exp": False}
    assert foreign.decode(minted(), KEY.public_key(), algorithms=["EdDSA"], options=options)["sub"] == "alice"


def test_every_refusal_says_why() -> None:
    assert "expired 30 s ago" in why(minted(exp=NOW_S - 30))
    assert "check the clocks" in why(minted(iat=NOW_S + 30))
    assert "'two'" in why(minted(kid="two"))
    assert "signature" in why(sign(OTHER, "one", {"sub": "a", "exp": NOW_S + 1}).encode())
    assert "exp" in why(minted(exp=None))
    assert "three texts" in why(b"hello")
    assert "no JSON" in why(b"e30x.e30.e30")
    assert "limit" in why(b"x" * 9000)
    assert "sub" in why(minted(None))
    assert "not for here" in why(minted(aud="there"), "here")
    assert "not for here" in why(minted(), "here")


def test_a_token_without_a_signature_or_with_another_kind_is_refused() -> None:
    assert "EdDSA" in why(foreign.encode({"sub": "a", "exp": NOW_S + 9}, "", algorithm="none").encode())
    secret = KEY.public_key().public_bytes_raw() * 2  # the old trick: the public key as the secret of a hash
    forged = foreign.encode({"sub": "a", "exp": NOW_S + 9}, secret, algorithm="HS256", headers={"kid": "one"})
    assert "EdDSA" in why(forged.encode())


def test_one_audience_or_several() -> None:
    assert check(minted(aud="here"), KEYS, NOW_S * 1000, audience="here")
    assert check(minted(aud=["there", "here"]), KEYS, NOW_S * 1000, audience="here")


def test_commands_make_keys_and_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, keys = str(tmp_path / "one.json"), str(tmp_path / "keys.json")
    assert main(["new-key", "one", "--private", private, "--keys", keys]) == 0
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert main(["new-key", "one", "--private", private, "--keys", keys]) == 2, "not overwritten"
    assert main(["new-key", "one", "--private", private + "2", "--keys", keys]) == 2, "the name is taken"
    assert main(["new-key", "two", "--private", private + "2", "--keys", keys]) == 0
    capsys.readouterr()
    assert main(["mint", "alice", "--key", private, "--for", "5m"]) == 0
    token = capsys.readouterr().out.strip()
    claims = foreign.decode(token, read_public(keys)["one"], algorithms=["EdDSA"])
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["iat"] == 300
    assert main(["retire", "one", "--keys", keys]) == 0
    assert list(read_public(keys)) == ["two"]
    assert main(["retire", "one", "--keys", keys]) == 2
    assert main(["mint", "a b", "--key", private]) == 2
    assert main(["mint", "alice", "--key", keys]) == 2
    assert "no Ed25519 key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ('{"keys": 7}', "no set of keys"),
        ('{"keys": [{"kty": "RSA", "kid": "a"}]}', "Ed25519"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AA"}]}', "32 bytes"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AA", "d": "AA"}]}', "private"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        read_public(str(path))
    assert str(path) in str(error.value)


def test_keys_are_read_anew_and_kept_if_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    write_public(str(path), KEYS)
    file = KeyFile(str(path), logging.getLogger("test"))
    file.load()
    with caplog.at_level("INFO"):
        file.look()
        assert caplog.messages == []
        path.write_text("{")
        file.look()
        assert list(file.keys) == ["one"]
        path.unlink()
        file.look()
        file.look()
        assert list(file.keys) == ["one"]
        write_public(str(path), {"two": OTHER.public_key()})
        file.look()
        assert list(file.keys) == ["two"]
    assert [message.split(":")[0] for message in caplog.messages] == [
        *["token keys not read anew, those read before stay in force"] * 2,
        "token keys read anew",
    ]


def test_a_key_without_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"kty": "OKP", "crv": "Ed25519", "d": "AA"}))
    with pytest.raises(UserError, match="kid"):
        read_private(str(path))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"plugin.token.keys": "/nowhere/keys.json"},
        {"plugin.token.keys": "x", "plugin.token.skew-seconds": "-1"},
        {"plugin.token.keys": "x", "plugin.token.skew": "1"},
    ],
)
def test_wrong_settings_stop_the_start(settings: dict[str, str]) -> None:
    context = MemoryServer(settings).context("token")
    with pytest.raises((ConfigError, UserError), match=r"plugin\.token|keys\.json"):
        register_auth_schemes(context)
