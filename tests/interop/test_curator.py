"""Apache Curator 5: the checks of `java/CuratorChecks.java`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.programs import assert_check, build_java, curator_class_path, run_checks
from tests.support.servers import Server

pytestmark = pytest.mark.interop

CHECKS = (
    "framework",
    "transactions",
    "mutex",
    "read-write-lock",
    "multi-lock",
    "semaphore",
    "leader-latch",
    "leader-selector",
    "atomic-long",
    "shared-count",
    "path-children-cache",
    "node-and-tree-cache",
    "curator-cache",
    "persistent-watcher",
    "queues",
    "barriers",
    "persistent-nodes",
    "persistent-node-survives-its-session",
)


@pytest.fixture(scope="module")
def results(
    needs: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory, corekit_server: Server
) -> dict[str, str]:
    program = needs(build_java, "CuratorChecks", tmp_path_factory.mktemp("curator"), needs(curator_class_path))
    return run_checks([*program, corekit_server.hosts, "/curator"])


@pytest.mark.parametrize("name", CHECKS)
def test_curator(results: dict[str, str], name: str) -> None:
    assert_check(results, name)
