"""Whether an object keeps the form of a contract of `api.py`: its attributes, and the arguments its methods take.

Checked once, when a plugin is wired, so that a missing method is named at the start and not found by the first client.
What the methods do is checked by the conformance suites in `corekit.testing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from corekit.api import AuthScheme, Identity
from corekit.errors import ContractError

_NO_CONTRACT = frozenset(("Protocol", "Generic", "object"))


def members(contract: type) -> Iterator[tuple[str, Any]]:
    """Name and definition of what a contract asks for; the definition of a plain attribute is None."""
    seen: set[str] = set()
    for cls in contract.__mro__:
        if cls.__name__ in _NO_CONTRACT:
            continue
        for name in (*vars(cls), *vars(cls).get("__annotations__", {})):
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            value = vars(cls).get(name)
            yield name, value if inspect.isfunction(value) else None


def breaches(thing: object, contract: type) -> list[str]:
    """What `thing` lacks to be a `contract`, one text each; empty if nothing."""
    found: list[str] = []
    for name, wanted in members(contract):
        try:
            have = getattr(thing, name)
        except AttributeError:
            found.append(f"{name} is missing")
            continue
        if wanted is None:
            continue
        if not callable(have):
            found.append(f"{name} is not a method")
        elif problem := _difference(wanted, have):
            found.append(f"{name}{inspect.signature(wanted)}: {problem}")
    return found


def identities(scheme: AuthScheme, method: str, found: Any) -> list[Identity]:
    """What a scheme says somebody is, after a look at its form.

    Raises:
        ContractError: it is not a sequence of (scheme, id).
    """
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise ContractError(f"{method}() of {scheme.name} returned {type(found).__name__}, not a sequence", scheme)
    for one in found:
        if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], str)):
            raise ContractError(f"{method}() of {scheme.name} returned {one!r}, not (scheme, id)", scheme)
    return list(found)


def _difference(wanted: Any, have: Any) -> str:
    """Why `have` cannot be called as `wanted` (an unbound function with `self`) is; "" if it can."""
    if inspect.iscoroutinefunction(wanted) != inspect.iscoroutinefunction(have):
        return "must be async" if inspect.iscoroutinefunction(wanted) else "must not be async"
    try:
        signature = inspect.signature(have)
    except (TypeError, ValueError):  # built into an extension module: nothing to compare
        return ""
    parameters = list(inspect.signature(wanted).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword = {p.name: None for p in parameters if p.kind == p.KEYWORD_ONLY}
    required = [p for p in positional if p.default is p.empty]
    # Callers pass what is required, and may pass everything: both must fit.
    for arguments, keywords in ((required, {}), (positional, keyword)):
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            return f"does not fit {signature}: {error}"
    return ""
