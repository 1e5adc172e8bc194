"""Tokens as text: JSON Web Tokens signed with Ed25519 (RFC 7519, RFC 8037), so that any JWT library can make them.

Rules
- Only `alg` EdDSA with a `kid` that names a key; nothing is looked at before the signature was checked with it.
- `sub` and `exp` must be there. `nbf` and `iat` are honoured, with `aud` if the server has a name.
- What a client sends has a bound, and only `TokenError` is raised; its text says what is wrong and holds no secret.

Not here: where keys come from (`keys.py`).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TOKEN_BYTES_MAX = 8192


class TokenError(Exception):
    """Why a token proves nothing."""


def encode_base64(data: bytes) -> str:
    """The alphabet of JWTs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64(text: str | bytes) -> bytes:
    """The bytes of such a text.

    Raises:
        ValueError: it is none.
    """
    data = text.encode() if isinstance(text, str) else text
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


def sign(key: Ed25519PrivateKey, kid: str, claims: Mapping[str, Any]) -> str:
    """A token with these claims."""
    head = {"alg": "EdDSA", "typ": "JWT", "kid": kid}
    text = ".".join(encode_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    return f"{text}.{encode_base64(key.sign(text.encode()))}"


def check(
    token: bytes, keys: Mapping[str, Ed25519PublicKey], now_ms: int, *, skew_ms: int = 0, audience: str | None = None
) -> dict[str, Any]:
    """The claims of a token, if all is well with it.

    Args:
        now_ms: milliseconds since 1970.
        skew_ms: how far the clock of the signer may be from that.

    Raises:
        TokenError: it proves nothing.
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenError(f"it has {len(token)} bytes, the limit is {TOKEN_BYTES_MAX}")
    parts = token.strip().split(b".")
    if len(parts) != 3:
        raise TokenError("it is no JSON Web Token: that is three texts with dots between them")
    head = _object(parts[0], "header")
    if head.get("alg") != "EdDSA" or "crit" in head:
        raise TokenError("its header asks for something else than a plain EdDSA signature")
    kid = head.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenError(f"it is signed with the key {_shown(kid)}, which is not among the keys of this server")
    try:
        key.verify(decode_base64(parts[2]), b".".join(parts[:2]))
    except (InvalidSignature, ValueError):
        raise TokenError(f"the signature is not that of the key {_shown(kid)}") from None
    claims = _object(parts[1], "content")
    _check_times(claims, now_ms, skew_ms)
    if not isinstance(claims.get("sub"), str):
        raise TokenError("it does not say whom it is for (sub)")
    meant = claims.get("aud")
    if audience is not None and audience not in (meant if isinstance(meant, list) else [meant]):
        raise TokenError(f"it is for {_shown(meant)}, not for {audience} (aud)")
    return claims


def _check_times(claims: Mapping[str, Any], now_ms: int, skew_ms: int) -> None:
    end = _time_ms(claims, "exp")
    if end is None:
        raise TokenError("it does not say when it expires (exp)")
    if now_ms >= end + skew_ms:
        raise TokenError(f"it expired {(now_ms - end) // 1000} s ago")
    for name in ("nbf", "iat"):
        begin = _time_ms(claims, name)
        if begin is not None and now_ms < begin - skew_ms:
            raise TokenError(f"it is not valid before {(begin - now_ms) // 1000} s from now ({name}); check the clocks")


def _time_ms(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError(f"its {name} is no time")
    return int(value * 1000)


def _object(part: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(decode_base64(part), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenError(f"its {what} is no JSON") from None
    if not isinstance(found, dict):
        raise TokenError(f"its {what} is no JSON object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _shown(value: object) -> str:
    """Something of the token for people: short, on one line."""
    return repr(value)[:60]
