"""Rules that hold between settings, and values that follow from others or from the data directory.

Source: ZooKeeper `QuorumPeerConfig.parseProperties`, `setupClientPort`, `checkValidity`. Not here: single values.
"""

from __future__ import annotations

import os
from typing import Any

from corekit.config.members import ServerSpec
from corekit.config.settings import Settings
from corekit.errors import ConfigError

_KEYS = {"data_dir": "dataDir", "data_log_dir": "dataLogDir"}
_TIMEOUT_MAX_MS = 0x7FFFFFFF  # as the protocol carries it


def complete(values: dict[str, Any], origins: dict[str, str], warnings: list[str]) -> Settings:
    """Settings from the given values, completed and checked.

    Args:
        values: field name -> value; fields that nobody gave are missing.
        origins: field name -> origin; extended by what is derived here.
        warnings: extended.

    Raises:
        ConfigError: the values contradict each other.
    """
    for name in _KEYS:
        if name in values and not values[name]:
            raise ConfigError(f"{origins[name]}: {_KEYS[name]} is empty; give a directory")
    _my_id(values, origins)
    _client_address(values, origins)
    if values.get("secure_client_port", -1) >= 0 and "client_port" not in values:
        values["client_port"] = -1
        origins["client_port"] = "only secureClientPort is given"
    settings = Settings(**values)
    _check_here(settings.data_dir)
    _follows(settings, values, origins)
    _check(settings, origins, warnings)
    return settings


def _check_here(data_dir: str) -> None:
    """A relative path needs a current directory, which somebody may have removed."""
    try:
        os.path.abspath(data_dir)
    except FileNotFoundError:
        raise ConfigError(f"the current directory was removed, and {data_dir} is in it; go to another one") from None


def _my_id(values: dict[str, Any], origins: dict[str, str]) -> None:
    """The number of this server from the file `myid`; a variable that disagrees with it is refused."""
    data_dir = values.get("data_dir", Settings.__dataclass_fields__["data_dir"].default)
    path = os.path.join(data_dir, "myid")
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError(f"{data_dir} is not a directory; choose another --data-dir") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; run as the owner of the directory, or choose another --data-dir"
        ) from None
    if not text.isdigit() or not text.isascii() or int(text) > 255:
        raise ConfigError(f"{path} holds {text[:20]!r}; it must hold the number of this server, from 0 to 255")
    given = values.get("my_id")
    if given is not None and given not in (-1, int(text)):
        raise ConfigError(
            f"{path} says that this is server {text}, {origins['my_id']} says {given}; correct one of them "
            "(data of another server must never be used under a new number)"
        )
    if given is None or given < 0:
        origins["my_id"] = path
    values["my_id"] = int(text)


def _own_server(values: dict[str, Any]) -> ServerSpec | None:
    servers: tuple[ServerSpec, ...] = values.get("servers", ())
    if len(servers) == 1 and values.get("my_id", -1) < 0:
        return servers[0]
    return next((server for server in servers if server.sid == values.get("my_id")), None)


def _client_address(values: dict[str, Any], origins: dict[str, str]) -> None:
    """A client address in our own `server.N` line stands in for `clientPort`, and may not contradict it."""
    own = _own_server(values)
    if own is None:
        return
    for prefix, port, host in (
        ("client_port", own.client_port, own.client_host),
        ("secure_client_port", own.secure_client_port, own.secure_client_host),
    ):
        if port < 0:
            continue
        given = values.get(prefix)
        if given is not None and given != port:
            raise ConfigError(
                f"server.{own.sid} says {prefix} {port} and {origins[prefix]} says {given}; give one of them"
            )
        place = f"server.{own.sid} at {origins['servers']}"
        values[prefix] = port
        origins.setdefault(prefix, place)
        if host and f"{prefix}_address" not in values:
            values[f"{prefix}_address"] = host
            origins[f"{prefix}_address"] = place


def _follows(settings: Settings, values: dict[str, Any], origins: dict[str, str]) -> None:
    """Say of derived values what they follow."""
    for name, source in (
        ("data_log_dir", "data_dir"),
        ("min_session_timeout_ms", "tick_time_ms"),
        ("max_session_timeout_ms", "tick_time_ms"),
        ("jute_max_buffer_extra_size", "jute_max_buffer"),
        ("metrics_http_port", "metrics_provider"),
    ):
        if values.get(name, -1) != getattr(settings, name) and source in origins:
            origins[name] = f"follows {source}"


def _check(settings: Settings, origins: dict[str, str], warnings: list[str]) -> None:
    if settings.min_session_timeout_ms > settings.max_session_timeout_ms:
        raise ConfigError(
            f"minSessionTimeout {settings.min_session_timeout_ms} is larger than maxSessionTimeout "
            f"{settings.max_session_timeout_ms}"
        )
    if settings.max_session_timeout_ms > _TIMEOUT_MAX_MS:
        raise ConfigError(
            f"maxSessionTimeout would be {settings.max_session_timeout_ms} (20 ticks), clients can be told "
            f"{_TIMEOUT_MAX_MS} at most; lower tickTime ({settings.tick_time_ms}) or set maxSessionTimeout"
        )
    if settings.client_port > 0 and settings.client_port == settings.secure_client_port:
        raise ConfigError(f"clientPort and secureClientPort are both {settings.client_port}; they must differ")
    if settings.extended_types_enabled and settings.my_id > 254:
        raise ConfigError(f"with extendedTypesEnabled a server's number is at most 254, this one is {settings.my_id}")
    if settings.local_sessions_upgrading_enabled and not settings.local_sessions_enabled:
        raise ConfigError("localSessionsUpgradingEnabled needs localSessionsEnabled=true")
    if settings.servers:
        _check_members(settings, origins, warnings)


def _check_members(settings: Settings, origins: dict[str, str], warnings: list[str]) -> None:
    voters = [server.sid for server in settings.servers if server.voting]
    observers = [server.sid for server in settings.servers if not server.voting]
    place = origins["servers"]
    if not voters:
        raise ConfigError(f"{place}: all servers are observers; at least one must be a participant")
    if observers and not settings.distributed:
        raise ConfigError(f"{place}: observers need an ensemble: set standaloneEnabled=false or add participants")
    _check_addresses(settings, place)
    if settings.distributed:
        _check_own(settings, origins, warnings)
    if len(voters) == 2:
        warnings.append(f"{place}: two voting servers tolerate no failure; use three")
    elif len(voters) > 1 and len(voters) % 2 == 0:
        warnings.append(f"{place}: {len(voters)} voting servers tolerate no more failures than {len(voters) - 1}")
    if not settings.groups and not settings.weights:
        return
    sids = {server.sid for server in settings.servers}
    for sid in settings.weights:
        if sid not in sids:
            raise ConfigError(f"{origins['weights']}: weight.{sid} is given, but there is no server.{sid}")
    grouped: dict[int, int] = {}
    for group, members in settings.groups.items():
        for sid in members:
            if sid in grouped:
                raise ConfigError(f"{origins['groups']}: server {sid} is in group {grouped[sid]} and in group {group}")
            if sid not in sids:
                raise ConfigError(
                    f"{origins['groups']}: group.{group} names server {sid}, but there is no server.{sid}"
                )
            grouped[sid] = group
    missing = [sid for sid in voters if sid not in grouped]
    if missing:
        lines = origins["groups" if settings.groups else "weights"]
        raise ConfigError(
            f"{lines}: server {missing[0]} is in no group; "
            "with group or weight lines every voting server must be in one"
        )


def _check_addresses(settings: Settings, place: str) -> None:
    taken: dict[tuple[str, int], int] = {}
    for server in settings.servers:
        for address in server.addresses:
            for port in (address.quorum_port, address.election_port):
                other = taken.setdefault((address.host, port), server.sid)
                if other != server.sid:
                    where = f"{address.host}:{port}"
                    raise ConfigError(
                        f"{place}: server.{other} and server.{server.sid} are both at {where}; correct one"
                    )


def _check_own(settings: Settings, origins: dict[str, str], warnings: list[str]) -> None:
    place = origins["servers"]
    path = os.path.join(settings.data_dir, "myid")
    if settings.my_id < 0:
        raise ConfigError(
            f"{place} lists {len(settings.servers)} servers, but {path} does not exist: write this server's "
            "number into it, or set COREKIT_MY_ID"
        )
    own = next((server for server in settings.servers if server.sid == settings.my_id), None)
    if own is None:
        known = ", ".join(str(server.sid) for server in settings.servers)
        raise ConfigError(
            f"this is server {settings.my_id}, but {place} lists only {known}; correct {path} or the list"
        )
    if "peer_type" in origins and own.role != settings.peer_type:
        warnings.append(
            f"server.{own.sid} is {own.role} in the server list, peerType says {settings.peer_type}; the list counts"
        )
