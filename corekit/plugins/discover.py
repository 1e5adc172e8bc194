"""Finding installed plugins without importing them, importing one, and checking what it says of itself.

Not here: which plugins a server uses (`choose.py`), what they make (`wiring.py`).
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from corekit.api import API_VERSION
from corekit.errors import PluginError
from corekit.hooks import GROUP, HOOK_NAMES, KINDS, Hooks, PluginInfo

OWN_PACKAGE = "corekit"


@dataclass(slots=True)
class Found:
    """One installed plugin on the way from its entry point to its use.

    Attributes:
        point: its entry point.
        others: entry points of the same name in other packages; such a plugin cannot be used.
        plugin: the imported object, None before `load`.
        kind, hooks: known after `load`.
    """

    point: EntryPoint
    others: list[EntryPoint] = field(default_factory=list)
    plugin: Any = None
    kind: str = ""
    hooks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def package(self) -> str:
        return package_of(self.point)

    @property
    def version(self) -> str:
        return self.point.dist.version if self.point.dist is not None else ""

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.package} {self.version})"

    def info(self, *, used: bool, why: str, error: str = "") -> PluginInfo:
        return PluginInfo(
            self.name, self.kind, self.package, self.version, self.point.value, self.hooks, used, why, error
        )


def package_of(point: EntryPoint) -> str:
    """The distribution that brings an entry point."""
    return point.dist.name if point.dist is not None else "?"


def installed(environ: Mapping[str, str] | None = None) -> dict[str, Found]:
    """Every plugin on the import path by name, none imported.

    `COREKIT_LOAD_PLUGINS=a,b` hides all of other packages except those (by plugin or package name); empty hides all.
    """
    allowed = (os.environ if environ is None else environ).get("COREKIT_LOAD_PLUGINS")
    names = None if allowed is None else {name.strip() for name in allowed.split(",")}
    found: dict[str, Found] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, package_of(p) != OWN_PACKAGE, package_of(p))):
        package = package_of(point)
        if names is not None and package != OWN_PACKAGE and names.isdisjoint((point.name, package)):
            continue
        if point.name in found:
            found[point.name].others.append(point)
        else:
            found[point.name] = Found(point)
    return found


def find(name: str, found: dict[str, Found]) -> Found:
    """The installed plugin of this name.

    Raises:
        PluginError: there is none, or several packages bring one.
    """
    if name not in found:
        lower = {one.lower(): one for one in found}
        close = difflib.get_close_matches(name.lower(), lower, 1)
        hint = f" Did you mean {lower[close[0]]}?" if close else ""
        raise PluginError(f"there is no plugin {name}.{hint} Installed are: {', '.join(sorted(found)) or 'none'}")
    one = found[name]
    if one.others:
        packages = ", ".join(package_of(point) for point in (one.point, *one.others))
        raise PluginError(f"plugin {name} is brought by several packages: {packages}. Uninstall all but one")
    return one


def load(one: Found) -> None:
    """Import a plugin and check what it says of itself. Does nothing if that was done before.

    Raises:
        PluginError: it cannot be imported, or is not what a plugin must be.
    """
    if one.plugin is not None:
        return
    try:
        plugin = one.point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{one} cannot be imported: {type(error).__name__}: {error}") from error
    if inspect.isclass(plugin):
        raise PluginError(f"{one}: {one.point.value} is a class; the entry point must name a module or an object")
    version = getattr(plugin, "api_version", None)
    if not isinstance(version, int):
        raise PluginError(f"{one}: {one.point.value} has no api_version; write api_version = {API_VERSION}")
    if version != API_VERSION:
        newer = "a newer release of the plugin" if version < API_VERSION else "a newer corekit"
        raise PluginError(
            f"{one} is made for API version {version}, this corekit has API version {API_VERSION}: install {newer}"
        )
    kind = getattr(plugin, "kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise PluginError(f"{one} has kind {kind!r}; kinds are {', '.join(KINDS)}")
    one.kind = kind
    one.hooks = tuple(sorted(_marked(plugin)))
    _check_hooks(one, plugin)
    one.plugin = plugin


def _marked(plugin: Any) -> Iterable[str]:
    return (name for name in dir(plugin) if getattr(getattr(plugin, name, None), f"{GROUP}_impl", None) is not None)


def _check_hooks(one: Found, plugin: Any) -> None:
    for name in one.hooks:
        if name not in HOOK_NAMES:
            close = difflib.get_close_matches(name, HOOK_NAMES, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; hooks are {', '.join(sorted(HOOK_NAMES))}"
            raise PluginError(f"{one}: there is no hook {name}{hint}")
        wanted = set(inspect.signature(getattr(Hooks, name)).parameters)
        extra = set(inspect.signature(getattr(plugin, name)).parameters) - wanted
        if extra:
            given = ", ".join(sorted(wanted - {"self"}))
            raise PluginError(f"{one}: {name} takes {', '.join(sorted(extra))}; the hook is called with {given}")
    needed = KINDS[one.kind][0]
    if needed is not None and needed not in one.hooks:
        raise PluginError(f"{one} is of kind {one.kind} but has no function {needed} marked with @hookimpl")
    for name in one.hooks:
        if name.startswith("make_") and name != needed:
            raise PluginError(f"{one} is of kind {one.kind} and must not implement {name}: one plugin, one kind")


def peek_kind(module: str) -> str | None:
    """The `kind = "..."` that stands in a module's source, without importing it. None: import it to find out."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    path = spec.origin
    if rest:
        bases = [os.path.join(place, *rest) for place in spec.submodule_search_locations or ()]
        candidates = [p for base in bases for p in (base + ".py", os.path.join(base, "__init__.py"))]
        path = next((p for p in candidates if os.path.exists(p)), None)
    if path is None or not path.endswith(".py"):
        return None
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError):
        return None
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if any(isinstance(target, ast.Name) and target.id == "kind" for target in targets):
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None
