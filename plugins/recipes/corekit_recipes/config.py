"""Configuration centre: settings that many read and that change while they run.

Promises: who follows gets the present value first and then every newer state, over reconnections and expired
sessions; of several quick changes perhaps only the last. Settings published together are changed in one transaction.
Failures: readers may be a moment behind each other. A publication whose answer was lost raises `OutcomeUnknown`: all
of it happened, or nothing; publishing the same again is harmless.
Cost: a setting takes 1 request to read and 1 to follow, and 1 for each change; `follow_all` 1 watch for the whole
tree.
Znodes: PATH/<key>, persistent, data = the value; a key may contain slashes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from corekit.client import Client, Data, op
from corekit.client.follow import Mapped
from corekit.client.op import Request
from corekit.client.paths import join, parent
from corekit.errors import BadVersionError, NodeExistsError, NoNodeError
from corekit_recipes.tree_cache import TreeCache, tree_cache


class ConfigCentre:
    """`await ConfigCentre(zk, "/config").publish({"db/url": b"..."})`, `async for value in centre.follow("db/url")`"""

    def __init__(self, zk: Client, path: str) -> None:
        self.zk = zk
        self.path = path

    async def get(self, key: str, *, fresh: bool = False) -> bytes | None:
        """A value, or None if it is not set."""
        try:
            return (await self.zk.get(self._node(key), fresh=fresh)).data
        except NoNodeError:
            return None

    async def publish(self, settings: Mapping[str, bytes | None]) -> None:
        """Set values, all in one transaction; None removes a key."""
        for key in (key for key, value in settings.items() if value is not None):
            await self.zk.ensure(parent(self._node(key)))
        while True:
            absent = {key: await self._absent(self._node(key)) for key in settings}
            if all(absent[key] is not None and value is None for key, value in settings.items()):
                return
            try:
                await self.zk.multi([part for key in settings for part in self._parts(key, settings[key], absent[key])])
                return
            except (NoNodeError, NodeExistsError, BadVersionError):
                pass  # somebody made or removed one of them in between

    async def _absent(self, node: str) -> str | None:
        """None if the node is there; else the highest node on the way to it that is not."""
        found = None
        while await self.zk.exists(node) is None:
            found = node
            if node == "/":  # of a chroot that is not there
                break
            node = parent(node)
        return found

    def _parts(self, key: str, value: bytes | None, absent: str | None) -> list[Request[Any]]:
        node = self._node(key)
        if absent is None:
            return [op.delete(node) if value is None else op.set(node, value)]
        if value is not None:
            return [op.create(node, value, acl=self.zk.default_acl)]
        # What is not there must still not be there when the others change, or they would be torn apart.
        return [op.create(absent, acl=self.zk.default_acl), op.delete(absent)]

    def follow(self, key: str) -> AsyncIterator[bytes | None]:
        """`async for value in centre.follow(key)`: the value now (None if not set), then every newer one."""

        async def convert(data: Data | None) -> bytes | None:
            return None if data is None else data.data

        return Mapped(self.zk.follow(self._node(key)), convert)

    async def all(self) -> dict[str, bytes]:
        """All keys that have a value, read one after the other."""
        async with tree_cache(self.zk, self.path) as tree:
            return self._settings(tree.data)

    @asynccontextmanager
    async def follow_all(self) -> AsyncIterator[AsyncIterator[dict[str, bytes]]]:
        """All keys and values now, and again after every change.

        Example:
            async with centre.follow_all() as states:
                async for settings in states: ...
        """

        async def convert(tree: TreeCache) -> dict[str, bytes]:
            return self._settings(tree.data)

        async with tree_cache(self.zk, self.path) as tree:
            yield Mapped(tree.versions(), convert)

    def _settings(self, nodes: Mapping[str, bytes]) -> dict[str, bytes]:
        """Nodes that only hold other nodes together, and are empty, are no settings."""
        inner = {parent(path) for path in nodes}
        lead = len(self.path.rstrip("/")) + 1
        return {
            path[lead:]: data
            for path, data in sorted(nodes.items())
            if path != self.path and (data or path not in inner)
        }

    def _node(self, key: str) -> str:
        return join(self.path, key)
