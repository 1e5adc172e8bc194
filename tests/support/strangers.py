"""Packages of strangers, made on the spot."""

from __future__ import annotations

import textwrap
from pathlib import Path

from corekit.api import API_VERSION

HEAD = f"from corekit.hooks import hookimpl\napi_version = {API_VERSION}\n"


def install(site: Path, name: str, source: str, *, version: str = "2.3") -> str:
    """A distribution `corekit-NAME` with one plugin, in a folder to put on the import path; its module."""
    site.mkdir(exist_ok=True)
    module = f"corekit_{name}_plugin"
    (site / f"{module}.py").write_text(HEAD + textwrap.dedent(source))
    info = site / f"corekit_{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: corekit-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[corekit]\n{name} = {module}\n")
    return module
