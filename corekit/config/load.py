"""Layers of configuration: defaults, -D in JVMFLAGS, file, ZOO_* variables, COREKIT_* variables, command line.

The later wins.

Rules
- Every effective value remembers where it came from.
- A malformed value is a `ConfigError` in whatever layer it stands, even if a later layer replaces it.
- A key that ZooKeeper knows and corekit does not act on is warned of once with the reason; an unknown key is warned
  of with the nearest known one. Neither stops the server: a file written for Java loads.
- Secrets are never shown in a message.

Not here: the settings themselves (`settings.py`), file syntax (`files.py`), checks across settings (`check.py`).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corekit.config.check import complete
from corekit.config.files import Entry, read_file
from corekit.config.known import NOT_HONOURED, OTHER_VARIABLES, ZOO_VARIABLES_WITHOUT_KEY, reason_not_honoured
from corekit.config.members import FORM, ServerSpec, parse_group, parse_server, parse_weight
from corekit.config.parsers import TooLargeError
from corekit.config.settings import SETTINGS, Settings
from corekit.config.table import Setting
from corekit.errors import ConfigError

DEFAULT = "default"


@dataclass(slots=True)
class Loaded:
    """The outcome of `load`.

    Attributes:
        settings: effective values.
        origins: field name -> where its value came from (`default`, `zoo.cfg:3`, `$ZOO_TICK_TIME`, `--client-port`).
        warnings: one line each, for the log; already without secrets.
        config_file: the file that was read, or None.
    """

    settings: Settings
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    config_file: str | None = None


_KEYS: dict[str, Setting] = {}
for _setting in SETTINGS.values():
    for _key in (*_setting.keys, _setting.field):
        _KEYS[_key] = _setting

_MEMBER_KEY = re.compile(r"(server|group|weight)\.([0-9]{1,3})")
_PLUGIN_KEY = re.compile(r"plugin\.([A-Za-z0-9_-]+)\.(.+)")


class _Loader:
    """Collects entries in the order of their layers."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []
        self.servers: dict[int, ServerSpec] = {}
        self.groups: dict[int, frozenset[int]] = {}
        self.weights: dict[int, int] = {}
        self.plugin_options: dict[str, dict[str, str]] = {}

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def apply(self, entry: Entry) -> None:
        """Take one entry over whatever an earlier one said."""
        key = entry.key.removeprefix("zookeeper.")
        if "\0" in entry.key or "\0" in entry.text:
            raise ConfigError(f"{entry.origin}: a character with the number 0 is not accepted in a setting")
        known = _KEYS.get(key)
        if known is not None:
            self.set(known, entry)
        elif (match := _MEMBER_KEY.fullmatch(key)) and (match[1] != "server" or int(match[2]) <= 255):
            self.member(match[1], int(match[2]), entry)
        elif match := _PLUGIN_KEY.fullmatch(key):
            self.plugin_options.setdefault(match[1], {})[match[2]] = entry.text
            self.origins["plugin_options"] = entry.origin
        elif (reason := reason_not_honoured(key)) is not None:
            self.warn(f"{entry.origin}: {entry.key} has no effect: {reason}")
        elif not key:
            raise ConfigError(f"{entry.origin}: ={entry.text} is not accepted; accepted is key=value")
        elif key.startswith("server."):  # ignored, it would leave a server alone that was meant to be one of several
            raise ConfigError(f"{entry.origin}: {entry.key} is not accepted; accepted is server.N with N from 0 to 255")
        else:
            self.warn(f"{entry.origin}: unknown key {entry.key}{_nearest(key)}")

    def set(self, known: Setting, entry: Entry) -> None:
        parser = known.parser(entry.key.removeprefix("zookeeper."))
        try:
            value = parser(entry.text)
        except ValueError as error:
            shown = "***" if known.secret else entry.text
            why = f" ({error})" if isinstance(error, TooLargeError) else ""
            raise ConfigError(
                f"{entry.origin}: {entry.key}={shown} is not accepted{why}; accepted is {parser.accepts}"
            ) from None
        self.values[known.field] = value
        self.origins[known.field] = entry.origin
        if known.pending and value != known.default:
            self.warn(f"{entry.origin}: {entry.key} has no effect: {known.pending}")

    def member(self, kind: str, number: int, entry: Entry) -> None:
        try:
            if kind == "server":
                self.servers[number] = parse_server(number, entry.text)
            elif kind == "group":
                self.groups[number] = parse_group(entry.text)
            else:
                self.weights[number] = parse_weight(entry.text)
        except ValueError as error:
            accepted = {"server": FORM, "group": "numbers of servers with colons between", "weight": "0 or more"}[kind]
            why = f" ({error})" if " " in str(error) and kind == "server" else ""
            raise ConfigError(
                f"{entry.origin}: {entry.key}={entry.text} is not accepted{why}; accepted is {accepted}"
            ) from None
        self.origins[f"{kind}s"] = entry.origin

    def replace_servers(self, text: str, origin: str) -> None:
        """`ZOO_SERVERS`: a whole list, blanks between, each with or without `server.N=` in front."""
        self.servers.clear()
        for number, part in enumerate(text.split(), 1):
            key, separator, value = part.partition("=")
            self.apply(Entry(key, value, origin) if separator else Entry(f"server.{number}", part, origin))


def _nearest(key: str) -> str:
    import difflib  # only a misspelt key needs it

    candidates = {known.lower(): known for known in [*NOT_HONOURED, *_KEYS] if not known.endswith(".")}
    close = difflib.get_close_matches(key.lower(), candidates, 1, 0.7)
    return f"; did you mean {candidates[close[0]]}?" if close else ""


def load(
    config: str | os.PathLike[str] | None = None,
    *,
    options: Iterable[Entry | tuple[str, str, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Settings from all layers.

    Args:
        config: a `zoo.cfg` or a `.toml` file. Without one `$COREKIT_CONFIG` names it, or `zoo.cfg` in `$ZOO_CONF_DIR`.
        options: what the command line says: (key, text, origin for people).
        environ: variables; those of the process if None.

    Raises:
        ConfigError: a file cannot be read, a value is not accepted, or values contradict each other.
    """
    variables = os.environ if environ is None else environ
    loader = _Loader()
    path = _config_path(config, variables)
    _apply_jvm_flags(loader, variables)
    if path is not None:
        _apply_file(loader, path)
    _apply_zoo_variables(loader, variables)
    _apply_corekit_variables(loader, variables)
    for option in options:
        loader.apply(Entry(*option))
    if path is not None and "tick_time_ms" not in loader.values:
        loader.values["tick_time_ms"] = 3000
        loader.origins["tick_time_ms"] = "default of a configuration file"
    settings = complete(loader.values | _members(loader), loader.origins, loader.warnings)
    origins = {name: loader.origins.get(name, DEFAULT) for name in Settings.__dataclass_fields__}
    return Loaded(settings, origins, loader.warnings, path)


def _members(loader: _Loader) -> dict[str, Any]:
    return {
        "servers": tuple(loader.servers[sid] for sid in sorted(loader.servers)),
        "groups": loader.groups,
        "weights": loader.weights,
        "plugin_options": loader.plugin_options,
    }


def _config_path(config: str | os.PathLike[str] | None, variables: Mapping[str, str]) -> str | None:
    if config is not None:
        return os.fspath(config)
    if variables.get("COREKIT_CONFIG"):
        return variables["COREKIT_CONFIG"]
    if variables.get("ZOO_CONF_DIR"):
        path = os.path.join(variables["ZOO_CONF_DIR"], "zoo.cfg")
        return path if os.path.exists(path) else None
    return None


def _apply_file(loader: _Loader, path: str) -> None:
    seen: dict[str, str] = {}
    entries = read_file(path)
    for entry in entries:
        if entry.key in seen:
            loader.warn(f"{entry.origin}: {entry.key} was given before at {seen[entry.key]}; this one counts")
        seen[entry.key] = entry.origin
        loader.apply(entry)
    dynamic = loader.values.get("dynamic_config_file")
    if not dynamic:
        return
    for entry in entries:
        if _MEMBER_KEY.fullmatch(entry.key):
            raise ConfigError(
                f"{entry.origin}: {entry.key} must stand in the dynamic file {dynamic}, because "
                "dynamicConfigFile is set"
            )
    for entry in read_file(dynamic):
        if entry.key == "version":
            loader.values["config_version"] = _version(entry)
            loader.origins["config_version"] = entry.origin
        elif _MEMBER_KEY.fullmatch(entry.key):
            loader.apply(entry)
        else:
            raise ConfigError(
                f"{entry.origin}: {entry.key} does not belong into a dynamic file; accepted are server.N, group.N, "
                "weight.N and version"
            )


def _version(entry: Entry) -> int:
    try:
        return int(entry.text, 16)
    except ValueError:
        raise ConfigError(
            f"{entry.origin}: version={entry.text} is not accepted; accepted is a hexadecimal number"
        ) from None


def _apply_jvm_flags(loader: _Loader, variables: Mapping[str, str]) -> None:
    """System properties as zkServer.sh hands them to Java; a file overrides them there, too (`QuorumPeerConfig`)."""
    for name in ("SERVER_JVMFLAGS", "JVMFLAGS"):
        try:
            flags = shlex.split(variables.get(name, ""))
        except ValueError as error:
            raise ConfigError(f"${name}: {error}; accepted are flags of Java with blanks between") from None
        for flag in flags:
            key, separator, value = flag.removeprefix("-D").partition("=")
            if flag.startswith("-D") and separator and (key.startswith("zookeeper.") or key in _KEYS):
                loader.apply(Entry(key, value, f"${name}"))


def _apply_zoo_variables(loader: _Loader, variables: Mapping[str, str]) -> None:
    for known in SETTINGS.values():
        value = variables.get(known.zoo_env) if known.zoo_env else None
        if value:
            loader.apply(Entry(known.keys[0], value, f"${known.zoo_env}"))
    if variables.get("ZOO_SERVERS"):
        loader.replace_servers(variables["ZOO_SERVERS"], "$ZOO_SERVERS")
    for part in variables.get("ZOO_CFG_EXTRA", "").split():
        key, separator, value = part.partition("=")
        if not separator:
            raise ConfigError(f"$ZOO_CFG_EXTRA: {part} is not accepted; accepted is key=value with blanks between")
        loader.apply(Entry(key, value, "$ZOO_CFG_EXTRA"))
    names = {known.zoo_env for known in SETTINGS.values() if known.zoo_env} | ZOO_VARIABLES_WITHOUT_KEY
    for name in sorted(variables):
        if name.startswith("ZOO_") and name not in names:
            _warn_of_slip(loader, name, names)


def _warn_of_slip(loader: _Loader, name: str, names: Iterable[str]) -> None:
    """Only what looks like one: other programs and commands have variables of their own (`COREKIT_HOSTS` ...)."""
    import difflib

    if close := difflib.get_close_matches(name, names, 1, 0.85):
        loader.warn(f"${name}: unknown variable; did you mean {close[0]}?")


# Kubernetes sets variables for every service of a namespace. A service named `corekit` or `corekit-client` gives
# COREKIT_PORT=tcp://10.0.0.7:2181, COREKIT_CLIENT_PORT=tcp://..., COREKIT_SERVICE_HOST and so on: none is meant for us.
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_[0-9]+_(TCP|UDP|SCTP)(_|$)")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


def _apply_corekit_variables(loader: _Loader, variables: Mapping[str, str]) -> None:
    names = {known.env: known for known in SETTINGS.values()}
    for name in sorted(variables):
        value = variables[name]
        if not name.startswith("COREKIT_") or name in OTHER_VARIABLES or _SERVICE_LINK.search(name):
            continue
        if name.endswith("_PORT") and _SERVICE_LINK_VALUE.match(value):
            if name in names:
                loader.warn(f"${name}={value} is taken for a Kubernetes service link and has no effect")
        elif name in names:
            loader.apply(Entry(names[name].field, value, f"${name}"))
        else:
            _warn_of_slip(loader, name, names)
    if variables.get("COREKIT_SERVERS"):
        loader.replace_servers(variables["COREKIT_SERVERS"], "$COREKIT_SERVERS")
