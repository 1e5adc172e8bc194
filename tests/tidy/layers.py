"""Who may import whom, and what to do instead. See docs/architecture.md, section "Folders"."""

from __future__ import annotations

from collections.abc import Iterator

from tests.tidy.source import Source, imports

# A module imports lower numbers, or its own folder.
LAYERS = {
    "errors": 0,
    "limits": 0,
    "native": 0,
    "config": 0,
    "model": 1,
    "codec": 2,
    "storage_api": 2,
    "api": 3,
    "hooks": 3,
    "contracts": 3,
    "replica": 4,
    "server": 5,
    "client": 5,
    "builtin": 6,
    "plugins": 6,
    "testing": 7,
    "logs": 6,
    "cli": 8,
    "__main__": 9,
}

# What a plugin sees of corekit; recipes and commands also see the client.
FOR_PLUGINS = frozenset(("api", "hooks", "errors", "limits", "config", "model", "codec", "testing"))
FOR_COMMANDS = FOR_PLUGINS | {"client", "cli"}

_PURE = "decisions are synchronous and take it as an argument: "
# Module -> what stands in its place in layers 0 to 4 and in the core of a consensus plugin.
IMPURE = {
    "time": _PURE + "milliseconds come in as `now_ms`",
    "random": _PURE + "a `random.Random` comes in from the caller",
    "secrets": _PURE + "a `random.Random` comes in from the caller",
    "socket": "bytes come in and go out; sockets are the business of `corekit.server`",
    "ssl": "bytes come in and go out; TLS is the business of `corekit.server`",
    "select": "bytes come in and go out; waiting is the business of `corekit.server`",
    "selectors": "bytes come in and go out; waiting is the business of `corekit.server`",
    "threading": "nothing runs in parallel here; threads are the business of `corekit.server.disk`",
    "subprocess": "processes are the business of commands",
    "asyncio": "return effects; what waits is a trio task in `corekit.server`",
    "trio": "return effects; what waits is a trio task in `corekit.server`",
    "anyio": "return effects; what waits is a trio task in `corekit.server`",
}

# Third-party package -> (places that may use it, what others do). A place is a prefix of a module's name.
CONFINED = {
    "pluggy": (("corekit.hooks", "corekit.plugins"), "use `corekit.hooks.hookimpl`; wiring is `corekit.plugins`"),
    "typer": (
        ("corekit.cli", "corekit_recipes", "corekit.testing.command"),
        "commands live in `corekit.cli` or in a plugin of kind command",
    ),
    "rich": (("corekit.cli", "corekit_recipes"), "return values; printing is the business of commands"),
    "rocksdict": (("corekit_storage_rocks",), "use the contract `corekit.api.Storage`"),
    "prometheus_client": (("corekit.server",), "record into `corekit.server.metrics`"),
    "h11": (("corekit.server",), "HTTP is spoken by `corekit.server.http`"),
    "structlog": ((), "use `logging` with `extra=`; see `corekit.logs`"),
    "requests": ((), "use the standard library"),
    "asyncio": ((), "use trio in the server, anyio in the client"),
}


def faults(source: Source) -> Iterator[str]:
    """One text for each import that breaks a rule: place, what, and what to do instead."""
    top = source.module.split(".")[0]
    for item in imports(source):
        place = f"{source.path}:{item.line}: {item.module}"
        package, *rest = item.module.split(".")
        if package == "corekit" and rest:
            found = _inside(source, rest[0]) if top == "corekit" else _from_plugin(source, rest[0])
        elif package.startswith("corekit_") and package != top:
            found = (
                "corekit never imports a plugin; use a contract of `corekit.api`"
                if top == "corekit"
                else "plugins never import each other; what both need belongs into corekit"
            )
        else:
            found = "" if item.for_types else _outside(source, package)
        if found:
            yield f"{place}: {found}"


def layer(source: Source) -> int | None:
    """The layer of a file of corekit, None for a plugin's."""
    top, *rest = source.module.split(".")
    return LAYERS.get(rest[0], 0) if top == "corekit" and rest else 0 if top == "corekit" else None


def _inside(source: Source, target: str) -> str:
    rest = source.module.split(".")[1:]
    if not rest or target not in LAYERS:  # the package `corekit` itself holds its version only
        return "" if target.startswith("__") else f"{target} has no layer; give it one in tests/tidy/layers.py"
    if rest[0] not in LAYERS:
        return f"{rest[0]} has no layer; give it one in tests/tidy/layers.py"
    own, other = LAYERS[rest[0]], LAYERS[target]
    if other < own or rest[0] == target or (other == own and target in ("errors", "limits", "api")):
        return ""
    return (
        f"layer {own} ({rest[0]}) may not import layer {other} ({target}); "
        "move what both need to a lower layer, or pass it in as an argument or a contract"
    )


def _from_plugin(source: Source, target: str) -> str:
    allowed = FOR_COMMANDS if source.module.startswith("corekit_recipes") else FOR_PLUGINS
    if target in allowed:
        return ""
    return f"a plugin sees only {', '.join(sorted(allowed))} of corekit; use what `Context` and the host offer"


def _outside(source: Source, package: str) -> str:
    number = layer(source)
    pure = (number is not None and number <= 4) or source.module.startswith("corekit_zab")
    if pure and package in IMPURE:
        return IMPURE[package]
    if package in CONFINED:
        places, instead = CONFINED[package]
        if not any(source.module == place or source.module.startswith(place + ".") for place in places):
            return instead
    return ""
