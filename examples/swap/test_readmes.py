"""The command lines of each package's README work as they stand there, all packages being installed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from corekit.testing.process import ServerProcess

HERE = Path(__file__).parent.parent
PAGES = sorted(HERE.glob("corekit-*/README.md"))
_OURS = re.compile(r"^    (?:TOKEN=\$\()?(python -m corekit_\w+ [^\n)]*|corekit (?:serve|ls) [^\n#]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_commands_of_a_readme(page: Path) -> None:
    """In their order, in one directory; what is not `serve` while the last server runs."""
    with tempfile.TemporaryDirectory(prefix="page-") as name:
        folder = Path(name)
        lines = [line.replace("/run/corekit/", f"{folder}/") for line in _OURS.findall(page.read_text("utf-8"))]
        assert any(line.startswith("corekit serve") for line in lines)
        server: ServerProcess | None = None
        try:
            for line in lines:
                words = shlex.split(line)
                if words[:2] == ["corekit", "serve"]:
                    assert server is None, "a README shows one server"
                    free = ("-s", "plugin.http.port=0") if "http" in line else ()
                    server = ServerProcess(*words[2:], *free, directory=folder)
                    server.wait_for("plugins: ")
                    continue
                command = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert server is not None
            assert server.stop() == 0
        finally:
            if server is not None:
                server.kill()


def test_what_every_readme_says() -> None:
    assert len(PAGES) > 4
    for page in PAGES:
        text, name = page.read_text("utf-8"), page.parent.name
        assert f"pip install {name}\n" in text
        assert "pip install -e '.[test]' && pytest" in text
        assert f"[{name}]({name})" in (HERE / "README.md").read_text("utf-8")
