"""A real server and a client that is not ours: tokens open doors, and new keys need no restart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, NoAuthError
from kazoo.security import ACL, Id, Permissions

from corekit.testing.process import ServerProcess


@contextmanager
def connected(server: ServerProcess, token: str = "") -> Iterator[KazooClient]:
    client = KazooClient(server.hosts, timeout=20)
    client.start(30)
    try:
        if token:
            client.add_auth("token", token)
        yield client
    finally:
        client.stop()
        client.close()


def command(*arguments: str | Path) -> str:
    asked = [sys.executable, "-m", "corekit_token", *map(str, arguments)]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture
def mint(tmp_path: Path) -> Callable[..., str]:
    keys = tmp_path / "keys.json"

    def mint(subject: str, key: str = "one", seconds: str = "1h") -> str:
        private = tmp_path / f"{key}.json"
        if not private.exists():
            command("new-key", key, "--private", private, "--keys", keys)
        return command("mint", subject, "--key", private, "--for", seconds)

    return mint


def test_tokens_open_doors_and_keys_change_without_a_restart(mint: Callable[..., str], tmp_path: Path) -> None:
    alice, keys = mint("alice"), tmp_path / "keys.json"
    arguments = ("--plugins", "memory,digest,token", "-s", f"plugin.token.keys={keys}")
    with ServerProcess(*arguments, "-s", "plugin.token.skew-seconds=0", directory=tmp_path) as server:
        with connected(server, alice) as client:
            client.create("/hers", b"secret", acl=[ACL(Permissions.ALL, Id("token", "alice"))])
            client.create("/own", b"", acl=[ACL(Permissions.ALL, Id("auth", ""))])
            assert client.get_acls("/own")[0][0].id == Id("token", "alice")
            assert client.get("/hers")[0] == b"secret"
        with connected(server) as nobody, pytest.raises(NoAuthError):
            nobody.get("/hers")
        with connected(server, mint("bob")) as bob, pytest.raises(NoAuthError):
            bob.get("/hers")

        assert mint("alice", "two")
        server.wait_for("token keys read anew: one, two")
        with connected(server, mint("alice", "two")) as client:
            assert client.get("/hers")[0] == b"secret"

        command("retire", "one", "--keys", keys)
        server.wait_for("token keys read anew: two")
        with connected(server) as client, pytest.raises(AuthFailedError):
            client.add_auth("token", alice)
        server.wait_for("refused: it is signed with the key 'one'")
        with connected(server) as client, pytest.raises(AuthFailedError):
            client.add_auth("token", mint("alice", "two", "1s") + "x")
        server.wait_for("refused: the signature")


def test_a_server_without_usable_keys_does_not_start(tmp_path: Path) -> None:
    with ServerProcess("--plugins", "memory,digest,token", directory=tmp_path) as server:
        assert server.wait() == 2
        assert "plugin.token.keys is not set" in "\n".join(server.lines)
