"""`docs/hooks.md` says what the code says, its examples run, and no hook or method is without a test.

The page is made from `hooks_head.md` (prose, facts and examples) and the code (signatures and docstrings).
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.docs import hooks_page
from tests.docs.pages import DOCS, blocks

ROOT = Path(__file__).parents[2]
TESTING = ROOT / "corekit" / "testing"
# Where a contract is exercised. What plugins are given (host, gateway) is exercised by ours that use it.
SUITES = {
    "Storage": [TESTING / "storage.py", TESTING / "storage_model.py", TESTING / "storage_crash.py"],
    "BackgroundSync": [TESTING / "storage.py", TESTING / "storage_model.py"],
    "AuthScheme": [TESTING / "auth.py"],
    "Consensus": [TESTING / "consensus.py", TESTING / "consensus_host.py"],
    "EnsembleConsensus": [*(TESTING / "sim").glob("*.py")],
    "ConsensusHost": [ROOT / "corekit/builtin/solo.py", *(ROOT / "plugins/zab/corekit_zab").glob("*.py")],
    "ClientProtocol": [TESTING / "protocol.py", TESTING / "memory_server.py"],
    "ClientSession": [TESTING / "protocol.py", TESTING / "memory_server.py"],
    "Gateway": [ROOT / "corekit/builtin/zookeeper_session.py", ROOT / "tests/unit/test_hooks.py"],
    "Transport": [TESTING / "transport.py"],
    "Observer": [ROOT / "tests/unit/test_observers.py"],
}


def used(*files: Path) -> set[str]:
    """Every name that the code of these files takes as an attribute, or defines as a method."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
    return found


def test_the_examples_of_the_page_run() -> None:
    lines = ["async def page():"]
    for first, block in blocks("hooks.md"):
        lines += [""] * (first - 1 - len(lines))  # so that line numbers are those of the page
        lines += textwrap.indent(block, "    ").splitlines()
    names: dict[str, Any] = {}
    exec(compile("\n".join(lines), str(DOCS / "hooks.md"), "exec"), names)
    trio.run(names["page"])


def test_every_hook_has_a_test() -> None:
    defined = used(ROOT / "tests" / "unit" / "test_hooks.py")
    for name in hooks_page.methods(hooks_page.classes()["Hooks"]):
        assert f"test_hook_{name}" in defined, f"tests/unit/test_hooks.py has no test_hook_{name}"


@pytest.mark.parametrize("contract", sorted(SUITES))
def test_every_method_of_a_contract_has_a_test(contract: str) -> None:
    exercised = used(*SUITES[contract])
    missing = [name for name in hooks_page.methods(hooks_page.classes()[contract]) if name not in exercised]
    assert not missing, f"{contract}: nothing in its suite calls {', '.join(missing)}"


def test_every_contract_is_on_the_page() -> None:
    """A contract is what `corekit.api` has methods for and plugins implement or are given."""
    nodes = [
        node
        for name in ("api.py", "storage_api.py")
        for node in ast.parse((ROOT / "corekit" / name).read_text("utf-8")).body
    ]
    with_methods = {node.name for node in nodes if isinstance(node, ast.ClassDef) and hooks_page.methods(node)}
    assert with_methods == set(hooks_page.CLASSES) - {"Hooks"}
    assert set(SUITES) == with_methods


def test_a_page_that_lacks_something_is_refused() -> None:
    head = hooks_page.HEAD.read_text("utf-8")
    assert hooks_page.faults(head) == []
    line = next(line for line in head.splitlines() if line.startswith("<!-- Storage.purge"))
    assert hooks_page.faults(head.replace(line, "")) == ["Storage.purge is not on the page"]
    at = head.index("```python", head.index(line))
    assert hooks_page.faults(head[:at] + "```text" + head[at + 9 :]) == ["Storage.purge has no example"]


def test_a_signature_is_written_as_it_is_called() -> None:
    found = hooks_page.methods(hooks_page.classes()["Transport"])
    assert hooks_page.signature(found["listen"]) == (
        "async listen(address: str, port: int, *, tls: Any | None=None, backlog: int=-1) -> Sequence[Any]"
    )
    assert hooks_page.signature(hooks_page.methods(hooks_page.classes()["Consensus"])["wake_at"]) == "wake_at: int"
