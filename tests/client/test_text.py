"""Connect strings, ACLs, paths and error texts."""

from __future__ import annotations

import pytest

from corekit.client import OutcomeUnknown, digest_id, op, parse_acl
from corekit.client.acl import ACL, READ, WRITE
from corekit.client.errors import server_error
from corekit.client.hosts import Host, parse_hosts
from corekit.client.paths import join, name, parent, path_bytes, path_text
from corekit.codec import ops
from corekit.errors import NO_NODE, UserError


@pytest.mark.parametrize(
    ("text", "hosts", "chroot"),
    [
        ("h1", [("h1", 2181)], ""),
        ("h1:1, h2:2 ,h1:1", [("h1", 1), ("h2", 2)], ""),
        ("h1:1/app/", [("h1", 1)], "/app"),
        ("h1:1/", [("h1", 1)], ""),
        ("[::1]:9,[fe80::1]/a/b", [("::1", 9), ("fe80::1", 2181)], "/a/b"),
        ("::1", [("::1", 2181)], ""),
        ("unix:/run/a.sock", [("/run/a.sock", 0)], ""),
        ("unix:/run/a.sock:/", [("/run/a.sock", 0)], ""),
        ("unix:/run/a,b:c.sock:/app/x", [("/run/a,b:c.sock", 0)], "/app/x"),
        ("unix", [("unix", 2181)], ""),
    ],
)
def test_connect_strings(text: str, hosts: list[tuple[str, int]], chroot: str) -> None:
    assert parse_hosts(text) == ([Host(*host) for host in hosts], chroot)


@pytest.mark.parametrize(
    "text",
    ["", "/a", "h:x", "h:0", "h:70000", ":1", "[::1", "[::1]1", "h/a//b", "h:²", "unix:", "unix:a.sock", "unix:/a://b"],
)
def test_connect_strings_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_hosts(text)


def test_host_text() -> None:
    assert str(Host("::1", 1)) == "[::1]:1"
    assert str(Host("h", 1)) == "h:1"
    assert str(Host("/run/a.sock", 0)) == "unix:/run/a.sock"


def test_acl_text() -> None:
    assert parse_acl("world:anyone:r,ip:10.0.0.0/8:cdrwa,digest:u:aGFzaA==:rw") == [
        ACL(READ, "world", "anyone"),
        ACL(31, "ip", "10.0.0.0/8"),
        ACL(READ | WRITE, "digest", "u:aGFzaA=="),
    ]
    assert [str(entry) for entry in parse_acl("ip:::1:wr")] == ["ip:::1:rw"]
    for bad in ("", "world", "world:anyone", "world:anyone:", "world:anyone:x", ":a:r"):
        with pytest.raises(UserError):
            parse_acl(bad)


def test_digest_of_the_reference() -> None:
    assert digest_id("super", "admin") == "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="


def test_paths() -> None:
    assert path_text(b"/app/a", 4) == "/a"
    assert path_text(b"/app", 4) == "/"
    assert path_bytes(path_text(b"/\xff")) == b"/\xff"
    assert (join("/", "a"), join("/a", "b")) == ("/a", "/a/b")
    assert (parent("/a/b"), parent("/a"), parent("/")) == ("/a", "/", "/")
    assert name("/a/b") == "b"
    with pytest.raises(ValueError, match="begins with"):
        op.get("a")


def test_a_chroot_goes_before_every_path() -> None:
    assert op.get("/").body(b"/app").startswith(b"\0\0\0\4/app\0")
    assert op.get("/x").body(b"/app").startswith(b"\0\0\0\6/app/x")
    assert b"/app/x" in op.multi([op.delete("/x")]).body(b"/app")
    assert b"/app" not in op.get_config().body(b"/app")


def test_errors_say_what_where_and_how_to_go_on() -> None:
    error = server_error(NO_NODE, "/a", ops.GET_DATA, "h:1, session 0x1")
    assert str(error) == "node does not exist [/a] (getData at h:1, session 0x1)"
    unknown = OutcomeUnknown(ops.SET_DATA, "/a", "cut")
    assert "cut" in str(unknown)
    assert unknown.check in str(unknown)
    assert unknown.op == ops.SET_DATA


@pytest.mark.parametrize("wrong", [{"container": True, "ephemeral": True}, {"ttl": 1, "ephemeral": True}])
def test_kinds_of_node_that_exclude_each_other(wrong: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        op.create("/a", **wrong)  # type: ignore[arg-type]


def test_only_some_operations_stand_in_a_multi() -> None:
    with pytest.raises(ValueError, match="exists cannot be part of a multi"):
        op.multi([op.exists("/a")])
    with pytest.raises(ValueError, match="delete cannot be part of a multiRead"):
        op.multi_read([op.delete("/a")])
