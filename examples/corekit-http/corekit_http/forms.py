"""What goes over HTTP, as values: answers, problems, Stats, ACLs, data in JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corekit import errors
from corekit.codec.records import ACL, Id
from corekit.errors import error_name
from corekit.model.stat import Stat

JSON = "application/json"
DATA = "application/octet-stream"
PROBLEM = "application/problem+json"

OPEN = [ACL(31, Id(b"world", b"anyone"))]
_PERMS = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}

# HTTP status of ZooKeeper's error codes; 500 for the others.
STATUS = {
    errors.CONNECTION_LOSS: 503,
    errors.MARSHALLING_ERROR: 400,
    errors.UNIMPLEMENTED: 501,
    errors.BAD_ARGUMENTS: 400,
    errors.NO_NODE: 404,
    errors.NO_AUTH: 403,
    errors.BAD_VERSION: 412,
    errors.NO_CHILDREN_FOR_EPHEMERALS: 409,
    errors.NODE_EXISTS: 409,
    errors.NOT_EMPTY: 409,
    errors.SESSION_EXPIRED: 410,
    errors.INVALID_ACL: 400,
    errors.AUTH_FAILED: 401,
    errors.SESSION_MOVED: 409,
    errors.NOT_READ_ONLY: 503,
    errors.EPHEMERAL_ON_LOCAL_SESSION: 409,
    errors.REQUEST_TIMEOUT: 503,
    errors.SESSION_CLOSED_REQUIRE_AUTH: 401,
    errors.QUOTA_EXCEEDED: 507,
    errors.THROTTLED_OP: 429,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read completely.

    Attributes:
        path: percent signs decoded.
        query: the first value of each parameter.
        headers: names in lower case; the last value of each.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Problem(Exception):
    """A request that is refused (RFC 9457)."""

    def __init__(self, status: int, title: str, **more: Any) -> None:
        super().__init__(title)
        self.status = status
        self.fields = {"title": title, "status": status, **more}

        self.headers = {"WWW-Authenticate": 'Basic realm="corekit"'} if status == 401 else {}

    def answer(self) -> Answer:
        """What the client gets."""
        return Answer(self.status, json.dumps(self.fields).encode(), PROBLEM, self.headers)


def check_method(method: str, *known: str) -> None:
    """Raises:
    Problem: the method is not one of those that a resource knows.
    """
    if method not in known:
        problem = Problem(405, f"{method} is not known here; known are {', '.join(known)}")
        problem.headers = {"Allow": ", ".join(known)}
        raise problem


def refused(code: int, **more: Any) -> Problem:
    """The problem for an error code of ZooKeeper."""
    return Problem(STATUS.get(code, 500), error_name(code), code=code, **more)


def as_json(status: int, value: Mapping[str, Any], **headers: str) -> Answer:
    """A JSON answer."""
    return Answer(status, json.dumps(value).encode(), JSON, headers)


def hexed(number: int) -> str:
    """64 bits as text: a number of JSON has 53."""
    return f"0x{number & (1 << 64) - 1:x}"


def stat_json(stat: Stat) -> dict[str, Any]:
    """A Stat; zxids and session ids as hexadecimal text, times in milliseconds since 1970."""
    texts = {"czxid", "mzxid", "pzxid", "ephemeral_owner"}
    return {name: hexed(value) if name in texts else value for name, value in stat._asdict().items()}


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Problem: it is none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is no JSON", detail=str(error)) from None
    if not isinstance(value, dict):
        raise Problem(400, "the body must be a JSON object")
    return value


def field_of(value: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """A member of a JSON object, checked.

    Raises:
        Problem: it has another type.
    """
    found = value.get(name, default)
    if type(found) is not kind:
        raise Problem(400, f"{name} must be {'a number' if kind is int else f'a {kind.__name__}'}")
    return found


def number_of(text: str, most: int) -> int | None:
    """A number of decimal digits that is at most so large; None if it is something else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most else None


def utf8(text: str, what: str) -> bytes:
    """Text of JSON for the server.

    Raises:
        Problem: it has half a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Problem(400, f"{what} has half a surrogate pair") from None


def data_of(value: Mapping[str, Any]) -> bytes:
    """Data in JSON: `data` as text, or `base64`.

    Raises:
        Problem: it is neither.
    """
    if "base64" not in value:
        return utf8(field_of(value, "data", str, ""), "data")
    try:
        return base64.b64decode(field_of(value, "base64", str, ""), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "base64 is not base64") from None


def parse_acl(texts: Sequence[Any]) -> list[ACL]:
    """Entries such as `world:anyone:r` and `digest:ada:HASH:cdrwa`.

    Raises:
        Problem: one is no such entry.
    """
    found = []
    for text in texts:
        scheme, colon, rest = str(text).strip().partition(":")
        name, more, letters = rest.rpartition(":")
        if not (colon and more and letters and set(letters) <= set(_PERMS)):
            raise Problem(400, f"{text!r} is no ACL entry; they look as world:anyone:cdrwa")
        found.append(
            ACL(sum(_PERMS[letter] for letter in set(letters)), Id(utf8(scheme, "an ACL"), utf8(name, "an ACL")))
        )
    return found


def acl_json(entries: Sequence[ACL]) -> list[str]:
    """The texts of an ACL."""
    return [
        f"{text(entry.id.scheme)}:{text(entry.id.id)}:"
        + "".join(letter for letter in "cdrwa" if entry.perms & _PERMS[letter])
        for entry in entries
    ]


def text(data: bytes | None) -> str:
    """Text of the server."""
    return (data or b"").decode("utf-8", "replace")
