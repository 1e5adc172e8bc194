"""Hostile inputs for the client port, each made from a seeded generator.

An input says what to do with one connection: bytes at first contact instead of a handshake, or bytes in an
established session, and whether the server has a whole frame then (so that it must answer or close) or still waits.
Valid requests come from the generator of the differential test; most inputs are such requests with something broken.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.differential.requests import Picture, Requests
from tests.support import rawzk
from tests.support.rawzk import buffer, connect_request, frame, int32, int64, multi_body, text

ODD_INTS = (
    0,
    1,
    -1,
    -2,
    2,
    255,
    256,
    65535,
    65536,
    0xFFFFF,
    0x100000,
    2**24,
    2**31 - 1,
    -(2**31),
    2**31 - 2,
    0x7FFF0000,
)
WORDS = (
    "ruok", "srvr", "stat", "mntr", "cons", "conf", "envi", "wchs", "wchc", "wchp", "dump", "isro", "dirs", "crst",
    "srst", "gtmk", "stmk", "hash", "orst", "lead", "xxxx", "kill",
)  # fmt: skip
FIRST_BYTES = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST ", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n",
    b"\xff\xf4\xff\xfd\x06", b"\0\0\0", b"", b"\n", b"ru", b"*1\r\n$4\r\nPING\r\n",
)  # fmt: skip
PATH = "/fuzz"


@dataclass(slots=True)
class Input:
    """What to do with one connection.

    Attributes:
        kind: for messages and counts.
        data: the bytes.
        fresh: at first contact, on a connection of its own.
        whole: the server has all it needs to answer or to close.
        slow: byte by byte.
    """

    kind: str
    data: bytes
    fresh: bool = False
    whole: bool = True
    slow: bool = False


class Inputs:
    """An endless, seeded stream of inputs."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.requests = Requests(self.rng, Picture(), modest=False)
        self._makers = [
            (12, self._noise), (4, self._word), (8, self._handshake), (12, self._random_body), (30, self._mutant),
            (8, self._truncated), (6, self._bad_length), (8, self._valid_burst), (6, self._header_only),
            (4, self._slow), (0.6, self._bomb),
        ]  # fmt: skip
        self._weights = [weight for weight, _ in self._makers]

    def next(self) -> Input:
        return self.rng.choices(self._makers, self._weights)[0][1]()

    # First contact

    def _noise(self) -> Input:
        data = self.rng.choice((self.rng.randbytes(self.rng.randrange(1, 200)), self.rng.choice(FIRST_BYTES)))
        return Input("noise", data, fresh=True)

    def _word(self) -> Input:
        word = self.rng.choice(WORDS).encode()
        return Input("four letters", word + self.rng.randbytes(self.rng.choice((0, 0, 0, 1, 8, 9, 300))), fresh=True)

    def _handshake(self) -> Input:
        rng = self.rng
        password = rng.choice((bytes(16), None, b"", rng.randbytes(16), rng.randbytes(5), bytes(3000)))
        session = rng.choice((0, 0, 1, -1, rng.getrandbits(63), -(2**63)))
        data = connect_request(
            rng.choice(ODD_INTS), session, password, rng.choice((0, -1, 1 << 62, 1)), rng.choice((None, True, False))
        )
        if rng.random() < 0.6:
            data = self._mutate(data)
        return Input("handshake", data + rng.choice((b"", b"", rng.randbytes(30))), fresh=True)

    # Established

    def _packet(self) -> bytes:
        request = self.requests.request(1)
        body = request.encode(lambda zxid: zxid)
        return frame(int32(request.xid if request.xid is not None else 1) + int32(request.opcode) + body)

    def _random_body(self) -> Input:
        opcode = self.rng.choice((*range(-12, 25), *range(100, 109), self.rng.choice(ODD_INTS)))
        body = self.rng.randbytes(self.rng.choice((0, 1, 4, 8, 20, 60, 400)))
        if self.rng.random() < 0.5:
            body = int32(self.rng.choice(ODD_INTS)) + body
        return Input("random body", frame(int32(self.rng.choice(ODD_INTS)) + int32(opcode) + body))

    def _mutate(self, data: bytes) -> bytes:
        """Change some bytes behind the frame's length."""
        rng, changed = self.rng, bytearray(data[4:])
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(changed)) if changed else 0
            kind = rng.randrange(5)
            if kind == 0 and changed:
                changed[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and changed:
                changed[at] = rng.choice((0, 0xFF, 0x7F, 0x80, 0x2F))
            elif kind == 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 3:
                del changed[at : at + rng.randrange(1, 9)]
            else:
                changed[at : at + 4] = int32(rng.choice(ODD_INTS))
        return frame(bytes(changed))

    def _mutant(self) -> Input:
        return Input("mutant", self._mutate(self._packet()))

    def _truncated(self) -> Input:
        data = self._packet()
        return Input("truncated", data[: self.rng.randrange(len(data))], whole=False)

    def _bad_length(self) -> Input:
        length = self.rng.choice((-1, -(2**31), 0x100000, 2**31 - 1, 2**24, -5, 0, 1, 7))
        data = int32(length) + self._packet()[4:]
        return Input("bad length", data, whole=not 0 <= length <= 0xFFFFF)

    def _valid_burst(self) -> Input:
        return Input("burst", b"".join(self._packet() for _ in range(self.rng.choice((1, 3, 10, 40)))))

    def _header_only(self) -> Input:
        opcode = self.rng.choice((*range(1, 24), *range(100, 108)))
        return Input("header only", frame(int32(5) + int32(opcode)))

    def _slow(self) -> Input:
        data = self.rng.choice((self._packet(), self._mutate(self._packet()), connect_request(), b"mntr"))
        return Input("slow", data[:400], slow=True, fresh=True)

    # Much from little

    def _bomb(self) -> Input:
        name = self.rng.choice(sorted(BOMBS))
        return Input(f"bomb: {name}", frame(int32(7) + BOMBS[name]()))


def _many(opcode: int, body: bytes, outer: int) -> bytes:
    count = 1_000_000 // (len(body) + 9)
    return int32(outer) + multi_body([(opcode, body)] * count)


BOMBS = {
    "multi of many deletes": lambda: _many(rawzk.DELETE, text("/x") + int32(-1), rawzk.MULTI),
    "multi of many checks": lambda: _many(rawzk.CHECK, text("/") + int32(-1), rawzk.MULTI),
    "multi of many sets": lambda: _many(rawzk.SET_DATA, text(PATH) + buffer(b"x") + int32(-1), rawzk.MULTI),
    "multiRead of many": lambda: _many(rawzk.GET_DATA, text(PATH) + b"\0", rawzk.MULTI_READ),
    "multiRead of many children": lambda: _many(rawzk.GET_CHILDREN, text("/") + b"\0", rawzk.MULTI_READ),
    "multi of empty headers": lambda: int32(rawzk.MULTI) + int32(2) * 250_000,
    "acl of 10,000": lambda: (
        int32(rawzk.SET_ACL)
        + text(PATH)
        + rawzk.acl_list([(31, "digest", f"u{n}:x") for n in range(10_000)])
        + int32(-1)
    ),
    "acl of 40,000 the same": lambda: (
        int32(rawzk.SET_ACL) + text(PATH) + rawzk.acl_list([(1, "world", "anyone")] * 40_000) + int32(-1)
    ),
    "acl count 2^31-1": lambda: int32(rawzk.SET_ACL) + text(PATH) + int32(2**31 - 1),
    "path count 2^31-1": lambda: int32(rawzk.SET_WATCHES) + int64(0) + int32(2**31 - 1) + text("/a") * 1000,
    "watches on 60,000 paths": lambda: (
        int32(rawzk.SET_WATCHES) + int64(1 << 60) + rawzk.vector([f"/w{n}" for n in range(60_000)], text) + int32(0) * 2
    ),
    "events for 60,000 paths": lambda: (
        int32(rawzk.SET_WATCHES) + int64(0) + rawzk.vector([f"/w{n}" for n in range(60_000)], text) + int32(0) * 2
    ),
    "path of a megabyte": lambda: int32(rawzk.EXISTS) + text("/" + "p" * 1_048_000) + b"\1",
    "path of half a million components": lambda: int32(rawzk.EXISTS) + text("/a" * 524_000) + b"\1",
    "create half a million deep": lambda: int32(rawzk.CREATE) + rawzk.create_body("/a" * 520_000),
    "data of a megabyte": lambda: int32(rawzk.SET_DATA) + text(PATH) + buffer(bytes(1_048_500)) + int32(-1),
    "recursive watch on a long path": lambda: int32(rawzk.ADD_WATCH) + text("/a" * 500_000) + int32(1),
    "auth of a megabyte": lambda: int32(rawzk.AUTH) + int32(0) + text("digest") + buffer(b"u:" + b"p" * 1_048_000),
}
