"""The admin port's paths: ZooKeeper's commands with its JSON keys (taken from 3.8.0 and 3.9), probes, metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest
import trio
from corekit_acl_digest.digest import DigestScheme, generate_digest
from corekit_acl_digest.ip import IpScheme

from corekit.api import Gateway, Peer
from corekit.codec.four_letter import ConnectionRow, SessionsDump
from corekit.errors import PluginError
from corekit.hooks import AdminCommand
from corekit.model.acl import ALL
from corekit.server.admin import AdminRoutes, MetricsRoutes, index_commands, is_loopback, serve_http
from corekit.server.admin_commands import Ensemble, Health, Member, zookeeper_commands
from corekit.server.http import HttpServer, Request, Response
from corekit.server.metrics import Registry
from tests.support.server_view import FakeView

S0, S1 = 72057689775013888, 72057689775013889


class NoGateway:
    """Handed to commands of plugins; only its identity matters."""


GATEWAY = cast("Gateway", NoGateway())


def routes(view: FakeView, plugins: Mapping[str, AdminCommand] | None = None, url: str = "/commands") -> AdminRoutes:
    registry = Registry()
    registry.gauge("znode_count", lambda: view.node_count)
    digest = DigestScheme(super_digest=generate_digest("super:secret"))
    commands = index_commands(zookeeper_commands(view), plugins or {}, GATEWAY)
    return AdminRoutes(view, commands, {"digest": digest, "ip": IpScheme()}, registry, (), url)


def call(
    where: AdminRoutes | MetricsRoutes,
    path: str,
    query: dict[str, str] | None = None,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Response:
    request = Request(method, path, query or {}, headers or {}, body, Peer("127.0.0.1", 1))

    async def run() -> Response:
        return await where.handle(request)

    return trio.run(run)


def fields(view: FakeView, name: str, query: dict[str, str] | None = None) -> dict[str, Any]:
    response = call(routes(view), f"/commands/{name}", query)
    assert response.status == 200
    assert response.content_type == "application/json"
    found: dict[str, Any] = json.loads(response.body)
    return found


NAMES = """connection_stat_reset configuration connections hash dirs dump environment get_trace_mask
initial_configuration is_read_only last_snapshot leader monitor observer_connection_stat_reset observers
restore ruok set_trace_mask shed_connections snapshot server_stats stats stat_reset system_properties
voting_view watches watches_by_path watch_summary zabstate"""
ALIASES = """crst conf config cons env envi gtmk icfg isro lsnp lead mntr orst obsr rest stmk shed snap srvr stat srst
sysp wchc wchp wchs"""


def test_every_name_of_zookeeper_is_there() -> None:
    view = FakeView()
    index = index_commands(zookeeper_commands(view), {}, GATEWAY)
    assert set(index) == {*NAMES.split(), *ALIASES.split()}
    assert {command.names[0] for command in index.values()} == set(NAMES.split())
    page = call(routes(view), "/commands")
    assert page.body.count(b"<br/>") == len(NAMES.split())
    assert b'<a href="/commands/watches_by_path">watches_by_path</a>\n<br/>\n' in page.body
    assert call(routes(view), "/commands/").body == page.body


def test_connections() -> None:
    row = ConnectionRow("127.0.0.1", 57190, 1, 0, 3, 3, S1, "GETD", 1795471781428, 10000, 2, 7, 1490047, 1, 0, 1, 1)
    view = FakeView(rows=[row, ConnectionRow("::1", 9, secure=True)])
    answer = fields(view, "cons")
    assert list(answer) == ["connections", "secure_connections", "command", "error"]
    assert answer["connections"] == [
        {
            "remote_socket_address": "127.0.0.1:57190",
            "interest_ops": 1,
            "outstanding_requests": 0,
            "packets_received": 3,
            "packets_sent": 3,
            "session_id": S1,
            "last_operation": "GETD",
            "established": 1795471781428,
            "session_timeout": 10000,
            "last_cxid": 2,
            "last_zxid": 7,
            "last_response_time": 1490047,
            "last_latency": 1,
            "min_latency": 0,
            "avg_latency": 1,
            "max_latency": 1,
        }
    ]
    assert answer["secure_connections"][0]["remote_socket_address"] == "[0:0:0:0:0:0:0:1]:9"
    assert (answer["command"], answer["error"]) == ("connections", None)


def test_server_stats_and_stats() -> None:
    view = FakeView(rows=[ConnectionRow("127.0.0.1", 5, received=1)])
    answer = fields(view, "srvr")
    sizes = {"last_buffer_size": 16, "min_buffer_size": 16, "max_buffer_size": 89}
    assert answer == {
        "version": view.version,
        "read_only": False,
        "server_stats": {
            "packets_sent": 24,
            "packets_received": 25,
            "fsync_threshold_exceed_count": 0,
            "client_response_stats": sizes,
            "data_dir_size": 67109337,
            "log_dir_size": 457,
            "provider_null": False,
            "server_state": "standalone",
            "last_processed_zxid": 7,
            "outstanding_requests": 0,
            "avg_latency": 1.2667,
            "max_latency": 4,
            "min_latency": 0,
            "num_alive_client_connections": 3,
            "uptime": 4112,
            "auth_failed_count": 0,
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
        },
        "client_response": sizes,
        "node_count": 10,
        "command": "server_stats",
        "error": None,
    }
    brief = fields(view, "stats")
    assert brief["connections"] == [
        {
            "remote_socket_address": "127.0.0.1:5",
            "interest_ops": 1,
            "outstanding_requests": 0,
            "packets_received": 1,
            "packets_sent": 0,
        }
    ]
    assert set(brief) == {*answer, "connections", "secure_connections"}
    leader = fields(FakeView(mode="leader", proposal_sizes=(48, 36, 1048)), "stat")
    assert leader["proposal_stats"] == {"last_buffer_size": 48, "min_buffer_size": 36, "max_buffer_size": 1048}


def test_sessions_and_watches() -> None:
    view = FakeView(
        session_dump=SessionsDump(buckets=((1502000, (S0, S1)),)),
        ephemeral={S0: [b"/a/e2", b"/a/e"], S1: [b"/a/f"]},
        watched=[(S0, [b"/a/b", b"/a/e"]), (S1, [b"/a/b"])],
    )
    assert fields(view, "dump") == {
        "expiry_time_to_session_ids": {"1502000": [S0, S1]},
        "session_id_to_ephemeral_paths": {str(S0): ["/a/e2", "/a/e"], str(S1): ["/a/f"]},
        "command": "dump",
        "error": None,
    }
    assert fields(view, "wchc")["session_id_to_watched_paths"] == {str(S0): ["/a/b", "/a/e"], str(S1): ["/a/b"]}
    assert fields(view, "wchp")["path_to_session_ids"] == {"/a/b": [S0, S1], "/a/e": [S0]}
    summary = fields(view, "wchs")
    assert summary == {
        "num_connections": 2,
        "num_paths": 2,
        "num_total_watches": 3,
        "command": "watch_summary",
        "error": None,
    }


def test_facts() -> None:
    settings: dict[str, int | str] = {
        "clientPort": 2181,
        "secureClientPort": -1,
        "dataDir": "/d/version-2",
        "dataLogDir": "/d/version-2",
        "tickTime": 2000,
        "maxClientCnxns": 60,
        "minSessionTimeout": 4000,
        "maxSessionTimeout": 40000,
        "clientPortListenBacklog": -1,
        "serverId": 0,
    }
    view = FakeView(
        settings=settings,
        facts=[("zookeeper.version", "v")],
        properties={"python.version": "3"},
        values=[("znode_count", 10), ("avg_latency", 0.5)],
        digest_log=[(128, (1 << 64) - 1, 2)],
        configuration_file="tickTime=2000\n",
    )
    assert fields(view, "conf") == {
        "client_port": 2181,
        "data_dir": "/d/version-2",
        "data_log_dir": "/d/version-2",
        "tick_time": 2000,
        "max_client_cnxns": 60,
        "min_session_timeout": 4000,
        "max_session_timeout": 40000,
        "server_id": 0,
        "client_port_listen_backlog": -1,
        "command": "configuration",
        "error": None,
    }
    assert fields(view, "env")["zookeeper.version"] == "v"
    assert fields(view, "sysp")["python.version"] == "3"
    assert fields(view, "icfg")["initial_configuration"] == "tickTime=2000\n"
    assert fields(view, "hash")["digests"] == [{"zxid": 128, "digest_version": 2, "digest": -1}]
    assert fields(view, "dirs") == {"datadir_size": 67109337, "logdir_size": 457, "command": "dirs", "error": None}
    assert fields(view, "isro") == {"read_only": False, "command": "is_read_only", "error": None}
    assert fields(view, "ruok") == {"command": "ruok", "error": None}
    snapshot = fields(view, "lsnp")
    assert (snapshot["zxid"], snapshot["timestamp"]) == ("100000007", 1795471752)
    monitor = fields(view, "mntr")
    assert monitor == {
        "version": view.version,
        "server_state": "standalone",
        "znode_count": 10,
        "avg_latency": 0.5,
        "command": "monitor",
        "error": None,
    }


def test_a_server_of_its_own_has_no_ensemble() -> None:
    view = FakeView()
    assert fields(view, "lead") == {"command": "leader", "error": "server is not initialized"}
    assert fields(view, "obsr")["observers"] == []
    assert fields(view, "voting_view")["current_config"] == {}
    assert fields(view, "zabstate") == {"voting": False, "zabstate": "", "command": "zabstate", "error": None}


def test_a_member_of_an_ensemble() -> None:
    member = Member(["h2:2888"], ["h2:3888"], "0.0.0.0:2181", "participant")
    ensemble = Ensemble(
        *(2, False, 1, "h1", True, "h2:2888", "h2:3888", "0.0.0.0:2181", "broadcast", {2: member}),
        observers=({"sid": 9},),
    )
    view = FakeView(mode="follower", members_known=ensemble, last_zxid=(5 << 32) | 7)
    assert fields(view, "lead") == {
        "is_leader": False,
        "leader_id": 1,
        "leader_ip": "h1",
        "command": "leader",
        "error": None,
    }
    assert fields(view, "voting_view")["current_config"] == {
        "2": {
            "server_addresses": ["h2:2888"],
            "election_addresses": ["h2:3888"],
            "client_address": "0.0.0.0:2181",
            "learner_type": "participant",
        }
    }
    state = fields(view, "zabstate")
    assert (state["last_zxid"], state["zab_epoch"], state["zab_counter"]) == ("0x500000007", 5, 7)
    assert (state["myid"], state["voting"], state["zabstate"]) == (2, True, "broadcast")
    assert fields(view, "obsr") == {
        "synced_observers": 1,
        "observers": [{"sid": 9}],
        "command": "observers",
        "error": None,
    }


def test_resets_and_trace_mask() -> None:
    view = FakeView()
    assert fields(view, "srst") == {"command": "stat_reset", "error": None}
    assert fields(view, "crst") == {"command": "connection_stat_reset", "error": None}
    assert (view.resets, view.connection_resets) == (1, 1)
    assert fields(view, "gtmk")["tracemask"] == 306
    assert fields(view, "stmk", {"traceMask": "300"})["tracemask"] == 300
    text = "setTraceMask requires long traceMask argument"
    assert fields(view, "stmk") == {"error": text, "command": "set_trace_mask"}
    assert fields(view, "stmk", {"traceMask": "x"})["error"] == f"{text}, got x"
    assert fields(view, "stmk", {"traceMask": str(1 << 63)})["error"] == f"{text}, got {1 << 63}"
    assert view.trace_mask == 300


def test_unknown_commands_and_a_server_that_does_not_serve_are_status_200() -> None:
    assert fields(FakeView(), "nope") == {"command": "nope", "error": "Unknown command: nope"}
    view = FakeView(serving=False)
    text = "This ZooKeeper instance is not currently serving requests"
    assert fields(view, "srvr") == {"command": "srvr", "error": text}
    for name in ("env", "gtmk", "mntr", "zabstate", "sysp"):
        assert fields(view, name)["error"] is None
    fields(view, "srst")
    assert view.resets == 0


def test_commands_that_need_a_login() -> None:
    view = FakeView(root_perms={("super", ""): ALL, ("digest", generate_digest("reader:r")): 1})
    where = routes(view)

    def shed(authorization: str | None, body: bytes = b'{"percentage": 30}') -> tuple[int, dict[str, Any]]:
        headers = {"authorization": authorization} if authorization is not None else {}
        response = call(where, "/commands/shed", method="POST", headers=headers, body=body)
        return response.status, json.loads(response.body)

    assert shed(None) == (401, {"command": "shed_connections", "error": "Auth info is missing for the command"})
    for bad in ("nonsense x", "", "world anyone"):
        assert shed(bad) == (401, {"command": "shed_connections", "error": "Not authenticated"})
    for weak in ("digest reader:r", "digest super:wrong", "ip"):
        assert shed(weak) == (403, {"command": "shed_connections", "error": "Not authorized"})
    assert view.shed == []
    answer = {"connections_shed": 3, "percentage_requested": 30, "command": "shed_connections", "error": None}
    assert shed("digest super:secret") == (200, answer)
    assert view.shed == [30]
    for body in (b"", b"[]", b"{}", b'{"percentage": 101}', b'{"percentage": "1"}', b'{"percentage": -1}', b"\xff"):
        assert shed("digest super:secret", body)[0] == 400
    assert view.shed == [30]


def test_snapshot_and_restore_say_that_they_are_not_there() -> None:
    where = routes(FakeView())
    login = {"authorization": "digest super:secret"}
    assert call(where, "/commands/snapshot").status == 401
    for name, method in (("snapshot", "GET"), ("restore", "POST")):
        response = call(where, f"/commands/{name}", method=method, headers=login)
        assert response.status == 503
        assert "not part of this version" in json.loads(response.body)["error"]


def test_methods() -> None:
    where = routes(FakeView())
    assert call(where, "/commands/ruok", method="POST").status == 405
    assert call(where, "/commands/restore").status == 405
    assert call(where, "/commands/ruok", method="TRACE").status == 405
    assert call(where, "/commands/ruok", method="HEAD").status == 200
    assert call(where, "/metrics", method="POST").status == 405
    assert call(where, "/nothing").status == 404
    assert call(where, "/commandsx").status == 404
    moved = routes(FakeView(), url="/zk/")
    assert call(moved, "/zk/ruok").status == 200
    assert call(moved, "/commands/ruok").status == 404


@pytest.mark.parametrize(
    ("health", "statuses"),
    [
        (Health(True, True, "standalone", True), (200, 200, 200)),
        (Health(True, True, "leader", True, writes_refused="disk is almost full"), (200, 200, 200)),
        (Health(True, False, "looking", False), (200, 503, 200)),
        (Health(True, True, "read-only", False), (200, 503, 200)),
        (Health(False, False, "looking", False), (200, 503, 503)),
        (Health(True, True, "leader", True, failure="fsync failed"), (503, 503, 503)),
    ],
)
def test_probes(health: Health, statuses: tuple[int, int, int]) -> None:
    where = routes(FakeView(state_of_health=health))
    answers = [call(where, path) for path in ("/livez", "/readyz", "/startupz")]
    assert tuple(answer.status for answer in answers) == statuses
    for answer in answers:
        told = json.loads(answer.body)
        assert told["status"] == ("ok" if answer.status == 200 else "failing")
        assert told["details"]["mode"] == health.mode
        assert told["details"]["writes_refused"] == health.writes_refused


def test_metrics() -> None:
    view = FakeView()
    page = call(routes(view), "/metrics")
    assert page.content_type.startswith("text/plain; version=0.0.4")
    assert b"\nznode_count 10.0\n" in page.body
    registry = Registry()
    registry.counter("snap_count").add(2)
    alone = MetricsRoutes(registry)
    assert b"\nsnap_count 2.0\n" in call(alone, "/metrics").body
    assert call(alone, "/commands/ruok").status == 404


def test_commands_of_plugins(caplog: pytest.LogCaptureFixture) -> None:
    def greet(gateway: Gateway, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        assert gateway is GATEWAY
        if "fail" in parameters:
            raise ValueError("no greeting today")
        return {"greeting": f"hello {parameters['name']}"}

    command = AdminCommand(("greet", "hi"), "greets", greet)
    where = routes(FakeView(), {"greet": command, "hi": command})
    answer = call(where, "/commands/hi", {"name": "you"})
    assert json.loads(answer.body) == {"greeting": "hello you", "command": "greet", "error": None}
    assert b">greet</a>" in call(where, "/commands").body
    failed = call(where, "/commands/greet", {"fail": ""})
    assert failed.status == 500
    assert json.loads(failed.body) == {"command": "greet", "error": "no greeting today"}
    assert "admin command of a plugin failed" in caplog.text
    with pytest.raises(PluginError, match="srvr"):
        routes(FakeView(), {"srvr": command})


def test_loopback() -> None:
    assert [a for a in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", "zk.example") if is_loopback(a)] == [
        "127.0.0.1",
        "::1",
        "localhost",
    ]


@pytest.mark.trio
async def test_over_a_socket() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    server = HttpServer(routes(FakeView()).handle, idle_timeout_s=5, loopback=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, listeners, server)
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"GET /commands/ruok HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while more := await stream.receive_some(4096):
                    answer += more
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"command": "ruok", "error": None}
        nursery.cancel_scope.cancel()
    for listener in listeners:
        await listener.aclose()
