"""Reaching a server: names resolved anew at each dial, addresses in random order, TLS if asked for; or a Unix socket.

Not here: what is said on the connection (`session.py`), and when to dial (`runner.py`).
"""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import ByteStream

from corekit.client.hosts import Host

ANSWER_BYTES_MAX = 1024 * 1024
# Opens a stream to a host within so many seconds; raises OSError or TimeoutError.
Dial = Callable[[Host, float, ssl.SSLContext | None], Awaitable[ByteStream]]

DialError = (OSError, ssl.SSLError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


async def dial(host: Host, seconds: float, tls: ssl.SSLContext | None = None) -> ByteStream:
    """A stream to one of the host's addresses.

    Raises:
        OSError: the name does not resolve, or no address answers.
        TimeoutError: nothing answered in time.
    """
    with anyio.fail_after(seconds):
        if host.is_socket:
            return await anyio.connect_unix(host.name)
        try:
            found = await anyio.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{host.name!r} cannot be a host name ({error})") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        random.shuffle(addresses)
        return await _first(host, addresses, seconds, tls)


async def _first(host: Host, addresses: Sequence[str], seconds: float, tls: ssl.SSLContext | None) -> ByteStream:
    failure: Exception | None = None
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            with anyio.fail_after(seconds / left):
                if tls is None:
                    return await anyio.connect_tcp(address, host.port)
                return await anyio.connect_tcp(
                    address, host.port, ssl_context=tls, tls_hostname=host.name, tls_standard_compatible=False
                )
        except (OSError, TimeoutError) as error:
            failure = error
    raise failure or OSError(f"{host.name} has no address")


async def serves_writes(
    host: Host,
    seconds: float,
    tls: ssl.SSLContext | None = None,
    dial: Dial = dial,
) -> bool:
    """Whether the server answers `isro` with `rw`: it belongs to a quorum."""
    try:
        return (await four_letter(host, b"isro", seconds, tls, dial)).startswith("rw")
    except (*DialError, TimeoutError):
        return False


async def four_letter(
    host: Host, word: bytes, seconds: float, tls: ssl.SSLContext | None = None, dial: Dial = dial
) -> str:
    """A server's answer to a four-letter word, at most `ANSWER_BYTES_MAX` of it.

    Raises:
        OSError, anyio.EndOfStream, anyio.BrokenResourceError, TimeoutError: there is none.
    """
    chunks: list[bytes] = []
    with anyio.fail_after(seconds):
        async with await dial(host, seconds, tls) as stream:
            await stream.send(word)
            try:
                while sum(map(len, chunks)) < ANSWER_BYTES_MAX:
                    chunks.append(await stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                if not chunks:
                    raise
    return b"".join(chunks).decode("utf-8", "replace")


def why(error: BaseException) -> str:
    """An error of the network in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, anyio.EndOfStream):
        return "the server closed the connection"
    if isinstance(error, anyio.BrokenResourceError | anyio.ClosedResourceError):
        return f"the connection broke ({error.__cause__ or type(error).__name__})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):  # its errno is no errno
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"no TLS there ({reason}); is that the port for it?"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
