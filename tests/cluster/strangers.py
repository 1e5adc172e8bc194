"""What strangers say on the ports between servers, and an ensemble that must not be disturbed by it.

Bytes are written down here from the protocol, not made by the project's codec.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from tests.cluster import checks
from tests.cluster.cluster import Cluster, eventually
from tests.support.rawzk import RawClient
from tests.support.servers import Server

LAST_EPOCH = 0x7FFFFFFE
STRANGER = 77
FOLLOWERINFO, ACKEPOCH, ACK, OBSERVERINFO, REQUEST = 11, 18, 3, 16, 1


def packet(kind: int, zxid: int, data: bytes | None) -> bytes:
    """A QuorumPacket without authinfo."""
    body = struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
    return struct.pack(">iq", kind, zxid) + body + struct.pack(">i", -1)


def follower_info(sid: int, epoch: int, kind: int = FOLLOWERINFO) -> bytes:
    """What a learner says first."""
    return packet(kind, epoch << 32, struct.pack(">qiq", sid, 0x10000, 0))


def hello(sid: int, address: bytes = b"127.0.0.1:1") -> bytes:
    """What the opener of an election connection says first."""
    return struct.pack(">qqi", -65536, sid, len(address)) + address


def notification(state: int, leader: int, zxid: int, election_epoch: int, epoch: int) -> bytes:
    """A framed notification of version 2."""
    config = b"version=0"
    body = struct.pack(">iqqqqii", state, leader, zxid, election_epoch, epoch, 2, len(config)) + config
    return struct.pack(">i", len(body)) + body


def ports_of(cluster: Cluster, number: int) -> tuple[int, int]:
    """Quorum and election port."""
    _, quorum, election, *_ = str(cluster.member(number).settings[f"server.{number}"]).split(":")
    return int(quorum), int(election)


def say(port: int, *parts: bytes, source: str = "127.0.0.1") -> bytes:
    """Connect, send, and read what comes within a moment."""
    heard = b""
    where = ("127.0.0.1", port)
    with contextlib.suppress(OSError), socket.create_connection(where, 1.0, source_address=(source, 0)) as sock:
        sock.settimeout(0.2)
        for part in parts:
            sock.sendall(part)
        while chunk := sock.recv(65536):
            heard += chunk
    return heard


def epoch_of(member: Server) -> int:
    """The epoch of a member's last zxid."""
    return int(member.four("srvr").partition("Zxid: ")[2].split("\n")[0], 16) >> 32


@contextlib.contextmanager
def undisturbed(cluster: Cluster) -> Iterator[list[str]]:
    """Writers work on every member meanwhile; in the end nothing may have happened to the ensemble.

    Gives what went wrong with the writers so far.
    """
    leader = cluster.leader_number()
    epoch = epoch_of(cluster.member(leader))
    stop = threading.Event()
    wrong: list[str] = []
    counts = [0, 0, 0]

    def write(number: int) -> None:
        try:
            with RawClient("127.0.0.1", cluster.member(number).port, timeout=5.0) as client:
                client.handshake(10_000)
                while not stop.wait(0.01):
                    assert client.create(f"/calm-{number}-{counts[number - 1]}").err == 0
                    counts[number - 1] += 1
                client.close_session()
        except Exception as error:
            wrong.append(f"the writer of server.{number}: {error!r}")

    threads = [threading.Thread(target=write, args=(number,)) for number in cluster.numbers]
    for thread in threads:
        thread.start()
    try:
        yield wrong
        before = list(counts)
        eventually(
            lambda: wrong or all(now > then + 10 for now, then in zip(counts, before, strict=True)),
            "every member takes writes after the attack",
        )
        stop.set()
        for thread in threads:
            thread.join(20)
        assert wrong == []
        assert cluster.leader_number() == leader
        assert epoch_of(cluster.member(leader)) == epoch
        assert checks.differences(checks.dumps(cluster)) == []
        # Everybody still hears elections.
        cluster.member(leader).kill()
        successor = cluster.leader(10)
        assert epoch_of(successor) <= epoch + 1
        with RawClient("127.0.0.1", successor.port) as client:
            client.handshake()
            client.create("/after")
            client.close_session()
        assert epoch_of(successor) == epoch + 1
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
