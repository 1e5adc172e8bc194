"""Random requests of every kind, with the arguments where servers have been wrong before.

The generator keeps a rough picture of the tree (fed with the replies of one server) so that most requests mean
something; it does not need to be right. Everything comes from the given `random.Random`.

`modest` keeps away from what an Apache release before 3.9 does differently (see `known`).
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Sequence

from tests.differential.steps import READS, Body, Request, set_watches_body
from tests.support import rawzk
from tests.support.rawzk import acl_list, boolean, buffer, create_body, int32, int64, multi_body, text

WRITES = frozenset(
    {rawzk.CREATE, rawzk.CREATE2, rawzk.CREATE_CONTAINER, rawzk.CREATE_TTL, rawzk.DELETE, rawzk.SET_DATA, rawzk.MULTI}
)
Acl = Sequence[tuple[int, str | None, str | None]] | None


def digest_id(credentials: bytes) -> str:
    """`user:base64(sha1(credentials))`, as DigestAuthenticationProvider makes it; without a colon all is the user."""
    user, _, _ = credentials.partition(b":")
    return f"{user.decode()}:{base64.b64encode(hashlib.sha1(credentials).digest()).decode()}"


USERS = {name: digest_id(f"{name}:{name}-secret".encode()) for name in ("ann", "bob", "cy")}
SUPER_ID = digest_id(b"super:admin")
DIGEST_AUTH = int32(0) + text("digest")
RESERVED = ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")
BAD_PATHS: tuple[str | None, ...] = (
    None, "", "a", "a/b", "//", "/a/", "/a//b", "/a/.", "/a/..", "/./a", "/../a", "/a/./b", "/.", "/..", "//a", "/a\0b",
    "/\x01", "/a\x1f", "/a\x7f", "/a\x9f", "/\ud800", "/a\udfff", "/\ue000", "/\uf8ff", "/\uf900", "/\uffef",
    "/\ufff0", "/\uffff", "/a\U0001f600", "/a b", "/a\xe9", "/.a", "/a...", "/ ", "/zookeeper/", "/zookeeper/x",
    "/zookeeper/config/x", "/zookeeper/quota/", "/a/b/c/d/e/f/g/h", "/" + "n" * 300, "/%s", "/*", "/a\\b", "/a\n",
)  # fmt: skip
TOPS = ("/a", "/b", "/c", "/q")
NAMES = ("x", "y", "z", "seq-", "", "k")
QUOTA_ROOTS = ("/q", "/b", "/q/x")
QUOTA_TEXTS = (
    b"count=3,bytes=20", b"count=-1,bytes=-1", b"count=5,bytes=-1=;byteHardLimit=30;countHardLimit=4",
    b"count=2,bytes=10=;byteHardLimit=12;countHardLimit=-1", b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3",
    b"count=0,bytes=0=;byteHardLimit=0;countHardLimit=0", b"count=10,bytes=100",
)  # fmt: skip
DATA = (b"", None, b"v", b"value-2", bytes(range(256)), b"0123456789" * 3, b"x" * 1500)
OPEN: Acl = rawzk.OPEN_ACL
WORLD = ("world", "anyone")
# Java answers these with other bytes than it was sent (replacement characters, or six bytes for four).
UNECHOED = frozenset(("/\ud800", "/a\udfff", "/a\U0001f600"))
TREE_NODES = 45  # about this many, so that clients meet on the same ones
IPV6_ACL: Acl = ((31, "ip", "::1"),)
ACLS: tuple[Acl, ...] = (
    ((1, *WORLD),),
    ((5, *WORLD),),
    ((27, *WORLD),),
    ((30, *WORLD),),
    ((0, *WORLD),),
    ((-1, *WORLD),),
    ((31, *WORLD), (31, *WORLD)),
    ((1, *WORLD), (31, "digest", USERS["ann"])),
    ((31, "digest", USERS["ann"]),),
    ((9, "digest", USERS["bob"]), (31, "digest", USERS["ann"]), (9, "digest", USERS["bob"])),
    ((31, "digest", "nobody:xxxxxxxxxxxxxxxxxxxxxxxxxxx="),),
    ((31, "digest", "a:b:c"),),
    ((31, "auth", ""),),
    ((15, "auth", "whatever"), (16, *WORLD)),
    ((31, "auth", None),),
    ((31, "ip", "127.0.0.1"),),
    ((31, "ip", "127.0.0.0/8"),),
    ((31, "ip", "10.0.0.1"), (1, *WORLD)),
    ((31, "ip", "127.0.0.1/32"), (1, *WORLD)),
    ((31, "ip", "10.0.0.0/33"),),
    ((31, "ip", "10.0.0.0/-1"),),
    ((31, "ip", "10.0.0.0/"),),
    ((31, "ip", "10.0.0/8"),),
    ((31, "ip", "10.0.0.256"),),
    IPV6_ACL,
    ((31, "ip", "localhost"),),
    ((31, "world", "someone"),),
    ((31, None, "anyone"),),
    ((31, "digest", "no-colon"),),
    ((31, "digest", ""),),
    ((31, "unknown", "id"),),
    ((31, "super", ""),),
    ((31, "sasl", "ann"),),
    ((31, "x509", "CN=ann"),),
    ((31, "host", "localhost"),),
    ((31, *WORLD), (31, "unknown", "id")),
    (),
    None,
)  # fmt: skip


class Picture:
    """What the generator believes about the tree: versions by path, and which paths were seen lately."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}

    def feed(self, request: Request, value: object) -> None:
        """Note a successful reply's body."""
        if request.opcode == rawzk.DELETE:
            self.versions.pop(request.path, None)
        elif request.opcode == rawzk.SET_DATA and isinstance(value, tuple) and len(value) == 11:
            self.versions[request.path] = value[4]
        elif request.opcode in (rawzk.CREATE, rawzk.CREATE2, rawzk.CREATE_CONTAINER, rawzk.CREATE_TTL):
            self.created(value)
        elif request.opcode == rawzk.MULTI and isinstance(value, tuple):
            for result in value[:-1]:
                if result[0] in (rawzk.CREATE, rawzk.CREATE2):
                    self.created(result[2])

    def created(self, value: object) -> None:
        path = value[0] if isinstance(value, tuple) else value
        if isinstance(path, bytes):
            self.versions[path.decode("utf-8", "surrogatepass")] = 0

    def lost(self, path: str) -> None:
        self.versions.pop(path, None)


class Requests:
    """Makes random requests. `lane` numbers only matter for the kinds of watches when `modest`."""

    def __init__(self, rng: random.Random, picture: Picture, modest: bool) -> None:
        self.rng = rng
        self.picture = picture
        self.modest = modest
        self.zxid = 0
        self._in_multi = False
        self._makers: list[tuple[float, Callable[[int], Request]]] = [
            (22, self.create), (9, self.delete), (10, self.set_data), (4, self.set_acl), (9, self.multi),
            (7, self.get_data), (7, self.exists), (6, self.children), (3, self.get_acl), (2, self.multi_read),
            (1, self.sync), (1, self.get_ephemerals), (1, self.count_children), (0.7, self.who_am_i),
            (2.5, self.add_watch), (2, self.check_watches), (2, self.remove_watches), (2, self.set_watches),
            (0.4, self.reconfig), (0.7, self.ping), (1.2, self.auth), (0.15, self.sasl), (0.15, self.unknown),
            (3, self.quota), (2, self.mutant),
        ]  # fmt: skip
        self._weights = [weight for weight, _ in self._makers]

    def request(self, lane: int) -> Request:
        made = self.rng.choices(self._makers, self._weights)[0][1](lane)
        if made.opcode in WRITES and any(root in made.label for root in ("'/q", "'/b", "/zookeeper/quota")):
            made.alone = True  # Java looks up quotas without the writes in flight, so what it finds is a race
        if made.opcode == rawzk.SET_ACL:
            made.alone = True  # Java checks writes that follow at once against the old ACL, or the new one: a race
        if self.rng.random() < 0.01 and not made.alone and made.xid is None:
            made.xid = self.rng.choice((0, -3, -8, 7, 2**31 - 1, -(2**31), -4))
        return made

    # Arguments

    def new_path(self) -> str:
        parents = [path for path in self.picture.versions if path.count("/") < 4] + list(TOPS)
        if self.rng.random() < 0.2:
            return self.rng.choice(TOPS)
        return f"{self.rng.choice(parents).rstrip('/')}/{self.rng.choice(NAMES)}"

    def any_path(self) -> str:
        roll = self.rng.random()
        if roll < 0.7 and self.picture.versions:
            return self.rng.choice(list(self.picture.versions))
        if roll < 0.9:
            return self.new_path()
        return self.rng.choice(RESERVED) if roll < 0.95 else self.odd_path()

    def odd_path(self) -> str:
        """Any string, valid or not; None stands in `text` as null, kept out of labels by the caller."""
        path = self.rng.choice(BAD_PATHS)
        if path in UNECHOED and self.rng.random() < 0.5:  # watched, they would come back in events
            return self.odd_path()
        return "" if path is None and self.modest and self._in_multi else path  # type: ignore[return-value]

    def version(self, path: str) -> int:
        roll = self.rng.random()
        if roll < 0.55:
            return -1
        if roll < 0.85:
            return self.picture.versions.get(path, 0)
        return self.rng.choice((0, 1, 2, 7, -2, 2**31 - 1, -(2**31)))

    def data(self, path: str | None) -> bytes | None:
        """Data for a node; nodes that hold quotas get well-formed ones (Apache servers die of others)."""
        quota = path is not None and path.endswith(("zookeeper_limits", "zookeeper_stats"))
        return self.rng.choice(QUOTA_TEXTS if quota else DATA)

    def acl(self) -> Acl:
        if self.rng.random() < 0.78:
            return OPEN
        chosen = self.rng.choice(ACLS)
        if (chosen is None and self._in_multi) or (chosen == IPV6_ACL and self.modest):
            return OPEN
        return chosen

    def watch(self, lane: int) -> bool:
        """Even lanes set one-shot watches; when `modest`, the others leave them to addWatch."""
        return self.rng.random() < 0.55 and not (self.modest and lane % 2)

    # Requests

    def create(self, lane: int) -> Request:
        rng = self.rng
        if len(self.picture.versions) > TREE_NODES and rng.random() < 0.6 and not self._in_multi:
            return self.delete(lane)
        opcode = rng.choices((rawzk.CREATE, rawzk.CREATE2, rawzk.CREATE_CONTAINER, rawzk.CREATE_TTL), (6, 4, 1, 1))[0]
        path, acl = (self.new_path() if rng.random() < 0.93 else self.any_path()), self.acl()
        data = self.data(path)
        flags, ttl = self.create_flags(opcode)
        return Request(
            opcode,
            create_body(path, data, flags, acl, ttl),  # type: ignore[arg-type]
            f"{path!r} flags={flags} ttl={ttl} data={_short(data)} acl={_acl_text(acl)}",
            path or "",
            locks=acl is not OPEN,
        )

    def create_flags(self, opcode: int) -> tuple[int, int | None]:
        """Flags and, for createTTL, a time to live; sometimes wrong ones."""
        rng = self.rng
        if rng.random() < 0.06 and not (self.modest and self._in_multi):
            flags = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, -1, 255))
        elif opcode == rawzk.CREATE_CONTAINER:
            flags = rawzk.CONTAINER
        elif opcode == rawzk.CREATE_TTL:
            flags = rng.choice((rawzk.TTL, rawzk.TTL_SEQUENTIAL))
        else:
            flags = rng.choices((0, 1, 2, 3), (5, 2, 2, 1))[0]
        if opcode != rawzk.CREATE_TTL:
            return flags, None
        lives = (10**9, 1 << 39, (1 << 40) - 1)
        if flags in (rawzk.TTL, rawzk.TTL_SEQUENTIAL):
            lives = (*lives, 10**9, 1 << 40, 0, -1, 2**63 - 1)
        return flags, rng.choice(lives)

    def delete(self, lane: int) -> Request:
        leaves = [
            path for path in self.picture.versions if not any(p.startswith(path + "/") for p in self.picture.versions)
        ]
        path = self.rng.choice(leaves) if leaves and self.rng.random() < 0.6 else self.any_path()
        version = self.version(path)
        return Request(rawzk.DELETE, text(path) + int32(version), f"{path!r} v={version}", path or "")

    def set_data(self, lane: int) -> Request:
        path = self.any_path()
        data = self.data(path)
        version = self.version(path)
        body = text(path) + buffer(data) + int32(version)
        return Request(rawzk.SET_DATA, body, f"{path!r} v={version} data={_short(data)}", path or "")

    def set_acl(self, lane: int) -> Request:
        path, acl = self.any_path(), (OPEN if self.rng.random() < 0.4 else self.acl())
        if path == "/":
            acl = OPEN
        version = self.version(path) if self.rng.random() < 0.5 else -1
        body = text(path) + acl_list(acl) + int32(version)  # type: ignore[arg-type]
        return Request(rawzk.SET_ACL, body, f"{path!r} v={version} acl={_acl_text(acl)}", path or "", locks=True)

    def exists(self, lane: int) -> Request:
        return self._watched(rawzk.EXISTS, lane)

    def get_data(self, lane: int) -> Request:
        return self._watched(rawzk.GET_DATA, lane)

    def children(self, lane: int) -> Request:
        return self._watched(self.rng.choice((rawzk.GET_CHILDREN, rawzk.GET_CHILDREN2)), lane)

    def _watched(self, opcode: int, lane: int) -> Request:
        path, watch = self.any_path(), self.watch(lane)
        watch = watch and path not in UNECHOED
        return Request(opcode, text(path) + boolean(watch), f"{path!r} watch={watch}", path or "")

    def get_acl(self, lane: int) -> Request:
        return self._path_only(rawzk.GET_ACL)

    def sync(self, lane: int) -> Request:
        made = self._path_only(rawzk.SYNC)
        return made if made.path not in UNECHOED else self.sync(lane)

    def count_children(self, lane: int) -> Request:
        return self._path_only(rawzk.GET_ALL_CHILDREN_NUMBER)

    def get_ephemerals(self, lane: int) -> Request:
        path = self.rng.choice((None, "", " ", "/", "/a", "/a/", *self.picture.versions))
        return Request(rawzk.GET_EPHEMERALS, text(path), repr(path), path or "")

    def _path_only(self, opcode: int) -> Request:
        path = self.any_path()
        return Request(opcode, text(path), repr(path), path or "")

    def multi(self, lane: int) -> Request:
        rng, parts, labels, locks = self.rng, [], [], False
        self._in_multi = True
        for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 4, 6))):
            roll = rng.random()
            if roll < 0.005 and not self.modest:
                part = Request(rawzk.CHECK, text(None) + int32(0), "None v=0")
            elif roll < 0.3:
                path = self.any_path()
                version = self.version(path)
                part = Request(rawzk.CHECK, text(path) + int32(version), f"{path!r} v={version}")
            else:
                part = rng.choices((self.create, self.delete, self.set_data), (5, 3, 3))[0](lane)
            if rng.random() < 0.01:
                part = rng.choice((self.get_acl, self.set_acl, self.sync, self.get_data))(lane)
            if self.modest and part.opcode == rawzk.CREATE2:
                part.opcode = rawzk.CREATE
            assert isinstance(part.body, bytes)
            parts.append((part.opcode, part.body))
            labels.append(str(part))
            locks = locks or part.locks
        self._in_multi = False
        return Request(rawzk.MULTI, multi_body(parts), f"[{', '.join(labels)}]", "", locks=locks)

    def multi_read(self, lane: int) -> Request:
        parts, labels = [], []
        for _ in range(self.rng.choice((0, 1, 2, 3, 5))):
            opcode = self.rng.choice((rawzk.GET_DATA, rawzk.GET_CHILDREN))
            if self.rng.random() < 0.01:
                opcode = self.rng.choice((rawzk.EXISTS, rawzk.GET_CHILDREN2, rawzk.DELETE))
            path = self.any_path()
            # The watch flag is not part of what multiRead honours, whatever it says.
            parts.append((opcode, text(path) + boolean(self.rng.random() < 0.3)))
            labels.append(f"{opcode} {path!r}")
        return Request(rawzk.MULTI_READ, multi_body(parts), f"[{', '.join(labels)}]")

    def who_am_i(self, lane: int) -> Request:
        return Request(rawzk.WHO_AM_I, b"", "")

    def ping(self, lane: int) -> Request:
        return Request(rawzk.PING, b"", "", xid=rawzk.XID_PING)

    def add_watch(self, lane: int) -> Request:
        path = self.any_path() or "/a"
        mode = self.rng.choice((0, 1, 0, 1, 0, 1, 2, -1)) if not self.modest else sum(map(ord, path or "")) % 2
        if self.modest and lane % 2 == 0:
            return self._watched(rawzk.GET_CHILDREN, lane)
        return Request(rawzk.ADD_WATCH, text(path) + int32(mode), f"{path!r} mode={mode}", path or "")

    def check_watches(self, lane: int) -> Request:
        return self._watch_kind(rawzk.CHECK_WATCHES, lane)

    def remove_watches(self, lane: int) -> Request:
        return self._watch_kind(rawzk.REMOVE_WATCHES, lane)

    def _watch_kind(self, opcode: int, lane: int) -> Request:
        kinds = (1, 2, 3, 3, 0, 9, -1) if self.modest else (1, 2, 3, 4, 5, 0, 6, -1)
        if self.modest and (opcode == rawzk.CHECK_WATCHES or lane % 2):
            kinds = (0, 9) if opcode == rawzk.CHECK_WATCHES else (3,)
        path, kind = self.any_path(), self.rng.choice(kinds)
        return Request(opcode, text(path) + int32(kind), f"{path!r} type={kind}", path or "")

    def set_watches(self, lane: int) -> Request:
        two = self.rng.random() < 0.5
        lists: list[list[str] | None] = [self._paths() for _ in range(3)]
        if two:
            lists += [[], []] if self.modest else [self._paths(), self._paths()]
        if self.modest and lane % 2:
            lists[:3] = [[], [], []]
        relative = self.rng.choice((0, -1, self.zxid, self.zxid - 1, self.zxid - 5, self.zxid + 5, 1 << 62))
        opcode = rawzk.SET_WATCHES2 if two else rawzk.SET_WATCHES
        label = f"zxid={relative} {lists}"
        return Request(opcode, set_watches_body(relative, lists), label, xid=rawzk.XID_SET_WATCHES)

    def _paths(self) -> list[str]:
        paths = [self.any_path() for _ in range(self.rng.choice((0, 0, 1, 1, 2, 3)))]
        return [path for path in paths if path is not None and path not in UNECHOED]

    def reconfig(self, lane: int) -> Request:
        joining = self.rng.choice((None, "server.2=127.0.0.1:1:2;3", ""))
        body = text(joining) + text(self.rng.choice((None, "1"))) + text(None) + int64(self.rng.choice((-1, 0, 5)))
        return Request(rawzk.RECONFIG, body, repr(joining))

    def auth(self, lane: int) -> Request:
        """Mostly good digests, of which one is super; else something that ends the connection."""
        scheme, data = self.rng.choice(
            [("digest", f"{name}:{name}-secret".encode()) for name in USERS] * 3
            + [("digest", b"super:admin")] * 3
            + [("digest", b"ann:wrong"), ("ip", b""), ("ip", b"10.0.0.1"), ("digest", b"x:y:z"), ("digest", b"nocolon")]
            + [("digest", b""), ("nosuch", b"x"), ("world", b"anyone"), ("", b""), ("sasl", b"x")]
        )
        body = int32(0) + text(scheme) + buffer(data)
        # A refused one ends the connection, but Java's server sometimes forgets to close: both ends are dropped then.
        return Request(rawzk.AUTH, body, f"{scheme} {data!r}", xid=rawzk.XID_AUTH, alone=True)

    def sasl(self, lane: int) -> Request:
        return Request(rawzk.SASL, buffer(self.rng.choice((b"", b"token"))), "", alone=True, checked=True)

    def unknown(self, lane: int) -> Request:
        opcode = self.rng.choice((0, 10, 23, 24, 99, 108, -1, -5, -12, 1000, 2**31 - 1))
        return Request(opcode, b"", "", alone=True, checked=True)

    def quota(self, lane: int) -> Request:
        """Set up, change and remove quotas; the nodes they limit are in the ordinary pool."""
        rng, root = self.rng, self.rng.choice(QUOTA_ROOTS)
        limits = f"/zookeeper/quota{root}/zookeeper_limits"
        stats = f"/zookeeper/quota{root}/zookeeper_stats"
        data = rng.choice(QUOTA_TEXTS)
        roll = rng.random()
        if roll < 0.35:
            parts = "/zookeeper/quota"
            path = rng.choice((f"{parts}{root}", f"{parts}/q", f"{parts}/b"))
            return Request(rawzk.CREATE, create_body(path, b""), repr(path), path)
        if roll < 0.6:
            path, data = rng.choice(((limits, data), (stats, b"count=0,bytes=0")))
            return Request(rawzk.CREATE, create_body(path, data), f"{path!r} {_short(data)}", path)
        if roll < 0.75:
            return Request(
                rawzk.SET_DATA, text(limits) + buffer(data) + int32(-1), f"{limits!r} {_short(data)}", limits
            )
        path = rng.choice((limits, stats))
        if roll < 0.93:
            return Request(rawzk.GET_DATA, text(path) + b"\0", repr(path), path)
        return Request(rawzk.DELETE, text(path) + int32(-1), repr(path), path)

    def mutant(self, lane: int) -> Request:
        """A request whose body lost or gained bytes. A change of the middle could make any other request."""
        rng = self.rng
        while True:
            made = rng.choices(self._makers[:20], self._weights[:20])[0][1](lane)
            if callable(made.body) or made.alone or made.opcode == rawzk.PING:
                continue
            if not (self.modest and made.opcode not in READS and made.opcode != rawzk.MULTI):
                break
        body: Body = made.body
        assert isinstance(body, bytes)
        if rng.random() < 0.6 and body:
            body, how = body[: rng.randrange(len(body))], "cut"
            made.path = ""
        else:
            body, how = body + rng.randbytes(rng.choice((1, 2, 4, 9, 40))), "longer"
        made.body, made.label = body, f"{made.label} ({how} to {len(body)} bytes)"
        return made


def _short(data: bytes | None) -> str:
    return repr(data) if data is None or len(data) <= 60 else f"{len(data)} bytes"


def _acl_text(acl: Acl) -> str:
    return "open" if acl is OPEN else repr(acl)


__all__ = ["DIGEST_AUTH", "READS", "SUPER_ID", "Picture", "Requests", "digest_id"]
