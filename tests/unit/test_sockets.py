"""recv and send for many sockets: the module in C and the same in Python."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from corekit.limits import RECV_BYTES
from corekit.server import sockets

Receive = Callable[[list[int]], list[bytes | int]]
Send = Callable[[list[int], list[bytes]], list[int]]
receives = pytest.mark.parametrize("receive", [sockets.receive, sockets.receive_in_python])
sends = pytest.mark.parametrize("send", [sockets.send, sockets.send_in_python])


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Three pairs of connected sockets (ours, the other end) that do not block."""
    made = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(3):
            other = socket.create_connection(server.getsockname())
            made.append((server.accept()[0], other))
    for pair in made:
        for one in pair:
            one.setblocking(False)
    yield made
    for pair in made:
        for one in pair:
            one.close()


def _wait_for_bytes(one: socket.socket, size: int) -> None:
    one.setblocking(True)
    assert len(one.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)) == size


@receives
def test_each_gives_what_arrived_there(receive: Receive, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    pairs[0][1].send(b"one")
    _wait_for_bytes(pairs[0][0], 3)
    pairs[2][1].close()
    pairs[2][0].setblocking(True)
    assert pairs[2][0].recv(1, socket.MSG_PEEK) == b""
    pairs[2][0].setblocking(False)
    fds = [ours.fileno() for ours, _ in pairs]
    assert receive(fds) == [b"one", errno.EAGAIN, b""]
    assert receive([]) == []


@receives
def test_a_closed_descriptor_is_an_errno_and_the_others_are_served(
    receive: Receive, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    gone = pairs[0][0].detach()
    socket.close(gone)
    pairs[1][1].send(b"two")
    _wait_for_bytes(pairs[1][0], 3)
    assert receive([gone, pairs[1][0].fileno()]) == [errno.EBADF, b"two"]


@receives
def test_no_more_than_the_bound_is_received(receive: Receive) -> None:
    ours, other = socket.socketpair()
    with ours, other:
        for end in (ours, other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECV_BYTES)
            end.setblocking(False)
        data = bytes(range(256)) * (RECV_BYTES // 256) + b"more"
        sent = 0
        got = b""
        while len(got) < len(data):
            if sent < len(data):
                sent += other.send(data[sent:])
            (part,) = receive([ours.fileno()])
            assert isinstance(part, bytes)
            assert 0 < len(part) <= RECV_BYTES
            got += part
        assert got == data


@sends
def test_each_is_sent_its_own(send: Send, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    fds = [ours.fileno() for ours, _ in pairs]
    assert send(fds, [b"one", b"", b"three"]) == [3, 0, 5]
    pairs[0][1].setblocking(True)
    pairs[2][1].setblocking(True)
    assert pairs[0][1].recv(100) == b"one"
    assert pairs[2][1].recv(100) == b"three"
    assert send([], []) == []


@sends
def test_a_full_socket_takes_a_part_and_then_nothing(
    send: Send, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    fds = [pairs[0][0].fileno(), pairs[1][0].fileno()]
    much = b"x" * 64 * 1024 * 1024
    first = send(fds, [much, b"small"])
    assert 0 < first[0] < len(much)
    assert first[1] == 5
    refused = 0
    while refused != -errno.EAGAIN:  # while the other end's buffer grows it takes a little more
        (refused,) = send(fds[:1], [much])
        assert refused > 0 or refused == -errno.EAGAIN


@sends
def test_a_broken_socket_is_an_errno_and_no_signal(
    send: Send, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    pairs[0][0].shutdown(socket.SHUT_WR)
    fds = [pairs[0][0].fileno(), pairs[1][0].fileno()]
    assert send(fds, [b"one", b"two"]) == [-errno.EPIPE, 3]


@sends
def test_what_is_no_bytes_and_unequal_lists_are_refused(
    send: Send, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    fds = [pairs[0][0].fileno()]
    with pytest.raises(TypeError):
        send(fds, ["text"])  # type: ignore[list-item]
    with pytest.raises(ValueError):
        send(fds, [])


def test_the_module_in_c_names_what_it_was_given_wrongly() -> None:
    if sockets.receive is sockets.receive_in_python:
        pytest.skip("built without a C compiler")
    with pytest.raises(TypeError, match="list of file descriptors"):
        sockets.receive((1, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        sockets.receive(["1"])  # type: ignore[list-item]
    with pytest.raises(OverflowError):
        sockets.receive([1 << 80])
