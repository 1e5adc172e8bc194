"""Turns write requests into transactions: all validation, in ZooKeeper's order, because the order decides the error
code.

`Preparer.prepare` looks at the pending view of the tree, so a request sees every one before it, committed or not. A
refused request becomes an error transaction that takes its zxid like any other. Nothing here waits, and nothing is
visible to readers until `Replica` commits the returned changes.

Source: ZooKeeper 3.9 `PrepRequestProcessor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from corekit import errors
from corekit.api import AuthScheme, Identity
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.txns import DIGEST, HEADER, OPEN_ACL_WIRE, pack_acl, pack_string, read_acl
from corekit.errors import ProtocolError
from corekit.limits import ACL_ENTRIES_MAX, MULTI_OPS_MAX
from corekit.model import paths, stat
from corekit.model.acl import ADMIN, CREATE, DELETE, OPEN, OPEN_KEY, READ, WRITE, Acl
from corekit.model.digest import VERSION as DIGEST_VERSION
from corekit.model.quota import Quotas
from corekit.model.sessions import SessionTracker
from corekit.model.stat import CONTAINER_OWNER, owner_of, ttl_owner, version_of
from corekit.model.tree import Change, Tree

_int_at: Final = Struct(">i").unpack_from
_pack_int: Final = Struct(">i").pack
_create_tail: Final = Struct(">?i").pack
_multi_head: Final = Struct(">i?i").pack
_MULTI_END: Final = _multi_head(-1, True, -1)
_NULL: Final = b"\xff\xff\xff\xff"

# Flags of create (`CreateMode`): ephemeral, sequential, container, TTL.
_SEQUENTIAL: Final = frozenset((2, 3, 6))
_EPHEMERAL: Final = frozenset((1, 3))
_TTL: Final = frozenset((5, 6))
_CONTAINER: Final = 4
_FLAGS: Final = frozenset(range(7))
_INT_MIN: Final = -(1 << 31)
_INT_MAX: Final = (1 << 31) - 1


class Refused(Exception):
    """A request is answered with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Malformed(Exception):
    """A request that cannot be decoded takes no zxid, except a multi (ZooKeeper 3.9)."""


# One transaction, ready to be proposed: its encoding; what `Tree.commit` makes of it, in order; the body of the reply
# (without header); 0 or the error code; `ops.CREATE_SESSION`, `ops.CLOSE_SESSION` or 0. Plain tuples, because a named
# one costs as much to make as the look-up of a znode.
Prepared = tuple[bytes, Sequence[Change], bytes, int, int]

# What one operation comes to, before it has a header: type and body of the transaction, changes, reply.
_Result = tuple[int, bytes, Sequence[Change], bytes]


class Request:
    """One write request, wherever it came from."""

    def __init__(self, session: int, cxid: int, op: int, body: bytes, identities: Sequence[Identity]) -> None:
        self.session = session
        self.cxid = cxid
        self.op = op
        self.body = body
        self.identities = identities


class Preparer:
    """Prepares transactions for one tree.

    Args:
        schemes: authentication schemes by name.
        extended_types: TTL znodes are enabled.
        skip_acl: every access check passes.
        enforce_quota: hard quotas refuse writes.
        close_session_paths: closeSession transactions list what they remove.

    Attributes:
        may_write_unknown: whether a session that is not tracked may write all the same (local sessions).
    """

    def __init__(
        self,
        tree: Tree,
        quotas: Quotas,
        sessions: SessionTracker,
        schemes: Mapping[str, AuthScheme],
        *,
        extended_types: bool = False,
        skip_acl: bool = False,
        enforce_quota: bool = False,
        close_session_paths: bool = True,
    ) -> None:
        self._tree = tree
        self._quotas = quotas
        self._sessions = sessions
        self._schemes = schemes
        self._extended_types = extended_types
        self._skip_acl = skip_acl
        self._enforce_quota = enforce_quota
        self._close_session_paths = close_session_paths
        self.may_write_unknown: Callable[[int], bool] = lambda session: False
        self._operations: dict[int, Callable[[Request, int, int], _Result]] = {
            ops.CREATE: self._create,
            ops.CREATE2: self._create,
            ops.CREATE_CONTAINER: self._create,
            ops.CREATE_TTL: self._create,
            ops.DELETE: self._delete,
            ops.DELETE_CONTAINER: self._delete_container,
            ops.SET_DATA: self._set_data,
            ops.SET_ACL: self._set_acl,
            ops.RECONFIG: self._reconfig,
            ops.CREATE_SESSION: self._create_session,
            ops.CLOSE_SESSION: self._close_session,
            ops.MULTI: self._multi,
            ops.CHECK: self._check,
        }

    def prepare(self, request: Request, zxid: int, now_ms: int) -> Prepared:
        """Make a transaction of a request.

        Args:
            zxid: the next one; it is used up unless `Malformed` is raised.
            now_ms: wall clock, milliseconds since 1970.

        Raises:
            Malformed: the body cannot be decoded: answer MARSHALLING_ERROR, keep the zxid.
        """
        session, cxid, op = request.session, request.cxid, request.op
        try:
            kind, body, changes, reply = self._operations[op](request, zxid, now_ms)
        except Refused as refused:
            code = refused.code
            return HEADER.pack(session, cxid, zxid, now_ms, ops.ERROR) + _pack_int(code), (), b"", code, 0
        except (StructError, ProtocolError, IndexError) as error:
            if op != ops.MULTI:
                raise Malformed from error
            code = errors.MARSHALLING_ERROR
            return HEADER.pack(session, cxid, zxid, now_ms, ops.ERROR) + _pack_int(code), (), b"", code, 0
        entry = HEADER.pack(session, cxid, zxid, now_ms, kind) + body
        if self._tree.digest_on:
            entry += DIGEST.pack(DIGEST_VERSION, self._tree.pend_digest)
        return entry, changes, reply, 0, kind if kind < 0 else 0

    # ------------------------------------------------------------------------------------------- checks
    def _check_session(self, session: int) -> None:
        tracked = self._sessions.sessions.get(session)
        if tracked is None and self.may_write_unknown(session):
            return
        if tracked is None or tracked.closing:
            raise Refused(errors.SESSION_EXPIRED)

    def _authorize(self, path: bytes, perms: int, identities: Sequence[Identity]) -> None:
        tree = self._tree
        key = tree.pend_acl.get(path)
        if key is None:
            key = tree.acl_keys.get(path, OPEN_KEY)
        if key == OPEN_KEY or self._skip_acl:
            return
        if not tree.acls.allows(key, perms, identities, self._schemes):
            raise Refused(errors.NO_AUTH)

    def _record(self, path: bytes) -> bytes:
        record = self._tree.record(path or paths.ROOT)
        if record is None:
            raise Refused(errors.NO_NODE)
        return record

    def fix_acl(self, acl: Acl | None, identities: Sequence[Identity]) -> Acl:
        """A valid ACL: duplicates removed, `auth` expanded to the caller's identities (`fixupACL`).

        Raises:
            Refused: INVALID_ACL.
        """
        if not acl or len(acl) > ACL_ENTRIES_MAX:
            raise Refused(errors.INVALID_ACL)
        fixed: list[tuple[int, str, str]] = []
        for perms, scheme, acl_id in dict.fromkeys(acl):
            if scheme == "world" and acl_id == "anyone":
                fixed.append((perms, scheme, acl_id))
            elif scheme == "auth":
                mine = [i for i in identities if (s := self._schemes.get(i[0])) is not None and s.authenticated]
                if not mine:
                    raise Refused(errors.INVALID_ACL)
                fixed += ((perms, name, identity) for name, identity in mine)
            else:
                known: Any = self._schemes.get(scheme)  # a plugin's idea of true and false may be any object
                if known is None or not known.valid(acl_id):
                    raise Refused(errors.INVALID_ACL)
                fixed.append((perms, scheme, acl_id))
        return tuple(fixed)

    # --------------------------------------------------------------------------------------- operations
    def _create(self, r: Request, zxid: int, now_ms: int) -> _Result:
        body, op = r.body, r.op
        size: int = _int_at(body, 0)[0]
        data_at = 4 + size if size >= 0 else 4
        data_size: int = _int_at(body, data_at)[0]
        acl_at = data_at + 4 + data_size if data_size >= 0 else data_at + 4
        if size < -1 or data_size < -1 or acl_at > len(body):
            raise ProtocolError("lengths do not add up")
        flags_at = acl_at + len(OPEN_ACL_WIRE)
        if body[acl_at:flags_at] == OPEN_ACL_WIRE:
            acl: Acl | None = OPEN
        else:
            reader = Reader(body, acl_at)
            acl = read_acl(reader)
            flags_at = reader.pos
        flags: int = _int_at(body, flags_at)[0]
        ttl = int.from_bytes(body[flags_at + 4 : flags_at + 12], "big", signed=True) if op == ops.CREATE_TTL else -1
        if op == ops.CREATE_TTL and len(body) < flags_at + 12:
            raise ProtocolError("ttl is missing")
        if flags not in _FLAGS:
            raise Refused(errors.BAD_ARGUMENTS)
        self._check_create_mode(flags, op, ttl, r.session)
        if size < 0:
            raise Refused(errors.MARSHALLING_ERROR)
        path = body[4:data_at]
        if paths.SLASH not in path or paths.NUL in path:
            raise Refused(errors.BAD_ARGUMENTS)
        if acl is not OPEN:
            acl = self.fix_acl(acl, r.identities)
        tree = self._tree
        parent = paths.parent(path)
        above = tree.record(parent)
        if above is None:
            raise Refused(errors.NO_NODE)
        self._authorize(parent, CREATE, r.identities)
        cversion = tree.cversion(parent)
        if flags in _SEQUENTIAL:
            path += b"%010d" % cversion
        if not paths.is_valid(path):
            raise Refused(errors.BAD_ARGUMENTS)
        if tree.record(path) is not None:
            raise Refused(errors.NODE_EXISTS)
        if above[stat.OWNER : stat.DATA_LENGTH] != b"\0\0\0\0\0\0\0\0":
            raise Refused(errors.NO_CHILDREN_FOR_EPHEMERALS)
        cversion = cversion + 1 if cversion < _INT_MAX else _INT_MIN
        data = body[data_at:acl_at]
        if self._quotas.limited and not self._quotas.allows(
            tree, path, max(data_size, 0), 1, enforced=self._enforce_quota
        ):
            raise Refused(errors.QUOTA_EXCEEDED)
        special = CONTAINER_OWNER if op == ops.CREATE_CONTAINER else ttl_owner(ttl) if op == ops.CREATE_TTL else 0
        ephemeral = flags in _EPHEMERAL and not special
        key = OPEN_KEY if acl is OPEN else tree.acls.key(acl)
        change = tree.change_create(path, data, key, r.session if ephemeral else 0, special, cversion, zxid, now_ms)
        name = pack_string(path)
        txn = name + data + (OPEN_ACL_WIRE if acl is OPEN else pack_acl(acl))
        if op == ops.CREATE_TTL:
            txn += _pack_int(cversion) + ttl.to_bytes(8, "big")
        elif op == ops.CREATE_CONTAINER:
            txn += _pack_int(cversion)
        else:
            txn += _create_tail(ephemeral, cversion)
        return op, txn, (change,), name if op == ops.CREATE else name + change[2][-68:]

    def _check_create_mode(self, flags: int, op: int, ttl: int, session: int) -> None:
        if flags in _TTL:
            if not self._extended_types:
                raise Refused(errors.UNIMPLEMENTED)
            if not 0 < ttl <= stat.TTL_MAX_MS:
                raise Refused(errors.BAD_ARGUMENTS)
        elif op == ops.CREATE_TTL:  # without a time to live; ZooKeeper logs it, and cannot apply it
            raise Refused(errors.BAD_ARGUMENTS)
        if flags in _EPHEMERAL and session not in self._sessions.sessions:
            raise Refused(errors.SESSION_EXPIRED)
        self._check_session(session)

    def _delete(self, r: Request, zxid: int, now_ms: int) -> _Result:
        self._check_session(r.session)
        body = r.body
        size: int = _int_at(body, 0)[0]
        version: int = _int_at(body, 4 + max(size, 0))[0]
        if size < 0:
            raise _null_path(size)
        path = body[4 : 4 + size]
        if paths.SLASH not in path or paths.NUL in path or path in paths.RESERVED:
            raise Refused(errors.BAD_ARGUMENTS)
        parent = paths.parent(path)
        self._record(parent)
        self._authorize(parent, DELETE, r.identities)
        record = self._record(path)
        if version not in (-1, version_of(record)):
            raise Refused(errors.BAD_VERSION)
        if stat.children_of(record):
            raise Refused(errors.NOT_EMPTY)
        return ops.DELETE, body[: 4 + size], (self._tree.change_delete(path, zxid),), b""

    def _delete_container(self, r: Request, zxid: int, now_ms: int) -> _Result:
        path = Reader(r.body).buffer() or b""
        if paths.SLASH not in path or path in paths.RESERVED:
            raise Refused(errors.BAD_ARGUMENTS)
        record = self._record(path)
        if stat.children_of(record):
            raise Refused(errors.NOT_EMPTY)
        if owner_of(record):
            raise Refused(errors.BAD_VERSION)
        change = self._tree.change_delete(path, zxid)
        return ops.DELETE_CONTAINER, pack_string(path), (change,), b""

    def _set_data(self, r: Request, zxid: int, now_ms: int) -> _Result:
        session = self._sessions.sessions.get(r.session)
        if session is None or session.closing:
            self._check_session(r.session)
        body = r.body
        size: int = _int_at(body, 0)[0]
        data_at = 4 + size if size > 0 else 4
        data_size: int = _int_at(body, data_at)[0]
        end = data_at + 4 + data_size if data_size >= 0 else data_at + 4
        expected: int = _int_at(body, end)[0]
        if data_size < -1:
            raise ProtocolError("negative length")
        if size < 0:
            raise _null_path(size, validated=True)
        path = body[4:data_at]
        tree = self._tree
        record = tree.pend.get(path) or tree.record(path)
        if record is None:
            raise Refused(errors.NO_NODE if paths.is_valid(path) else errors.BAD_ARGUMENTS)
        if path in tree.acl_keys or path in tree.pend_acl:
            self._authorize(path, WRITE, r.identities)
        if self._quotas.limited:
            growth = max(data_size, 0) - (len(record) - 72)
            if not self._quotas.allows(tree, path, growth, 0, enforced=self._enforce_quota):
                raise Refused(errors.QUOTA_EXCEEDED)
        version = version_of(record)
        if expected != -1 and expected != version:
            raise Refused(errors.BAD_VERSION)
        # ZooKeeper HEAD skips -1 on its way round; 3.9 does not (ZOOKEEPER-4743).
        version = version + 1 if version < _INT_MAX else _INT_MIN
        change = tree.change_set(path, record, body[data_at:end], version, zxid, now_ms)
        return ops.SET_DATA, body[:end] + _pack_int(version), (change,), change[2][-68:]

    def _set_acl(self, r: Request, zxid: int, now_ms: int) -> _Result:
        self._check_session(r.session)
        reader = Reader(r.body)
        path, acl, expected = reader.string(), read_acl(reader), reader.int()
        if path is None or not paths.is_valid(path):
            raise Refused(errors.BAD_ARGUMENTS)
        acl = self.fix_acl(acl, r.identities)
        record = self._record(path)
        self._authorize(path, ADMIN, r.identities)
        version = stat.aversion_of(record)
        if expected not in (-1, version):
            raise Refused(errors.BAD_VERSION)
        version = version + 1 if version < _INT_MAX else _INT_MIN
        change = self._tree.change_acl(path, self._tree.acls.key(acl), version)
        body = pack_string(path) + pack_acl(acl) + _pack_int(version)
        return ops.SET_ACL, body, (change,), change[2][-68:]

    def _check(self, r: Request, zxid: int, now_ms: int) -> _Result:
        self._check_session(r.session)
        reader = Reader(r.body)
        path, expected = reader.string(), reader.int()
        if path is None or not paths.is_valid(path):
            raise Refused(errors.BAD_ARGUMENTS)
        record = self._record(path)
        self._authorize(path, READ, r.identities)
        version = version_of(record)
        if expected not in (-1, version):
            raise Refused(errors.BAD_VERSION)
        version = version + 1 if version < _INT_MAX else _INT_MIN
        return ops.CHECK, pack_string(path) + _pack_int(version), (), b""

    def _reconfig(self, r: Request, zxid: int, now_ms: int) -> _Result:
        reader = Reader(r.body)
        for _ in range(3):
            reader.string()
        reader.long()
        raise Refused(errors.RECONFIG_DISABLED)

    def _create_session(self, r: Request, zxid: int, now_ms: int) -> _Result:
        timeout: int = _int_at(r.body, 0)[0]
        return ops.CREATE_SESSION, _pack_int(timeout), (), b""

    def _close_session(self, r: Request, zxid: int, now_ms: int) -> _Result:
        tree = self._tree
        doomed = tree.ephemerals_of(r.session)
        changes = [tree.change_delete(path, zxid) for path in doomed]
        session = self._sessions.sessions.get(r.session)
        if session is not None:
            session.closing = True
        body = b""
        if self._close_session_paths:
            body = _pack_int(len(doomed)) + b"".join(map(pack_string, doomed))
        return ops.CLOSE_SESSION, body, changes, b""

    # -------------------------------------------------------------------------------------------- multi
    def _multi(self, r: Request, zxid: int, now_ms: int) -> _Result:
        parts = list(split_multi(r.body, WRITES_IN_MULTI))
        tree = self._tree
        tree.begin()
        subs: list[tuple[int, bytes]] = []
        changes: list[Change] = []
        replies: list[bytes] = []
        failed = 0
        for op, body in parts:
            if failed:
                subs.append((ops.ERROR, _pack_int(errors.RUNTIME_INCONSISTENCY)))
                continue
            try:
                _, txn, made, reply = self._operations[op](
                    Request(r.session, r.cxid, op, body, r.identities), zxid, now_ms
                )
            except Refused as refused:
                failed = refused.code
                subs.append((ops.ERROR, _pack_int(failed)))
                tree.rollback()
                continue
            subs.append((op, txn))
            changes += made
            # Results of createTTL and createContainer carry the type of create2.
            reported = ops.CREATE2 if op in (ops.CREATE_TTL, ops.CREATE_CONTAINER) else op
            replies.append(_multi_head(reported, False, 0) + reply)
        txn = _pack_int(len(subs)) + b"".join(_pack_int(op) + pack_string(body) for op, body in subs)
        if failed:
            replies, changes, seen = [], [], False
            for op, body in subs:
                code = body if op == ops.ERROR else _pack_int(0)
                seen = seen or op == ops.ERROR
                replies.append(_pack_int(ops.ERROR) + b"\0" + code + code)
        else:
            tree.keep()
        return ops.MULTI, txn, changes, b"".join(replies) + _MULTI_END


WRITES_IN_MULTI: Final = frozenset(
    (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL, ops.DELETE, ops.SET_DATA, ops.CHECK)
)


def _null_path(size: int, *, validated: bool = False) -> Exception:
    """What a null path comes to: BAD_ARGUMENTS where ZooKeeper validates it first, else a marshalling error."""
    if size < -1:
        return ProtocolError("negative length")
    return Refused(errors.BAD_ARGUMENTS if validated else errors.MARSHALLING_ERROR)


def split_multi(body: bytes, allowed: frozenset[int]) -> list[tuple[int, bytes]]:
    """The operations of a multi (or multiRead) as (opcode, request body).

    Raises:
        ProtocolError: an operation that may not stand here, or bytes that do not parse.
    """
    reader = Reader(body)
    parts: list[tuple[int, bytes]] = []
    while True:
        op, done = reader.int(), reader.bool()
        reader.int()
        if done:
            return parts
        if op not in allowed or len(parts) >= MULTI_OPS_MAX:
            raise ProtocolError(f"operation {op} in a multi")
        start = reader.pos
        op = _skip(reader, op)
        parts.append((op, body[start : reader.pos]))


def _skip(reader: Reader, op: int) -> int:
    """Pass over one operation; returns what it is, since in a multi the flags of a create have the last word.

    A null path or wrong flags spoil the whole multi. Source: `MultiOperationRecord`, `Op.Create`.
    """
    if reader.string() is None:
        raise ProtocolError("null path in a multi")
    if op in (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
        reader.buffer()
        read_acl(reader)
        flags = reader.int()
        if op == ops.CREATE_TTL:
            reader.long()
            if flags not in _TTL:
                op = ops.CREATE
        elif flags not in _FLAGS or flags in _TTL:
            raise ProtocolError(f"create flags {flags} in a multi")
        return ops.CREATE_CONTAINER if flags == _CONTAINER else op
    if op == ops.SET_DATA:
        reader.buffer()
        reader.int()
    elif op in (ops.DELETE, ops.CHECK):
        reader.int()
    else:  # getData, getChildren
        reader.bool()
    return op
