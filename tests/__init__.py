"""The tests of corekit; see tests/conftest.py for what they share."""

from __future__ import annotations

import os

# They start thousands of processes: each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
