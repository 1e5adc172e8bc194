"""Leases: the body ends before the session can have expired, whatever breaks."""

from __future__ import annotations

import os
import signal
import time

import anyio
import pytest
from anyio.abc import TaskGroup

from corekit.client import Client, LeaseLost, State, connect
from tests.client.proxy import Proxy
from tests.client.waiting import gone, until
from tests.support.servers import Server

pytestmark = pytest.mark.anyio


async def hold(zk: Client) -> None:
    async with zk.lease():
        await anyio.sleep_forever()


async def test_a_quiet_body_keeps_its_lease(session) -> None:
    async with session(timeout=2) as zk, zk.lease() as lease:
        least = lease.remaining()
        for _ in range(30):
            await anyio.sleep(0.1)
            least = min(least, lease.remaining())
        assert least > 0.3 * zk.session_timeout
        assert lease.session_id == zk.session_id


async def test_short_cuts_do_not_end_it(session, proxy: Proxy) -> None:
    async with session(proxy.hosts, timeout=4) as zk, zk.lease():
        for _ in range(5):
            proxy.cut()
            await zk.wait_state(State.SUSPENDED)
            await zk.wait_connected()


@pytest.mark.parametrize("way", ["frozen", "refusing"])
async def test_it_ends_before_the_session(zk: Client, session, proxy: Proxy, way: str) -> None:
    """Another session sees the ephemeral node as long as the body runs, and it vanishes only after."""
    seen_at_the_end = []

    async def body(holder: Client) -> None:
        async with holder.lease():
            setattr(proxy, way, True)
            if way == "refusing":
                proxy.cut()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    seen_at_the_end.append(await zk.exists("/held", fresh=True))

    async with session(proxy.hosts, timeout=2) as holder:
        await holder.create("/held", ephemeral=True)
        with pytest.raises(LeaseLost):
            await body(holder)
        assert seen_at_the_end[0] is not None
        await until(gone(zk, "/held"))
        setattr(proxy, way, False)


async def test_only_a_proof_extends_it(session, proxy: Proxy) -> None:
    """Nothing is answered, but the connection looks alive: that is not enough."""

    async def noise(holder: Client) -> None:
        while True:
            holder._runner._last_heard = anyio.current_time()
            await anyio.sleep(0.05)

    async def body(holder: Client) -> None:
        async with holder.lease():
            proxy.deaf = True
            await anyio.sleep_forever()

    async with session(proxy.hosts, timeout=2) as holder, anyio.create_task_group() as tasks:
        tasks.start_soon(noise, holder)
        started = anyio.current_time()
        with pytest.raises(LeaseLost, match="no heartbeat in time"):
            await body(holder)
        assert anyio.current_time() - started < 2
        assert holder.state.state is State.CONNECTED
        tasks.cancel_scope.cancel()
        proxy.deaf = False


async def test_an_expired_session_ends_it_at_once(session, proxy: Proxy, expire) -> None:
    async def body(holder: Client, tasks: TaskGroup) -> None:
        async with holder.lease():
            tasks.start_soon(expire, holder)
            await anyio.sleep_forever()

    async with session(proxy.hosts, timeout=4) as holder, anyio.create_task_group() as tasks:
        started = anyio.current_time()
        with pytest.raises(LeaseLost, match="expired"):
            await body(holder, tasks)
        assert anyio.current_time() - started < 2


async def test_errors_of_the_body_win(session) -> None:
    async with session() as zk:
        with pytest.raises(LookupError):
            async with zk.lease():
                raise LookupError


async def test_outer_cancellation_is_not_a_lost_lease(session) -> None:
    async with session() as zk:
        with anyio.move_on_after(0.1) as scope:
            await hold(zk)
        assert scope.cancelled_caught


async def test_a_body_that_outlived_its_lease_is_told(session) -> None:
    """It never awaited, so it could not be cancelled; leaving says that it was not covered to its end."""

    async def body(zk: Client) -> None:
        async with zk.lease():
            until = time.monotonic() + 1.2
            while time.monotonic() < until:
                pass

    async with session(timeout=1) as zk:
        with pytest.raises(LeaseLost):
            await body(zk)


async def test_it_waits_for_a_connection_first(session, proxy: Proxy) -> None:
    async with session(proxy.hosts) as zk:
        proxy.refusing = True
        proxy.cut()
        await zk.wait_state(State.SUSPENDED)
        with anyio.move_on_after(0.3) as scope:
            async with zk.lease():
                pytest.fail("there is no connection")
        assert scope.cancelled_caught
        proxy.refusing = False
        async with zk.lease() as lease:
            assert lease.remaining() > 0


async def test_a_stopped_server(server_factory) -> None:
    running: Server = server_factory({"tickTime": 200})

    async def body(zk: Client) -> None:
        async with zk.lease():
            os.kill(running.pid, signal.SIGSTOP)
            await anyio.sleep_forever()

    async with connect(running.hosts, timeout=2) as zk:
        with pytest.raises(LeaseLost):
            await body(zk)
        os.kill(running.pid, signal.SIGCONT)
        with anyio.fail_after(10):
            await zk.wait_connected()


async def test_what_is_over_does_not_begin(session, proxy: Proxy, expire) -> None:
    async with session(proxy.hosts) as zk:
        lease = await zk.lease().prove()
        await expire(zk)
        with pytest.raises(LeaseLost, match="the session has ended"), lease:
            pytest.fail("another may hold what the lease was for")
        late = await zk.lease(margin=zk.session_timeout + 1).prove()
        with pytest.raises(LeaseLost, match="no heartbeat in time"), late:
            pytest.fail("there is no time left")
