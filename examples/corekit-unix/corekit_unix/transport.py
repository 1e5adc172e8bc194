"""The transport: Unix sockets, and TCP for what has to leave the machine.

Rules
- An address with a slash in it is the path of a socket. No address means `client-PORT.sock` in a directory; port 0 is a
  free number. Any other address is TCP, as with the plugin `tcp`: links between the servers of an ensemble need it, and
  another client protocol may stay on the network.
- A socket whose server is gone (a file that nobody listens on) is taken over; a file that is no socket never is. The
  directory is locked meanwhile, so that of two servers that start at once one is told that the other is there.
- Nobody who may not connect can do so for a moment: the permissions are set before the socket has a name.
- A listener removes its own socket, and not one that has taken its place.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from corekit.api import Peer
from corekit.errors import EXIT_PORT, UserError
from corekit_unix.scheme import NAME

PATH_BYTES_MAX = 107  # what the kernel has room for, with the zero behind it

_BACKLOG = 1024
_credentials = struct.Struct("iII")  # pid, uid, gid of SO_PEERCRED


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """Listens on a path.

    Attributes:
        path: of the socket.
    """

    def __init__(self, plain: socket.socket, path: Path) -> None:
        self.path = path
        self._inode = _inode(path)
        self._inner = trio.SocketListener(trio.socket.from_stdlib_socket(plain))

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        return await self._inner.accept()

    async def aclose(self) -> None:
        """Close the socket and remove its name."""
        if self._inode is not None and _inode(self.path) == self._inode:
            self.path.unlink(missing_ok=True)
        self._inode = None
        await self._inner.aclose()


class TcpListener(trio.abc.Listener[trio.SocketStream]):
    """Listens on a TCP port.

    Attributes:
        plain: the listening socket; with it the server uses its faster path, and links between servers are possible.
    """

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self._inner = trio.SocketListener(trio.socket.from_stdlib_socket(plain))

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        return await self._inner.accept()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()


class UnixTransport:
    """Unix sockets.

    Args:
        directory: for listeners that have no address; made if it is missing.
        mode: permissions of the sockets.
    """

    def __init__(self, directory: Path, *, mode: int) -> None:
        self._directory = directory
        self._mode = mode

    async def listen(self, address: str, port: int, *, tls: Any | None = None, backlog: int = -1) -> Sequence[Any]:
        """Bind, see above for where."""
        size = backlog if backlog > 0 else _BACKLOG
        if address and "/" not in address:
            tcp = TcpListener(await _bind_tcp(address, port, size))
            return [tcp if tls is None else trio.SSLListener(tcp, tls)]
        if tls is not None:
            raise UserError(f"TLS on a Unix socket ({address or self._directory}) makes no sense; choose an address")
        if "/" in address:
            return [self._bind(Path(address), size)]
        self._make_directory()
        if port:
            return [self._bind(self._directory / f"client-{port}.sock", size)]
        return [self._bind_free(size)]

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make {self._directory} for sockets: {error.strerror}; choose another with plugin.unix.dir",
                EXIT_PORT,
            ) from None

    def _bind_free(self, backlog: int) -> UnixListener:
        for number in itertools.count(1):
            path = self._directory / f"client-{number}.sock"
            if not path.exists():
                return self._bind(path, backlog)
        raise AssertionError("numbers do not end")

    def _bind(self, path: Path, backlog: int) -> UnixListener:
        if len(os.fsencode(path)) > PATH_BYTES_MAX:
            raise UserError(
                f"cannot listen on {path}: the path of a socket has at most {PATH_BYTES_MAX} bytes, this one has "
                f"{len(os.fsencode(path))}. Choose a shorter one with clientPortAddress or plugin.unix.dir",
                EXIT_PORT,
            )
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _locked(path.parent):
                _remove_stale(path)
                os.fchmod(plain.fileno(), self._mode)
                plain.bind(os.fspath(path))
                os.chmod(path, self._mode)  # what the umask took away
                plain.listen(backlog)
        except OSError as error:
            plain.close()
            raise _bind_error(str(path), error) from None
        except BaseException:
            plain.close()
            raise
        plain.setblocking(False)
        return UnixListener(plain, path)

    async def connect(self, address: str, port: int, *, tls: Any | None = None) -> Any:
        """Dial a path, or a host and a port."""
        if "/" in address:
            return await trio.open_unix_socket(address)
        if tls is not None:
            return await trio.open_ssl_over_tcp_stream(address, port, ssl_context=tls)
        return await trio.open_tcp_stream(address, port)

    def peer(self, stream: Any) -> Peer:
        """User, group and process at the other end, as they were when it connected; of TCP address and port."""
        secure = isinstance(stream, trio.SSLStream)
        inner = stream.transport_stream if secure else stream
        try:
            if inner.socket.family == socket.AF_UNIX:
                return _peer_of(inner.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size))
            host, port = inner.socket.getpeername()[:2]
        except OSError:  # a TCP client that has reset the connection by now
            return Peer("unknown", 0, secure)
        return Peer(host, port, secure)

    def describe(self, listener: Any) -> str:
        """`unix:path`, or `address:port`."""
        inner: Any = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
        if isinstance(inner, UnixListener):
            return f"unix:{inner.path}"
        host, port = inner.plain.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _peer_of(data: bytes) -> Peer:
    """Connections are counted by address: so by user."""
    pid, uid, gid = _credentials.unpack(data)
    return Peer(f"uid:{uid}", pid, identities=((NAME, f"uid:{uid}"), (NAME, f"gid:{gid}")))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Nobody else binds here meanwhile."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises OSError if something else is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full: somebody is there
            pass
    raise OSError(errno.EADDRINUSE, "in use")


async def _bind_tcp(address: str, port: int, backlog: int) -> socket.socket:
    try:
        infos = await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        family, *_, where = infos[0]
        plain = socket.create_server(where[:2], family=family, backlog=backlog)
    except OSError as error:
        raise _bind_error(f"{address}:{port}", error) from error
    plain.setblocking(False)
    return plain


def _bind_error(where: str, error: OSError) -> UserError:
    ways = {
        errno.EADDRINUSE: "a server listens there. Stop it, or choose another with clientPortAddress",
        errno.EEXIST: "there is a file that is no socket. Remove it, or choose another path with clientPortAddress",
        errno.ENOENT: "the directory does not exist. Make it, or choose another path with clientPortAddress",
        errno.ENOTDIR: "part of the path is no directory. Choose another path with clientPortAddress",
        errno.EACCES: "not permitted. Choose a place where this user may write",
    }
    why = ways.get(error.errno or 0) or (os.strerror(error.errno) if error.errno and error.errno > 0 else str(error))
    return UserError(f"cannot listen on {where}: {why}", EXIT_PORT)
