"""A stored state that is not whole."""

from __future__ import annotations

import pytest

from corekit.errors import DamagedError
from corekit.model.sessions import SessionTracker
from corekit.model.tree import Tree
from corekit.replica.image import StateImage


def image(tree: Tree) -> StateImage:
    return StateImage(tree, SessionTracker(tick_ms=2000, first_id=1))


def test_a_server_that_died_before_its_first_step_begins_with_the_first_znodes() -> None:
    tree = Tree()
    image(tree).load([], 0, 0)
    assert b"/zookeeper" in tree.nodes
    assert b"/" not in tree.kids[b"/"].paths


def test_a_state_without_a_root_is_damage() -> None:
    tree = Tree()
    tree.bootstrap()
    record = tree.nodes[b"/zookeeper"]
    for path in (b"/a", b"/a/b"):
        with pytest.raises(DamagedError, match="no root znode"):
            image(Tree()).load([(b"n" + path, record)], 7, 0)
