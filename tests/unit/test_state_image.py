"""A stored state that is not whole."""

from __future__ import annotations

from random import Random

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
            image(Tree()).load([([b"n" + path], [record])], 7, 0)


@pytest.mark.parametrize("seed", range(8))
def test_every_znode_finds_its_parent_again(seed: int) -> None:
    """Wide trees, deep ones, and names that sort between a znode and its children; in portions of any size."""
    rng = Random(seed)
    first = Tree()
    first.bootstrap()
    record = first.nodes[b"/zookeeper"]
    paths = [b""]
    for number in range(rng.choice((5, 300, 3000))):
        above = paths[0] if rng.random() < 0.2 else rng.choice(paths[-3:] if seed % 2 else paths)
        paths.append(b"%s/%s%d" % (above, rng.choice((b"n", b"n-", b"n!", b"\xc3\xa9")), number % 700))
    paths = sorted({path or b"/" for path in paths})
    portions = []
    while left := paths[sum(map(len, portions)) :]:
        portions.append(left[: rng.choice((1, 7, 1000))])
    tree = Tree()
    image(tree).load([([b"n" + path for path in some], [record] * len(some)) for some in portions], 7, 0)
    children: dict[bytes, set[bytes]] = {}
    for path in paths[1:]:
        children.setdefault(path[: path.rindex(b"/")] or b"/", set()).add(path)
    assert {path: kids.paths for path, kids in tree.kids.items() if kids.paths} == children
    assert tree.nodes.keys() == set(paths)
