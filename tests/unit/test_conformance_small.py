"""The conformance suites for observers and commands: ours pass them, and each kind of broken one is caught."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from corekit.api import Observer, Peer
from corekit.testing.command import CommandSuite
from corekit.testing.observer import ObserverSuite


class TestRecipes(CommandSuite):
    module = "corekit_recipes"


class Counting(Observer):
    """A sound one."""

    def __init__(self) -> None:
        self.count = 0

    def committed(self, zxid: int, entry: bytes) -> None:
        self.count += 1

    def connection_closed(self, peer: Peer, why: str) -> None:
        self.count += 1


class TestCounting(ObserverSuite):
    def make_observer(self) -> Observer:
        return Counting()


# ------------------------------------------------------------------------------------- what is broken
class Naive(Observer):
    """Takes every entry for UTF-8."""

    def committed(self, zxid: int, entry: bytes) -> None:
        entry.decode()


class Local(Observer):
    """Expects every address to be one of IP."""

    def connection_opened(self, peer: Peer) -> None:
        assert peer.address.replace(".", "").isdigit()


class Blind(Observer):
    """Sees nothing."""


class Greedy(Observer):
    """Is one for the whole process."""

    made = False

    def session_opened(self, session_id: int, timeout_ms: int, peer: Peer) -> None:
        assert Greedy.made in (False, self)
        Greedy.made = self  # type: ignore[assignment]


class Other:
    """No observer."""

    def committed(self, zxid: int, entry: bytes) -> None:
        pass


class Fewer(Observer):
    """Takes other arguments than it is given."""

    def request_failed(self, session_id: int, code: int) -> None:  # type: ignore[override]
        pass


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Naive, "test_nothing_that_happens_makes_it_raise"),
        (Local, "test_nothing_that_happens_makes_it_raise"),
        (Blind, "test_it_sees_something"),
        (Greedy, "test_two_servers_may_run_in_one_process"),
        (Other, "test_fulfils_the_contract"),
        (Fewer, "test_fulfils_the_contract"),
        (Fewer, "test_nothing_that_happens_makes_it_raise"),
    ],
)
def test_what_is_broken_is_caught(broken: type[Observer], caught_by: str) -> None:
    suite = ObserverSuite()
    suite.make_observer = broken
    with pytest.raises(AssertionError):
        getattr(suite, caught_by)()


HEAD = "from corekit.hooks import hookimpl\nkind = 'command'\napi_version = 1\n"


@pytest.mark.parametrize(
    ("source", "caught_by"),
    [
        ("@hookimpl\ndef register_commands(app): pass", "test_it_adds_commands"),
        (
            "@hookimpl\ndef register_commands(app):\n    @app.command()\n    def quiet(): pass",
            "test_every_command_says_what_it_is_for",
        ),
        (
            "@hookimpl\ndef register_commands(app):\n    @app.command()\n    def odd():\n        'What for: [/bold].'",
            "test_every_command_answers_help",
        ),
        (
            "import corekit.client\n@hookimpl\ndef register_commands(app):\n    @app.command()\n"
            "    def slow():\n        'What for.'",
            "test_adding_commands_imports_nothing_heavy",
        ),
    ],
)
def test_broken_commands_are_caught(
    source: str, caught_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_commands.py").write_text(HEAD + textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    suite = CommandSuite()
    suite.module = "broken_commands"
    try:
        with pytest.raises((AssertionError, RuntimeError)):
            getattr(suite, caught_by)()
    finally:
        sys.modules.pop("broken_commands", None)
