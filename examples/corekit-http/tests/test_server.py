"""A real server, spoken to over HTTP, and over HTTP and ZooKeeper's protocol at once."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import trio
from http_client import Events, Http, port_of, zookeeper_port_of
from kazoo.client import KazooClient

from corekit.client import connect
from corekit.errors import EXIT_USAGE
from corekit.testing.process import ServerProcess

PORT = ("-s", "plugin.http.port=0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("server")
    with ServerProcess(
        "-p", "zookeeper,http,memory", *PORT, "-s", "extendedTypesEnabled=true", "--data-dir", str(home)
    ) as server:
        yield server
        assert server.stop() == 0
        assert not [line for line in server.lines if "ERROR" in line or "Traceback" in line]


@pytest.fixture
def port(server: ServerProcess) -> int:
    return port_of(server)


@pytest.fixture
def http_(port: int) -> Iterator[Http]:
    with Http(port) as client:
        yield client


def login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ------------------------------------------------------------------------------------------------ znodes
def test_the_life_of_a_znode(http_: Http) -> None:
    made = http_("POST", "/tree/life", b"one")
    assert (made.status, made.headers["location"], made.headers["etag"]) == (201, "/tree/life", '"0"')
    assert made.json["path"] == "/life"
    read = http_("GET", "/tree/life")
    assert (read.status, read.body, read.headers["etag"]) == (200, b"one", '"0"')
    assert read.headers["content-type"] == "application/octet-stream"
    assert http_("GET", "/tree/life", If_None_Match='"0"').status == 304
    assert http_("HEAD", "/tree/life").headers["content-length"] == "3"
    written = http_("PUT", "/tree/life", b"two", If_Match='"0"')
    assert (written.status, written.headers["etag"], written.json["version"]) == (200, '"1"', 1)
    assert int(written.headers["zxid"], 16) > int(made.headers["zxid"], 16)
    assert http_("PUT", "/tree/life", b"three", If_Match='"0"').json["code"] == -103
    assert http_("DELETE", "/tree/life", If_Match='"0"').status == 412
    assert http_("DELETE", "/tree/life", If_Match='"1"').status == 204
    gone = http_("GET", "/tree/life")
    assert gone.status == 404
    assert gone.headers["content-type"] == "application/problem+json"
    assert gone.json == {"title": "node does not exist", "status": 404, "code": -101, "path": "/life"}


def test_what_else_there_is_of_a_znode(http_: Http) -> None:
    for name in ("", "/b", "/a"):
        assert http_("POST", f"/tree/views{name}").status == 201
    found = http_("GET", "/tree/views?children&fresh").json
    assert found["children"] == ["a", "b"]
    assert found["stat"]["num_children"] == 2
    stat = http_("GET", "/tree/views?stat").json
    assert stat == found["stat"]
    assert stat["ephemeral_owner"] == "0x0"
    assert http_("GET", "/tree/views?acl").json["acl"] == ["world:anyone:cdrwa"]
    changed = http_("PUT", "/tree/views?acl", {"acl": ["world:anyone:ra"]}, If_Match='"0"')
    assert (changed.status, changed.headers["etag"]) == (200, '"1"')
    assert http_("PUT", "/tree/views", b"x").json["code"] == -102
    assert "views" in http_("GET", "/tree/?children").json["children"]
    assert http_("GET", "/tree?stat").status == 200


def test_every_kind_of_znode_can_be_made(http_: Http) -> None:
    http_("POST", "/tree/kinds")
    names = [http_("POST", "/tree/kinds/s-?sequential").json["path"] for _ in range(2)]
    assert names == ["/kinds/s-0000000000", "/kinds/s-0000000001"]
    assert http_("POST", "/tree/kinds/c?container").status == 201
    assert http_("POST", "/tree/kinds/t?ttl=100000").status == 201
    assert http_("POST", "/tree/kinds/t?ttl=100000").json["code"] == -110
    mine = "digest:ada:" + base64.b64encode(hashlib.sha1(b"ada:secret").digest()).decode() + ":cdrwa"
    assert http_("POST", "/tree/kinds/mine", b"1", Acl=f"{mine}, world:anyone:c").status == 201
    assert http_("GET", "/tree/kinds/mine").status == 403
    assert http_("GET", "/tree/kinds/mine", Authorization=login("ada", "secret")).body == b"1"
    assert http_("GET", "/tree/kinds/mine").status == 403, "the connection has kept what a request had proved"
    assert http_("GET", "/tree/kinds/mine", Authorization=login("ada", "wrong")).status == 403
    again = http_("GET", "/tree/kinds/mine", Authorization="ZooKeeper digest " + login("ada", "secret").split()[1])
    assert again.status == 200


def test_several_writes_are_one(http_: Http) -> None:
    done = http_(
        "POST",
        "/multi",
        {
            "ops": [
                {"op": "create", "path": "/m", "data": "text"},
                {"op": "create", "path": "/m/s-", "base64": "AP8=", "sequential": True},
                {"op": "check", "path": "/m", "version": 0},
                {"op": "set", "path": "/m", "data": "new", "version": 0},
            ]
        },
    )
    assert done.status == 200, done.body
    assert [one["path"] for one in done.json["results"]] == ["/m", "/m/s-0000000000", "/m", "/m"]
    assert done.json["results"][3]["stat"]["version"] == 1
    assert http_("GET", "/tree/m/s-0000000000").body == b"\0\xff"
    parts = [{"op": "delete", "path": "/m/s-0000000000"}, {"op": "check", "path": "/m", "version": 7}]
    failed = http_("POST", "/multi", {"ops": parts})
    assert failed.status == 412
    assert (failed.json["index"], failed.json["path"]) == (1, "/m")
    assert http_("GET", "/tree/m/s-0000000000").status == 200, "half of it was done"


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("GET", "/nowhere", b"", 404, "there is no /nowhere; see /openapi.json"),
        ("GET", "/treehouse", b"", 404, "there is no /treehouse"),
        ("PATCH", "/tree/a", b"", 405, "PATCH is not known here"),
        ("GET", "/tree/a?watch", b"", 400, "'watch' is no parameter of GET; known are stat, children, acl, fresh"),
        ("GET", "/tree/a?stat&acl", b"", 400, "stat and acl are different answers; ask for one"),
        ("GET", "/tree/a%2fb", b"", 400, "a name of a znode has no slash"),
        ("GET", "/tree/%ff", b"", 400, "is no UTF-8"),
        ("GET", "/tree/a?" + "&".join("b" * 20), b"", 400, "more than 16 parameters"),
        ("POST", "/tree//b", b"", 400, "bad arguments"),
        ("POST", "/tree/a?container&sequential", b"", 400, "a container has no other mode"),
        ("POST", "/tree/a?ttl=soon", b"", 400, "ttl=soon is no number of milliseconds"),
        ("POST", "/tree/a?ephemeral", b"", 400, "what is ephemeral needs a session: POST /session"),
        ("PUT", "/tree/a?acl", b"{", 400, "the body is no JSON"),
        ("PUT", "/tree/a?acl", b'{"acl": ["me"]}', 400, "'me' is no ACL entry; they look as world:anyone:cdrwa"),
        ("PUT", "/tree/?acl", b'{"acl": []}', 400, "invalid ACL"),
        ("GET", "/multi", b"", 405, "GET is not known here; known are POST"),
        ("POST", "/multi", b"[]", 400, "the body must be a JSON object"),
        ("POST", "/multi", b"{}", 400, "ops must be a list"),
        ("POST", "/multi", b'{"ops": [{"op": "drop", "path": "/a"}]}', 400, "op is create, set, delete or check"),
        ("POST", "/multi", b'{"ops": [{"op": "set", "path": 1}]}', 400, "path must be a str"),
        ("POST", "/multi", b'{"ops": [{"op": "set", "path": "/a", "base64": "?"}]}', 400, "base64 is not base64"),
        ("POST", "/multi", b'{"ops": [{"op": "set", "path": "/a", "data": "\\ud800"}]}', 400, "surrogate"),
        ("POST", "/session", b'{"timeout_ms": "long"}', 400, "timeout_ms must be a number"),
        ("PUT", "/session", b"", 400, "the header Session is missing"),
        ("PUT", "/watch/a", b"", 405, "PUT is not known here; known are GET"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_why(
    http_: Http, method: str, target: str, body: bytes, status: int, words: str
) -> None:
    answer = http_(method, target, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json["title"]
    assert http_("GET", "/tree/?stat").status == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": "3"}, 400),
        ({"If_Match": '"-1"'}, 400),
        ({"Session": "mine"}, 400),
        ({"Authorization": "Digest x"}, 401),
        ({"Authorization": "Basic ???"}, 400),
        ({"Authorization": "Bearer x"}, 401),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Host": "elsewhere.example"}, 403),
    ],
)
def test_headers_that_make_no_sense(http_: Http, headers: dict[str, str], status: int) -> None:
    answer = http_("PUT", "/tree/none", b"", **headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_too_large_is_refused_before_it_is_read(port: int) -> None:
    for head, status in (
        (b"PUT /tree/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n", b"413"),
        (b"GET /tree/a HTTP/1.1\r\nHost: localhost\r\nLong: " + b"x" * 20_000, b"431"),
    ):
        with socket.create_connection(("127.0.0.1", port), 60) as sock:
            sock.sendall(head)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
            assert answer.split()[1] == status
            assert b"onnection: close" in answer


# ---------------------------------------------------------------------------------------------- sessions
def test_what_is_ephemeral_belongs_to_its_session(port: int, http_: Http) -> None:
    opened = http_("POST", "/session", {"timeout_ms": 8000})
    assert (opened.status, opened.json["timeout_ms"]) == (201, 8000)
    token = opened.json["session"]
    assert http_("POST", "/tree/here?ephemeral", b"1", Session=token).status == 201
    with Http(port) as other:
        assert other("GET", "/tree/here?stat").json["ephemeral_owner"] == opened.json["id"]
        assert other("PUT", "/session", Session=token).status == 204
        assert other("GET", "/session", Session=token, Authorization=login("ada", "x")).json == {
            "identities": ["ip:127.0.0.1", "digest:ada"]
        }
    with Events(port, "/here") as events:
        assert http_("DELETE", "/session", Session=token).status == 204
        assert events.next()[0] == "deleted"
    gone = http_("PUT", "/session", Session=token)
    assert (gone.status, gone.json["code"]) == (410, -112)


def test_a_session_outlives_its_server(tmp_path: Path) -> None:
    """As every session of ZooKeeper it can be taken up again, here or on another server of the ensemble."""
    arguments = ("-p", "http", *PORT, "--data-dir", str(tmp_path))
    with ServerProcess(*arguments) as first, Http(port_of(first)) as client:
        token = client("POST", "/session", {"timeout_ms": 30_000}).json["session"]
        assert client("POST", "/tree/here?ephemeral", Session=token).status == 201
    with ServerProcess(*arguments) as second, Http(port_of(second)) as client:
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        assert client("PUT", "/session", Session=wrong).status == 410
        assert client("PUT", "/session", Session=token).status == 204
        assert client("DELETE", "/session", Session=token).status == 204
        assert client("GET", "/tree/here").status == 404
        assert second.stop() == 0


# ----------------------------------------------------------------------------------------------- streams
def test_a_stream_tells_of_everything_below(port: int, http_: Http) -> None:
    http_("POST", "/tree/w")
    with Events(port, "/w") as events:
        zxids = [http_("POST", "/tree/w/a").headers["zxid"]]
        zxids.append(http_("PUT", "/tree/w/a", b"1").headers["zxid"])
        zxids.append(http_("POST", "/tree/w/a/b").headers["zxid"])
        zxids.append(http_("DELETE", "/tree/w/a/b").headers["zxid"])
        http_("POST", "/tree/elsewhere")
        zxids.append(http_("PUT", "/tree/w", b"2").headers["zxid"])
        due = [
            ("created", "/w/a"),
            ("changed", "/w/a"),
            ("created", "/w/a/b"),
            ("deleted", "/w/a/b"),
            ("changed", "/w"),
        ]
        for (name, path), zxid in zip(due, zxids, strict=True):
            assert events.next() == (name, {"path": path, "zxid": zxid})


def test_a_server_that_stops_ends_its_streams(tmp_path: Path) -> None:
    server = ServerProcess("-p", "http,memory", *PORT, "--data-dir", str(tmp_path))
    with server, Events(port_of(server), "/") as events:
        assert server.stop() == 0
        with pytest.raises((AssertionError, http.client.IncompleteRead, ConnectionError)):
            events.next()


# ---------------------------------------------------------------------------------- two protocols at once
def test_both_protocols_see_the_same_tree_in_the_same_order(server: ServerProcess, port: int) -> None:
    hosts = f"127.0.0.1:{zookeeper_port_of(server)}"
    zk = KazooClient(hosts)
    zk.start(60)
    zk.create("/both", b"")
    count = 100

    def by_kazoo() -> None:
        for number in range(count):
            zk.create(f"/both/k{number}", b"%d" % number)
            zk.set("/both", b"k%d" % number)

    def by_http() -> None:
        with Http(port) as client:
            for number in range(count):
                assert client("POST", f"/tree/both/h{number}", b"%d" % number).status == 201
                assert client("PUT", "/tree/both", b"h%d" % number).status == 200

    def work() -> None:
        threads = [threading.Thread(target=one) for one in (by_kazoo, by_http)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    names = {"CREATED": "created", "DATA_CHANGED": "changed", "DELETED": "deleted"}

    async def seen_by_zookeeper() -> list[tuple[str, str]]:
        found = []
        async with connect(hosts) as client, client.watch("/both", recursive=True) as events:
            await trio.to_thread.run_sync(work)
            for _ in range(4 * count):
                event = await anext(events)
                found.append((names[event.type.name], event.path))
        return found

    with Events(port, "/both") as events, Http(port) as client:
        by_one = trio.run(seen_by_zookeeper)
        told = [events.next() for _ in range(4 * count)]
        assert [(name, event["path"]) for name, event in told] == by_one
        zxids = [int(event["zxid"], 16) for _, event in told]
        assert zxids == sorted(zxids)
        assert len(set(zxids)) == 4 * count
        assert sum(path == "/both" for _, path in by_one) == 2 * count
        data, stat = zk.get("/both")
        read = client("GET", "/tree/both")
        assert (read.body, read.headers["etag"]) == (data, f'"{stat.version}"')
        assert client("GET", "/tree/both?children").json["children"] == sorted(zk.get_children("/both"))
    zk.stop()
    zk.close()


# ----------------------------------------------------------------------------------------- description
def description() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("corekit_http") / "openapi.json").read_text("utf-8"))
    return found


def test_the_server_describes_itself(http_: Http) -> None:
    answer = http_("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json == description()


def test_what_is_described_is_there_and_nothing_else(http_: Http) -> None:
    for path, item in description()["paths"].items():
        target = path.replace("{path}", "none")
        known = {method.upper() for method in item if method != "parameters"}
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
            if path.startswith("/watch") and method == "GET":
                continue  # a stream: see above
            status = http_(method, target, b"{}").status
            if method not in known:
                assert status == 405, f"{method} {path} is not described"
            else:
                assert status != 405, f"{method} {path} is described"
                assert str(status) in item[method.lower()]["responses"] or status >= 400


def test_parameters_are_those_that_are_described(http_: Http) -> None:
    for method in ("get", "put", "post", "delete"):
        told = http_(method.upper(), "/tree/none?no-such").json["title"]
        item = description()["paths"]["/tree/{path}"][method]
        described = [one["name"] for one in item.get("parameters", []) if one.get("in") == "query"]
        assert told.partition("known are ")[2].split(", ") == (described or ["none"])


# --------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plugin.http.port=70000", "plugin.http.port=70000 is not accepted; accepted are 0 to 65535"),
        ("plugin.http.host=me", "plugin.http.host is not known; known are port and address"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(setting: str, words: str, tmp_path: Path) -> None:
    with ServerProcess("-p", "http,memory", "-s", setting, "--data-dir", str(tmp_path)) as server:
        assert server.wait() == EXIT_USAGE
        assert words in server.lines[-1]
