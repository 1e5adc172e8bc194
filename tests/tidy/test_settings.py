"""A setting that nothing reads must say so to its user, and one that is read must not."""

import ast

from corekit.config import SETTINGS
from corekit.config.known import PENDING
from tests.tidy.source import product

# Read by the configuration itself, to make other settings.
IN_CONFIG = {
    "dynamic_config_file",
    "peer_type",
    "standalone_enabled",
    "session_require_client_sasl_auth",
    "metrics_provider",
}


# Only shown, by `conf` and the admin port.
SHOWN = {"secure_client_port"}


def attributes_read() -> set[str]:
    return {
        node.attr
        for source in product()
        if not source.module.startswith("corekit.config")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
    }


def test_every_setting_is_acted_on_or_says_that_it_is_not() -> None:
    read = attributes_read() | IN_CONFIG
    silent = [known.field for known in SETTINGS.values() if known.field not in read and not known.pending]
    assert not silent, (
        f"nothing reads {', '.join(silent)}: act on them, or say why not in `PENDING` of corekit/config/known.py"
    )


def test_no_setting_says_it_has_no_effect_although_it_has() -> None:
    read = attributes_read()
    wrong = [known.field for known in SETTINGS.values() if known.field in read - SHOWN and known.pending]
    assert not wrong, f"{', '.join(wrong)} are read: take them out of `PENDING` in corekit/config/known.py"


def test_everything_pending_is_a_setting() -> None:
    assert set(PENDING) <= set(SETTINGS)
