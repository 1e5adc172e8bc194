"""What a request asks of the tree: one operation of ZooKeeper, and how its answer is told. No connection, no state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import (
    CheckVersionRequest,
    Create2Response,
    CreateRequest,
    CreateTTLRequest,
    DataResponse,
    DeleteRequest,
    ErrorResponse,
    GetACLResponse,
    GetChildren2Response,
    MultiRequest,
    MultiResponse,
    PathRequest,
    PathResponse,
    PathWatchRequest,
    Record,
    SetACLRequest,
    SetDataRequest,
    StatResponse,
)
from corekit.errors import RUNTIME_INCONSISTENCY
from corekit.model.stat import TTL_MAX_MS, Stat
from corekit_http.forms import (
    DATA,
    OPEN,
    Answer,
    Problem,
    Request,
    acl_json,
    as_json,
    check_method,
    data_of,
    field_of,
    hexed,
    number_of,
    parse_acl,
    parse_json,
    refused,
    stat_json,
    utf8,
)

TREE = "/tree"
MULTI = "/multi"
WATCH = "/watch"
SESSION = "/session"
OPENAPI = "/openapi.json"

_VIEWS = ("stat", "children", "acl")
_MODES = ("ephemeral", "sequential", "container", "ttl")
_VERSION_MAX = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Call:
    """One operation.

    Attributes:
        render: the answer, from the reply's body and its zxid.
        writes: it needs a session.
        ephemeral: it makes what ends with the session, so the client must have named one.
        fresh: the path to `sync` before it.
    """

    op: int
    record: Record
    render: Callable[[Reader, int], Answer]
    path: str = ""
    writes: bool = True
    ephemeral: bool = False
    fresh: bool = False


def call_of(request: Request) -> Call:
    """The operation that a request under `/tree` or to `/multi` means.

    Raises:
        Problem: it means none.
    """
    if request.path == MULTI:
        check_method(request.method, "POST")
        return _multi(request)
    path = path_below(TREE, request.path)
    check_method(request.method, "HEAD", *_METHODS)
    method = "GET" if request.method == "HEAD" else request.method
    known, handle = _METHODS[method]
    if unknown := sorted(set(request.query) - set(known)):
        raise Problem(400, f"{unknown[0]!r} is no parameter of {method}; known are {', '.join(known) or 'none'}")
    return handle(path, request)


def path_below(prefix: str, path: str) -> str:
    """The znode that a resource stands for.

    Raises:
        Problem: the resource is elsewhere.
    """
    if not path.startswith((prefix + "/", prefix)) or path[len(prefix) : len(prefix) + 1] not in ("", "/"):
        raise Problem(404, f"there is no {path}; see {OPENAPI}")
    return path[len(prefix) :] or "/"


def _version(request: Request) -> int:
    """The version that `If-Match` demands; -1: any."""
    text = request.headers.get("if-match", "*").strip()
    if text == "*":
        return -1
    number = number_of(text[1:-1], _VERSION_MAX)
    if number is None or text[0] != '"' or text[-1] != '"':
        raise Problem(400, f'If-Match: {text} is no version; a version looks as "3"')
    return number


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false") in ("", "true", "1")


# --------------------------------------------------------------------------------------------- reading
def _get(path: str, request: Request) -> Call:
    views = [view for view in _VIEWS if _flag(request.query, view)]
    if len(views) > 1:
        raise Problem(400, f"{' and '.join(views)} are different answers; ask for one")
    fresh = _flag(request.query, "fresh")
    name = path.encode()
    if views == ["acl"]:
        return Call(ops.GET_ACL, PathRequest(name), _acl_read, path, fresh, fresh=fresh)
    if views == ["children"]:
        return Call(ops.GET_CHILDREN2, PathWatchRequest(name, False), _children_read, path, fresh, fresh=fresh)
    if views == ["stat"]:
        return Call(ops.EXISTS, PathWatchRequest(name, False), _stat_read, path, fresh, fresh=fresh)
    seen = request.headers.get("if-none-match")
    return Call(
        ops.GET_DATA,
        PathWatchRequest(name, False),
        lambda body, zxid: _data_read(body, zxid, seen),
        path,
        fresh,
        fresh=fresh,
    )


def _marks(version: int, zxid: int) -> dict[str, str]:
    return {"ETag": f'"{version}"', "Zxid": hexed(zxid)}


def _data_read(body: Reader, zxid: int, seen: str | None) -> Answer:
    found = DataResponse.decode(body)
    marks = _marks(found.stat.version, zxid)
    marks["Last-Modified"] = formatdate(found.stat.mtime / 1000, usegmt=True)
    if seen == marks["ETag"]:
        return Answer(304, b"", DATA, marks)
    return Answer(200, found.data or b"", DATA, marks)


def _children_read(body: Reader, zxid: int) -> Answer:
    found = GetChildren2Response.decode(body)
    names = sorted(name.decode("utf-8", "replace") for name in found.children or ())
    return as_json(200, {"children": names, "stat": stat_json(found.stat)}, Zxid=hexed(zxid))


def _acl_read(body: Reader, zxid: int) -> Answer:
    found = GetACLResponse.decode(body)
    return as_json(
        200, {"acl": acl_json(found.acl or ()), "stat": stat_json(found.stat)}, **_marks(found.stat.aversion, zxid)
    )


def _stat_read(body: Reader, zxid: int) -> Answer:
    stat = StatResponse.decode(body).stat
    return as_json(200, stat_json(stat), **_marks(stat.version, zxid))


# --------------------------------------------------------------------------------------------- writing
def _put(path: str, request: Request) -> Call:
    name, version = path.encode(), _version(request)
    if _flag(request.query, "acl"):
        entries = parse_acl(field_of(parse_json(request.body), "acl", list, []))
        return Call(ops.SET_ACL, SetACLRequest(name, entries, version), _acl_written, path)
    return Call(ops.SET_DATA, SetDataRequest(name, request.body, version), _stat_read, path)


def _acl_written(body: Reader, zxid: int) -> Answer:
    stat = StatResponse.decode(body).stat
    return as_json(200, stat_json(stat), **_marks(stat.aversion, zxid))


def _delete(path: str, request: Request) -> Call:
    return Call(ops.DELETE, DeleteRequest(path.encode(), _version(request)), lambda body, zxid: _deleted(zxid), path)


def _deleted(zxid: int) -> Answer:
    return Answer(204, headers={"Zxid": hexed(zxid)})


def _post(path: str, request: Request) -> Call:
    acl = request.headers.get("acl")
    entries = OPEN if acl is None else parse_acl(acl.split(","))
    modes = {mode: _flag(request.query, mode) for mode in _MODES[:3]}
    ttl = number_of(request.query.get("ttl", "0"), TTL_MAX_MS)
    if ttl is None:
        raise Problem(400, f"ttl={request.query['ttl']} is no number of milliseconds")
    op, record = _create(path, request.body, entries, modes, ttl)
    return Call(op, record, _created, path, ephemeral=modes["ephemeral"])


def _create(path: str, data: bytes, acl: list[Any], modes: Mapping[str, bool], ttl: int) -> tuple[int, Record]:
    ephemeral, sequential, container = modes["ephemeral"], modes["sequential"], modes["container"]
    if (container and (ephemeral or sequential or ttl)) or (ephemeral and ttl):
        raise Problem(400, "a container has no other mode, and what is ephemeral has no ttl")
    name = path.encode()
    if container:
        return ops.CREATE_CONTAINER, CreateRequest(name, data, acl, ops.CONTAINER)
    if ttl:
        flags = ops.PERSISTENT_SEQUENTIAL_TTL if sequential else ops.PERSISTENT_TTL
        return ops.CREATE_TTL, CreateTTLRequest(name, data, acl, flags, ttl)
    return ops.CREATE2, CreateRequest(name, data, acl, ephemeral | sequential << 1)


def _created(body: Reader, zxid: int) -> Answer:
    made = Create2Response.decode(body)
    path = (made.path or b"").decode("utf-8", "replace")
    where = {"Location": quote(f"{TREE}{path}"), **_marks(made.stat.version, zxid)}
    return as_json(201, {"path": path, "stat": stat_json(made.stat)}, **where)


_METHODS: dict[str, tuple[tuple[str, ...], Callable[[str, Request], Call]]] = {
    "GET": ((*_VIEWS, "fresh"), _get),
    "PUT": (("acl",), _put),
    "POST": (_MODES, _post),
    "DELETE": ((), _delete),
}


# ----------------------------------------------------------------------------------------------- multi
def _multi(request: Request) -> Call:
    parts: list[tuple[int, Record]] = []
    asked = field_of(parse_json(request.body), "ops", list, None)
    ephemeral = False
    for number, part in enumerate(asked):
        if not isinstance(part, dict):
            raise Problem(400, f"operation {number} is no object")
        path = field_of(part, "path", str, None)
        version = field_of(part, "version", int, -1)
        if not -1 <= version <= _VERSION_MAX:
            raise Problem(400, f"operation {number}: {version} is no version")
        parts.append(_part(number, part, utf8(path, "a path"), version))
        ephemeral = ephemeral or bool(part.get("ephemeral"))
    return Call(ops.MULTI, MultiRequest(parts), lambda body, zxid: _multi_done(asked, body, zxid), ephemeral=ephemeral)


def _part(number: int, part: Mapping[str, Any], path: bytes, version: int) -> tuple[int, Record]:
    kind = part.get("op")
    if kind == "create":
        acl = parse_acl(field_of(part, "acl", list, [])) or OPEN
        modes = {mode: field_of(part, mode, bool, False) for mode in _MODES[:3]}
        ttl = field_of(part, "ttl", int, 0)
        if not 0 <= ttl <= TTL_MAX_MS:
            raise Problem(400, f"operation {number}: {ttl} is no number of milliseconds")
        return _create(path.decode(), data_of(part), acl, modes, ttl)
    if kind == "set":
        return ops.SET_DATA, SetDataRequest(path, data_of(part), version)
    if kind == "delete":
        return ops.DELETE, DeleteRequest(path, version)
    if kind == "check":
        return ops.CHECK, CheckVersionRequest(path, version)
    raise Problem(400, f"operation {number}: op is create, set, delete or check, not {kind!r}")


def _multi_done(asked: list[Any], body: Reader, zxid: int) -> Answer:
    results = MultiResponse.decode(body).results
    codes = [result.err if isinstance(result, ErrorResponse) else 0 for _, result in results]
    for index, code in enumerate(codes):
        if code not in (0, RUNTIME_INCONSISTENCY):
            return refused(code, index=index, path=asked[index]["path"]).answer()
    told = []
    for part, (_, result) in zip(asked, results, strict=True):
        one: dict[str, Any] = {"op": part["op"], "path": part["path"]}
        if isinstance(result, PathResponse | Create2Response):
            one["path"] = (result.path or b"").decode("utf-8", "replace")
        stat = getattr(result, "stat", None)
        if isinstance(stat, Stat):
            one["stat"] = stat_json(stat)
        told.append(one)
    return as_json(200, {"results": told}, Zxid=hexed(zxid))
