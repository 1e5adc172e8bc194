"""Strangers on the ports between servers: what they send must not disturb an ensemble, nor enter it.

What membership does not protect against (somebody who takes a member's id while there is an election) stands in
docs/ensembles.md.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.strangers import (
    ACK,
    ACKEPOCH,
    FOLLOWERINFO,
    LAST_EPOCH,
    OBSERVERINFO,
    REQUEST,
    STRANGER,
    follower_info,
    hello,
    notification,
    packet,
    ports_of,
    say,
    undisturbed,
)


@pytest.fixture
def calm(make_cluster: Callable[..., Cluster]) -> Iterator[tuple[Cluster, list[str]]]:
    """An ensemble with writers on every member; after the test nothing may have happened to it."""
    cluster = make_cluster(["corekit"] * 3)
    with undisturbed(cluster) as wrong:
        yield cluster, wrong


def test_garbage(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    noise = random.Random(seed)
    for _ in range(30):
        for number in cluster.numbers:
            for port in ports_of(cluster, number):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as sock:
                    sock.sendall(noise.randbytes(noise.choice([1, 7, 8, 12, 20, 100, 5000])))


def test_lengths_that_would_fill_memory(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    huge = struct.pack(">i", 0x7FFFFFFF)
    for number in cluster.numbers:
        quorum, election = ports_of(cluster, number)
        for sizes in (huge, struct.pack(">i", -2), struct.pack(">i", 0)):
            say(quorum, struct.pack(">iq", FOLLOWERINFO, 0) + sizes + b"x" * 1000)
            say(quorum, sizes * 10)
            say(election, struct.pack(">qq", -65536, 3) + sizes + b"x" * 1000)
            say(election, hello(3) + sizes + b"x" * 1000)


def test_strangers_cannot_join_nor_raise_the_epoch(calm: tuple[Cluster, list[str]]) -> None:
    """CVE-2018-8012."""
    cluster, _ = calm
    for number in cluster.numbers:
        quorum, _ = ports_of(cluster, number)
        for kind in (FOLLOWERINFO, OBSERVERINFO):
            for sid in (STRANGER, -1, (1 << 63) - 1):
                heard = say(
                    quorum,
                    follower_info(sid, LAST_EPOCH, kind),
                    packet(ACKEPOCH, (LAST_EPOCH << 32) + 5, struct.pack(">i", LAST_EPOCH)),
                    packet(ACK, LAST_EPOCH << 32, None),
                )
                assert heard == b""
    leader = cluster.leader_number()
    assert f"wants to join as server.{STRANGER}" in cluster.member(leader).log()


def test_a_member_with_an_absurd_epoch_is_refused(calm: tuple[Cluster, list[str]]) -> None:
    """Somebody who takes a follower's id while that follower is connected, and claims the last epoch there is."""
    cluster, _ = calm
    leader = cluster.leader_number()
    quorum, _ = ports_of(cluster, leader)
    for sid in cluster.numbers:
        heard = say(quorum, follower_info(sid, LAST_EPOCH), packet(ACK, LAST_EPOCH << 32, None))
        assert heard == b""
    assert "refused" in cluster.member(leader).log()


def test_a_live_members_id_cannot_be_taken(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    leader = cluster.leader_number()
    quorum, _ = ports_of(cluster, leader)
    victim = next(n for n in cluster.numbers if n != leader)
    socks = []
    for _ in range(10):
        sock = socket.create_connection(("127.0.0.1", quorum), timeout=2.0)
        sock.sendall(follower_info(victim, 1) + packet(REQUEST, -1, b"\0" * 40))
        socks.append(sock)
        time.sleep(0.2)
    for sock in socks:
        sock.close()


def test_nothing_may_be_said_out_of_turn(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    quorum, _ = ports_of(cluster, cluster.leader_number())
    create = struct.pack(">qii", 0x1234, 1, 1) + struct.pack(">i", 6) + b"/evil" + b"\0" * 20
    for kind in range(25):
        assert say(quorum, packet(kind, 1, create)) == b""


def test_votes_of_strangers_do_not_count(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    for number in cluster.numbers:
        _, election = ports_of(cluster, number)
        for state in (0, 1, 2, 3, 9):
            vote = notification(state, STRANGER, LAST_EPOCH << 32, 1 << 60, LAST_EPOCH)
            assert say(election, hello(STRANGER), vote * 3) == b""
            assert say(election, hello(-5), vote) == b""
    assert f"server.{STRANGER} is no member" in cluster.member(1).log()


def test_votes_in_a_members_name_do_not_disturb_who_serves(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    for number in cluster.numbers:
        _, election = ports_of(cluster, number)
        for sid in cluster.numbers:
            for state in (0, 1, 2):
                vote = notification(state, sid, LAST_EPOCH << 32, 1 << 40, LAST_EPOCH)
                say(election, hello(sid), vote * 3)


def test_connections_that_stay_silent_are_closed(calm: tuple[Cluster, list[str]]) -> None:
    cluster, _ = calm
    leader = cluster.leader_number()
    socks = []
    for port in ports_of(cluster, leader):
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", port), timeout=2.0)
            sock.settimeout(20.0)
            socks.append(sock)
    for sock in socks:
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
        sock.close()


@pytest.mark.parametrize("only", [False, True], ids=["anybody", "members-only"])
def test_only_members_addresses_may_connect(make_cluster: Callable[..., Cluster], only: bool) -> None:
    """Somebody elsewhere says that it is a member that is away, to each of the others."""
    cluster = make_cluster(["corekit"] * 3, {"quorum.membersOnly": str(only).lower()})
    absent = next(n for n in cluster.numbers if n != cluster.leader_number())
    cluster.member(absent).kill()
    leader = cluster.leader_number()
    quorum, election = ports_of(cluster, leader)
    told = say(quorum, follower_info(absent, 1), source="127.0.0.9")
    assert (told == b"") == only
    told = say(election, hello(absent), notification(0, absent, 0, 1 << 40, 1), source="127.0.0.9")
    if only:
        assert told == b""
        eventually(lambda: "address=127.0.0.9" in cluster.member(leader).log(), "it is told who was refused")
    cluster.up(absent)
    cluster.wait_all()
    assert checks.differences(checks.dumps(cluster)) == []
