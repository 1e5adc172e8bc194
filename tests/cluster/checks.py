"""What must hold after a run: nothing acknowledged is lost, order was kept, and all servers hold the same tree.

Every check returns lines that say what is wrong, and reads servers through a client that shares no code with them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.cluster.clients import OK, Book, Life, order_of
from tests.cluster.cluster import Cluster
from tests.support.rawzk import (
    CLOSE_SESSION,
    GET_ACL,
    GET_DATA,
    RawClient,
    RawError,
    Stat,
    boolean,
    text,
)

Node = tuple[bytes | None, Stat, tuple[tuple[int, str, str], ...]]
CONFIG = "/zookeeper/config"
MISMATCH = "Digests are not matching"  # what a Java server logs
_WINDOW = 64  # requests in flight while a tree is read


@dataclass
class Dump:
    """A whole tree: (data, Stat, ACL) by path, and the zxid of the answers."""

    nodes: dict[str, Node]
    zxid: int


def dump(client: RawClient) -> Dump:
    """Read the whole tree from one server, after a sync."""
    zxid = client.sync("/").zxid
    nodes: dict[str, Node] = {}
    level = ["/"]
    while level:
        below: list[str] = []
        for start in range(0, len(level), _WINDOW):
            paths = level[start : start + _WINDOW]
            for path in paths:
                client.send(GET_DATA, text(path) + boolean(False))
                client.send(GET_ACL, text(path))
            for path in paths:
                data, acl = client.reply(), client.reply()
                zxid = max(zxid, data.zxid, acl.zxid)
                if data.err != OK or acl.err != OK:
                    raise RawError(f"{path}: errors {data.err} and {acl.err} while the tree is still")
                reader = data.reader()
                content, stat = reader.buffer(), reader.stat()
                if path == CONFIG:  # every server writes down for itself, when it starts, what it was told
                    content, stat = None, replace(stat, mtime=0, data_length=0)
                nodes[path] = (content, stat, tuple(acl.reader().acl()))
            for path in paths:
                if nodes[path][1].num_children:
                    children = client.children(path)
                    zxid = max(zxid, children.zxid)
                    below += [f"{path.rstrip('/')}/{name}" for name in sorted(children.reader().texts())]
        level = below
    return Dump(nodes, zxid)


def dumps(cluster: Cluster, seconds: float = 90.0) -> dict[int, Dump]:
    """The tree as every member shows it, at the same zxid. All clients are connected before the first one reads.

    Sessions that the run left open end meanwhile, each with a transaction, and a Java member may leave a client without
    an answer for 20 s (ZOOKEEPER-4537): there has to be time for a look after both.

    Raises:
        AssertionError: the members do not reach one zxid in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        clients: dict[int, RawClient] = {}
        try:
            for number in cluster.numbers:
                clients[number] = RawClient("127.0.0.1", cluster.member(number).port, timeout=20.0)
                if clients[number].handshake(30_000).timeout_ms == 0:
                    raise RawError("no session")
            found = {}
            for number, client in clients.items():
                found[number] = dump(client)
                for other in clients.values():  # a Java server takes seconds; sessions that wait would expire
                    other.ping()
            for client in clients.values():
                client.call(CLOSE_SESSION)
            zxids = {number: f"0x{one.zxid:x}" for number, one in found.items()}
            if len(set(zxids.values())) == 1:
                return found
            problem = f"the members answer at different zxids: {zxids}"
        except (OSError, RawError) as error:
            problem = repr(error)
        finally:
            for client in clients.values():
                with suppress(OSError):  # a session that is left open would end during a later look
                    client.send(CLOSE_SESSION, b"")
                client.close()
        if time.monotonic() > deadline:
            raise AssertionError(problem)
        time.sleep(0.2)


_DEAD_THREAD = rb'java\.lang\.NullPointerException: Cannot invoke "java\.net\.Socket\.isClosed\(\)"'
_CUT_AND_WENT_ON = rb"(?s)Truncating log to get in sync(?:(?!Exception when (?:follow|observ)ing).)*?received NEWLEADER"


def holed(cluster: Cluster) -> list[int]:
    """Java members with a hole in their log, which they hand on when they lead.

    - One whose log thread died of ZOOKEEPER-4409, which happens when its leader goes away while it acknowledges.
      Transactions that wait for that thread are lost, and later ones are logged behind the hole, though no message
      between servers was missing.
    - One that was told to cut its log, and went on. What it receives in the same synchronisation goes into its tree and
      a snapshot only (`snapshotNeeded` in `Learner.syncWithLeader`). A follower with one of those is told to cut it off
      when this server leads, and gets what comes behind the hole (the family of ZOOKEEPER-4925). A corekit leader with
      a quorum ends the link after the cut.
    """
    return sorted({*_that_logged(cluster, _DEAD_THREAD), *_that_logged(cluster, _CUT_AND_WENT_ON)})


def _that_logged(cluster: Cluster, sign: bytes) -> list[int]:
    logs = {n: cluster.member(n).log_path.read_bytes() for n in cluster.numbers if cluster.member(n).kind == "java"}
    return [number for number, log in logs.items() if re.search(sign, log)]


def spoiled(cluster: Cluster) -> list[int]:
    """Java members whose history may be wrong through bugs of Apache ZooKeeper 3.8.0.

    - One that is `holed`.
    - Where all voters are Java servers, one that says that its digest is not its leader's: a leader that was cut off
      keeps in its tree what it had only proposed (the family of ZOOKEEPER-2845). Among voters of both kinds this counts
      as wrong.
    """
    found = set(holed(cluster))
    if all(cluster.member(number).kind == "java" for number in cluster.numbers if number not in cluster.observers):
        found.update(_that_logged(cluster, re.escape(MISMATCH.encode())))
    return sorted(found)


def mismatched(log: str) -> bool:
    """Whether a Java member found, while it followed, that its digest was not its leader's.

    One that looks for a leader hears of no transaction. What it applies all the same comes from threads that outlive
    the role (ZOOKEEPER-4541), while its tree is read again from the log below them.
    """
    following = True
    for line in log.splitlines():
        if "QuorumPeer - PeerState set to LOOKING" in line:
            following = False
        elif "Learner - Got zxid" in line or "maxCnxns is not configured" in line:  # it follows again; it starts
            following = True
        elif MISMATCH in line and following:
            return True
    return False


def compare(cluster: Cluster, found: dict[int, Dump]) -> tuple[list[str], list[int]]:
    """How the members' trees differ, and which members are left out: those that are `spoiled` and do differ."""
    bad = spoiled(cluster)
    whole = {number: tree for number, tree in found.items() if number not in bad}
    left_out = [number for number in bad if whole and differences({**whole, number: found[number]})]
    kept = {number: tree for number, tree in found.items() if number not in left_out}
    return differences(kept), left_out


def ephemerals_now(cluster: Cluster) -> set[str]:
    """All ephemerals of the run on one member."""
    with RawClient("127.0.0.1", cluster.members[0].port) as client:
        client.handshake()
        client.sync("/")
        found = {f"/c/e/{name}" for name in client.children("/c/e").reader().texts()}
        client.close_session()
    return found


def differences(found: dict[int, Dump]) -> list[str]:
    """How the members' trees differ; at most a few lines a pair."""
    wrong: list[str] = []
    numbers = sorted(found)
    first = found[numbers[0]].nodes
    for number in numbers[1:]:
        other = found[number].nodes
        for path in sorted(first.keys() ^ other.keys())[:5]:
            where = numbers[0] if path in first else number
            wrong.append(f"{path} is on server.{where} only (compared {numbers[0]} and {number})")
        for path in sorted(path for path in first.keys() & other.keys() if first[path] != other[path])[:5]:
            wrong.append(f"{path}: server.{numbers[0]} has {first[path]}, server.{number} has {other[path]}")
    return wrong


def history(book: Book, tree: Dump) -> list[str]:
    """Whether what was acknowledged, and the order in which it was, agrees with the tree."""
    wrong = list(book.wrong)
    nodes = tree.nodes
    wrong += _created(book, tree)
    for path, sets in book.registers.items():
        final = order_of((nodes[path][0] or b"").decode()) if path in nodes else -2
        acknowledged = max((order_of(write.value) for write in sets if write.zxid), default=-1)
        sent = max((order_of(write.value) for write in sets), default=-1)
        if not acknowledged <= final <= sent:
            wrong.append(f"{path} holds {final}, but {acknowledged} was acknowledged (and {sent} sent)")
    names = [name for _, name, _ in sorted(book.sequences)]
    if names != sorted(names) or len(set(names)) != len(names):
        wrong.append("sequence numbers do not rise with the zxid")
    for _, name, value in book.sequences:
        if name not in nodes or nodes[name][0] != value.encode():
            wrong.append(f"{name} was acknowledged with {value}, and is {nodes.get(name)}")
    return wrong + _real_time(book)


def _created(book: Book, tree: Dump) -> list[str]:
    wrong = []
    gaps: dict[tuple[str, int], str] = {}
    for write in book.writes:
        if write.path in book.registers:
            continue
        exists = write.path in tree.nodes
        if write.zxid and not exists:
            wrong.append(f"{write.path} was acknowledged at 0x{write.zxid:x} and is lost")
        elif write.zxid and tree.nodes[write.path][1].czxid != write.zxid:
            wrong.append(f"{write.path} was acknowledged at 0x{write.zxid:x}, but made by {tree.nodes[write.path][1]}")
        # First in, first out: what was sent later on one connection cannot be there without what was sent earlier.
        connection = (write.path.partition("-")[0], write.connection)
        if not exists:
            gaps.setdefault(connection, write.path)
        elif connection in gaps:
            wrong.append(f"{write.path} is there, but {gaps[connection]}, sent before it on its connection, is not")
    return wrong


def _real_time(book: Book) -> list[str]:
    """A write that returned before another was sent has the smaller zxid; no zxid was given twice."""
    wrong = []
    writes = [write for write in book.writes if write.zxid]
    returned = sorted((write.returned, write.zxid) for write in writes)
    position, newest = 0, 0
    for write in sorted(writes, key=lambda write: write.called):
        while position < len(returned) and returned[position][0] < write.called:
            newest = max(newest, returned[position][1])
            position += 1
        if write.zxid <= newest:
            wrong.append(f"{write.path} has 0x{write.zxid:x}, but 0x{newest:x} had returned before it was sent")
    owners: dict[int, str] = {}
    for write in writes:
        told = owners.setdefault(write.zxid, write.value.rstrip("b"))
        if told != write.value.rstrip("b"):
            wrong.append(f"zxid 0x{write.zxid:x} was given to {told} and {write.value}")
    return wrong


def ephemerals(lives: Sequence[Life], tree: Dump, living: Sequence[Life]) -> list[str]:
    """Those of the living are there and belong to them, nothing else is."""
    wrong = []
    found = {path: node[1].ephemeral_owner for path, node in tree.nodes.items() if path.startswith("/c/e/")}
    for life in living:
        for path in life.paths:
            if found.get(path) != life.session_id:
                wrong.append(f"{path} of the living session 0x{life.session_id:x} is {found.get(path)}")
    allowed = {path for life in living for path in life.tried}
    wrong += [f"{path} of session 0x{owner:x} is left over" for path, owner in found.items() if path not in allowed]
    known = {life.session_id for life in lives}
    wrong += [f"{path} belongs to nobody known" for path, owner in found.items() if owner not in known]
    return wrong
