"""The table of ACLs: keys, uses, sweeping, and what a restart may bring back."""

from __future__ import annotations

from corekit.model.acl import OPEN, OPEN_KEY, READ, WRITE, Acl, AclTable
from corekit.model.sessions import SessionTracker
from corekit.model.tree import Tree
from corekit.replica.image import StateImage

_A: Acl = ((1, "digest", "ann:x"),)
_B: Acl = ((3, "digest", "bob:x"), (1, "world", "anyone"))


class _Equal:
    def matches(self, identity: str, acl_id: str) -> bool:
        return identity == acl_id


def test_an_acl_has_one_key_until_no_znode_has_it() -> None:
    table = AclTable()
    key = table.key(_A)
    assert table.key(_A) == key != OPEN_KEY == table.key(OPEN)
    table.use(key)
    assert table.sweep() == []
    table.release(key)
    assert table.sweep() == [key]
    assert table.key(_A) != key, "a key means one ACL for ever"


def test_an_acl_under_two_keys_survives_sweeps() -> None:
    """A stored state may hold an ACL that was freed and used again: once under each key."""
    table = AclTable()
    table.restore(3, _A)
    table.restore(7, _A)
    table.use(3)
    assert table.sweep() == [7]
    key = table.key(_A)
    table.use(key)
    table.release(3)
    assert table.sweep() == [3]
    assert table.key(_A) == key
    table.release(key)
    assert table.sweep() == [key]
    assert table.sweep() == []


def test_answers_follow_the_identities() -> None:
    table, schemes = AclTable(), {"digest": _Equal()}
    key = table.key(_B)
    nobody: list[tuple[str, str]] = []
    bob = [("digest", "bob:x")]
    for _ in range(2):  # asked, then remembered
        assert not table.allows(key, WRITE, nobody, schemes)
        assert table.allows(key, WRITE, bob, schemes)
        assert table.allows(key, READ, nobody, schemes)


def test_what_is_swept_leaves_the_stored_state() -> None:
    tree = Tree()
    tree.bootstrap()
    image = StateImage(tree, SessionTracker(1000, 1))
    store: dict[bytes, bytes] = {}

    def step() -> None:
        _, puts, deletes = image.step()
        store.update(puts)
        for key in deletes:
            del store[key]

    for zxid, acl in enumerate((_A, _B, OPEN), 1):
        tree.commit(tree.change_acl(b"/", tree.acls.key(acl), zxid))
        tree.drop_pending()
        step()
    step()
    stored = {int.from_bytes(key[1:], "big") for key in store if key.startswith(b"a")}
    assert stored == dict(tree.acls.items()).keys(), "a freed ACL stays on disk"

    again = Tree()
    StateImage(again, SessionTracker(1000, 1)).load([tuple(zip(*sorted(store.items()), strict=True))], 3, 0)
    assert again.acls.acl(again.acl_key(b"/")) == OPEN
