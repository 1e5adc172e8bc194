"""Conformance suites, checkers and fixtures for the authors of plugins."""

import sys

_SUITES = (
    "auth",
    "command",
    "consensus",
    "consensus_host",
    "memory_server",
    "observer",
    "process",
    "protocol",
    "storage",
    "transport",
)

if "pytest" in sys.modules:  # a suite that fails then shows the values that it compared
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))
