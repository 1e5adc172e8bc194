"""Keys on disk: a private key is a JWK, the public keys of a server are a JWK set (RFC 7517, RFC 8037).

Rules
- A private key is readable by its owner only. A file is written beside and renamed, so nobody reads half of it.
- A file that cannot be used is a `UserError` that names it; while a server runs it keeps the keys that it had.

Not here: tokens (`jwt.py`).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from corekit.api import Gateway
from corekit.errors import UserError
from corekit_token.jwt import decode_base64, encode_base64

KEY_FILE_BYTES_MAX = 1024 * 1024
_LOOK_EVERY_S = 2.0


def new_private(kid: str) -> dict[str, str]:
    """A new private key as a JWK."""
    key = Ed25519PrivateKey.generate()
    return public_jwk(kid, key.public_key()) | {"d": encode_base64(key.private_bytes_raw())}


def public_jwk(kid: str, key: Ed25519PublicKey) -> dict[str, str]:
    """A public key as a JWK."""
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode_base64(key.public_bytes_raw())}


def read_private(path: str) -> tuple[str, Ed25519PrivateKey]:
    """A private key and its name.

    Raises:
        UserError: the file cannot be used.
    """
    jwk = _read(path)
    kid, seed = _part(path, jwk, "kid"), _raw(path, jwk, "d")
    return kid, Ed25519PrivateKey.from_private_bytes(seed)


def read_public(path: str) -> dict[str, Ed25519PublicKey]:
    """Public keys by name.

    Raises:
        UserError: the file cannot be used.
    """
    jwks = _read(path).get("keys")
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise UserError(f'{path} is no set of keys: that is {{"keys": [...]}}')
    found: dict[str, Ed25519PublicKey] = {}
    for jwk in jwks:
        kid = _part(path, jwk, "kid")
        if kid in found:
            raise UserError(f"{path} has two keys with the name {kid}")
        if "d" in jwk:
            raise UserError(f"{path} holds the private part of the key {kid}, which no server needs: take it out")
        found[kid] = Ed25519PublicKey.from_public_bytes(_raw(path, jwk, "x"))
    return found


def write_public(path: str, keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Write a set of public keys."""
    write(path, {"keys": [public_jwk(kid, key) for kid, key in keys.items()]}, 0o644)


def write(path: str, content: Mapping[str, Any], mode: int) -> None:
    """Write a JSON file at once.

    Raises:
        UserError: it cannot be written.
    """
    beside = f"{path}.new"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > KEY_FILE_BYTES_MAX:
        raise UserError(f"{path} is larger than a file of keys may be ({KEY_FILE_BYTES_MAX} bytes)")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object")
    return found


def _part(path: str, jwk: Mapping[str, Any], name: str) -> str:
    value = jwk.get(name)
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or not isinstance(value, str) or not value:
        raise UserError(f"{path} holds something that is no Ed25519 key (kty OKP, crv Ed25519) with a {name}")
    return value


def _raw(path: str, jwk: Mapping[str, Any], name: str) -> bytes:
    try:
        data = decode_base64(_part(path, jwk, name))
    except ValueError:
        data = b""
    if len(data) != 32:
        raise UserError(f"{path}: {name} of the key {jwk.get('kid')} is not 32 bytes in base64url")
    return data


class KeyFile:
    """The public keys of a server, as its file has them.

    Attributes:
        keys: by name; replaced as a whole when the file changes.
    """

    def __init__(self, path: str, logger: logging.Logger) -> None:
        self.keys: Mapping[str, Ed25519PublicKey] = {}
        self._path = path
        self._log = logger
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file. Blocks.

        Raises:
            UserError: it cannot be used.
        """
        self._seen = self._mark()
        self.keys = read_public(self._path)

    def _mark(self) -> tuple[int, int, int] | None:
        """What differs once the file has changed; None if it is not there."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def look(self) -> None:
        """Read the file if it has changed; a file that cannot be used leaves the keys as they are. Blocks."""
        if self._mark() == self._seen:
            return
        try:
            self.load()
        except UserError as error:
            self._log.error("token keys not read anew, those read before stay in force: %s", error)
        else:
            self._log.info("token keys read anew: %s", ", ".join(self.keys) or "none")

    async def follow(self, gateway: Gateway) -> None:
        """Look for ever; a `Service`."""
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            await trio.to_thread.run_sync(self.look)
