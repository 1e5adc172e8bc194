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
import json
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

_BESIDE = "plugin.json"  # what `open_storage` must know
# Tests of `AuthSuite` that prove nothing without samples.
_WITH_SAMPLES = (
    "test_proofs_give_their_identity",
    "test_refusals_prove_nothing",
    "test_validity_of_acl_ids",
    "test_matching",
    "test_proved_identity_is_covered_by_itself",
)
_NOWHERE = "/nonexistent/corekit"  # data directory of a plugin that should not need one


Assignments = Sequence[tuple[str, str]]  # settings by key, as `--set` has them


def tests_of(name: str, assignments: Assignments) -> dict[str, Any]:
    """Test classes and functions by name, for pytest to collect from a module.

    Args:
        assignments: settings for a plugin without tests of its own.

    Raises:
        PluginError: there is no such plugin, it cannot be loaded, or nothing is known of how to test it.
    """
    one = find(name, installed())
    load_plugin(one)
    own = getattr(one.plugin, "suite", None)
    if own is not None:
        if assignments:
            raise PluginError(f"{one}: its own tests, {own}, say which settings it gets; leave out --set")
        try:
            module = importlib.import_module(own)
        except ImportError as error:
            raise PluginError(f"{one}: its tests {own} cannot be imported: {error}") from error
        tests = {key: value for key, value in vars(module).items() if key.startswith(("Test", "test_"))}
        if not tests:
            raise PluginError(f"{one}: {own} has no tests")
        return tests
    if one.kind == "auth":
        return _auth(one, assignments)
    maker = _DEFAULTS.get(one.kind)
    if maker is None:
        raise PluginError(
            f"{one} is of kind {one.kind}: write its tests, with the suite of corekit.testing, into a module of the "
            'package and name it in the plugin: suite = "package.module"'
        )
    return {"TestConformance": maker(one, assignments)}


def context(one: Found, assignments: Assignments = (), directory: str = _NOWHERE) -> Context:
    """What a plugin is given, with default settings except `assignments`, and data in a directory."""
    options = [(key, value, "--set") for key, value in (*assignments, ("dataDir", directory))]
    settings = load(environ={}, options=options).settings
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
    """For `StorageSuite.factory`, in another process: plugin and settings stand in a file beside the data."""
    name, assignments = json.loads((path.parent / _BESIDE).read_text())
    one = find(name, installed())
    load_plugin(one)
    made: Storage = _call(one, "make_storage", context(one, assignments, str(path)))
    return made


def _storage(one: Found, assignments: Assignments) -> type:
    class Suite(StorageSuite):
        __doc__ = f"{one}"
        factory = "corekit.testing.plugin:open_storage"

        @pytest.fixture
        def path(self, tmp_path: Path) -> Path:
            (tmp_path / _BESIDE).write_text(json.dumps([one.name, list(assignments)]))
            return tmp_path / "data"

        def make_storage(self, path: Path) -> Storage:
            made: Storage = _call(one, "make_storage", context(one, assignments, str(path)))
            return made

    return Suite


def _consensus(one: Found, assignments: Assignments) -> type:
    class Suite(ConsensusSuite):
        __doc__ = f"{one}"

        def make_consensus(self) -> Consensus:
            made: Consensus = _call(one, "make_consensus", context(one, assignments))
            return made

    return Suite


def _transport(one: Found, assignments: Assignments) -> type:
    class Suite(TransportSuite):
        __doc__ = f"{one}"

        def make_transport(self) -> Transport:
            made: Transport = _call(one, "make_transport", context(one, assignments))
            return made

    return Suite


def _auth(one: Found, assignments: Assignments) -> dict[str, type]:
    """One suite a scheme. What needs samples of proofs and ids is left out: nobody has said any."""

    def schemes() -> dict[str, AuthScheme]:
        found: Sequence[AuthScheme] = _call(one, "register_auth_schemes", context(one, assignments))
        return {scheme.name: scheme for scheme in found}

    def suite(name: str) -> type:
        class Suite(AuthSuite):
            __doc__ = f"{one}, scheme {name}"

            def scheme(self) -> AuthScheme:
                return schemes()[name]

        def left_out(self: Suite) -> None:
            pytest.skip('no samples: subclass AuthSuite and name the module in the plugin, suite = "package.module"')

        for test in _WITH_SAMPLES:
            setattr(Suite, test, left_out)
        return Suite

    return {f"Test_{name}": suite(name) for name in schemes()}


def _observer(one: Found, assignments: Assignments) -> type:
    class Suite(ObserverSuite):
        __doc__ = f"{one}"

        def make_observer(self) -> Observer:
            observers: list[Observer] = list(_call(one, "register_observers", context(one, assignments)))
            return observers[0]

    return Suite


def _command(one: Found, assignments: Assignments) -> type:
    class Suite(CommandSuite):
        __doc__ = f"{one}"
        module, _, attribute = one.point.value.partition(":")

    return Suite


_DEFAULTS: dict[str, Callable[[Found, Assignments], type]] = {
    "storage": _storage,
    "consensus": _consensus,
    "transport": _transport,
    "observer": _observer,
    "command": _command,
    "recipe": _command,
}
