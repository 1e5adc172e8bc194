"""The direction of the arrows, on the syntax tree of every shipped file."""

import pytest

from tests.tidy.layers import LAYERS, faults
from tests.tidy.source import ROOT, Source, product


def test_every_import_keeps_the_layers() -> None:
    found = [fault for source in product() for fault in faults(source)]
    assert not found, "\n" + "\n".join(found)


def test_every_layer_names_something_that_exists_or_is_planned() -> None:
    names = {path.stem for path in (ROOT / "corekit").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name for name in names if name not in LAYERS} <= {"__init__", "__pycache__"}


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("corekit.model.tree", "from corekit.codec import jute", "layer 1 (model) may not import layer 2 (codec)"),
        ("corekit.codec.x", "import corekit.api", "layer 2 (codec) may not import layer 3 (api)"),
        ("corekit.server.x", "from corekit.client import c", "layer 5 (server) may not import layer 5 (client)"),
        ("corekit.server.x", "def f():\n    from corekit.plugins import wire", "layer 5 (server) may not"),
        ("corekit.server.x", "if TYPE_CHECKING:\n    from corekit.cli import y", "layer 5 (server) may not"),
        ("corekit.server.x", "import corekit_zab", "corekit never imports a plugin"),
        ("corekit_zab.x", "import corekit_storage_rocks.y", "plugins never import each other"),
        ("corekit_zab.x", "from corekit.server import disk", "a plugin sees only api"),
        ("corekit_zab.x", "from corekit.client import z", "a plugin sees only api"),
        ("corekit_zab.x", "import time", "milliseconds come in as `now_ms`"),
        ("corekit.replica.x", "import random", "a `random.Random` comes in from the caller"),
        ("corekit.replica.x", "try:\n    import trio\nexcept ImportError:\n    pass", "return effects"),
        ("corekit.config.x", "import threading", "nothing runs in parallel here"),
        ("corekit.server.x", "import pluggy", "use `corekit.hooks.hookimpl`"),
        ("corekit.server.x", "import typer", "commands live in `corekit.cli`"),
        ("corekit.builtin.x", "import rocksdict", "use the contract `corekit.api.Storage`"),
        ("corekit.server.x", "import asyncio", "use trio in the server"),
    ],
)
def test_a_broken_rule_is_found_and_its_replacement_named(module: str, text: str, fault: str) -> None:
    found = list(faults(Source("x.py", module, text)))
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("corekit.model.tree", "from corekit.model import stat\nfrom corekit.errors import KeeperError"),
        ("corekit.hooks", "from corekit.api import Storage\nimport pluggy\nif TYPE_CHECKING:\n    import random"),
        ("corekit.server.x", "import trio\nimport time\nfrom corekit.replica import replica"),
        ("corekit_zab.x", "from corekit.api import Consensus\nfrom corekit_zab import quorum"),
        ("corekit_recipes.lock", "from corekit.client import connect"),
        ("corekit_storage_rocks.x", "import rocksdict\nimport threading"),
        ("corekit.cli.x", "from corekit import __version__\nimport typer"),
    ],
)
def test_what_is_allowed_is_not_found(module: str, text: str) -> None:
    assert list(faults(Source("x.py", module, text))) == []
