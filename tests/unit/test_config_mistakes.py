"""Mistakes in a configuration, as people make them: one line that names the place and the way out, exit code 2.

Not here: single settings (`test_config_settings.py`), layers (`test_config_load.py`), plugins (`test_plugins.py`).
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from corekit.builtin.tcp import TcpTransport
from corekit.cli.options import entries
from corekit.config import load
from corekit.errors import EXIT_PORT, ConfigError, UserError
from corekit.plugins import wire

THREE = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"


def refusal(directory: Path, text: str) -> str:
    """What is said of a zoo.cfg with these lines."""
    file = directory / "zoo.cfg"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(directory), "DIR")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("=5", "DIR/zoo.cfg:1: =5 is not accepted; accepted is key=value"),
        ("dataDir=", "DIR/zoo.cfg:1: dataDir is empty; give a directory"),
        (
            "tickTime=99999999999999999999",
            "DIR/zoo.cfg:1: tickTime=99999999999999999999 is not accepted (the largest number is 2147483647); "
            "accepted is an integer of 1 or more",
        ),
        (
            "initLimit=" + "9" * 5000,
            f"DIR/zoo.cfg:1: initLimit={'9' * 5000} is not accepted (the largest number is 2147483647); "
            "accepted is an integer of 1 or more",
        ),
        (
            "tickTime=2147483647",
            "maxSessionTimeout would be 42949672940 (20 ticks), clients can be told 2147483647 at most; "
            "lower tickTime (2147483647) or set maxSessionTimeout",
        ),
        ("dataDir=/x\\u0000y", "DIR/zoo.cfg:1: a character with the number 0 is not accepted in a setting"),
        ("server.x=a:2888:3888", "DIR/zoo.cfg:1: server.x is not accepted; accepted is server.N with N from 0 to 255"),
        ("server.-1=a:2888:3888", "server.-1 is not accepted; accepted is server.N with N from 0 to 255"),
        ("server.256=a:2888:3888", "server.256 is not accepted; accepted is server.N with N from 0 to 255"),
        ("server.1000=a:2888:3888", "server.1000 is not accepted; accepted is server.N with N from 0 to 255"),
        (
            THREE.replace("server.2=b", "server.2=a"),
            "DIR/zoo.cfg:3: server.1 and server.2 are both at a:2888; correct one",
        ),
    ],
)
def test_a_bad_line_is_named_with_the_way_out(tmp_path: Path, line: str, said: str) -> None:
    assert refusal(tmp_path, line).endswith(said)


def test_a_file_in_the_place_of_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        said = refusal(tmp_path, f"dataDir={tmp_path}/{place}")
        assert said == f"DIR/{place} is not a directory; choose another --data-dir"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_current_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the current directory was removed, and corekit-data is in it"):
        load(environ={})
    load(environ={}, options=[("dataDir", str(tmp_path), "test")])


def test_excluding_nothing_is_a_slip() -> None:
    with pytest.raises(ConfigError, match="--plugins no: is not accepted; accepted is no:NAME"):
        entries(None, None, ["memory,no:"], None)


def test_settings_of_a_plugin_that_is_not_used_are_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = load(
        environ={},
        options=[("plugins", "memory", "test"), ("plugin.memry.size", "1", "test"), ("plugin.memory.a", "b", "test")],
    ).settings
    with caplog.at_level(logging.WARNING, "corekit.plugins"):
        wire(settings, environ={})
    assert [record.getMessage() for record in caplog.records] == [
        "plugin.memry.size has no effect: no plugin memry is used; did you mean memory?"
    ]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("no.such.host.invalid", "there is no such host name. Correct clientPortAddress or server.N"),
        ("192.0.2.1", "this machine has no such address. Correct clientPortAddress or server.N"),
    ],
)
def test_an_address_that_cannot_be_listened_on(address: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        trio.run(TcpTransport().listen, address, 2181)
    assert str(caught.value) == f"cannot listen on {address}:2181: {said}"
    assert caught.value.exit_code == EXIT_PORT
