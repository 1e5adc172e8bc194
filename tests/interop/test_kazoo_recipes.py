"""Every recipe that kazoo ships, with two or more clients against one server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.watchers import PatientChildrenWatch

from tests.interop.conftest import KazooFactory, wait_for

WAIT = 15.0


@contextlib.contextmanager
def running(target: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run `target` in a thread that must have ended when the block does."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            target()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(WAIT)
    assert not thread.is_alive(), "a thread of the test still waits"
    if failures:
        raise failures[0]


@pytest.fixture
def two(kazoo_factory: KazooFactory) -> tuple[KazooClient, KazooClient]:
    return kazoo_factory(), kazoo_factory()


@pytest.fixture
def four(kazoo_factory: KazooFactory) -> list[KazooClient]:
    return [kazoo_factory() for _ in range(4)]


def test_lock_excludes_and_is_fair(four: list[KazooClient], namespace: str) -> None:
    inside: list[str] = []
    order: list[str] = []
    holder = four[0].Lock(namespace, "holder")
    holder.acquire()
    threads = []
    for number, client in enumerate(four[1:]):
        lock = client.Lock(namespace, f"waiter-{number}")

        def work(lock: object = lock, number: int = number) -> None:
            with lock:
                inside.append("x")
                assert len(inside) == 1
                order.append(f"waiter-{number}")
                inside.pop()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        threads.append(thread)
        wait_for(lambda n=number: len(holder.contenders()) == n + 2, "the waiter to queue")
    assert holder.contenders() == ["holder", "waiter-0", "waiter-1", "waiter-2"]
    assert not four[1].Lock(namespace, "impatient").acquire(blocking=False)
    with pytest.raises(LockTimeout):
        four[1].Lock(namespace, "impatient").acquire(timeout=0.2)
    assert order == []
    holder.release()
    for thread in threads:
        thread.join(WAIT)
    assert order == ["waiter-0", "waiter-1", "waiter-2"]
    wait_for(lambda: four[0].get_children(namespace) == [], "the lock nodes to be gone")


def test_lock_passes_on_when_its_holder_disappears(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    one.Lock(namespace, "one").acquire()
    waiting = other.Lock(namespace, "other")
    with running(lambda: waiting.acquire(timeout=WAIT)):
        wait_for(lambda: len(waiting.contenders()) == 2, "the second contender")
        one.stop()
    assert waiting.is_acquired


def test_read_and_write_locks(four: list[KazooClient], namespace: str) -> None:
    readers = [client.ReadLock(namespace, f"reader-{number}") for number, client in enumerate(four[:2])]
    writer = four[2].WriteLock(namespace, "writer")
    for reader in readers:
        assert reader.acquire(timeout=WAIT)
    assert not writer.acquire(blocking=False)
    with running(lambda: writer.acquire(timeout=WAIT)):
        wait_for(lambda: "writer" in writer.contenders(), "the writer to queue")
        late = four[3].ReadLock(namespace, "late")
        assert not late.acquire(blocking=False)
        for reader in readers:
            reader.release()
    assert writer.is_acquired
    assert not readers[0].acquire(blocking=False)
    writer.release()
    assert late.acquire(timeout=WAIT)
    late.release()


def test_semaphore(four: list[KazooClient], namespace: str) -> None:
    semaphores = [
        client.Semaphore(namespace, f"holder-{number}", max_leases=2) for number, client in enumerate(four[:3])
    ]
    assert semaphores[0].acquire(timeout=WAIT)
    assert semaphores[1].acquire(timeout=WAIT)
    assert not semaphores[2].acquire(blocking=False)
    assert sorted(semaphores[0].lease_holders()) == ["holder-0", "holder-1"]
    with running(lambda: semaphores[2].acquire(timeout=WAIT)):
        semaphores[0].release()
    assert sorted(semaphores[2].lease_holders()) == ["holder-1", "holder-2"]


def test_election(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    leading: list[str] = []
    resign = {"a": threading.Event(), "b": threading.Event()}
    elections = {name: client.Election(namespace, name) for name, client in zip("ab", two, strict=True)}

    def lead(name: str) -> None:
        leading.append(name)
        assert resign[name].wait(WAIT)

    with running(lambda: elections["a"].run(lead, "a")):
        wait_for(lambda: leading == ["a"], "the first leader")
        with running(lambda: elections["b"].run(lead, "b")):
            wait_for(lambda: elections["a"].contenders() == ["a", "b"], "both contenders")
            assert leading == ["a"]
            resign["a"].set()
            wait_for(lambda: leading == ["a", "b"], "the second leader")
            resign["b"].set()


def test_barrier(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    barrier = one.Barrier(namespace)
    assert barrier.wait(timeout=0)
    barrier.create()
    assert not other.Barrier(namespace).wait(timeout=0.1)
    passed: list[bool] = []
    with running(lambda: passed.append(other.Barrier(namespace).wait(timeout=WAIT))):
        assert barrier.remove()
    assert passed == [True]
    assert not barrier.remove()


def test_double_barrier(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    entered: list[int] = []
    left: list[int] = []
    may_leave = threading.Event()

    def take_part(client: KazooClient, number: int) -> None:
        barrier = client.DoubleBarrier(namespace, 2, f"member-{number}")
        barrier.enter()
        assert barrier.participating
        entered.append(number)
        assert may_leave.wait(WAIT)
        barrier.leave()
        left.append(number)

    with running(lambda: take_part(two[0], 0)):
        wait_for(
            lambda: two[1].exists(namespace) and len(two[1].get_children(namespace)) == 1, "the first member to come"
        )
        assert entered == []
        with running(lambda: take_part(two[1], 1)):
            wait_for(lambda: sorted(entered) == [0, 1], "both to enter")
            may_leave.set()
    assert sorted(left) == [0, 1]


def test_counter(four: list[KazooClient], namespace: str) -> None:
    counters = [client.Counter(namespace) for client in four]

    def add(counter: object) -> None:
        for _ in range(20):
            counter += 1

    with contextlib.ExitStack() as stack:
        for counter in counters:
            stack.enter_context(running(lambda counter=counter: add(counter)))
    assert counters[0].value == 80
    counters[1] -= 30
    assert (counters[1].pre_value, counters[1].post_value, counters[2].value) == (80, 50, 50)
    floats = four[0].Counter(f"{namespace}-float", default=1.5)
    floats += 2.25
    assert floats.value == 3.75
    limited = four[0].Counter(f"{namespace}-curator", support_curator=True)
    limited += 7
    assert four[0].get(f"{namespace}-curator")[0] == (7).to_bytes(4, "big")


@pytest.mark.parametrize("recipe", ["Party", "ShallowParty"])
def test_parties(two: tuple[KazooClient, KazooClient], namespace: str, recipe: str) -> None:
    parties = [getattr(client, recipe)(namespace, f"guest{number}") for number, client in enumerate(two)]
    parties[0].join()
    assert list(parties[1]) == ["guest0"]
    parties[1].join()
    assert sorted(parties[0]) == ["guest0", "guest1"]
    assert len(parties[0]) == 2
    parties[0].leave()
    assert list(parties[1]) == ["guest1"]
    two[1].stop()
    wait_for(lambda: list(parties[0]) == [], "the guest whose session closed to be gone")


def test_queue(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two[0].Queue(namespace), two[1].Queue(namespace)
    assert one.get() is None
    for number in range(5):
        one.put(b"%d" % number)
    one.put(b"urgent", priority=1)
    assert len(other) == 6
    assert [other.get() for _ in range(6)] == [b"urgent", b"0", b"1", b"2", b"3", b"4"]
    assert other.get() is None


def test_locking_queue(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two[0].LockingQueue(namespace), two[1].LockingQueue(namespace)
    one.put_all([b"a", b"b"])
    one.put(b"first", priority=5)
    assert one.get(timeout=WAIT) == b"first"
    assert one.holds_lock()
    assert other.get(timeout=WAIT) == b"a"
    assert one.consume()
    assert one.get(timeout=WAIT) == b"b"
    assert other.release()
    assert other.get(timeout=WAIT) == b"a"
    assert other.consume()
    assert one.consume()
    assert one.get(timeout=0.1) is None
    got: list[object] = []
    with running(lambda: got.append(other.get(timeout=WAIT))):
        wait_for(lambda: two[0].exists(f"{namespace}/entries"), "the entries node")
        one.put(b"late")
    assert got == [b"late"]


def test_set_partitioner(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    items = tuple(range(6))

    def partition(client: KazooClient, name: str) -> object:
        return client.SetPartitioner(namespace, set=items, time_boundary=0.3, identifier=name)

    def settle(partitioners: list[object]) -> list[list[int]]:
        deadline = time.monotonic() + WAIT
        while not all(partitioner.acquired for partitioner in partitioners):
            for partitioner in partitioners:
                if partitioner.release:
                    partitioner.release_set()
                elif partitioner.allocating:
                    partitioner.wait_for_acquire(0.05)
                assert not partitioner.failed
            assert time.monotonic() < deadline, [partitioner.state for partitioner in partitioners]
        return [sorted(partitioner) for partitioner in partitioners]

    first = partition(two[0], "one")
    assert settle([first]) == [list(items)]
    second = partition(two[1], "two")
    wait_for(lambda: first.release, "the first member to be told of the second")
    shares = settle([first, second])
    assert [len(share) for share in shares] == [3, 3]
    assert sorted(shares[0] + shares[1]) == list(items)
    second.finish()
    wait_for(lambda: first.release, "the first member to be told that the second left")
    assert settle([first]) == [list(items)]
    first.finish()


def test_tree_cache(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    one.ensure_path(f"{namespace}/a/b")
    cache = TreeCache(other, namespace)
    events: list[tuple[int, str]] = []
    faults: list[BaseException] = []
    cache.listen(lambda event: events.append((event.event_type, event.event_data.path if event.event_data else "")))
    cache.listen_fault(faults.append)
    cache.start()
    wait_for(lambda: (TreeEvent.INITIALIZED, "") in events, "the cache to be filled")
    assert cache.get_children(namespace) == frozenset(["a"])
    one.set(f"{namespace}/a/b", b"new")
    wait_for(lambda: cache.get_data(f"{namespace}/a/b").data == b"new", "the changed data")
    one.create(f"{namespace}/a/c", b"c")
    wait_for(lambda: (TreeEvent.NODE_ADDED, f"{namespace}/a/c") in events, "the new node")
    one.delete(f"{namespace}/a/b")
    wait_for(lambda: (TreeEvent.NODE_REMOVED, f"{namespace}/a/b") in events, "the removed node")
    assert cache.get_data(f"{namespace}/a/b") is None
    assert (TreeEvent.NODE_UPDATED, f"{namespace}/a/b") in events
    cache.close()
    assert faults == []


def test_data_watch(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    seen: list[tuple[bytes | None, int | None]] = []

    @other.DataWatch(namespace)
    def changed(data: bytes | None, stat: object) -> bool | None:
        seen.append((data, stat.version if stat else None))
        return False if data == b"stop" else None

    assert seen == [(None, None)]
    one.create(namespace, b"0")
    wait_for(lambda: seen[-1] == (b"0", 0), "the creation")
    one.set(namespace, b"1")
    wait_for(lambda: seen[-1] == (b"1", 1), "the change")
    one.delete(namespace)
    wait_for(lambda: seen[-1] == (None, None), "the deletion")
    one.create(namespace, b"stop")
    wait_for(lambda: seen[-1] == (b"stop", 0), "the second creation")
    one.set(namespace, b"unseen")
    other.sync(namespace)
    assert len(seen) == 5


def test_children_watch(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    one.create(namespace)
    seen: list[list[str]] = []
    events: list[object] = []

    @other.ChildrenWatch(namespace, send_event=True)
    def changed(children: list[str], event: object) -> None:
        seen.append(sorted(children))
        events.append(event)

    assert seen == [[]]
    for number in range(1, 6):
        one.create(f"{namespace}/{number}")
        wait_for(lambda number=number: len(seen[-1]) == number, "the child")
    one.delete(f"{namespace}/1")
    wait_for(lambda: seen[-1] == ["2", "3", "4", "5"], "the deletion")
    assert all(len(later) != len(earlier) for earlier, later in pairwise(seen))
    assert events[0] is None
    assert events[1].path == namespace


def test_patient_children_watch(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    one.create(namespace)
    result = PatientChildrenWatch(other, namespace, time_boundary=0.3).start()
    one.create(f"{namespace}/a")
    children, changed = result.get(timeout=WAIT)
    assert children == ["a"]
    assert not changed.ready()
    one.create(f"{namespace}/b")
    changed.get(timeout=WAIT)


def test_non_blocking_lease(two: tuple[KazooClient, KazooClient], namespace: str) -> None:
    one, other = two
    now = datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    hour = timedelta(hours=1)
    assert one.NonBlockingLease(namespace, hour, "one", utcnow=lambda: now)
    assert not other.NonBlockingLease(namespace, hour, "other", utcnow=lambda: now + timedelta(minutes=30))
    assert one.NonBlockingLease(namespace, hour, "one", utcnow=lambda: now + timedelta(minutes=30))
    assert not other.NonBlockingLease(namespace, hour, "other", utcnow=lambda: now + timedelta(minutes=80))
    assert other.NonBlockingLease(namespace, hour, "other", utcnow=lambda: now + timedelta(minutes=100))


def test_multi_non_blocking_lease(four: list[KazooClient], namespace: str) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    hour = timedelta(hours=1)
    obtained = [
        bool(client.MultiNonBlockingLease(2, namespace, hour, f"client-{number}", utcnow=lambda: now))
        for number, client in enumerate(four)
    ]
    assert obtained == [True, True, False, False]
