"""The hooks that plugins implement, and what goes in and out of them.

A plugin is a module (or an object) that an entry point of the group `corekit` names. It says what it is and marks its
hooks:

    kind = "storage"
    api_version = 1

    @hookimpl
    def make_storage(context):
        return MyStorage(context.data_dir)

Rules
- `make_*` hooks are called once, before the event loop runs, on the plugin chosen for that kind and on no other.
- `register_*` hooks are called once, before the event loop runs, on every plugin in use.
- The hooks of one plugin are called in this order: register_auth_schemes, its make_* hook, register_observers,
  register_services, register_admin_commands.
- Both may read files and import, and should do nothing slower than that; sockets and databases are opened later, by the
  methods of what they return. What they raise stops the start with exit code 2: a `UserError` with its own text,
  anything else with the plugin's name and version.
- `server_started`, `role_changed`, `server_stopping` are called on the event loop, plugins in no particular order, and
  must not block. What they raise is logged and changes nothing.
- Hooks wire; they are never called for a request. A hook may take fewer arguments than its specification has.

Not here: how plugins are found and chosen (`plugins.py`), the contracts of what they return (`api.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from corekit.api import AuthScheme, ClientProtocol, Consensus, Gateway, Observer, Storage, Transport
from corekit.config import Settings

if TYPE_CHECKING:
    from random import Random

    import typer

GROUP = "corekit"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

# What a plugin can be: the hook that makes it one, and whether a server runs exactly one of the kind.
KINDS: dict[str, tuple[str | None, bool]] = {
    "storage": ("make_storage", True),
    "consensus": ("make_consensus", True),
    "transport": ("make_transport", True),
    "protocol": ("make_client_protocol", False),
    "auth": ("register_auth_schemes", False),
    "observer": ("register_observers", False),
    "service": ("register_services", False),
    "command": ("register_commands", False),
    "recipe": (None, False),
}


class Clock(Protocol):
    """Where time comes from, so that tests and the simulator can bring their own."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; for timeouts."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970; for people and for transactions."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin is given when it is wired.

    Attributes:
        name: the plugin's name, as its entry point has it.
        settings: of the server; complete.
        options: the plugin's own settings: `plugin.NAME.KEY = text` in the configuration gives `{KEY: text}`.
        data_dir: directory of the server's data; it may not exist yet.
        logger: for this plugin.
        clock: time.
        random: randomness; seeded in the simulator, so never use another source.
    """

    name: str
    settings: Settings
    options: Mapping[str, str]
    data_dir: str
    logger: logging.Logger
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class AdminCommand:
    """A command of the admin port.

    Attributes:
        names: in the URL after `/commands/`; the first is the one listed.
        help: one line.
        run: called on the event loop with the server (`Gateway`) and the query's parameters; must not block. The
            result is sent as JSON. What it raises becomes the field `error`.
    """

    names: tuple[str, ...]
    help: str
    run: Callable[[Gateway, Mapping[str, str]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Service:
    """A background task of the server.

    Attributes:
        name: for the log.
        run: a trio async function, started once the server listens and cancelled when it stops. What it raises stops
            the server; returning early is fine.
    """

    name: str
    run: Callable[[Gateway], Awaitable[None]]


class Hooks(Protocol):
    """Specifications, with the types of arguments and results."""

    @hookspec(firstresult=True)
    def make_storage(self, context: Context) -> Storage | None:
        """The durable home of the server's data. `Storage.open` is called later, in a worker thread."""

    @hookspec(firstresult=True)
    def make_consensus(self, context: Context) -> Consensus | None:
        """What puts transactions into order. `Consensus.start` is called later, on the event loop."""

    @hookspec(firstresult=True)
    def make_transport(self, context: Context) -> Transport | None:
        """What opens listeners and links. `Transport.listen` is called later, on the event loop."""

    @hookspec(firstresult=True)
    def make_client_protocol(self, context: Context) -> ClientProtocol | None:
        """A language that clients speak. A server may run several, each with listeners of its own."""

    @hookspec
    def register_auth_schemes(self, context: Context) -> Sequence[AuthScheme]:
        """Authentication schemes. Two plugins may not register the same scheme."""

    @hookspec
    def register_observers(self, context: Context) -> Sequence[Observer]:
        """Objects that are told what happens. One that raises later is logged and unbound."""

    @hookspec
    def register_commands(self, app: typer.Typer) -> None:
        """Add commands and groups of commands to `corekit`.

        Called for every installed plugin of kind `command` or `recipe` when the command line needs it, with no server
        running. Import what the commands need inside them: this hook runs for every `corekit --help`.
        """

    @hookspec
    def register_admin_commands(self, context: Context) -> Sequence[AdminCommand]:
        """Commands of the admin port."""

    @hookspec
    def register_services(self, context: Context) -> Sequence[Service]:
        """Background tasks that the server runs."""

    @hookspec
    def server_started(self, addresses: Sequence[str]) -> None:
        """The server listens; `addresses` says where, for people. Called once."""

    @hookspec
    def role_changed(self, mode: str, epoch: int) -> None:
        """The server's role is now `mode` (ZooKeeper's word, or `looking`) in this epoch."""

    @hookspec
    def server_stopping(self, why: str) -> None:
        """The server is about to stop in good order. Called once, while clients are still connected."""


HOOK_NAMES = frozenset(name for name, value in vars(Hooks).items() if hasattr(value, f"{GROUP}_spec"))


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One installed plugin, for people.

    Attributes:
        name: of its entry point.
        kind: one of `KINDS`, or "" if it could not be found out.
        package, version: the distribution that brought it.
        module: what the entry point names.
        hooks: names of the hooks it implements.
        used: whether a server with these settings uses it.
        why: the reason of `used`.
        error: why it cannot be used at all, or "".
    """

    name: str
    kind: str = ""
    package: str = ""
    version: str = ""
    module: str = ""
    hooks: tuple[str, ...] = ()
    used: bool = False
    why: str = ""
    error: str = ""

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.package} {self.version})"


class Events(Protocol):
    """The hooks that are called while the server runs. None of them raises."""

    def server_started(self, addresses: Sequence[str]) -> None:
        """See `Hooks`."""

    def role_changed(self, mode: str, epoch: int) -> None:
        """See `Hooks`."""

    def server_stopping(self, why: str) -> None:
        """See `Hooks`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A wired server: what each plugin in use has made. Every object was checked against its contract.

    Attributes:
        protocols: at least one.
        auth_schemes: by scheme name.
        admin_commands: by each of their names.
        infos: of the plugins in use.
        makers: the plugin that made or registered an object, by the object's `id`.
    """

    storage: Storage
    consensus: Consensus
    transport: Transport
    protocols: tuple[ClientProtocol, ...]
    events: Events
    auth_schemes: Mapping[str, AuthScheme] = field(default_factory=dict)
    observers: tuple[Observer, ...] = ()
    services: tuple[Service, ...] = ()
    admin_commands: Mapping[str, AdminCommand] = field(default_factory=dict)
    infos: tuple[PluginInfo, ...] = ()
    makers: Mapping[int, PluginInfo] = field(default_factory=dict)

    def maker(self, thing: object) -> PluginInfo | None:
        """The plugin that made a part, an observer, a scheme, a service or a command."""
        return self.makers.get(id(thing))
