"""Which plugins a server uses: those that are named, and the defaults of the kinds that are not.

Rules: the order of names never matters; naming a plugin of a kind replaces the default of that kind; nothing that is
not used is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from corekit.config import Settings
from corekit.errors import PluginError
from corekit.hooks import KINDS
from corekit.plugins.discover import Found, find, load

DEFAULTS = {"storage": "rocks", "transport": "tcp", "protocol": "zookeeper", "auth": "digest"}


def default_name(kind: str, settings: Settings) -> str | None:
    """The plugin used for a kind that nobody names, or None if the kind can stay empty."""
    if kind == "consensus":
        return "zab" if settings.distributed else "solo"
    return DEFAULTS.get(kind)


@dataclass(slots=True)
class Choice:
    """A plugin that is used, and why."""

    one: Found
    why: str


def choose(settings: Settings, found: dict[str, Found]) -> list[Choice]:
    """The plugins of a server with these settings, imported. The result does not depend on the order of names."""
    excluded = set(settings.plugins_excluded)
    for name in sorted(excluded):
        if name not in found:
            find(name, found)
    chosen: dict[str, Choice] = {}
    by_kind: dict[str, list[Found]] = {}
    for name in sorted(set(settings.plugins)):
        one = find(name, found)
        if name in excluded:
            raise PluginError(f"plugin {name} is both named and excluded; choose one")
        load(one)
        chosen[name] = Choice(one, "named")
        by_kind.setdefault(one.kind, []).append(one)
    for kind, several in by_kind.items():
        if KINDS[kind][1] and len(several) > 1:
            names = " and ".join(one.name for one in several)
            raise PluginError(f"{names} are both of kind {kind}, and a server has one {kind}; name one of them")
    for kind in KINDS:
        default = default_name(kind, settings)
        if kind in by_kind or default is None:
            continue
        if default not in excluded:
            one = find(default, found)
            load(one)
            chosen[default] = Choice(one, f"default {kind}")
        elif kind != "auth":
            raise PluginError(f"no {kind} is left: {default} is excluded; name another plugin of kind {kind}")
    return [chosen[name] for name in sorted(chosen)]
