"""Requests that change nothing: answered from the committed tree, and the registration of watches.

Every method takes the connection and the request's body and returns the reply's body, or raises `Refused`. The hot ones
(getData, exists, getChildren without surprises) are also answered inline by `Replica.feed`; both must agree.
Source: ZooKeeper 3.9 `FinalRequestProcessor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from struct import error as StructError
from typing import Final

from corekit import errors
from corekit.api import AuthScheme
from corekit.codec import ops
from corekit.codec.jute import Reader
from corekit.codec.txns import pack_acl, pack_string
from corekit.errors import ProtocolError
from corekit.limits import MULTI_READ_BYTES_MAX
from corekit.model import paths, stat
from corekit.model.acl import ADMIN, OPEN_KEY, READ, Acl
from corekit.model.tree import Tree
from corekit.model.watches import (
    CHILDREN_CHANGED,
    CREATED,
    DATA_CHANGED,
    DELETED,
    STANDARD,
    Watches,
)
from corekit.replica.connection import Connection
from corekit.replica.events import event_frame
from corekit.replica.prepare import Refused, split_multi

_pack_int: Final = Struct(">i").pack
_multi_head: Final = Struct(">i?i").pack
_READS_IN_MULTI: Final = frozenset((ops.GET_DATA, ops.GET_CHILDREN))


class Reads:
    """Answers reads from one tree.

    Args:
        skip_acl: every access check passes.
    """

    def __init__(
        self, tree: Tree, watches: Watches[Connection], schemes: Mapping[str, AuthScheme], *, skip_acl: bool = False
    ) -> None:
        self._tree = tree
        self._watches = watches
        self._schemes = schemes
        self._skip_acl = skip_acl
        self.operations: dict[int, Callable[[Connection, bytes], bytes]] = {
            ops.GET_DATA: self._get_data,
            ops.EXISTS: self._exists,
            ops.GET_CHILDREN: self._get_children,
            ops.GET_CHILDREN2: self._get_children2,
            ops.GET_ACL: self._get_acl,
            ops.SYNC: self._sync,
            ops.MULTI_READ: self._multi_read,
            ops.SET_WATCHES: self._set_watches,
            ops.SET_WATCHES2: self._set_watches2,
            ops.ADD_WATCH: self._add_watch,
            ops.REMOVE_WATCHES: self._remove_watches,
            ops.CHECK_WATCHES: self._check_watches,
            ops.GET_EPHEMERALS: self._get_ephemerals,
            ops.GET_ALL_CHILDREN_NUMBER: self._get_all_children_number,
            ops.WHO_AM_I: self._who_am_i,
            ops.PING: lambda connection, body: b"",
        }

    def answer(self, connection: Connection, op: int, body: bytes) -> tuple[int, bytes]:
        """Error code and body of the reply to a read."""
        try:
            return 0, self.operations[op](connection, body)
        except Refused as refused:
            return refused.code, b""
        except (StructError, ProtocolError, IndexError, ValueError):
            return errors.MARSHALLING_ERROR, b""

    # ------------------------------------------------------------------------------------------ helpers
    def allowed(self, connection: Connection, path: bytes, perms: int) -> bool:
        """Whether the connection has one of the permissions on a committed znode."""
        key = self._tree.acl_keys.get(path or paths.ROOT, OPEN_KEY)
        if key == OPEN_KEY or self._skip_acl:
            return True
        return self._tree.acls.allows(key, perms, connection.identities, self._schemes)

    def _readable(self, connection: Connection, path: bytes | None) -> bytes:
        """The record of a znode that the connection may read. ZooKeeper stores the root under `` as well."""
        if path is None:
            raise Refused(errors.MARSHALLING_ERROR)
        record = self._tree.nodes.get(path or paths.ROOT)
        if record is None:
            raise Refused(errors.NO_NODE)
        if not self.allowed(connection, path, READ):
            raise Refused(errors.NO_AUTH)
        return record

    # ------------------------------------------------------------------------------------------- znodes
    def _get_data(self, connection: Connection, body: bytes) -> bytes:
        reader = Reader(body)
        path, watch = reader.string(), reader.bool()
        record = self._readable(connection, path)
        if watch:
            self._watches.data.add(path, connection, STANDARD)  # type: ignore[arg-type]  # `_readable` refused None
        return record

    def _exists(self, connection: Connection, body: bytes) -> bytes:
        reader = Reader(body)
        path, watch = reader.string(), reader.bool()
        if path is None:
            raise Refused(errors.MARSHALLING_ERROR)
        if paths.NUL in path:
            raise Refused(errors.BAD_ARGUMENTS)
        record = self._tree.nodes.get(path or paths.ROOT)
        if record is not None and not self.allowed(connection, path, READ):
            raise Refused(errors.NO_AUTH)
        if watch:
            self._watches.data.add(path, connection, STANDARD)
        if record is None:
            raise Refused(errors.NO_NODE)
        return record[-stat.STAT_SIZE :]

    def _children(self, connection: Connection, body: bytes) -> tuple[bytes, bytes]:
        reader = Reader(body)
        path, watch = reader.string(), reader.bool()
        record = self._readable(connection, path)
        if watch:
            self._watches.child.add(path, connection, STANDARD)  # type: ignore[arg-type]  # `_readable` refused None
        return record, self._names(path or paths.ROOT)

    def _names(self, path: bytes) -> bytes:
        names = self._tree.children(path)
        return _pack_int(len(names)) + b"".join([_pack_int(len(name)) + name for name in names])

    def _get_children(self, connection: Connection, body: bytes) -> bytes:
        return self._children(connection, body)[1]

    def _get_children2(self, connection: Connection, body: bytes) -> bytes:
        record, names = self._children(connection, body)
        return names + record[-stat.STAT_SIZE :]

    def _get_acl(self, connection: Connection, body: bytes) -> bytes:
        path = Reader(body).string()
        if path is None:
            raise Refused(errors.MARSHALLING_ERROR)
        path = path or paths.ROOT
        record = self._tree.nodes.get(path)
        if record is None:
            raise Refused(errors.NO_NODE)
        if not self.allowed(connection, path, READ | ADMIN):
            raise Refused(errors.NO_AUTH)
        acl = self._tree.acls.acl(self._tree.acl_key(path))
        if not self.allowed(connection, path, ADMIN):
            acl = _redacted(acl)
        return pack_acl(acl) + record[-stat.STAT_SIZE :]

    def _get_all_children_number(self, connection: Connection, body: bytes) -> bytes:
        path = Reader(body).string()
        self._readable(connection, path)
        if path in (paths.ROOT, b""):
            # ZooKeeper counts its map, which holds the root twice, and takes off two; below "" it finds "/" as well.
            return _pack_int(self._tree.node_count() - (2 if path else 1))
        return _pack_int(sum(1 for _ in self._tree.descendants(path or paths.ROOT)))

    def _get_ephemerals(self, connection: Connection, body: bytes) -> bytes:
        prefix = Reader(body).string() or b""
        owned = self._tree.ephemerals.get(connection.session_id, {})
        if prefix.strip() in (b"", b"/"):
            found = list(owned)
        else:
            found = [path for path in owned if path.startswith(prefix)]
        return _pack_int(len(found)) + b"".join(map(pack_string, found))

    def _multi_read(self, connection: Connection, body: bytes) -> bytes:
        replies = []
        size = 0
        answers: dict[tuple[int, bytes], tuple[int, bytes]] = {}
        for question in split_multi(body, _READS_IN_MULTI):
            op, part = question
            if question not in answers:
                # The decoder of ZooKeeper forces the watch flag of these requests to false.
                answers[question] = self.answer(connection, op, part[:-1] + b"\0")
            code, reply = answers[question]
            if code == errors.MARSHALLING_ERROR:
                raise ProtocolError("operation in a multiRead")
            if code:
                replies.append(_multi_head(ops.ERROR, False, code) + _pack_int(code))
            else:
                size += len(reply)
                if size > MULTI_READ_BYTES_MAX:
                    raise ProtocolError("a megabyte of requests asks for gigabytes")
                replies += (_multi_head(op, False, 0), reply)
        return b"".join(replies) + _multi_head(ops.ERROR, True, -1)

    def _sync(self, connection: Connection, body: bytes) -> bytes:
        path = Reader(body).string()
        return b"\xff\xff\xff\xff" if path is None else pack_string(path)

    def _who_am_i(self, connection: Connection, body: bytes) -> bytes:
        parts = [_pack_int(len(connection.identities))]
        for scheme, identity in connection.identities:
            # The part of a digest id after the colon is a password hash: only the user is told.
            user = identity.split(":", 1)[0] if scheme == "digest" else identity
            parts += (pack_string(scheme.encode()), pack_string(user.encode()))
        return b"".join(parts)

    # ------------------------------------------------------------------------------------------ watches
    def _set_watches(self, connection: Connection, body: bytes) -> bytes:
        reader = Reader(body)
        self._restore_watches(connection, reader.long(), [_paths(reader) for _ in range(3)])
        return b""

    def _set_watches2(self, connection: Connection, body: bytes) -> bytes:
        reader = Reader(body)
        seen = reader.long()
        lists = [_paths(reader) for _ in range(5)]
        self._restore_watches(connection, seen, lists[:3])
        for path in lists[3]:
            self._watches.add_persistent(path, connection, recursive=False)
        for path in lists[4]:
            self._watches.add_persistent(path, connection, recursive=True)
        return b""

    def _restore_watches(self, connection: Connection, seen: int, lists: list[list[bytes]]) -> None:
        """Tell what a reconnecting client missed since zxid `seen`, watch the rest (`DataTree.setWatches`)."""
        nodes, watches = self._tree.nodes, self._watches

        def tell(kind: int, path: bytes) -> None:
            connection.out.append(event_frame(-1, kind, path))

        data, exist, child = lists
        for path in data:
            record = nodes.get(path or paths.ROOT)
            if record is None:
                tell(DELETED, path)
            elif stat.zxid_at(record, stat.MZXID) > seen:
                tell(DATA_CHANGED, path)
            else:
                watches.data.add(path, connection, STANDARD)
        for path in exist:
            if (path or paths.ROOT) in nodes:
                tell(CREATED, path)
            else:
                watches.data.add(path, connection, STANDARD)
        for path in child:
            record = nodes.get(path or paths.ROOT)
            if record is None:
                tell(DELETED, path)
            elif stat.zxid_at(record, stat.PZXID) > seen:
                tell(CHILDREN_CHANGED, path)
            else:
                watches.child.add(path, connection, STANDARD)

    def _add_watch(self, connection: Connection, body: bytes) -> bytes:
        reader = Reader(body)
        path, mode = reader.string(), reader.int()
        if path is None or mode not in (0, 1):
            raise Refused(errors.MARSHALLING_ERROR)
        self._watches.add_persistent(path, connection, recursive=mode == 1)
        return _pack_int(0)

    def _remove_watches(self, connection: Connection, body: bytes) -> bytes:
        path, kind = _watch_kind(body)
        if not self._watches.remove(path, connection, kind):
            raise Refused(errors.NO_WATCHER)
        return b""

    def _check_watches(self, connection: Connection, body: bytes) -> bytes:
        path, kind = _watch_kind(body)
        if not self._watches.contains(path, connection, kind):
            raise Refused(errors.NO_WATCHER)
        return b""


def _watch_kind(body: bytes) -> tuple[bytes, int]:
    reader = Reader(body)
    path, kind = reader.string(), reader.int()
    if kind not in (1, 2, 3, 4, 5):
        raise Refused(errors.MARSHALLING_ERROR)
    if path is None:
        raise Refused(errors.NO_WATCHER)
    return path, kind


def _paths(reader: Reader) -> list[bytes]:
    found = reader.vector(Reader.string)
    if found is None or None in found:
        raise ProtocolError("null list of paths")
    return found  # type: ignore[return-value]  # no None is in it, see above


def _redacted(acl: Acl) -> Acl:
    """The ACL with password hashes hidden, for those who may read but not administer."""
    return tuple(
        (perms, scheme, acl_id.split(":", 1)[0] + ":x" if scheme == "digest" and ":" in acl_id else acl_id)
        for perms, scheme, acl_id in acl
    )
