"""ZooKeeper's admin commands: `GET /commands/<name>`, answered with the JSON keys of its AdminServer.

Every command reads an `AdminView`: the `ServerView` of the four-letter words, and what only the admin port shows.
Source: `org.apache.zookeeper.server.admin.Commands` of 3.9 (and `shed_connections` of 3.10).

Not here: HTTP, authorization and the envelope (`admin.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from corekit.api import Identity
from corekit.codec.four_letter import ConnectionRow, ServerView, watch_totals, watches_by_path
from corekit.codec.java_text import hex64, signed64, socket_text
from corekit.errors import CorekitError
from corekit.model.acl import ALL


class Refused(CorekitError):
    """A command cannot do what was asked; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Query:
    """What a caller sent: the first value of each parameter, and the body of a POST."""

    parameters: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        names: the one that is listed, then further ones.
        run: gives the fields of the answer. Raises `Refused`.
        needs_server: only while clients are served.
        post: asked for with POST instead of GET.
        perms: permission bits that the caller must prove to have on `/`.
    """

    names: tuple[str, ...]
    run: Callable[[Query], Mapping[str, Any]]
    needs_server: bool = False
    post: bool = False
    perms: int = 0


@dataclass(slots=True)
class Health:
    """What the probes tell.

    Attributes:
        started: recovery is over and clients were served at least once.
        serving: clients are served now.
        mode: the role (`ServerView.mode`).
        has_leader: there is somebody who orders writes.
        failure: why the process cannot go on (storage), or None.
        writes_refused: why writes are refused for now (disk space), or None.
    """

    started: bool
    serving: bool
    mode: str
    has_leader: bool
    failure: str | None = None
    writes_refused: str | None = None


@dataclass(slots=True)
class Member:
    """One voting member: addresses as `host:port` texts."""

    server_addresses: Sequence[str]
    election_addresses: Sequence[str]
    client_address: str
    learner_type: str


@dataclass(slots=True)
class Ensemble:
    """What a member of an ensemble knows of it; addresses as `host:port` texts.

    Attributes:
        zab_state: `election`, `discovery`, `synchronization` or `broadcast`.
        observers: of a leader or follower: the fields of ZooKeeper's `getLearnerHandlerInfo`, one mapping each.
        members: voting members by sid.
    """

    server_id: int
    is_leader: bool
    leader_id: int
    leader_ip: str
    voting: bool
    quorum_address: str
    election_address: str
    client_address: str
    zab_state: str
    members: Mapping[int, Member]
    observers: Sequence[Mapping[str, Any]] = ()


class AdminView(ServerView, Protocol):
    """A server as its admin port shows it."""

    @property
    def uptime_ms(self) -> int:
        """Since the process began to serve."""

    @property
    def response_sizes(self) -> tuple[int, int, int]:
        """Bytes of replies (last, smallest, largest), -1 for none yet."""

    @property
    def auth_failed(self) -> int:
        """`auth` packets that proved nothing."""

    @property
    def slow_fsyncs(self) -> int:
        """fsyncs that took longer than `fsync.warningthresholdms`."""

    def health(self) -> Health:
        """For the probes."""

    def ensemble(self) -> Ensemble | None:
        """None on a server of its own."""

    def initial_configuration(self) -> str | None:
        """The text of the configuration file, secrets left out; None without a file."""

    def last_snapshot(self) -> tuple[int, int]:
        """(zxid, seconds since 1970) of the stored state; -1 for what is not known."""

    def system_properties(self) -> Mapping[str, str]:
        """Facts of the interpreter and its platform."""

    def root_allows(self, identities: Iterable[Identity], perm: int) -> bool:
        """Whether one of the identities has a permission bit on `/`."""

    def shed_connections(self, percentage: int) -> int:
        """Close about this share of the client connections; how many were closed."""


def _connection(row: ConnectionRow, brief: bool) -> dict[str, Any]:
    info: dict[str, Any] = {
        "remote_socket_address": socket_text(row.host, row.port),
        "interest_ops": row.interest_ops,
        "outstanding_requests": row.outstanding,
        "packets_received": row.received,
        "packets_sent": row.sent,
    }
    if not brief:
        info |= {
            "session_id": row.session_id,
            "last_operation": row.last_op,
            "established": row.established_ms,
            "session_timeout": row.timeout_ms,
            "last_cxid": row.last_cxid,
            "last_zxid": row.last_zxid,
            "last_response_time": row.last_response_ms,
            "last_latency": row.last_latency_ms,
            "min_latency": row.min_latency_ms,
            "avg_latency": row.avg_latency_ms,
            "max_latency": row.max_latency_ms,
        }
    return info


def _connections(view: AdminView, brief: bool) -> dict[str, Any]:
    rows = list(view.connections())
    return {
        "connections": [_connection(row, brief) for row in rows if not row.secure],
        "secure_connections": [_connection(row, brief) for row in rows if row.secure],
    }


_CONFIGURATION = {
    "client_port": "clientPort",
    "data_dir": "dataDir",
    "data_log_dir": "dataLogDir",
    "tick_time": "tickTime",
    "max_client_cnxns": "maxClientCnxns",
    "min_session_timeout": "minSessionTimeout",
    "max_session_timeout": "maxSessionTimeout",
    "server_id": "serverId",
    "client_port_listen_backlog": "clientPortListenBacklog",
}


def _configuration(view: AdminView) -> dict[str, Any]:
    settings = view.configuration()
    return {name: settings[key] for name, key in _CONFIGURATION.items() if key in settings}


def _dirs(view: AdminView) -> dict[str, Any]:
    data, log = view.directory_sizes()
    return {"datadir_size": data, "logdir_size": log}


def _dump(view: AdminView) -> dict[str, Any]:
    sessions = view.sessions()
    return {
        "expiry_time_to_session_ids": {
            str(time_ms): list(members) for time_ms, members in (*(sessions.local or ()), *(sessions.buckets or ()))
        },
        "session_id_to_ephemeral_paths": {str(session): list(paths) for session, paths in view.ephemerals()},
    }


def _hash(view: AdminView) -> dict[str, Any]:
    return {
        "digests": [
            {"zxid": zxid, "digest_version": version, "digest": signed64(digest)}
            for zxid, digest, version in view.digests()
        ]
    }


def _last_snapshot(view: AdminView) -> dict[str, Any]:
    zxid, seconds = view.last_snapshot()
    return {"zxid": hex64(zxid), "timestamp": seconds}


def _leader(view: AdminView) -> dict[str, Any]:
    ensemble = view.ensemble()
    if ensemble is None:
        return {"error": "server is not initialized"}
    return {
        "is_leader": ensemble.is_leader,
        "leader_id": ensemble.leader_id,
        "leader_ip": ensemble.leader_ip,
    }


def _monitor(view: AdminView) -> dict[str, Any]:
    return {"version": view.version, "server_state": view.mode, **dict(view.monitor())}


def _observers(view: AdminView) -> dict[str, Any]:
    ensemble = view.ensemble()
    observers = list(ensemble.observers) if ensemble is not None else []
    return {"synced_observers": len(observers), "observers": observers}


def _sizes(sizes: tuple[int, int, int]) -> dict[str, int]:
    last, least, most = sizes
    return {"last_buffer_size": last, "min_buffer_size": least, "max_buffer_size": most}


def _server_stats(view: AdminView) -> dict[str, Any]:
    least, mean, most = view.latency
    data_bytes, log_bytes = view.directory_sizes()
    fields: dict[str, Any] = {
        "version": view.version,
        "read_only": view.mode == "read-only",
        "server_stats": {
            "packets_sent": view.packets_sent,
            "packets_received": view.packets_received,
            "fsync_threshold_exceed_count": view.slow_fsyncs,
            "client_response_stats": _sizes(view.response_sizes),
            "data_dir_size": data_bytes,
            "log_dir_size": log_bytes,
            "provider_null": False,
            "server_state": view.mode,
            "last_processed_zxid": view.last_zxid,
            "outstanding_requests": view.outstanding,
            "avg_latency": mean,
            "max_latency": most,
            "min_latency": least,
            "num_alive_client_connections": view.connection_count,
            "uptime": view.uptime_ms,
            "auth_failed_count": view.auth_failed,
            "non_mtlsremote_conn_count": 0,  # there is no TLS that would make the difference
            "non_mtlslocal_conn_count": 0,
        },
        "client_response": _sizes(view.response_sizes),
    }
    if view.mode == "leader":
        fields["proposal_stats"] = _sizes(view.proposal_sizes)
    fields["node_count"] = view.node_count
    return fields


def _voting_view(view: AdminView) -> dict[str, Any]:
    ensemble = view.ensemble()
    members = ensemble.members if ensemble is not None else {}
    return {
        "current_config": {
            str(sid): {
                "server_addresses": list(member.server_addresses),
                "election_addresses": list(member.election_addresses),
                "client_address": member.client_address,
                "learner_type": member.learner_type,
            }
            for sid, member in members.items()
        }
    }


def _watches(view: AdminView) -> dict[str, Any]:
    sessions: dict[str, list[bytes]] = {}
    for session, paths in view.watches():
        sessions.setdefault(str(session), []).extend(paths)
    return {"session_id_to_watched_paths": sessions}


def _watches_by_path(view: AdminView) -> dict[str, Any]:
    paths = watches_by_path(view).items()
    return {"path_to_session_ids": {path.decode("utf-8", "replace"): sessions for path, sessions in paths}}


def _watch_summary(view: AdminView) -> dict[str, Any]:
    connections, paths, total = watch_totals(view)
    return {"num_connections": connections, "num_paths": paths, "num_total_watches": total}


def _zab_state(view: AdminView) -> dict[str, Any]:
    ensemble = view.ensemble()
    if ensemble is None:
        return {"voting": False, "zabstate": ""}
    return {
        "myid": ensemble.server_id,
        "is_leader": ensemble.is_leader,
        "quorum_address": ensemble.quorum_address,
        "election_address": ensemble.election_address,
        "client_address": ensemble.client_address,
        "voting": ensemble.voting,
        "last_zxid": f"0x{hex64(view.last_zxid)}",
        "zab_epoch": view.last_zxid >> 32,
        "zab_counter": view.last_zxid & 0xFFFFFFFF,
        "zabstate": ensemble.zab_state,
    }


def _set_trace_mask(view: AdminView, query: Query) -> dict[str, Any]:
    given = query.parameters.get("traceMask")
    if given is None:
        return {"error": "setTraceMask requires long traceMask argument"}
    try:
        mask = int(given)
        if not -(1 << 63) <= mask < 1 << 63:
            raise ValueError
    except ValueError:
        return {"error": f"setTraceMask requires long traceMask argument, got {given}"}
    view.set_trace_mask(mask)
    return {"tracemask": mask}


def _reset_connections(view: AdminView) -> dict[str, Any]:
    view.reset_connection_statistics()
    return {}


def _reset(view: AdminView) -> dict[str, Any]:
    view.reset_statistics()
    return {}


def _shed(view: AdminView, query: Query) -> dict[str, Any]:
    try:
        asked = json.loads(query.body)
    except ValueError as error:
        raise Refused(400, f"Invalid JSON or failed to read request body: {error}") from None
    if not isinstance(asked, dict) or "percentage" not in asked:
        raise Refused(400, "Missing required field: percentage")
    percentage = asked["percentage"]
    if not isinstance(percentage, int) or not 0 <= percentage <= 100:
        raise Refused(400, "Percentage must be between 0 and 100")
    return {"connections_shed": view.shed_connections(percentage), "percentage_requested": percentage}


def _no_snapshot(query: Query) -> Mapping[str, Any]:
    raise Refused(503, "snapshots over HTTP are not part of this version: stop the server and copy its dataDir")


def _no_restore(query: Query) -> Mapping[str, Any]:
    raise Refused(503, "restoring over HTTP is not part of this version: stop the server and put back its dataDir")


def zookeeper_commands(view: AdminView) -> list[Command]:
    """Every command of ZooKeeper's AdminServer, under all of its names."""

    def plain(names: str, run: Callable[[AdminView], Mapping[str, Any]], *, needs_server: bool = True) -> Command:
        return Command(tuple(names.split()), lambda query: run(view), needs_server)

    return [
        plain("connection_stat_reset crst", _reset_connections),
        plain("configuration conf config", _configuration),
        plain("connections cons", lambda view: _connections(view, brief=False)),
        plain("hash", _hash),
        plain("dirs", _dirs),
        plain("dump", _dump),
        plain("environment env envi", lambda view: dict(view.environment()), needs_server=False),
        plain("get_trace_mask gtmk", lambda view: {"tracemask": view.trace_mask}, needs_server=False),
        plain("initial_configuration icfg", lambda view: {"initial_configuration": view.initial_configuration()}),
        plain("is_read_only isro", lambda view: {"read_only": view.mode == "read-only"}),
        plain("last_snapshot lsnp", _last_snapshot),
        plain("leader lead", _leader),
        plain("monitor mntr", _monitor, needs_server=False),
        plain("observer_connection_stat_reset orst", lambda view: {}),
        plain("observers obsr", _observers),
        Command(("restore", "rest"), _no_restore, needs_server=True, post=True, perms=ALL),
        plain("ruok", lambda view: {}),
        Command(("set_trace_mask", "stmk"), lambda query: _set_trace_mask(view, query)),
        Command(("shed_connections", "shed"), lambda query: _shed(view, query), True, post=True, perms=ALL),
        Command(("snapshot", "snap"), _no_snapshot, needs_server=True, perms=ALL),
        plain("server_stats srvr", _server_stats),
        plain("stats stat", lambda view: _server_stats(view) | _connections(view, brief=True)),
        plain("stat_reset srst", _reset),
        plain("system_properties sysp", lambda view: view.system_properties(), needs_server=False),
        plain("voting_view", _voting_view),
        plain("watches wchc", _watches),
        plain("watches_by_path wchp", _watches_by_path),
        plain("watch_summary wchs", _watch_summary),
        plain("zabstate", _zab_state, needs_server=False),
    ]
