"""Throws inputs at the ports between three servers while writers work on each of them.

Inputs are what servers say to each other, with wild values, cut, flipped, repeated and out of turn, in the names of
strangers and of members. After each round every member lives, no writer was disturbed, memory and sockets are within
their bounds; in the end the leader is killed and another must follow, in the next epoch, with equal trees.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import strangers
from tests.cluster.cluster import Cluster
from tests.fuzz.run import RSS_GROWTH_MB, rss_mb, sockets_of, wait_for_sockets

ROUND = 2000
OPEN_AT_ONCE = 60
SPARE_SOCKETS = 12  # what members open and close among themselves and for writers meanwhile
EDGES = (0, 1, 5, 0x7FFFFFFF, 0x7FFFFFFE, 1 << 32, (1 << 63) - 1)


@dataclass
class Figures:
    """What a run did.

    Attributes:
        taken: inputs that could be sent to the last byte; from the others a member had turned away before.
    """

    inputs: int = 0
    taken: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    rss_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.inputs} inputs, {self.taken} taken whole, in {self.seconds:.0f} s ({kinds}), "
            f"RSS {min(self.rss_mb):.0f} to {max(self.rss_mb):.0f} MB"
        )


class PeerInputs:
    """What is sent on one connection: `next()` gives the kind and the bytes."""

    def __init__(self, seed: int, port: str) -> None:
        self.random = random.Random(seed)
        self._port = port

    def next(self) -> tuple[str, bytes]:
        """One input."""
        if self.random.random() < 0.1:
            return "noise", self.random.randbytes(self.random.choice((1, 7, 12, 20, 100, 5000)))
        data = self._quorum() if self._port == "quorum" else self._election()
        if self.random.random() < 0.3:
            return "whole", data
        return "mutated", self._mutated(data)

    def _sid(self) -> int:
        return self.random.choice((1, 2, 3, strangers.STRANGER, -1, (1 << 63) - 1))

    def _number(self) -> int:
        return self.random.choice((*EDGES, self.random.getrandbits(62), self.random.getrandbits(8)))

    def _quorum(self) -> bytes:
        draw = self.random
        kind = draw.choice((strangers.FOLLOWERINFO, strangers.OBSERVERINFO))
        parts = [strangers.follower_info(self._sid(), self._number() & 0x7FFFFFFF, kind)]
        for _ in range(draw.randrange(6)):
            data = None if draw.random() < 0.3 else draw.randbytes(draw.choice((0, 4, 8, 20, 100, 3000)))
            parts.append(strangers.packet(draw.randrange(-1, 22), self._number(), data))
        return b"".join(parts)

    def _election(self) -> bytes:
        draw = self.random
        parts = [
            strangers.hello(self._sid(), draw.choice((b"127.0.0.1:1", b"", b":", b"x" * 200, b"127.0.0.1:1|[::1]:2")))
        ]
        for _ in range(draw.randrange(6)):
            epochs = self._number(), self._number()
            parts.append(strangers.notification(draw.randrange(-1, 6), self._sid(), self._number(), *epochs))
        return b"".join(parts)

    def _mutated(self, data: bytes) -> bytes:
        draw, made = self.random, bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at = draw.randrange(len(made) + 1)
            how = draw.randrange(5)
            if how == 0 and made:
                made[at % len(made)] ^= 1 << draw.randrange(8)
            elif how == 1:
                del made[at:]
            elif how == 2:
                made[at:at] = draw.randbytes(draw.randrange(1, 9))
            elif how == 3:
                made[at : at + 4] = struct.pack(">i", draw.choice((-2, -1, 0, 1 << 20, 0x7FFFFFFF)))
            else:
                made[at:at] = made[draw.randrange(len(made) + 1) :][:50]
        return bytes(made)


def fuzz_peer_ports(port: str, directory: Path, seed: int, inputs: int) -> Figures:
    """Throw `inputs` at the `quorum` or `election` ports of an ensemble of its own.

    Raises:
        AssertionError: something did not hold; the text names the seed and how far it came.
    """
    figures = Figures()
    cluster = Cluster(["corekit"] * 3, directory)
    started = time.monotonic()
    try:
        cluster.begin()
        with strangers.undisturbed(cluster) as wrong:
            _attack(cluster, PeerInputs(seed, port), port, inputs, figures, wrong)
        for member in cluster.members:
            assert "Traceback" not in member.log(), member.log()[-4000:]
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, after {figures.inputs} inputs: {error}") from None
    finally:
        cluster.kill()
    figures.seconds = time.monotonic() - started
    return figures


def _attack(cluster: Cluster, source: PeerInputs, port: str, inputs: int, figures: Figures, wrong: list[str]) -> None:
    ports = [strangers.ports_of(cluster, number)[port == "election"] for number in cluster.numbers]
    while figures.inputs < inputs:
        before = [(sockets_of(member.pid), rss_mb(member.pid)) for member in cluster.members]
        left: list[socket.socket] = []
        for _ in range(min(ROUND, inputs - figures.inputs)):
            kind, data = source.next()
            figures.inputs += 1
            figures.kinds[kind] += 1
            with contextlib.suppress(OSError):
                left += _throw(source.random, source.random.choice(ports), data)
                figures.taken += 1
            while len(left) > OPEN_AT_ONCE:
                left.pop(source.random.randrange(len(left))).close()
            assert not wrong, wrong
        for sock in left:
            sock.close()
        for member, (sockets, memory) in zip(cluster.members, before, strict=True):
            assert member.is_running(), f"a member stopped:\n{member.log()[-4000:]}"
            wait_for_sockets(member.pid, sockets + SPARE_SOCKETS)
            after = rss_mb(member.pid)
            figures.rss_mb += [memory, after]
            assert after - memory < RSS_GROWTH_MB, f"RSS grew from {memory:.0f} to {after:.0f} MB"


def _throw(draw: random.Random, port: int, data: bytes) -> list[socket.socket]:
    """Send it on a connection of its own, perhaps in two pieces; the socket if it is left open."""
    sock = socket.create_connection(("127.0.0.1", port), 5.0)
    cut = draw.randrange(len(data) + 1)
    try:
        sock.sendall(data[:cut])
        sock.sendall(data[cut:])
    except OSError:
        sock.close()
        raise
    if draw.random() < 0.5:
        return [sock]
    if draw.random() < 0.5:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return []
