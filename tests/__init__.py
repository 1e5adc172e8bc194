"""The tests of corekit; see tests/conftest.py for what they share."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).parent.parent

# They start thousands of processes: each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _finder(folder: str) -> FileFinder:
    """Finds a module of the checkout as Python, also where it is compiled."""
    if not folder.startswith((f"{ROOT}/corekit", f"{ROOT}/plugins")):
        raise ImportError(folder)
    return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))


# Planted mistakes replace parts of classes, which compiled ones do not bear. So the tests themselves run the Python;
# the servers and commands that they start run what is compiled.
sys.path_hooks.insert(0, _finder)
sys.path_importer_cache.clear()
