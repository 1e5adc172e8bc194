"""Waiting for something that another process does: look, pause, look again, up to a deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 8) -> None:
    """Return once `condition` gives true; `TimeoutError` if it does not in time."""
    with anyio.fail_after(seconds):
        while True:
            if await condition():
                return
            await anyio.sleep(0.01)


def gone(client, path: str) -> Callable[[], Awaitable[bool]]:
    """A condition: there is no such node."""

    async def check() -> bool:
        return await client.exists(path) is None

    return check


def there(client, path: str) -> Callable[[], Awaitable[bool]]:
    """A condition: there is such a node."""

    async def check() -> bool:
        return await client.exists(path) is not None

    return check
