"""kazoo's client against a server: every operation, its Stat, its errors and its watches."""

from __future__ import annotations

import queue
import threading
import time

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, WatchedEvent
from kazoo.security import ACL, CREATOR_ALL_ACL, READ_ACL_UNSAFE, Id, make_acl, make_digest_acl

from tests.interop.conftest import KazooFactory


def events_of() -> tuple[queue.Queue[WatchedEvent], object]:
    received: queue.Queue[WatchedEvent] = queue.Queue()
    return received, received.put


def test_create_get_set_delete_and_their_stat(zk: KazooClient, namespace: str) -> None:
    assert zk.create(namespace, b"one") == namespace
    before = time.time() * 1000
    data, stat = zk.get(namespace)
    assert (data, stat.version, stat.cversion, stat.aversion) == (b"one", 0, 0, 0)
    assert stat.czxid == stat.mzxid == stat.pzxid
    assert stat.ctime == stat.mtime
    assert abs(stat.ctime - before) < 10_000
    assert (stat.dataLength, stat.numChildren, stat.ephemeralOwner) == (3, 0, 0)

    changed = zk.set(namespace, b"three", version=0)
    assert (changed.version, changed.dataLength, changed.czxid) == (1, 5, stat.czxid)
    assert changed.mzxid > stat.mzxid
    assert zk.exists(namespace) == changed
    with pytest.raises(BadVersionError):
        zk.set(namespace, b"", version=0)
    with pytest.raises(BadVersionError):
        zk.delete(namespace, version=0)
    zk.delete(namespace, version=1)
    assert zk.exists(namespace) is None
    for missing in (zk.get, zk.get_children, zk.get_acls, zk.delete):
        with pytest.raises(NoNodeError):
            missing(namespace)
    with pytest.raises(NoNodeError):
        zk.set(namespace, b"")


def test_null_and_large_data(zk: KazooClient, namespace: str) -> None:
    zk.create(namespace, None)
    assert zk.get(namespace)[0] in (None, b"")
    large = bytes(range(256)) * 4000
    zk.set(namespace, large)
    assert zk.get(namespace)[0] == large
    assert zk.get(namespace)[1].dataLength == len(large)


def test_children_and_the_parents_stat(zk: KazooClient, namespace: str) -> None:
    zk.create(namespace)
    for name in ("b", "a", "ü-ß", "c"):
        zk.create(f"{namespace}/{name}")
    children, stat = zk.get_children(namespace, include_data=True)
    assert sorted(children) == ["a", "b", "c", "ü-ß"]
    assert (stat.numChildren, stat.cversion) == (4, 4)
    assert stat.pzxid > stat.mzxid
    with pytest.raises(NotEmptyError):
        zk.delete(namespace)
    with pytest.raises(NodeExistsError):
        zk.create(f"{namespace}/a")
    zk.delete(f"{namespace}/a")
    assert zk.exists(namespace).cversion == 5
    zk.delete(namespace, recursive=True)
    assert zk.exists(namespace) is None


def test_sequence_numbers(zk: KazooClient, namespace: str) -> None:
    zk.create(namespace)
    first = zk.create(f"{namespace}/q-", sequence=True)
    zk.create(f"{namespace}/other")
    zk.delete(f"{namespace}/other")
    second = zk.create(f"{namespace}/q-", sequence=True, ephemeral=True)
    third = zk.create(f"{namespace}/", sequence=True)
    assert [first, second, third] == [
        f"{namespace}/q-0000000000",
        f"{namespace}/q-0000000002",
        f"{namespace}/0000000003",
    ]
    assert zk.exists(second).ephemeralOwner == zk.client_id[0]


def test_create_with_stat_and_makepath(zk: KazooClient, namespace: str) -> None:
    path, stat = zk.create(f"{namespace}/a/b", b"xy", makepath=True, include_data=True)
    assert path == f"{namespace}/a/b"
    assert stat == zk.exists(path)
    with pytest.raises(NoNodeError):
        zk.create(f"{namespace}/missing/b")
    assert zk.ensure_path(f"{namespace}/x/y/z")
    assert zk.exists(f"{namespace}/x/y/z") is not None


def test_ephemerals_have_no_children_and_leave_with_their_session(
    zk: KazooClient, kazoo_factory: KazooFactory, namespace: str
) -> None:
    other = kazoo_factory()
    zk.create(namespace)
    other.create(f"{namespace}/e", ephemeral=True)
    with pytest.raises(NoChildrenForEphemeralsError):
        other.create(f"{namespace}/e/child")
    gone = threading.Event()
    assert zk.exists(f"{namespace}/e", watch=lambda event: gone.set() if event.type == EventType.DELETED else None)
    other.stop()
    assert gone.wait(10)
    assert zk.get_children(namespace) == []


def test_watches_fire_once_with_their_type(zk: KazooClient, namespace: str) -> None:
    received, watch = events_of()
    assert zk.exists(namespace, watch=watch) is None
    zk.create(namespace)
    assert received.get(timeout=10)[:3:2] == (EventType.CREATED, namespace)
    zk.get(namespace, watch=watch)
    zk.set(namespace, b"1")
    zk.set(namespace, b"2")
    assert received.get(timeout=10)[:3:2] == (EventType.CHANGED, namespace)
    zk.get_children(namespace, watch=watch)
    zk.create(f"{namespace}/a")
    zk.create(f"{namespace}/b")
    assert received.get(timeout=10)[:3:2] == (EventType.CHILD, namespace)
    zk.get(f"{namespace}/a", watch=watch)
    zk.delete(f"{namespace}/a")
    assert received.get(timeout=10)[:3:2] == (EventType.DELETED, f"{namespace}/a")
    zk.sync(namespace)
    assert received.empty()


def test_a_watch_of_another_session_sees_the_change_before_the_data(
    zk: KazooClient, kazoo_factory: KazooFactory, namespace: str
) -> None:
    other = kazoo_factory()
    zk.create(namespace, b"0")
    received, watch = events_of()
    for number in range(1, 30):
        zk.get(namespace, watch=watch)
        other.set(namespace, b"%d" % number)
        zk.sync(namespace)
        assert zk.get(namespace)[0] == b"%d" % number
        assert received.get(timeout=10).type == EventType.CHANGED


def test_transactions(zk: KazooClient, namespace: str) -> None:
    transaction = zk.transaction()
    transaction.create(namespace, b"root")
    transaction.create(f"{namespace}/a", b"1")
    transaction.create(f"{namespace}/seq-", sequence=True)
    transaction.create(f"{namespace}/e", ephemeral=True)
    transaction.set_data(f"{namespace}/a", b"2", version=0)
    transaction.check(f"{namespace}/a", version=1)
    transaction.delete(f"{namespace}/e")
    results = transaction.commit()
    assert results[:2] == [namespace, f"{namespace}/a"]
    assert results[2] == f"{namespace}/seq-0000000001"
    assert results[4].version == 1
    assert results[5:] == [True, True]
    assert zk.get(f"{namespace}/a")[0] == b"2"
    zxids = {zk.exists(path).czxid for path in (namespace, f"{namespace}/a", results[2])}
    assert len(zxids) == 1


def test_a_failed_transaction_changes_nothing(zk: KazooClient, namespace: str) -> None:
    zk.create(namespace)
    transaction = zk.transaction()
    transaction.create(f"{namespace}/a")
    transaction.delete(f"{namespace}/missing")
    transaction.create(f"{namespace}/b")
    results = transaction.commit()
    assert [type(result) for result in results] == [RolledBackError, NoNodeError, RuntimeInconsistency]
    assert zk.get_children(namespace) == []
    check = zk.transaction()
    check.check(namespace, version=7)
    check.set_data(namespace, b"never")
    assert [type(result) for result in check.commit()] == [BadVersionError, RuntimeInconsistency]


def test_many_requests_in_flight_are_answered_in_order(zk: KazooClient, namespace: str) -> None:
    zk.create(namespace)
    finished: list[int] = []
    pending = []
    for number in range(1, 501):
        pending.append(zk.set_async(namespace, b"%d" % number))
        if number % 5 == 0:
            pending.append(zk.get_async(namespace))
    for position, result in enumerate(pending):
        result.rawlink(lambda _, position=position: finished.append(position))
    seen = [result.get(timeout=20) for result in pending]
    assert [stat.version for stat in seen if hasattr(stat, "version")] == [*range(1, 501)]
    reads = [value[0] for value in seen if not hasattr(value, "version")]
    assert reads == [b"%d" % number for number in range(5, 501, 5)]
    # kazoo calls back from a thread of its own, after it has woken those who wait for the result.
    called_back = threading.Event()
    zk.handler.completion_queue.put(called_back.set)
    assert called_back.wait(20)
    assert finished == list(range(len(pending)))


def test_acls_auth_and_digest(kazoo_factory: KazooFactory, namespace: str) -> None:
    owner = kazoo_factory(auth_data=[("digest", "ann:secret")])
    stranger = kazoo_factory()
    owner.create(namespace, b"mine", acl=CREATOR_ALL_ACL)
    acls, stat = owner.get_acls(namespace)
    assert acls == [make_digest_acl("ann", "secret", all=True)]
    assert stat.aversion == 0
    for forbidden in (
        lambda: stranger.get(namespace),
        lambda: stranger.set(namespace, b""),
        lambda: stranger.get_children(namespace),
        lambda: stranger.create(f"{namespace}/x"),
        lambda: stranger.set_acls(namespace, READ_ACL_UNSAFE),
        lambda: stranger.get_acls(namespace),
    ):
        with pytest.raises(NoAuthError):
            forbidden()
    changed = owner.set_acls(namespace, [*READ_ACL_UNSAFE, *acls], version=0)
    assert changed.aversion == 1
    with pytest.raises(BadVersionError):
        owner.set_acls(namespace, acls, version=0)
    assert stranger.get(namespace)[0] == b"mine"
    redacted, _ = stranger.get_acls(namespace)
    assert ACL(31, Id("digest", "ann:x")) in redacted
    stranger.add_auth("digest", "ann:secret")
    assert stranger.set(namespace, b"shared").version == 1
    with pytest.raises(InvalidACLError):
        kazoo_factory().create(f"{namespace}-x", acl=CREATOR_ALL_ACL)
    owner.create(f"{namespace}/ip", acl=[make_acl("ip", "127.0.0.1", all=True)])
    assert stranger.set(f"{namespace}/ip", b"from loopback")


def test_the_right_to_delete_belongs_to_the_parent(kazoo_factory: KazooFactory, namespace: str) -> None:
    owner = kazoo_factory(auth_data=[("digest", "ann:secret")])
    stranger = kazoo_factory()
    owner.create(namespace, acl=[make_acl("world", "anyone", read=True, create=True)])
    stranger.create(f"{namespace}/child")
    with pytest.raises(NoAuthError):
        stranger.delete(f"{namespace}/child")


def test_chroot(zk: KazooClient, kazoo_factory: KazooFactory, namespace: str) -> None:
    zk.create(namespace)
    inside = kazoo_factory(chroot=namespace)
    assert inside.create("/a", b"x") == "/a"
    received, watch = events_of()
    inside.get("/a", watch=watch)
    assert zk.get(f"{namespace}/a")[0] == b"x"
    zk.set(f"{namespace}/a", b"y")
    assert received.get(timeout=10).path == "/a"
    assert inside.get_children("/") == ["a"]
    assert inside.create("/seq", sequence=True) == "/seq0000000001"


def test_server_version_and_four_letter_words(zk: KazooClient) -> None:
    assert zk.server_version()[:1] == (3,)
    assert zk.command(b"ruok") == "imok"
    assert "Mode: standalone" in zk.command(b"srvr")


def test_reconfig_is_refused_as_zookeeper_refuses_it(zk: KazooClient) -> None:
    with pytest.raises(ReconfigDisabledError):
        zk.reconfig(joining="server.9=127.0.0.1:2888:3888;2181", leaving=None, new_members=None)


def test_reserved_nodes(zk: KazooClient) -> None:
    with pytest.raises(BadArgumentsError):
        zk.delete("/zookeeper")
    with pytest.raises(NodeExistsError):
        zk.create("/zookeeper")
    with pytest.raises(NodeExistsError):
        zk.create("/")
    assert {"quota", "config"} <= set(zk.get_children("/zookeeper"))
