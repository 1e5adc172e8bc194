"""Which plugin an error comes from, so that a server that stops says whose it is.

The innermost function that belongs to corekit or to a plugin decides; libraries in between count for who called them.
For a broken contract it is the part that broke it, or else the plugin that made the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corekit.errors import ContractError

if TYPE_CHECKING:
    from types import TracebackType

    from corekit.hooks import Parts, PluginInfo


def culprit(error: BaseException, parts: Parts) -> PluginInfo | None:
    """The plugin that an error is to be put down to; None: corekit itself, or nobody knows."""
    broken = isinstance(error, ContractError)
    if isinstance(error, ContractError) and error.part is not None:
        maker = parts.maker(error.part) or _owner(type(error.part).__module__, parts.infos)
        if maker is not None:
            return maker
    for module in reversed(_modules(error.__traceback__)):
        owner = _owner(module, parts.infos)
        if owner is not None:
            return owner
        if _inside(module, "corekit") and not broken:
            return None
    return None


def _modules(traceback: TracebackType | None) -> list[str]:
    """Names of the modules that an error went through, outermost first."""
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return found


def _owner(module: str, infos: Sequence[PluginInfo]) -> PluginInfo | None:
    """The plugin whose code a module is: that of its own module first, else of its package."""
    for info in infos:
        if _inside(module, info.module.partition(":")[0]):
            return info
    for info in infos:
        package = info.module.partition(":")[0].partition(".")[0]
        if package != "corekit" and _inside(module, package):
            return info
    return None


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
