"""Operations as values: what to send and how to read the answer, typed by the answer.

One description serves everywhere: `await zk.call(op.get("/a"))`, `zk.multi([op.check("/a", 3), op.set("/a", b"x")])`,
`zk.stream(op.get(path) for path in paths)`. Paths are text without the client's chroot, which is added when a client
encodes the request.

Rules: a body is the path, then the rest (`tail`), as in all of ZooKeeper's records but a few. `retry` is true only for
operations that change nothing, so that a broken connection may be answered by sending them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, Generic, TypeVar

from corekit.client import acl as acls
from corekit.client.paths import path_bytes, path_text, under
from corekit.client.types import Children, Created, Data, Identity
from corekit.codec import ops
from corekit.codec.jute import FALSE, TRUE, Reader, pack_bool, pack_buffer, pack_int, pack_long, pack_string
from corekit.codec.records import MULTI_READS, MULTI_WRITES, MultiHeader, read_stat
from corekit.errors import ProtocolError
from corekit.model.stat import Stat

T = TypeVar("T")
Decode = Callable[[Reader, int], T]  # the reader stands at the body; the number is the length of the chroot

_HEAD = Struct(">ibi")
_MULTI_END = _HEAD.pack(-1, 1, -1)


class Request(Generic[T]):
    """One operation on the wire.

    Attributes:
        op: the operation's number.
        path: UTF-8 bytes without chroot, or None if the body does not begin with a path.
        tail: the body after the path.
        decode: reads the answer.
        retry: it changes nothing, so it may be sent twice.
        absolute: the path is not under the chroot (the configuration node).
    """

    __slots__ = ("absolute", "decode", "op", "path", "retry", "tail")

    def __init__(
        self, op: int, path: str | None, tail: bytes, decode: Decode[T], retry: bool = False, absolute: bool = False
    ) -> None:
        if path is not None and path[:1] != "/":
            raise ValueError(f"a path begins with '/': {path!r}")
        self.op = op
        self.path = None if path is None else path_bytes(path)
        self.tail = tail
        self.decode = decode
        self.retry = retry
        self.absolute = absolute

    def body(self, chroot: bytes) -> bytes:
        """The request's body, with the path under `chroot`."""
        path = self.path
        if path is None:
            return self.tail
        if chroot and not self.absolute:
            path = under(chroot, path)
        return pack_int(len(path)) + path + self.tail

    def __repr__(self) -> str:
        return f"<{ops.op_name(self.op)} {'' if self.path is None else self.path.decode('utf-8', 'surrogateescape')}>"


class MultiRequest(Request[list[Any]]):
    """multi or multiRead: `parts` are the requests in it."""

    __slots__ = ("parts",)

    def __init__(self, op: int, parts: Sequence[Request[Any]]) -> None:
        allowed = MULTI_READS if op == ops.MULTI_READ else MULTI_WRITES
        for part in parts:
            if part.op not in allowed:
                raise ValueError(f"{ops.op_name(part.op)} cannot be part of a {ops.op_name(op)}")
        super().__init__(op, None, b"", self._decode, retry=op == ops.MULTI_READ)
        self.parts = parts

    def body(self, chroot: bytes) -> bytes:
        """All parts behind their headers, and the end."""
        chunks: list[bytes] = []
        for part in self.parts:
            chunks += (_HEAD.pack(part.op, 0, -1), part.body(chroot))
        chunks.append(_MULTI_END)
        return b"".join(chunks)

    def _decode(self, reader: Reader, skip: int) -> list[Any]:
        """The results in order; an `int` is the error code of a part that failed."""
        results: list[Any] = []
        for part in self.parts:
            header = MultiHeader.decode(reader)
            if header.done:
                raise ProtocolError(f"multi of {len(self.parts)} operations has only {len(results)} results")
            if header.type == ops.ERROR:
                results.append(reader.int())
            elif header.type == ops.CREATE:  # also the answer to a create2: servers leave out its Stat in a multi
                results.append(Created(_path(reader, skip), None))  # type: ignore[arg-type]  # a create outside has one
            else:
                results.append(part.decode(reader, skip))
        return results


# ------------------------------------------------------------------------------------------- answers
def _nothing(reader: Reader, skip: int) -> None:
    return None


def _path(reader: Reader, skip: int) -> str:
    path = reader.buffer() or b""
    return path_text(path, skip)


def _created(reader: Reader, skip: int) -> Created:
    return Created(_path(reader, skip), read_stat(reader))


def _stat(reader: Reader, skip: int) -> Stat:
    return read_stat(reader)


def _data(reader: Reader, skip: int) -> Data:
    return Data(reader.buffer() or b"", read_stat(reader))


def _nullable(reader: Reader, skip: int) -> tuple[bytes | None, Stat]:
    return reader.buffer(), read_stat(reader)


def _names(reader: Reader, skip: int) -> list[str]:
    return [path_text(name) for name in reader.strings()]


def _children(reader: Reader, skip: int) -> Children:
    return Children(_names(reader, skip), read_stat(reader))


def _paths(reader: Reader, skip: int) -> list[str]:
    return [path_text(path, skip) for path in reader.strings()]


def _acl(reader: Reader, skip: int) -> tuple[list[acls.ACL], Stat]:
    return acls.read_acl(reader), read_stat(reader)


def _int(reader: Reader, skip: int) -> int:
    return reader.int()


def _identities(reader: Reader, skip: int) -> list[Identity]:
    return reader.vector(lambda r: Identity(acls.read_text(r), acls.read_text(r)), 8) or []


# -------------------------------------------------------------------------------------------- writes
def _create(
    op: int,
    path: str,
    data: bytes | None,
    acl: Iterable[tuple[int, str, str]],
    flags: int,
    ttl_ms: int,
    decode: Decode[T],
) -> Request[T]:
    tail = pack_buffer(data) + acls.pack_acl(acl) + pack_int(flags)
    if op == ops.CREATE_TTL:
        tail += pack_long(ttl_ms)
    return Request(op, path, tail, decode)


def create(
    path: str,
    data: bytes | None = b"",
    *,
    ephemeral: bool = False,
    sequential: bool = False,
    container: bool = False,
    ttl: float | None = None,
    acl: Iterable[tuple[int, str, str]] = acls.OPEN,
) -> Request[Created]:
    """Make a znode.

    Args:
        ephemeral: it goes when the session ends.
        sequential: the server appends ten digits that rise with every child created under the parent.
        container: the server removes it some time after its last child has gone.
        ttl: seconds without change and without children after which the server removes it (needs the server's
            `extendedTypesEnabled`). Excludes `ephemeral`.

    Raises:
        ValueError: the kinds do not go together.
    """
    if container:
        if ephemeral or sequential or ttl is not None:
            raise ValueError("a container cannot be ephemeral, sequential or have a ttl")
        return _create(ops.CREATE_CONTAINER, path, data, acl, ops.CONTAINER, 0, _created)
    if ttl is not None:
        if ephemeral:
            raise ValueError("an ephemeral node cannot have a ttl")
        flags = ops.PERSISTENT_SEQUENTIAL_TTL if sequential else ops.PERSISTENT_TTL
        return _create(ops.CREATE_TTL, path, data, acl, flags, round(ttl * 1000), _created)
    return _create(ops.CREATE2, path, data, acl, ephemeral | sequential << 1, 0, _created)


def delete(path: str, version: int = -1, *, retry: bool = False) -> Request[None]:
    """Remove a znode that has no children; `version` -1 takes any.

    `retry` says that the name will never be used again, so that the request may be sent twice (the second answer is
    then `NoNodeError`).
    """
    return Request(ops.DELETE, path, pack_int(version), _nothing, retry)


def set(path: str, data: bytes | None, version: int = -1) -> Request[Stat]:
    """Replace the data; `version` -1 takes any."""
    return Request(ops.SET_DATA, path, pack_buffer(data) + pack_int(version), _stat)


def check(path: str, version: int = -1) -> Request[None]:
    """Only in a multi: the node exists and has this version (-1: any)."""
    return Request(ops.CHECK, path, pack_int(version), _nothing)


def set_acl(path: str, acl: Iterable[tuple[int, str, str]], version: int = -1) -> Request[Stat]:
    """Replace the ACL; `version` is the ACL's (`stat.aversion`)."""
    return Request(ops.SET_ACL, path, acls.pack_acl(acl) + pack_int(version), _stat)


def multi(parts: Sequence[Request[Any]]) -> Request[list[Any]]:
    """All of create, delete, set and check in one transaction."""
    return MultiRequest(ops.MULTI, parts)


def reconfig(joining: str | None, leaving: str | None, members: str | None, config_id: int) -> Request[Data]:
    """Change the ensemble: lists as in ZooKeeper's `reconfig`; `config_id` -1 takes any present version."""
    tail = b"".join(pack_string(None if part is None else part.encode()) for part in (joining, leaving, members))
    return Request(ops.RECONFIG, None, tail + pack_long(config_id), _data)


# --------------------------------------------------------------------------------------------- reads
def get(path: str, watch: bool = False) -> Request[Data]:
    """The data (null is given as b"") and the Stat."""
    return Request(ops.GET_DATA, path, TRUE if watch else FALSE, _data, True)


def get_nullable(path: str) -> Request[tuple[bytes | None, Stat]]:
    """As `get`, but null data is None."""
    return Request(ops.GET_DATA, path, FALSE, _nullable, True)


def get_config(watch: bool = False) -> Request[Data]:
    """The ensemble's configuration."""
    return Request(ops.GET_DATA, "/zookeeper/config", pack_bool(watch), _data, True, absolute=True)


def exists(path: str, watch: bool = False) -> Request[Stat]:
    """The Stat; a missing node is `NoNodeError` at this level."""
    return Request(ops.EXISTS, path, TRUE if watch else FALSE, _stat, True)


def children(path: str, watch: bool = False) -> Request[Children]:
    """The children's names, and the Stat."""
    return Request(ops.GET_CHILDREN2, path, TRUE if watch else FALSE, _children, True)


def names(path: str) -> Request[list[str]]:
    """The children's names only; may be part of a `multi_read`."""
    return Request(ops.GET_CHILDREN, path, FALSE, _names, True)


def get_acl(path: str) -> Request[tuple[list[acls.ACL], Stat]]:
    """The ACL and the Stat."""
    return Request(ops.GET_ACL, path, b"", _acl, True)


def sync(path: str) -> Request[str]:
    """Let the server catch up with the leader, before the answer."""
    return Request(ops.SYNC, path, b"", _path, True)


def multi_read(parts: Sequence[Request[Any]]) -> Request[list[Any]]:
    """Several `get` and `names` in one packet. Not atomic."""
    return MultiRequest(ops.MULTI_READ, parts)


def ephemerals(prefix: str = "/") -> Request[list[str]]:
    """Paths of this session's ephemerals that begin with `prefix` (as text)."""
    return Request(ops.GET_EPHEMERALS, prefix, b"", _paths, True)


def count_descendants(path: str) -> Request[int]:
    """How many znodes are below a path."""
    return Request(ops.GET_ALL_CHILDREN_NUMBER, path, b"", _int, True)


def who_am_i() -> Request[list[Identity]]:
    """The identities of this connection."""
    return Request(ops.WHO_AM_I, None, b"", _identities, True)


# ------------------------------------------------------------------------------------------- watches
def add_watch(path: str, recursive: bool) -> Request[int]:
    """A persistent watch."""
    return Request(ops.ADD_WATCH, path, pack_int(1 if recursive else 0), _int, True)


def remove_watches(path: str, kind: int = ops.WATCHER_ANY) -> Request[None]:
    """Forget this connection's watches on a path."""
    return Request(ops.REMOVE_WATCHES, path, pack_int(kind), _nothing, True)


def check_watches(path: str, kind: int = ops.WATCHER_ANY) -> Request[None]:
    """`NoWatcherError` if this connection has no such watch on a path."""
    return Request(ops.CHECK_WATCHES, path, pack_int(kind), _nothing, True)


def close_session() -> Request[None]:
    """End the session."""
    return Request(ops.CLOSE_SESSION, None, b"", _nothing, True)
