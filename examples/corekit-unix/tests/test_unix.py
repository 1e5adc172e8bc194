"""Sockets as files: names, permissions, what is left behind; and a real server on them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from corekit_unix.transport import PATH_BYTES_MAX, UnixTransport

from corekit.client import Client, connect, parse_acl
from corekit.errors import EXIT_PORT, EXIT_USAGE, ConnectionLossError, NoAuthError, UserError
from corekit.testing.process import ServerProcess

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that every user may look into."""
    with tempfile.TemporaryDirectory(prefix="corekit-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            await test()

    trio.run(main)


def transport(folder: Path, mode: int = 0o660) -> UnixTransport:
    return UnixTransport(folder, mode=mode)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leave_behind(path: Path) -> None:
    """What a server that was killed leaves."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.bind(str(path))
        plain.listen()


# ----------------------------------------------------------------------------------------------- files
def test_a_socket_whose_server_is_gone_is_taken_over(folder: Path) -> None:
    async def test() -> None:
        path = folder / "a.sock"
        leave_behind(path)
        (listener,) = await transport(folder).listen(str(path), 0)
        stream = await transport(folder).connect(str(path), 0)
        await stream.aclose()
        await listener.aclose()
        assert not path.exists()

    run(test)


def test_a_socket_that_is_in_use_is_left_to_its_server(folder: Path) -> None:
    async def test() -> None:
        path = folder / "a.sock"
        (listener,) = await transport(folder).listen(str(path), 0, backlog=1)
        clients = [await transport(folder).connect(str(path), 0) for _ in range(2)]  # the backlog is full
        with pytest.raises(UserError, match="a server listens there") as caught:
            await transport(folder).listen(str(path), 0)
        assert caught.value.exit_code == EXIT_PORT
        for client in clients:
            await client.aclose()
        await listener.aclose()

    run(test)


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    async def test() -> None:
        path = folder / "a.sock"
        path.write_text("precious")
        with pytest.raises(UserError, match=r"no socket\. Remove it, or choose another path"):
            await transport(folder).listen(str(path), 0)
        assert path.read_text() == "precious"

    run(test)


def test_a_socket_that_took_ones_place_is_left_alone(folder: Path) -> None:
    async def test() -> None:
        path = folder / "a.sock"
        (first,) = await transport(folder).listen(str(path), 0)
        path.unlink()
        (second,) = await transport(folder).listen(str(path), 0)
        await first.aclose()
        assert path.exists()
        await second.aclose()
        assert not path.exists()

    run(test)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * PATH_BYTES_MAX, f"has at most {PATH_BYTES_MAX} bytes, this one has"),
        ("missing/a.sock", "the directory does not exist. Make it"),
        ("file/a.sock", "part of the path is no directory"),
    ],
)
def test_a_path_that_cannot_be_is_named_with_the_way_out(folder: Path, name: str, words: str) -> None:
    async def test() -> None:
        (folder / "file").write_text("")
        path = str(folder / name)
        with pytest.raises(UserError, match=words) as caught:
            await transport(folder).listen(path, 0)
        assert path in str(caught.value)
        assert "clientPortAddress" in str(caught.value)
        assert caught.value.exit_code == EXIT_PORT
        with pytest.raises(OSError):
            await transport(folder).connect(path, 0)

    run(test)


def test_the_longest_path_will_do(folder: Path) -> None:
    async def test() -> None:
        path = f"{folder}/"
        (listener,) = await transport(folder).listen(path.ljust(PATH_BYTES_MAX, "x"), 0)
        await listener.aclose()

    run(test)


def test_without_an_address_the_port_is_in_the_name(folder: Path) -> None:
    async def test() -> None:
        here = transport(folder / "new" / "one")
        made = [(await here.listen("", port))[0] for port in (2181, 2182, 0, 0)]
        names = [Path(here.describe(listener).removeprefix("unix:")).name for listener in made]
        assert names == ["client-2181.sock", "client-2182.sock", "client-1.sock", "client-2.sock"]
        for listener in made:
            await listener.aclose()
        assert list((folder / "new" / "one").iterdir()) == []

    run(test)


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_permissions_are_those_asked_for(folder: Path, mode: int, umask: int) -> None:
    async def test() -> None:
        before = os.umask(umask)
        try:
            (listener,) = await transport(folder, mode).listen(str(folder / "a.sock"), 0)
        finally:
            os.umask(before)
        assert permissions(folder / "a.sock") == mode
        await listener.aclose()

    run(test)


def test_there_is_no_tls_on_a_unix_socket(folder: Path) -> None:
    async def test() -> None:
        with pytest.raises(UserError, match="TLS"):
            await transport(folder).listen("", 2281, tls=object())

    run(test)


# ---------------------------------------------------------------------------------------------- server
def serve(folder: Path, *more: str) -> ServerProcess:
    where = ("-s", f"clientPortAddress={folder}/a.sock")
    return ServerProcess("-p", "unix,memory", "--data-dir", str(folder / "data"), *where, *more)


def use(folder: Path, work: Callable[[Client], Awaitable[Any]]) -> None:
    async def test() -> None:
        async with connect(f"unix:{folder}/a.sock") as zk:
            await work(zk)

    run(test)


def test_a_server_its_clients_and_what_a_kill_leaves(folder: Path) -> None:
    async def work(zk: Client) -> None:
        await zk.create("/a", b"1")
        assert (await zk.get("/a")).data == b"1"
        assert [tuple(one) for one in await zk.who_am_i()] == [
            ("unix", f"uid:{os.geteuid()}"),
            ("unix", f"gid:{os.getegid()}"),
        ]

    with serve(folder) as server:
        assert server.wait_for("corekit listens on").endswith(f"on unix:{folder}/a.sock, data in {folder}/data")
        use(folder, work)
    assert (folder / "a.sock").exists(), "it was killed"
    with serve(folder) as server:
        server.wait_for("corekit listens on")
        use(folder, work)
        hosts = ["--hosts", f"unix:{folder}/a.sock:/a"]
        for line, due in ((["get", "/"], "1"), (["status"], f"unix:{folder}/a.sock")):
            command = [sys.executable, "-m", "corekit", *line, *hosts]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert due in answer.stdout, answer
        second = serve(folder)
        with second:
            assert second.wait() == EXIT_PORT
            assert second.lines[-1].startswith(f"corekit: cannot listen on {folder}/a.sock: a server listens there")
        assert server.stop() == 0
    assert not (folder / "a.sock").exists()


def test_nobody_there_is_said_at_once(folder: Path) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionLossError, match=f"unix:{folder}/a.sock: no such file or directory"):
            async with connect(f"unix:{folder}/a.sock", patient=False):
                raise AssertionError("a session without a server")

    run(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_another_identity_or_kept_out(folder: Path) -> None:
    async def work(zk: Client) -> None:
        await zk.create("/mine", b"1", acl=parse_acl("unix:uid:0:cdrwa"))
        await zk.create("/auth", b"1", acl=parse_acl("auth::cdrwa"))
        assert [str(entry) for entry in (await zk.get_acl("/auth"))[0]] == ["unix:uid:0:cdrwa", "unix:gid:0:cdrwa"]

    async def look(zk: Client) -> None:
        assert tuple((await zk.who_am_i())[0]) == ("unix", f"uid:{NOBODY}")
        for path in ("/mine", "/auth"):
            with pytest.raises(NoAuthError):
                await zk.get(path)

    def as_nobody(work: Callable[[], None]) -> None:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            work()
        finally:
            os.seteuid(0)
            os.setegid(0)

    async def refused() -> None:
        with pytest.raises(ConnectionLossError, match="permission denied"):
            async with connect(f"unix:{folder}/a.sock", patient=False):
                raise AssertionError("somebody else came in")

    with serve(folder, "-s", "plugin.unix.mode=666") as server:
        server.wait_for("corekit listens on")
        use(folder, work)
        as_nobody(lambda: use(folder, look))
        assert server.stop() == 0
    with serve(folder) as server:
        server.wait_for("corekit listens on")
        as_nobody(lambda: run(refused))
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plugin.unix.mode=999", "plugin.unix.mode=999 is not accepted; accepted are permissions such as 660"),
        ("plugin.unix.owner=me", "plugin.unix.owner is not known; known are dir and mode"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(folder: Path, setting: str, words: str) -> None:
    with serve(folder, "-s", setting) as server:
        assert server.wait() == EXIT_USAGE
        assert words in server.lines[-1]


def test_another_protocol_may_stay_on_tcp(folder: Path) -> None:
    """An address that is no path is TCP."""
    with ServerProcess(
        "-p", "unix,memory", "--data-dir", str(folder / "data"), "-s", "clientPortAddress=127.0.0.1"
    ) as server:

        async def test() -> None:
            async with connect(server.hosts) as zk:
                assert [tuple(one) for one in await zk.who_am_i()] == [("ip", "127.0.0.1")]

        run(test)
