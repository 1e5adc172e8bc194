"""One state, four ways to get it: prepared by a leader, replayed by a learner, read back from storage, received as a
snapshot.

Random requests go through the heart; then the log is replayed into an empty tree, the stored image is loaded, and the
snapshot stream is read. All must hold the same znodes, ACLs, owners, counters and digest. A mistake in any of the
paths (a pending view that is not rolled back, a step of the image that forgets a deletion, a digest that is not
moved) shows as a difference.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corekit.codec import ops
from corekit.codec.records import (
    ACL,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    Id,
    MultiHeader,
    SetACLRequest,
    SetDataRequest,
)
from corekit.codec.snapshot import ImageReader, write_image
from corekit.model.digest import tree_digest
from corekit.model.sessions import SessionTracker
from corekit.model.tree import Tree
from corekit.replica.image import StateImage
from corekit.replica.options import ReplicaOptions
from corekit.replica.replica import Replica
from tests.support.heart import OPEN, Client, Heart

NAMES = [b"/a", b"/b", b"/a/x", b"/a/y", b"/b/x", b"/a/x/deep", b"/s-"]
READ_ONLY = [ACL(1, Id(b"world", b"anyone")), ACL(31, Id(b"world", b"anyone"))]

paths = st.sampled_from(NAMES)
data = st.sampled_from([None, b"", b"1", b"longer data"])
versions = st.sampled_from([-1, 0, 1])
acls = st.sampled_from([OPEN, READ_ONLY])
creates = st.builds(
    lambda op, path, d, acl, flags: (op, CreateRequest(path, d, acl, flags).encode()),
    st.sampled_from([ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER]),
    paths,
    data,
    acls,
    st.sampled_from([0, 0, 1, 2, 3]),
)
ttls = st.builds(lambda path: (ops.CREATE_TTL, CreateTTLRequest(path, b"t", OPEN, 5, 60_000).encode()), paths)
sets = st.builds(lambda path, d, v: (ops.SET_DATA, SetDataRequest(path, d, v).encode()), paths, data, versions)
deletes = st.builds(lambda path, v: (ops.DELETE, DeleteRequest(path, v).encode()), paths, versions)
set_acls = st.builds(lambda path, acl, v: (ops.SET_ACL, SetACLRequest(path, acl, v).encode()), paths, acls, versions)
single = st.one_of(creates, creates, ttls, sets, deletes)
multis = st.lists(single, max_size=4).map(
    lambda parts: (
        ops.MULTI,
        b"".join(MultiHeader(op, False, -1).encode() + body for op, body in parts) + MultiHeader(-1, True, -1).encode(),
    )
)
steps = st.one_of(
    single, single, set_acls, multis, st.sampled_from([("sync", b""), ("reconnect", b""), ("store", b"")])
)


def contents(tree: Tree) -> dict[str, Any]:
    """Everything a tree says, without its keys for ACLs."""
    return {
        "nodes": tree.nodes,
        "children": {path: kids.paths for path, kids in tree.kids.items() if kids.paths},
        "cversions": {path: kids.cversion for path, kids in tree.kids.items() if kids.cversion},
        "acls": {path: tree.acls.acl(key) for path, key in tree.acl_keys.items()},
        "owners": tree.owners,
        "ephemerals": {session: set(owned) for session, owned in tree.ephemerals.items()},
        "bytes": tree.data_bytes,
        "zxid": tree.zxid,
        "digest": tree.digest,
    }


def replay(entries: list[tuple[int, bytes]]) -> Replica:
    learner = Replica(ReplicaOptions(extended_types=True), {}, 1)
    learner.tree.bootstrap()
    learner.tree.start_digest()
    for zxid, entry in entries:
        learner.logged(zxid, (entry,))
    learner.committed(entries[-1][0])
    return learner


class Store:
    """What storage would hold."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.zxid = 0

    def step(self, image: StateImage) -> None:
        self.zxid, puts, deletes = image.step()
        for key in deletes:
            self.pairs.pop(key, None)
        self.pairs.update(puts)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_leader_learner_storage_and_snapshot_agree(script: list[tuple[Any, bytes]]) -> None:
    heart = Heart(ReplicaOptions(extended_types=True), digest=True)
    replica, store = heart.replica, Store()
    client = heart.client()
    for op, body in script:
        if op == "sync":
            heart.settle()
        elif op == "store":
            store.step(replica.image)
        elif op == "reconnect":
            client.send(ops.CLOSE_SESSION)
            heart.settle()
            client = heart.client()
        else:
            client.send(op, body)
            heart.flush()
    heart.settle()
    expected = contents(replica.tree)

    cversions = {path: kids.cversion for path, kids in replica.tree.kids.items()}
    assert replica.tree.digest == tree_digest(replica.tree.nodes, cversions, replica.tree.owners)

    learner = replay(heart.entries)
    assert contents(learner.tree) == expected
    assert learner.stats.digest_mismatches == 0
    assert set(learner.sessions.sessions) == set(replica.sessions.sessions)

    store.step(replica.image)
    loaded = Tree()
    loaded.digest_on = True
    StateImage(loaded, SessionTracker(2000, 1)).load(
        [tuple(zip(*sorted(store.pairs.items()), strict=True))], store.zxid, 0
    )
    assert contents(loaded) == expected

    stream = b"".join(write_image(replica.image.capture())) + b"rest"
    for step in (37, len(stream)):
        reader = ImageReader()
        for at in range(0, len(stream), step):
            rest = reader.feed(stream[at : at + step])
            if rest is not None:
                assert rest + stream[at + step :] == b"rest"
                break
        received = Tree()
        received.digest_on = True
        stored = StateImage(received, SessionTracker(2000, 1)).replace(reader, replica.tree.zxid, 0)
        pairs = [pair for chunk in stored for pair in chunk]
        assert contents(received) == expected
        assert dict(pairs) == store.pairs


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(single, multis), min_size=1, max_size=25), st.data())
def test_replaying_over_a_state_that_is_ahead_changes_nothing_in_the_end(
    script: list[tuple[int, bytes]], draw: st.DataObject
) -> None:
    """A ZooKeeper leader's snapshot may hold effects of what is sent after it (ZOOKEEPER-1046, 3249)."""
    heart = Heart(ReplicaOptions(extended_types=True))
    client: Client = heart.client()
    for op, body in script:
        client.call(op, body)
    learner = replay(heart.entries)
    expected = contents(learner.tree)
    start = draw.draw(st.integers(0, len(heart.entries) - 1))
    for zxid, entry in heart.entries[start:]:
        learner.logged(zxid, (entry,))
    learner.committed(heart.entries[-1][0])
    again = contents(learner.tree)
    assert set(again["nodes"]) == set(expected["nodes"])
    assert again["children"] == expected["children"]
    assert again["cversions"].keys() == expected["cversions"].keys()
    assert again["ephemerals"] == expected["ephemerals"]


def test_a_received_state_ahead_of_its_zxid_is_no_digest_mismatch() -> None:
    """What a migration under load found: the metric told of lost writes where there were none (ZOOKEEPER-3249)."""
    heart = Heart(ReplicaOptions(), digest=True)
    client: Client = heart.client()
    for path in (b"/a", b"/b", b"/c"):
        assert client.create(path).code == 0
    reader = ImageReader()
    assert reader.feed(b"".join(write_image(heart.replica.image.capture()))) == b""
    learner = replay(heart.entries[:1])
    received = heart.entries[-3][0]
    assert list(learner.install(reader, received))
    for zxid, entry in heart.entries[-2:]:
        learner.logged(zxid, (entry,))
        learner.committed(zxid)
    assert learner.tree.digest == heart.replica.tree.digest
    assert learner.stats.digest_mismatches == 0

    learner.serve("follower", heart.entries[-1][0] + 1)
    learner.tree.digest ^= 1
    assert client.create(b"/d").code == 0
    zxid, entry = heart.entries[-1]
    learner.logged(zxid, (entry,))
    learner.committed(zxid)
    assert (learner.stats.digest_mismatches, learner.parted_at) == (1, zxid)
