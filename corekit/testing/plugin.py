"""The conformance tests of an installed plugin: its own, or the suite of its kind around what its hook makes.

A plugin that says `suite = "my_package.conformance"` beside its `kind` names the module with its tests: a
subclass of the suite of its kind that tells the suite what it cannot know (how a client speaks, who proves what), and
others if it likes. Without that, the plugin is made as the server would make it, in a new directory, with default
settings.

Not here: the suites, running them (`corekit plugin test`).
"""

from __future__ import annotations

import importlib
import inspect
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from corekit.api import AuthScheme, Consensus, Observer, Storage, Transport
from corekit.config import load
from corekit.errors import PluginError
from corekit.hooks import Context
from corekit.plugins import SystemClock
from corekit.plugins.discover import Found, find, installed
from corekit.plugins.discover import load as load_plugin
from corekit.testing.auth import AuthSuite
from corekit.testing.command import CommandSuite
from corekit.testing.consensus import ConsensusSuite
from corekit.testing.observer import ObserverSuite
from corekit.testing.storage import StorageSuite
from corekit.testing.transport import TransportSuite

_NOWHERE = "/nonexistent/corekit"  # data directory of a plugin that should not need one


def tests_of(name: str) -> dict[str, Any]:
    """Test classes and functions by name, for pytest to collect from a module.

    Raises:
        PluginError: there is no such plugin, it cannot be loaded, or nothing is known of how to test it.
    """
    one = find(name, installed())
    load_plugin(one)
    own = getattr(one.plugin, "suite", None)
    if own is not None:
        try:
            module = importlib.import_module(own)
        except ImportError as error:
            raise PluginError(f"{one}: its tests {own} cannot be imported: {error}") from error
        tests = {key: value for key, value in vars(module).items() if key.startswith(("Test", "test_"))}
        if not tests:
            raise PluginError(f"{one}: {own} has no tests")
        return tests
    if one.kind == "auth":
        return _auth(one)
    maker = _DEFAULTS.get(one.kind)
    if maker is None:
        raise PluginError(
            f"{one} is of kind {one.kind}: write its tests, with the suite of corekit.testing, into a module of the "
            'package and name it in the plugin: suite = "package.module"'
        )
    return {"TestConformance": maker(one)}


def context(one: Found, directory: str = _NOWHERE) -> Context:
    """What a plugin is given, with default settings and data in a directory."""
    settings = load(environ={}, options=[("dataDir", directory, "the test")]).settings
    return Context(
        name=one.name,
        settings=settings,
        options=settings.plugin_options.get(one.name, {}),
        data_dir=directory,
        logger=logging.getLogger(f"corekit.plugin.{one.name}"),
        clock=SystemClock(),
        random=random.Random(1),
    )


def _call(one: Found, hook: str, given: Context) -> Any:
    """A hook with as many arguments as it takes."""
    implementation = getattr(one.plugin, hook)
    return implementation(given) if inspect.signature(implementation).parameters else implementation()


def open_storage(path: Path) -> Storage:
    """The storage of the plugin whose name is the last but one part of the path; for `StorageSuite.factory`."""
    one = find(path.parent.name, installed())
    load_plugin(one)
    made: Storage = _call(one, "make_storage", context(one, str(path)))
    return made


def _storage(one: Found) -> type:
    class Suite(StorageSuite):
        __doc__ = f"{one}"
        factory = "corekit.testing.plugin:open_storage"

        @pytest.fixture
        def path(self, tmp_path: Path) -> Path:
            return tmp_path / one.name / "data"

        def make_storage(self, path: Path) -> Storage:
            made: Storage = _call(one, "make_storage", context(one, str(path)))
            return made

    return Suite


def _consensus(one: Found) -> type:
    class Suite(ConsensusSuite):
        __doc__ = f"{one}"

        def make_consensus(self) -> Consensus:
            made: Consensus = _call(one, "make_consensus", context(one))
            return made

    return Suite


def _transport(one: Found) -> type:
    class Suite(TransportSuite):
        __doc__ = f"{one}"

        def make_transport(self) -> Transport:
            made: Transport = _call(one, "make_transport", context(one))
            return made

    return Suite


def _auth(one: Found) -> dict[str, type]:
    """One suite a scheme."""

    def schemes() -> dict[str, AuthScheme]:
        found: Sequence[AuthScheme] = _call(one, "register_auth_schemes", context(one))
        return {scheme.name: scheme for scheme in found}

    def suite(name: str) -> type:
        class Suite(AuthSuite):
            __doc__ = f"{one}, scheme {name}"

            def scheme(self) -> AuthScheme:
                return schemes()[name]

        return Suite

    return {f"Test_{name}": suite(name) for name in schemes()}


def _observer(one: Found) -> type:
    class Suite(ObserverSuite):
        __doc__ = f"{one}"

        def make_observer(self) -> Observer:
            observers: list[Observer] = list(_call(one, "register_observers", context(one)))
            return observers[0]

    return Suite


def _command(one: Found) -> type:
    class Suite(CommandSuite):
        __doc__ = f"{one}"
        module, _, attribute = one.point.value.partition(":")

    return Suite


_DEFAULTS: dict[str, Callable[[Found], type]] = {
    "storage": _storage,
    "consensus": _consensus,
    "transport": _transport,
    "observer": _observer,
    "command": _command,
    "recipe": _command,
}
