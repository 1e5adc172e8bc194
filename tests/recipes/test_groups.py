"""Groups, services, tree caches, partitions, topics."""

from __future__ import annotations

import anyio
import pytest
from corekit_recipes.contender import Grant
from corekit_recipes.group import Group
from corekit_recipes.notify import Topic
from corekit_recipes.partitioner import Partitioner, shares
from corekit_recipes.presence import presence
from corekit_recipes.service import Instance, NoInstance, Pool, Services, at_random, decode, least_loaded, rendezvous
from corekit_recipes.tree_cache import Change, Kind, TreeCache, tree_cache
from hypothesis import given
from hypothesis import strategies as st

from corekit.client import Client
from tests.client.proxy import Proxy
from tests.client.waiting import gone, there, until
from tests.recipes.checker import Record

pytestmark = pytest.mark.anyio


async def test_presence(zk: Client, session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as other:
        async with presence(other, "/here/me", b"1") as here:
            first = here.session_id
            assert (await zk.get("/here/me")).stat.ephemeral_owner == first
            await here.set(b"2")
            await zk.delete("/here/me")

            async def there_with(session_id: int, data: bytes) -> None:
                async def check() -> bool:
                    stat = await zk.exists("/here/me")
                    if stat is None or stat.ephemeral_owner != session_id:
                        return False
                    return (await zk.get("/here/me")).data == data

                await until(check)

            await there_with(first, b"2")
            await expire(other)
            await other.wait_connected()
            assert other.session_id != first
            await there_with(other.session_id, b"2")
        assert await zk.exists("/here/me", fresh=True) is None


async def test_presence_waits_for_a_strangers_node_to_go(zk: Client, session) -> None:
    appeared = anyio.Event()

    async def appear(client: Client) -> None:
        async with presence(client, "/me", b"mine"):
            appeared.set()
            await anyio.sleep_forever()

    async with session() as other, anyio.create_task_group() as tasks:
        await zk.create("/me", b"a stranger's", ephemeral=True)
        tasks.start_soon(appear, other)
        await anyio.wait_all_tasks_blocked()
        assert not appeared.is_set()
        await zk.delete("/me")
        with anyio.fail_after(5):
            await appeared.wait()
        assert (await zk.get("/me", fresh=True)).data == b"mine"
        tasks.cancel_scope.cancel()


async def test_errors_in_the_block_leave_as_they_are(zk: Client) -> None:
    with pytest.raises(LookupError):
        async with presence(zk, "/me"):
            raise LookupError
    assert await zk.exists("/me", fresh=True) is None


async def test_group(zk: Client, session, proxy: Proxy, expire) -> None:
    group = Group(zk, "/group")
    assert await group.members() == []
    lists = group.follow()
    assert await anext(lists) == []

    async def until_names(*names: str) -> None:
        with anyio.fail_after(8):
            async for members in lists:
                if [member.name for member in members] == list(names):
                    return

    async with session(proxy.hosts) as other:
        async with group.join(b"a"):
            await until_names("a")
            async with Group(other, "/group").join(b"b"):
                await until_names("a", "b")
                assert [member.name for member in await group.members(fresh=True)] == ["a", "b"]
                before = (await group.members())[1].token
                await expire(other)
                with anyio.fail_after(8):
                    async for members in lists:
                        if [member.name for member in members] == ["a", "b"] and members[1].token > before:
                            break
            await until_names("a")
        await until_names()


async def until_known(pool: Pool, count: int) -> None:
    async def check() -> bool:
        return len(pool.instances) == count

    await until(check)


async def test_a_member_that_comes_back_between_two_looks(zk: Client, session) -> None:
    """Its node has the same name, but is another one: what it says now counts."""
    async with session() as other:
        group = Group(zk, "/g")
        lists = group.follow()
        async with Group(other, "/g").join(b"old", id="me"):
            await until(there(zk, "/g/me__party__"))
            assert [member.data for member in await anext(lists)] == [b"old"]
        async with Group(other, "/g").join(b"new", id="me"):
            await zk.sync("/g")
            with anyio.fail_after(5):
                while [member.data for member in await anext(lists)] != [b"new"]:
                    pass


async def test_a_follower_whose_waits_are_cut_short_misses_nothing(zk: Client, session) -> None:
    topic = Topic(zk, "/topic")
    messages, lists = topic.listen(await topic.newest()), Group(zk, "/g").follow()
    got: list[bytes] = []
    async with session() as other, Group(other, "/g").join(b"me"):
        for number in range(5):
            await Topic(other, "/topic").publish(b"%d" % number)
        await zk.sync("/topic")
        patience = 0.0
        members: list[bytes] = []
        with anyio.fail_after(10):
            while len(got) < 5 or members != [b"me"]:
                patience += 0.0001
                with anyio.move_on_after(patience):
                    got.append((await anext(messages)).data)
                with anyio.move_on_after(patience):
                    members = [member.data for member in await anext(lists)]
    assert got == [b"0", b"1", b"2", b"3", b"4"]


async def test_services(zk: Client, session) -> None:
    services = Services(zk, "/services")
    assert await services.names() == []
    async with session() as other, services.register(Instance("api", "10.0.0.1", 80)):
        first = Instance("api", "10.0.0.2", 81, payload={"weight": 3})
        async with Services(other, "/services").pool("api") as pool:
            assert [pool.pick().address for _ in range(3)] == ["10.0.0.1"] * 3
            async with services.register(first) as registration:
                await until_known(pool, 2)
                assert {pool.pick().address for _ in range(2)} == {"10.0.0.1", "10.0.0.2"}
                assert pool.pick(avoid=[first.id]).address == "10.0.0.1"
                await registration.set_payload({"load": 5})
                assert {instance.load for instance in await services.instances("api")} == {0.0, 5.0}
            await until_known(pool, 1)
        assert await services.names() == ["api"]
    assert await services.instances("api") == []
    async with services.pool("api") as empty:
        with pytest.raises(NoInstance, match="no instance of api"):
            empty.pick()
        with anyio.move_on_after(0.05) as scope:
            await empty.wait()
        assert scope.cancelled_caught


async def test_strategies(zk: Client) -> None:
    instances = [Instance("s", f"h{number}", 1, id=f"i{number}") for number in range(5)]
    async with Services(zk, "/services").pool("s", rendezvous) as pool:
        pool.update(instances)
        chosen = {f"k{number}": pool.pick(key=f"k{number}").id for number in range(200)}
        assert set(chosen.values()) == {instance.id for instance in instances}
        pool.update([instance for instance in instances if instance.id != "i2"])
        moved = {key for key, id in chosen.items() if pool.pick(key=key).id != id}
        assert moved == {key for key, id in chosen.items() if id == "i2"}
        pool.strategy = least_loaded
        with pool.use() as one, pool.use() as two, pool.use() as three, pool.use() as four:
            assert len({one.id, two.id, three.id, four.id}) == 4
        assert pool.in_use == {}
        pool.strategy = at_random
        assert {pool.pick().id for _ in range(200)} == {"i0", "i1", "i3", "i4"}


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_instances_as_curator_writes_them() -> None:
    theirs = (
        b'{"name":"api","id":"x","address":"h","port":8080,"sslPort":null,"payload":null,'
        b'"registrationTimeUTC":1,"serviceType":"DYNAMIC","uriSpec":null,"enabled":true}'
    )
    assert decode(theirs) == Instance("api", "h", 8080, "x", None)
    ours = Instance("api", "h", 1, payload=[1])
    assert decode(ours.encode()) == ours
    assert decode(b"not json") is decode(b"[]") is decode(b'{"name": 1}') is None
    for nonsense in ("much", None, -1, [2], float("nan"), float("inf")):
        odd = Instance("api", "h", 1, payload={"load": nonsense, "weight": nonsense})
        assert (odd.load, odd.weight) == (0, 1)


@pytest.mark.parametrize("recursive", [True, False])
async def test_tree_cache(zk: Client, session, proxy: Proxy, expire, recursive: bool) -> None:
    await zk.create("/app/a", b"1", parents=True)
    async with session(proxy.hosts) as other, tree_cache(other, "/app", recursive=recursive) as tree:
        assert tree.data == {"/app": b"", "/app/a": b"1"}
        assert tree.children("/app") == ["a"]
        assert "/app/a" in tree
        assert len(tree) == 2
        await zk.set("/app/a", b"2")
        await zk.create("/app/b/c", b"3", parents=True)
        await same(zk, tree)
        proxy.cut()
        await zk.delete("/app/b/c")
        await zk.create("/app/d")
        await same(zk, tree)
        await expire(other)
        await zk.create("/app/e/f", b"4", parents=True)
        await zk.delete("/app/a")
        await same(zk, tree)
        await zk.delete_tree("/app")
        await same(zk, tree)
        assert len(tree) == 0
        await zk.create("/app/again", b"5", parents=True)
        await same(zk, tree)


async def same(zk: Client, tree: TreeCache) -> None:
    """The cache reaches what the server holds."""

    async def check() -> bool:
        if await zk.exists("/app", fresh=True) is None:
            return tree.data == {}
        paths = [path async for path, _ in zk.walk("/app")]
        return tree.data == {path: (await zk.get(path)).data for path in paths}

    await until(check)


async def test_tree_changes_tell_the_same_story(zk: Client) -> None:
    told: dict[str, bytes] = {}
    changes: list[Change] = []

    async def listen(tree: TreeCache) -> None:
        async for change in tree.changes():
            changes.append(change)
            if change.kind is Kind.REMOVED:
                del told[change.path]
            else:
                assert (change.kind is Kind.ADDED) == (change.path not in told)
                told[change.path] = change.data.data

    async with tree_cache(zk, "/app") as tree, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, tree)
        for number in range(30):
            path = f"/app/n{number % 7}"
            if await zk.exists(path) is None:
                await zk.create(path, b"%d" % number, parents=True)
            elif number % 3:
                await zk.set(path, b"%d" % number)
            else:
                await zk.delete(path)
        await same(zk, tree)
        await anyio.wait_all_tasks_blocked()
        assert told == tree.data
        tasks.cancel_scope.cancel()
    assert {change.kind for change in changes} == set(Kind)


async def test_a_tree_cache_on_an_old_server_falls_back(zk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from corekit.errors import UnimplementedError

    def refuse(*_: object, **__: object) -> None:
        raise UnimplementedError

    monkeypatch.setattr(Client, "watch", refuse)
    await zk.create("/app/a", b"1", parents=True)
    async with tree_cache(zk, "/app") as tree:
        await zk.set("/app/a", b"2")
        await same(zk, tree)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_shares() -> None:
    members = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8, unique=True)

    @given(st.lists(st.text(min_size=1, max_size=5), max_size=40, unique=True), members)
    def check(items: list[str], members: list[str]) -> None:
        result = shares(items, members)
        assert sorted(item for share in result.values() for item in share) == sorted(items)
        sizes = [len(share) for share in result.values()]
        assert max(sizes) <= -(-len(items) // len(members))
        assert result == shares(items[::-1], members[::-1])

    check()
    assert shares(["a"], []) == {}


async def test_partitioner(zk: Client, session) -> None:
    items = [f"i{number}" for number in range(12)]
    records = {item: Record() for item in items}
    at_work: dict[str, str] = {}

    def worker(who: str):
        async def work(item: str, grant: Grant) -> None:
            with records[item].inside(who, grant.token):
                at_work[item] = who
                try:
                    await anyio.sleep_forever()
                finally:
                    del at_work[item]

        return work

    async def until_shared(*counts: int) -> None:
        async def check() -> bool:
            shares = sorted(list(at_work.values()).count(who) for who in set(at_work.values()))
            return len(at_work) == 12 and shares == sorted(counts)

        await until(check)

    async with session() as second, session() as third, anyio.create_task_group() as tasks:
        tasks.start_soon(Partitioner(zk, "/p", items).run, worker("first"))
        await until_shared(12)
        tasks.start_soon(Partitioner(second, "/p", items).run, worker("second"))
        await until_shared(6, 6)
        async with anyio.create_task_group() as short:
            short.start_soon(Partitioner(third, "/p", items).run, worker("third"))
            await until_shared(4, 4, 4)
            short.cancel_scope.cancel()
        await until_shared(6, 6)
        tasks.cancel_scope.cancel()
    for record in records.values():
        record.check_exclusive()
    with pytest.raises(ValueError, match="named in a path"):
        Partitioner(zk, "/p", ["a/b"])


async def test_a_partition_goes_on_after_an_expired_session(zk: Client, session, proxy: Proxy, expire) -> None:
    """The body learns of the end of its session by an error of its own call, and is begun again in the next one."""
    sessions: set[int] = set()

    async def work(item: str, grant: Grant) -> None:
        sessions.add(grant.session_id)
        while True:
            await grant.zk.exists(f"/{item}")

    async def begun_in(count: int) -> bool:
        return len(sessions) == count

    async with session(proxy.hosts) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(Partitioner(other, "/p", ["a"]).run, work)
        await until(lambda: begun_in(1))
        await expire(other)
        await until(lambda: begun_in(2))
        tasks.cancel_scope.cancel()


async def test_errors_of_the_work_leave_a_partition_as_they_are(zk: Client) -> None:
    async def work(item: str, grant: Grant) -> None:
        raise LookupError(item)

    with pytest.raises(LookupError, match="a"):
        await Partitioner(zk, "/p", ["a"]).run(work)


async def test_topic(zk: Client, session, proxy: Proxy, expire) -> None:
    got: list[bytes] = []
    topic = Topic(zk, "/topic")

    async def listen(client: Client, started: anyio.Event) -> None:
        after = await Topic(client, "/topic").newest()
        started.set()
        async for message in Topic(client, "/topic").listen(after):
            assert message.missed == 0
            got.append(message.data)
            if message.data == b"end":
                return

    await topic.publish(b"before")
    async with session(proxy.hosts) as other:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                started = anyio.Event()
                tasks.start_soon(listen, other, started)
                await started.wait()
                for number in range(30):
                    await topic.publish(b"%d" % number)
                    if number == 10:
                        proxy.cut()
                    if number == 20:
                        await expire(other)
                await topic.publish(b"end")
    assert got == [b"%d" % number for number in range(30)] + [b"end"]


async def test_a_listener_that_missed_messages_is_told(zk: Client) -> None:
    topic = Topic(zk, "/topic", keep=5)
    start = await topic.newest()
    for number in range(30):
        await topic.publish(b"%d" % number)
    await topic.trim()
    assert len(await zk.children("/topic")) == 5
    messages = topic.listen(start)
    first = await anext(messages)
    assert (first.data, first.missed) == (b"25", 25)
    assert (await anext(messages)).missed == 0
    assert await topic.newest() == first.number + 4
    await zk.delete_tree("/topic")
    await until(gone(zk, "/topic"))
