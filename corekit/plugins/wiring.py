"""Connecting the plugins of a server: every `make_*` and `register_*` hook is called here, and the results checked.

Rules: a hook is called on one plugin at a time, so that what it raises or returns is put down to that plugin; every
object is checked against its contract once; nothing of pluggy is left on the path of a request.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pluggy

from corekit.api import (
    AuthScheme,
    BackgroundSync,
    ClientProtocol,
    Consensus,
    EnsembleConsensus,
    Observer,
    Storage,
    Transport,
)
from corekit.config import Settings
from corekit.contracts import breaches
from corekit.errors import ConfigError, PluginError, UserError
from corekit.hooks import GROUP, KINDS, AdminCommand, Clock, Context, Hooks, Parts, Service
from corekit.plugins.choose import DEFAULTS, Choice, choose
from corekit.plugins.discover import Found, installed

CONTRACTS: dict[str, type] = {
    "storage": Storage,
    "consensus": Consensus,
    "transport": Transport,
    "protocol": ClientProtocol,
    "auth": AuthScheme,
}
# What may be offered beside it; half of it would be taken for none.
EXTENSIONS: dict[str, type] = {"storage": BackgroundSync, "consensus": EnsembleConsensus}

_log = logging.getLogger("corekit.plugins")


class SystemClock:
    """The computer's clocks."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000


class _Events:
    """Calls the hooks of a running server, each plugin for itself, so that one that raises spoils nothing."""

    def __init__(self, manager: pluggy.PluginManager, plugins: Sequence[Found]) -> None:
        self._calls: dict[str, list[tuple[Found, Any]]] = {
            name: [(one, caller(manager, name, one)) for one in plugins if name in one.hooks]
            for name in ("server_started", "role_changed", "server_stopping")
        }

    def _call(self, hook: str, **arguments: Any) -> None:
        for one, call in self._calls[hook]:
            try:
                call(**arguments)
            except Exception:  # what only looks on must not stop the server
                _log.exception("%s failed in %s", one, hook)

    def server_started(self, addresses: Sequence[str]) -> None:
        """The server listens."""
        self._call("server_started", addresses=addresses)

    def role_changed(self, mode: str, epoch: int) -> None:
        """The server's role changed."""
        self._call("role_changed", mode=mode, epoch=epoch)

    def server_stopping(self, why: str) -> None:
        """The server is about to stop."""
        self._call("server_stopping", why=why)


def caller(manager: pluggy.PluginManager, hook: str, one: Found) -> Any:
    """Calls a hook on one plugin only."""
    others = [plugin for plugin in manager.get_plugins() if plugin is not one.plugin]
    return manager.subset_hook_caller(hook, others)


def new_manager(plugins: Sequence[Found], environ: Mapping[str, str]) -> pluggy.PluginManager:
    """A plugin manager with these plugins; `COREKIT_TRACE_PLUGINS=1` makes it tell of every call.

    Raises:
        PluginError: pluggy refuses a plugin.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    for one in plugins:
        try:
            manager.register(one.plugin, one.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"{one}: {error}") from error
    if environ.get("COREKIT_TRACE_PLUGINS", "0") not in ("", "0"):
        manager.add_hookcall_monitoring(_trace_before, _trace_after)
    return manager


def _trace_before(hook: str, impls: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]) -> None:
    shown = ", ".join(name for name in arguments)
    print(f"{hook}({shown}) -> {', '.join(impl.plugin_name for impl in impls) or 'nobody'}", file=sys.stderr)


def _trace_after(
    outcome: pluggy.Result[Any], hook: str, impls: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]
) -> None:
    result = f"raised {outcome.exception!r}" if outcome.exception is not None else repr(outcome.get_result())
    print(f"{hook}: {result}", file=sys.stderr)


class _Wiring:
    """One call of `wire`."""

    def __init__(
        self,
        settings: Settings,
        choices: Sequence[Choice],
        clock: Clock,
        rng: random.Random,
        environ: Mapping[str, str],
    ) -> None:
        self.settings = settings
        self.plugins = [choice.one for choice in choices]
        self.makers: dict[int, Found] = {}
        self.manager = new_manager(self.plugins, environ)
        self.contexts = {
            one.name: Context(
                name=one.name,
                settings=settings,
                options=settings.plugin_options.get(one.name, {}),
                data_dir=settings.data_dir,
                logger=logging.getLogger(f"corekit.plugin.{one.name}"),
                clock=clock,
                random=rng,
            )
            for one in self.plugins
        }

    def call(self, hook: str, one: Found) -> Any:
        """A hook of one plugin; what it raises is put down to that plugin."""
        try:
            return caller(self.manager, hook, one)(context=self.contexts[one.name])
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{one} failed in {hook}: {type(error).__name__}: {error}") from error

    def made(self, kind: str) -> list[Any]:
        """What the chosen plugins of a kind make, checked."""
        hook = KINDS[kind][0]
        assert hook is not None
        things = []
        for one in self.plugins:
            if one.kind == kind:
                thing = self.call(hook, one)
                if thing is None:
                    raise PluginError(f"{one}: {hook} returned nothing")
                check(thing, CONTRACTS[kind], str(one))
                more = EXTENSIONS.get(kind)
                if more is not None and isinstance(thing, more):
                    check(thing, more, str(one))
                self.makers[id(thing)] = one
                things.append(thing)
        return things

    def registered(self, hook: str, check_one: Callable[[Any, str], None]) -> list[tuple[Found, Any]]:
        """What all plugins register with a hook, checked."""
        things = []
        for one in self.plugins:
            if hook not in one.hooks:
                continue
            results = self.call(hook, one)
            if not results or not isinstance(results[0], Sequence) or isinstance(results[0], str | bytes):
                found = type(results[0]).__name__ if results else "NoneType"
                raise PluginError(f"{one}: {hook} returned {found}, not a list")
            for thing in results[0]:
                check_one(thing, str(one))
                self.makers[id(thing)] = one
                things.append((one, thing))
        return things


def check(thing: object, contract: type, who: str) -> None:
    """Check the form of a part.

    Raises:
        PluginError: `thing` is not a `contract`; names everything that is missing.
    """
    if problems := breaches(thing, contract):
        raise PluginError(f"{who}: {type(thing).__name__} is no {contract.__name__}: {'; '.join(problems)}")


def _instance(wanted: type) -> Callable[[Any, str], None]:
    def check_one(thing: Any, who: str) -> None:
        if not isinstance(thing, wanted):
            raise PluginError(f"{who}: {type(thing).__name__} is no {wanted.__module__}.{wanted.__name__}")

    return check_one


def _runs(wanted: type, *arguments: str) -> Callable[[Any, str], None]:
    """A check that a thing is of a type, and that its `run` can be called with these arguments."""

    def check_one(thing: Any, who: str) -> None:
        _instance(wanted)(thing, who)
        try:
            inspect.signature(thing.run).bind(*arguments)
        except TypeError as error:
            what = f"{wanted.__name__} {thing.name if wanted is Service else thing.names[0]}"
            raise PluginError(f"{who}: run of the {what} is called with ({', '.join(arguments)}): {error}") from None
        except ValueError:  # built into an extension module: nothing to compare
            pass

    return check_one


def _check_observer(thing: Any, who: str) -> None:
    """Only what it overrides is ever called, so a name that is almost right would see nothing, in silence."""
    _instance(Observer)(thing, who)
    check(thing, Observer, who)
    known = [name for name in vars(Observer) if not name.startswith("_")]
    for name in dir(thing):
        if name not in known and (close := difflib.get_close_matches(name, known, 1, 0.85)):
            kind = type(thing).__name__
            raise PluginError(f"{who}: {kind}.{name} would never be called; did you mean {close[0]}?")


def _unique(things: Iterable[tuple[Found, Any]], names: Callable[[Any], Iterable[str]], what: str) -> dict[str, Any]:
    table: dict[str, tuple[Found, Any]] = {}
    for one, thing in things:
        for name in names(thing):
            if name in table:
                raise PluginError(f"{what} {name} is registered twice: by {table[name][0]} and by {one}")
            table[name] = (one, thing)
    return {name: thing for name, (_, thing) in table.items()}


def wire(
    settings: Settings,
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    environ: Mapping[str, str] | None = None,
) -> Parts:
    """Choose, import and connect the plugins of a server.

    Args:
        clock, rng: time and randomness for the plugins; the computer's own if None.
        environ: variables; those of the process if None.

    Raises:
        PluginError: a plugin is unknown, broken, doubled, of another API version, or breaks its contract.
        ConfigError: an authentication scheme is demanded that no plugin brings.
    """
    variables = os.environ if environ is None else environ
    choices = choose(settings, installed(variables))
    wiring = _Wiring(settings, choices, clock or SystemClock(), rng or random.Random(), variables)
    schemes = _unique(
        wiring.registered("register_auth_schemes", lambda thing, who: check(thing, AuthScheme, who)),
        lambda scheme: (scheme.name,),
        "the authentication scheme",
    )
    if settings.enforce_auth_enabled:
        _check_enforced(settings, schemes)
    _warn_of_idle_options(settings, {choice.one.name for choice in choices})
    _warn_of_lost_schemes(settings, choices)
    infos = {choice.one.name: choice.one.info(used=True, why=choice.why) for choice in choices}
    made = {kind: wiring.made(kind) for kind in ("storage", "consensus", "transport", "protocol")}
    observers = wiring.registered("register_observers", _check_observer)
    services = wiring.registered("register_services", _runs(Service, "gateway"))
    commands = wiring.registered("register_admin_commands", _runs(AdminCommand, "gateway", "parameters"))
    parts = Parts(
        storage=made["storage"][0],
        consensus=made["consensus"][0],
        transport=made["transport"][0],
        protocols=tuple(made["protocol"]),
        events=_Events(wiring.manager, wiring.plugins),
        auth_schemes=schemes,
        observers=tuple(thing for _, thing in observers),
        services=tuple(thing for _, thing in services),
        admin_commands=_unique(commands, lambda command: command.names, "the admin command"),
        infos=tuple(infos.values()),
    )
    return replace(parts, makers={key: infos[one.name] for key, one in wiring.makers.items()})


def _warn_of_idle_options(settings: Settings, used: set[str]) -> None:
    for name in sorted(settings.plugin_options.keys() - used):
        keys = ", ".join(f"plugin.{name}.{key}" for key in sorted(settings.plugin_options[name]))
        close = difflib.get_close_matches(name, used, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        _log.warning(f"{keys} has no effect: no plugin {name} is used{hint}")


def _warn_of_lost_schemes(settings: Settings, choices: Sequence[Choice]) -> None:
    default = DEFAULTS["auth"]
    named = [choice.one.name for choice in choices if choice.one.kind == "auth"]
    if named and default not in named and default not in settings.plugins_excluded:
        _log.warning(
            f"{', '.join(named)} replaces {default}: nobody matches its schemes (digest, ip, super) in access lists; "
            f"name {default} too, or exclude it with no:{default}"
        )


def _check_enforced(settings: Settings, schemes: Mapping[str, AuthScheme]) -> None:
    """Source: ZooKeeper `AuthenticationHelper.initConfigurations`, which exits as well."""
    if not settings.enforce_auth_schemes:
        raise ConfigError("enforce.auth.enabled is true, but enforce.auth.schemes names no scheme")
    for name in settings.enforce_auth_schemes:
        if name not in schemes:
            known = ", ".join(sorted(schemes)) or "none"
            raise ConfigError(f"clients must prove the scheme {name}, but no plugin brings it; there are: {known}")
