"""What happens to calls, sessions and states when connections break in every way."""

from __future__ import annotations

import socket

import anyio
import pytest

from corekit.client import Client, ClientClosedError, OutcomeUnknown, State, StateChange, connect, op
from corekit.errors import ConnectionLossError, RequestTimeoutError, SessionExpiredError
from tests.client.proxy import Proxy, proxy_to
from tests.client.waiting import there, until
from tests.conftest import Site

pytestmark = pytest.mark.anyio


async def test_the_session_survives_a_broken_connection(zk: Client, session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as other:
        await other.create("/e", ephemeral=True)
        before = other.session_id
        for _ in range(5):
            proxy.cut()
            await other.wait_state(State.SUSPENDED)
            await other.wait_connected()
        assert other.session_id == before
        assert (await zk.exists("/e")).ephemeral_owner == before  # type: ignore[union-attr]


async def test_states_come_with_reasons(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        changes: list[StateChange] = []
        states = zk.states()
        proxy.cut()
        with anyio.fail_after(4):
            async for change in states:
                changes.append(change)
                if change.state is State.CONNECTED and len(changes) > 1:
                    break
        assert [change.state for change in changes] == [State.CONNECTED, State.SUSPENDED, State.CONNECTED]
        assert f"{proxy.hosts}: " in changes[1].reason
        assert {change.session_id for change in changes} == {zk.session_id}
    assert [change.state async for change in zk.states()] == [State.CLOSED]


async def test_reads_are_sent_again_and_writes_are_not(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        await zk.create("/a", b"1")
        proxy.deaf = True
        outcome: dict[str, object] = {}

        async def write() -> None:
            try:
                await zk.set("/a", b"2")
            except OutcomeUnknown as error:
                outcome["write"] = error

        async def read() -> None:
            outcome["read"] = await zk.get("/a")

        async def create() -> None:
            try:
                await zk.create("/b")
            except OutcomeUnknown as error:
                outcome["create"] = error

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(create)
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await seen_by_server(zk, proxy)
            proxy.deaf = False
        error = outcome["write"]
        assert isinstance(error, OutcomeUnknown)
        assert isinstance(outcome["create"], OutcomeUnknown)
        assert error.path == "/a"
        assert "compare the node's data and version" in str(error)
        assert outcome["read"].data == b"2"  # type: ignore[attr-defined]


async def seen_by_server(zk: Client, proxy: Proxy) -> None:
    """Cut once everything has reached the server; its answers are still held back by the proxy."""
    async with connect(f"127.0.0.1:{proxy.target}") as direct:
        path = (zk._chroot + b"/a").decode()

        async def both_done() -> bool:
            return (await direct.get(path)).data == b"2" and await direct.exists(path[:-1] + "b") is not None

        await until(both_done)
    proxy.cut()


async def test_calls_wait_for_a_connection(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        proxy.refusing = True
        proxy.cut()
        await zk.wait_state(State.SUSPENDED)
        with pytest.raises(RequestTimeoutError, match=r"no answer within 0\.2 s; suspended: "):
            await zk.within(0.2).create("/never")
        with pytest.raises(RequestTimeoutError):
            await zk.within(0.2).get("/")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(zk.create, "/later")
            await anyio.wait_all_tasks_blocked()
            proxy.refusing = False
        assert await zk.children("/") == ["later"]


async def test_a_deadline_after_sending_says_unknown(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        proxy.deaf = True
        with pytest.raises(OutcomeUnknown, match="no answer within"):
            await zk.within(0.2).create("/a")
        proxy.deaf = False
        assert await zk.children("/") == ["a"]


async def test_a_silent_server_is_left(session, proxy: Proxy, server: Site) -> None:
    """Nothing is closed, nothing answers: found by the missing heartbeat, within the session."""
    async with session(proxy.hosts, timeout=2) as zk:
        before = zk.session_id
        await zk.create("/e", ephemeral=True)
        proxy.frozen = True
        with anyio.fail_after(3):
            change = await zk.wait_state(State.SUSPENDED)
            assert "nothing heard for" in change.reason
            proxy.cut()
            proxy.frozen = False
            await zk.wait_connected()
        assert zk.session_id == before


async def test_another_server_is_taken(server: Site, root: str) -> None:
    async with (
        proxy_to(server.port) as first,
        proxy_to(server.port) as second,
        connect(f"{first.hosts},{second.hosts}{root}", timeout=4) as zk,
    ):
        await zk.ensure("/")
        for _ in range(4):
            here, other = (first, second) if zk.state.server == first.hosts else (second, first)
            here.refusing = True
            here.cut()
            with anyio.fail_after(3):
                await zk.wait_state(State.SUSPENDED)
                await zk.wait_connected()
            assert zk.state.server == other.hosts
            here.refusing = False


async def test_names_are_resolved_anew_at_each_dial(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that moves to another address keeps its clients; here the system's resolver has a new answer for them.

    Source: ZOOKEEPER-2184.
    """
    address = "127.0.0.1"
    resolve = socket.getaddrinfo

    def moving(name: str | bytes, *arguments: object, **named: object) -> object:
        text = name.decode() if isinstance(name, bytes) else name
        return resolve(address if text == "moving.test" else text, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", moving)
    async with (
        proxy_to(server.port) as old,
        proxy_to(server.port, "127.0.0.2", old.port) as new,
        connect(f"moving.test:{old.port}", timeout=4) as zk,
    ):
        before = zk.session_id
        assert (old.open_connections, new.open_connections) == (1, 0)
        old.refusing = True
        address = "127.0.0.2"
        old.cut()
        with anyio.fail_after(10):
            await zk.wait_state(State.SUSPENDED)
            await zk.wait_connected()
        assert (new.open_connections, zk.session_id) == (1, before)


async def test_hosts_can_be_replaced(server: Site) -> None:
    async with proxy_to(server.port) as first, proxy_to(server.port) as second, connect(first.hosts) as zk:
        session_id = zk.session_id
        zk.set_hosts(second.hosts)
        with anyio.fail_after(3):
            change = await zk.wait_state(State.SUSPENDED)
            await zk.wait_connected()
        assert "no longer in the list" in change.reason
        assert (zk.state.server, zk.session_id) == (second.hosts, session_id)


async def test_an_expired_session_is_never_silent(zk: Client, session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as other:
        await other.create("/e", ephemeral=True)
        before = other.session_id
        states = other.states()
        await expire(other)
        seen = []
        with anyio.fail_after(5):
            async for change in states:
                seen.append(change.state)
                if change.state is State.CONNECTED and change.session_id != before:
                    break
        assert State.LOST in seen
        assert other.session_id != before
        assert await other.exists("/e", fresh=True) is None


async def test_without_renewal_an_expired_session_is_the_end(zk: Client, session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts, renew=False) as other:
        async with anyio.create_task_group() as tasks:
            failures: list[Exception] = []

            async def write() -> None:
                try:
                    await other.create("/x")
                except Exception as error:
                    failures.append(error)

            async def expire_while_waiting() -> None:
                proxy.refusing = True
                proxy.cut()
                await other.wait_state(State.SUSPENDED)
                tasks.start_soon(write)
                await anyio.wait_all_tasks_blocked()
                await expire(other)

            await expire_while_waiting()
        assert isinstance(failures[0], SessionExpiredError)
        with pytest.raises(SessionExpiredError):
            await other.get("/")
        assert other.state.state is State.LOST
    assert await zk.exists("/x") is None


async def test_a_write_in_flight_at_an_expiry_is_unknown(zk: Client, session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as other:
        proxy.deaf = True
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                with pytest.raises(OutcomeUnknown):
                    await other.create("/x")

            tasks.start_soon(write)
            await until(there(zk, "/x"))
            await expire(other)


async def test_the_server_restarts(server_factory, kind: str) -> None:
    running = server_factory({"tickTime": 200})
    async with connect(running.hosts, timeout=8) as zk:
        await zk.create("/kept", b"1")
        await zk.create("/e", ephemeral=True)
        session_id = zk.session_id
        await anyio.to_thread.run_sync(lambda: running.restart(hard=True))
        with anyio.fail_after(10):
            assert (await zk.get("/kept")).data == b"1"
        if zk.session_id == session_id:
            assert await zk.exists("/e") is not None


async def test_credentials_are_presented_again(session, proxy: Proxy) -> None:
    async with session(proxy.hosts, auth=[("digest", "a:b")]) as zk:
        await zk.add_auth("digest", "c:d")
        proxy.cut()
        await zk.wait_state(State.SUSPENDED)
        await zk.wait_connected()
        ids = {identity.id for identity in await zk.who_am_i() if identity.scheme == "digest"}
        assert ids == {"a", "c"}


async def test_a_stream_goes_on_over_broken_connections(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        await zk.create("/a", b"x")
        got = 0
        async for data in zk.stream((op.get("/a") for _ in range(20_000)), flight=500):
            assert data.data == b"x"
            got += 1
            if got % 5000 == 1:
                proxy.cut()
        assert got == 20_000


async def test_cancelled_calls_leave_no_trace(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        await zk.create("/a")
        proxy.deaf = True
        for _ in range(10):
            with anyio.move_on_after(0.01):
                await zk.get_watch("/a")
        proxy.cut()
        proxy.deaf = False
        await zk.get("/a")
        assert len(zk._runner.session.watches) == 0


async def test_a_stream_that_is_left_sends_nothing_more(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        await zk.create("/a")
        proxy.refusing = True
        proxy.cut()
        await zk.wait_state(State.SUSPENDED)
        with pytest.raises(RequestTimeoutError):
            async for _ in zk.within(0.05).stream(op.set("/a", b"late") for _ in range(100)):
                pass
        with anyio.move_on_after(0.05):
            async for _ in zk.stream(op.set("/a", b"late") for _ in range(100)):
                pass
        proxy.refusing = False
        await zk.wait_connected()
        assert (await zk.get("/a")).stat.version == 0


async def test_credentials_added_while_a_session_ends(session, proxy: Proxy, expire) -> None:
    """They are for the next session, if there is one; nobody waits for ever (a bound is only for the test)."""
    with anyio.fail_after(20):
        async with session(proxy.hosts) as zk:
            async with anyio.create_task_group() as tasks:
                proxy.deaf = True
                tasks.start_soon(zk.add_auth, "digest", "ada:secret")
                await anyio.wait_all_tasks_blocked()
                await expire(zk)
            assert "ada" in [identity.id for identity in await zk.who_am_i()]
        with pytest.raises(ClientClosedError):
            await zk.add_auth("digest", "ben:secret")


async def test_a_session_after_an_expired_one_sees_nothing_older(session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as zk:
        await zk.create("/a")
        seen = zk.last_zxid
        await expire(zk)
        await zk.wait_connected()
        last_zxid_seen = int.from_bytes(proxy.sent[-1][8:16], "big")  # of the connect request
        assert last_zxid_seen >= seen > 0


async def test_a_server_that_hangs_up_on_everybody(session, proxy: Proxy) -> None:
    """Waits between tries grow: no storm of connections."""
    proxy.refusing = True
    with pytest.raises(ConnectionLossError, match="closed the connection"):
        async with session(proxy.hosts, connect_timeout=2):
            pass
    assert 3 <= proxy.accepted <= 40
