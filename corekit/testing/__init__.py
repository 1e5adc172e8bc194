"""Conformance suites, checkers and fixtures for the authors of plugins."""

import sys

if "pytest" in sys.modules:  # a suite that fails then shows the values that it compared
    import pytest

    pytest.register_assert_rewrite(
        *(
            f"corekit.testing.{name}"
            for name in ("auth", "consensus", "consensus_host", "memory_server", "protocol", "storage", "transport")
        )
    )
