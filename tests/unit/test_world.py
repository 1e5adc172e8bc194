"""Worlds: production servers and clients in virtual time, the same run for the same seed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from corekit.client import OutcomeUnknown, State
from corekit.testing.world import Swarm, World, run

ROOT = Path(__file__).parents[2]


async def busy(world: World) -> None:
    """Writes and reads of three clients under every fault; what they see is noted."""
    swarm = Swarm(world)

    async def client() -> None:
        async with world.client() as zk:
            for number in range(10):
                with trio.move_on_after(5):
                    try:
                        created = await zk.create("/n-", b"%d" % number, sequential=True)
                        world.note(created.path, created.stat.czxid, zk.session_id)
                    except Exception as error:
                        world.note(type(error).__name__)
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(swarm.run)
        async with trio.open_nursery() as clients:
            for _ in range(3):
                clients.start_soon(client)
        nursery.cancel_scope.cancel()


def test_what_was_acknowledged_outlives_a_power_cut() -> None:
    async def scenario(world: World) -> None:
        async with world.client() as zk:
            await zk.create("/a", b"1")
            world.machines[0].kill(power=True)
            await trio.sleep(1)
            world.machines[0].start()
            assert (await zk.get("/a")).data == b"1"

    for seed in range(5):
        run(scenario, seed=seed)


def test_wall_clocks_are_set_one_by_one() -> None:
    async def scenario(world: World) -> None:
        async with world.client("c") as zk:
            world.clocks["n1"].wall_ahead = 3600
            created = (await zk.create("/a", b"")).stat.ctime / 1000
            assert 3595 < created - time.time() < 3605
            world.clocks["c"].wall_ahead = 7200
            assert -3605 < created - time.time() < -3595
            first = time.monotonic()
            await trio.sleep(1)
            assert time.monotonic() - first == pytest.approx(1)

    run(scenario)


def test_a_server_whose_clock_runs_too_fast_expires_sessions_too_early() -> None:
    async def scenario(world: World) -> None:
        async with world.client("watcher") as zk, world.client("cut off") as other:
            await other.create("/e", b"", ephemeral=True)
            world.machines[0].clock.drift(1.9, world.now)
            world.net.cut("cut off", "n1")
            began = world.now
            stat, gone = await zk.exists_watch("/e")
            assert stat is not None
            await gone
            assert world.now - began < world.session_timeout * 0.9
            world.net.heal_all()

    run(scenario)


def test_an_ensemble_goes_on_without_its_leader() -> None:
    async def scenario(world: World) -> None:
        async with world.client() as zk:
            await zk.create("/a", b"1")
            (await world.leader()).kill(power=True)
            with suppress(OutcomeUnknown):
                await zk.set("/a", b"2")
            await zk.set("/a", b"2")
            assert len([machine for machine in world.machines if machine.up]) == 2
            world.start()
            assert (await zk.get("/a", fresh=True)).data == b"2"

    run(scenario, seed=1, servers=3)


def test_a_sync_needs_no_write_after_an_election() -> None:
    """It waited for the first proposal of the new epoch, and so did every lease: its heartbeats are syncs."""

    async def scenario(world: World) -> None:
        async with world.client() as zk:
            await zk.create("/a", b"1")
            (await world.leader()).kill()
            await (await world.leader()).running()
            with trio.fail_after(20):
                assert (await zk.get("/a", fresh=True)).data == b"1"

    for seed in range(3):
        run(scenario, seed=seed, servers=3)


def test_virtual_time_costs_no_time() -> None:
    async def scenario(world: World) -> None:
        wall, began = time.time(), world.now
        async with world.client() as zk:
            await trio.sleep(900)
            await zk.exists("/")
        assert world.now - began >= 900
        assert time.time() - wall >= 900

    began = time.time()
    run(scenario, seed=1)
    assert time.time() - began < 300


def test_a_client_that_is_cut_off_loses_its_session() -> None:
    async def scenario(world: World) -> None:
        async with world.client("mine") as zk, world.client() as other:
            await zk.create("/here", b"", ephemeral=True)
            world.net.cut("mine", "n1")
            stat, gone = await other.exists_watch("/here")
            assert stat is not None
            await gone
            world.net.heal("mine", "n1")
            await zk.wait_state(State.LOST)
            await zk.wait_connected()

    run(scenario, seed=1)


def test_a_paused_server_goes_on() -> None:
    async def scenario(world: World) -> None:
        async with world.client() as zk:
            world.machines[0].pause()
            with trio.move_on_after(1) as limit:
                await zk.exists("/")
            assert limit.cancelled_caught
            world.machines[0].resume()
            await zk.exists("/")

    run(scenario, seed=1)


def test_an_error_names_the_seed() -> None:
    async def scenario(world: World) -> None:
        world.note("about to fail")
        raise LookupError("of the scenario")

    with pytest.raises(LookupError, match="of the scenario") as caught:
        run(scenario, seed=42)
    notes = "\n".join(caught.value.__notes__)
    assert "seed 42" in notes
    assert "about to fail" in notes


def test_a_scenario_that_hangs_is_told() -> None:
    async def scenario(world: World) -> None:
        await trio.sleep_forever()

    with pytest.raises(TimeoutError, match="100 virtual seconds"):
        run(scenario, seconds_max=100)


def test_what_is_patched_is_put_back() -> None:
    before = time.time, time.monotonic, uuid.uuid4, random.getstate()

    async def scenario(world: World) -> None:
        assert time.time is not before[0]
        random.random()

    run(scenario, seed=1)
    assert before == (time.time, time.monotonic, uuid.uuid4, random.getstate())


def test_same_seed_same_run_in_another_process() -> None:
    code = "from tests.unit.test_world import busy\nfrom corekit.testing.world import run\n"
    code += "print([run(busy, seed=3, servers=servers).trace_hash for servers in (1, 3)])"
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "2"}, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert str([run(busy, seed=3, servers=servers).trace_hash for servers in (1, 3)]) == there
    assert run(busy, seed=4).trace_hash != run(busy, seed=3).trace_hash


def test_a_session_whose_requests_wait_does_not_keep_the_server_busy() -> None:
    """On streams, the sending and the receiving task woke each other without end while a session was paused."""

    async def scenario(world: World) -> None:
        machine = world.machines[0]
        machine.sync_s = 2.0
        assert machine.server is not None
        turns, turn = 0, machine.server.turn

        def counted(work):
            nonlocal turns
            turns += 1
            assert turns < 1000, "the server is busy with nothing"
            turn(work)

        machine.server.turn = counted
        async with world.client():
            pass

    run(scenario, seed=1, session_timeout=20.0)
