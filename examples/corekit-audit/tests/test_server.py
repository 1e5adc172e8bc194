"""A real server and a client that is not ours: the log says who changed what."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError
from kazoo.security import make_digest_acl

from corekit.codec import ops
from corekit.codec.records import ACL, ConnectRequest, CreateRequest, Id, frame, request
from corekit.testing.process import ServerProcess


@contextmanager
def connected(server: ServerProcess, **options: Any) -> Iterator[KazooClient]:
    client = KazooClient(server.hosts, timeout=20, **options)
    client.start(30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def brief(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("op", "path", "old_version", "new_version", "result")
    return [tuple(line[name] for name in names) for line in lines]


def test_the_log_says_who_changed_what(tmp_path: Path) -> None:
    with ServerProcess("--plugins", "memory,audit", "--data-dir", str(tmp_path)) as server:
        with connected(server, auth_data=[("digest", "ada:secret")]) as client:
            client.create("/a", b"private words")
            client.set("/a", b"x")
            client.create("/a/n-", sequence=True, ephemeral=True)
            client.set_acls("/a", [make_digest_acl("ada", "secret", all=True)])
            with pytest.raises(BadVersionError):
                client.set("/a", b"", version=7)
            with pytest.raises(NoNodeError):
                client.delete("/none")
            change = client.transaction()
            change.create("/m", b"")
            change.set_data("/m", b"1")
            change.delete("/m")
            change.commit()
            refused = client.transaction()
            refused.create("/m", b"")
            refused.check("/a", 99)
            refused.commit()
        assert server.stop() == 0
    text = (tmp_path / "audit.log").read_text()
    assert "private words" not in text
    assert "secret" not in text
    opened, *lines = entries(tmp_path / "audit.log")
    assert opened["op"] == "createSession"
    assert opened["timeout_ms"] == 20_000
    assert brief(lines) == [
        ("create", "/a", None, 0, "ok"),
        ("setData", "/a", 0, 1, "ok"),
        ("create", "/a/n-0000000000", None, 0, "ok"),
        ("setACL", "/a", 0, 1, "ok"),
        ("setData", "/a", None, None, "version does not match"),
        ("delete", "/none", None, None, "node does not exist"),
        ("create", "/m", None, 0, "ok"),
        ("setData", "/m", 0, 1, "ok"),
        ("delete", "/m", 1, None, "ok"),
        ("create", "/m", None, None, "version does not match"),
        ("check", "/a", None, None, "version does not match"),
        ("closeSession", None, None, None, "ok"),
        ("delete", "/a/n-0000000000", 0, None, "ok"),
    ]
    assert {line["session"] for line in lines} == {opened["session"]}
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert {tuple(line["identities"]) for line in lines} == {("ip:127.0.0.1", "digest:ada")}
    zxids = [int(line["zxid"], 16) for line in lines]
    assert zxids == sorted(zxids)
    assert [line["multi"] for line in lines if "multi" in line] == ["1/3", "2/3", "3/3", "1/2", "2/2"]
    assert lines[-1]["cause"] == "session closed"
    assert all(line["time"].endswith("Z") for line in lines)


def test_what_is_personal_may_be_left_out(tmp_path: Path) -> None:
    settings = ("-s", "plugin.audit.redact=identities, address", "-s", f"plugin.audit.file={tmp_path / 'who'}")
    with ServerProcess("--plugins", "memory,audit", *settings, "--data-dir", str(tmp_path)) as server:
        with connected(server) as client:
            client.create("/a")
        assert server.stop() == 0
    made = entries(tmp_path / "who")[1]
    assert (made["identities"], made["address"], made["path"]) == ("redacted", "redacted", "/a")


def test_a_session_that_expires_removes_its_znodes_in_the_log(tmp_path: Path) -> None:
    settings = ("-s", "tickTime=200", "--data-dir", str(tmp_path))
    with ServerProcess("--plugins", "memory,audit", *settings) as server:
        with connected(server) as watcher:
            made, gone = watcher.handler.event_object(), watcher.handler.event_object()
            watcher.exists("/e", watch=lambda event: made.set())
            with socket.create_connection(("127.0.0.1", server.port), 30) as lost:
                lost.sendall(frame(ConnectRequest(0, 0, 400, 0, bytes(16)).encode()))
                assert lost.recv(100)
                acl = [ACL(31, Id(b"world", b"anyone"))]
                lost.sendall(request(1, ops.CREATE, CreateRequest(b"/e", b"", acl, ops.EPHEMERAL).encode()))
                assert made.wait(30)
                assert watcher.exists("/e", watch=lambda event: gone.set())
            assert gone.wait(30)
        assert server.stop() == 0
    expired = [line for line in entries(tmp_path / "audit.log") if line.get("cause") == "session expired"]
    assert [(line["op"], line["path"], line["identities"]) for line in expired] == [
        ("closeSession", None, []),
        ("delete", "/e", []),
    ]


def test_a_disk_that_refuses_breaks_nothing_and_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "later"
    settings = ("-s", f"plugin.audit.file={place / 'audit.log'}", "--data-dir", str(tmp_path))
    with ServerProcess("--plugins", "memory,audit", *settings) as server:
        with connected(server) as client:
            client.create("/a")
            server.wait_for("cannot be written: No such file or directory")
            client.create("/b")
            place.mkdir()
            server.wait_for("is written again")
            client.create("/c")
        assert server.stop() == 0
    made = [line["path"] for line in entries(place / "audit.log") if line["op"] == "create"]
    assert made == ["/a", "/b", "/c"]
