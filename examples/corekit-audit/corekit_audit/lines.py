"""Events as lines of JSON. A function of its arguments; runs in the writer's thread.

A line
    time        when the transaction was made (the leader's clock), or the refusal; ISO 8601, UTC
    zxid        of the transaction, hexadecimal; null for what became none
    session     hexadecimal
    identities  what the client had proved, `scheme:id`; of `digest` only the user, never the hash
    address     where the client is
    op          ZooKeeper's name; of a multi there is a line for each operation
    path        of the znode; with a sequential znode its full name
    old_version, new_version    of the data, for setACL of the ACL; null: did or does not exist
    code        0, or ZooKeeper's number of the error
    result      `ok`, or what the number means
    multi       (only in a multi) which operation of how many, from 1
    cause       (only then) why without a request: `session expired`, `session closed`, `container empty or over`

Data of znodes is never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from corekit.api import Identity, Write
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.records import RECORDS, MultiRequest, Record
from corekit.codec.txns import Txn, decode
from corekit.errors import ProtocolError, error_name
from corekit_audit.observer import Dropped, Event, Opened, Unasked

REDACTABLE = frozenset(("identities", "address", "path"))

_CREATES = frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_TTL, ops.CREATE_CONTAINER))
_EXPIRED = "session expired"

Line = dict[str, Any]


def lines(when_ms: int, event: Event, redact: frozenset[str]) -> list[bytes]:
    """An event as lines, each with its end."""
    try:
        found = list(_lines(when_ms, event))
    except ProtocolError as error:  # from a server of a later release
        found = [{"time": _time(when_ms), "op": "unknown", "reason": str(error)}]
    for line in found:
        for field in redact & line.keys():
            if line[field] not in (None, []):
                line[field] = "redacted"
    return [json.dumps(line).encode() + b"\n" for line in found]


def _lines(when_ms: int, event: Event) -> Iterator[Line]:
    if isinstance(event, Dropped):
        yield {"time": _time(when_ms), "op": "dropped", "count": event.count}
    elif isinstance(event, Opened):
        yield _line(when_ms, 0, event.session_id, (), event.peer.address, "createSession") | {
            "timeout_ms": event.timeout_ms
        }
    elif isinstance(event, Unasked):
        txn = decode(event.entry)
        cause = _EXPIRED if txn.type == ops.CLOSE_SESSION else "container empty or over"
        base = _line(txn.time_ms, txn.zxid, txn.session, (), None, "") | {"cause": cause}
        yield from _done(base, txn, {})
    elif event.code == 0 and event.entry:
        txn = decode(event.entry)
        base = _line(txn.time_ms, txn.zxid, event.session_id, event.identities, event.peer.address, "")
        yield from _done(base, txn, dict(event.before))
    else:
        yield from _refused(when_ms, event)


def _line(when_ms: int, zxid: int, session: int, identities: Sequence[Identity], address: str | None, op: str) -> Line:
    return {
        "time": _time(when_ms),
        "zxid": f"0x{zxid:x}" if zxid else None,
        "session": f"0x{session & (1 << 64) - 1:x}",
        "identities": [_identity(scheme, text) for scheme, text in identities],
        "address": address,
        "op": op,
        "path": None,
        "old_version": None,
        "new_version": None,
        "code": 0,
        "result": "ok",
    }


def _done(base: Line, txn: Txn, versions: dict[bytes, int]) -> Iterator[Line]:
    """What a transaction did; `versions` are those of the znodes before it, and follow it."""
    if txn.type == ops.MULTI:
        for number, sub in enumerate(txn.subs, 1):
            yield from _done(base | {"multi": f"{number}/{len(txn.subs)}"}, sub, versions)
        return
    old = versions.get(txn.path)
    line = base | {"op": ops.op_name(txn.type), "path": txn.path.decode("utf-8", "replace") or None}
    if txn.type in _CREATES:
        versions[txn.path] = 0
        yield line | {"new_version": 0}
    elif txn.type in (ops.DELETE, ops.DELETE_CONTAINER):
        yield line | {"old_version": versions.pop(txn.path, None)}
    elif txn.type == ops.SET_DATA:
        versions[txn.path] = txn.version
        yield line | {"old_version": txn.version - 1 if old is None else old, "new_version": txn.version}
    elif txn.type == ops.SET_ACL:
        yield line | {"old_version": txn.version - 1, "new_version": txn.version}
    elif txn.type == ops.CHECK:
        yield line | {"old_version": old, "new_version": old}
    elif txn.type == ops.CLOSE_SESSION:
        yield line
        gone = txn.paths if txn.paths is not None else list(versions)
        for path in gone:
            yield line | {
                "op": "delete",
                "path": path.decode("utf-8", "replace"),
                "old_version": versions.get(path),
                "cause": base.get("cause", "session closed"),
            }
    else:
        yield line


def _refused(when_ms: int, write: Write) -> Iterator[Line]:
    when_ms = decode(write.entry).time_ms if write.entry else when_ms
    base = _line(when_ms, write.zxid, write.session_id, write.identities, write.peer.address, ops.op_name(write.op))
    base |= {"code": write.code, "result": error_name(write.code)}
    try:
        request: Record | None = RECORDS[write.op][0].decode(Reader(write.body))
    except (ProtocolError, KeyError):
        request = None  # malformed, which is why it was refused
    if isinstance(request, MultiRequest):
        for number, (op, part) in enumerate(request.parts, 1):
            yield base | {
                "op": ops.op_name(op),
                "path": _path(part),
                "multi": f"{number}/{len(request.parts)}",
            }
    else:
        yield base | {"path": _path(request)}


def _path(request: Record | None) -> str | None:
    path = getattr(request, "path", None)
    return path.decode("utf-8", "replace") if isinstance(path, bytes) else None


def _identity(scheme: str, text: str) -> str:
    """As for whoAmI: the part of a digest identity after the colon is made of the password."""
    return f"{scheme}:{text.split(':', 1)[0] if scheme == 'digest' else text}"


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
