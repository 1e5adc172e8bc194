"""Tasks beside a block, without the exception group that a task group makes of the block's own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio


@asynccontextmanager
async def alongside(*jobs: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[None]:
    """Run jobs while a block runs; they are cancelled at its end. An error of the block or of a job leaves as it is.

    A job that fails cancels the block.
    """
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job)
            try:
                yield
            except BaseException as error:
                failure = error
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise sole(group) from None
    if failure is not None:
        raise failure


def sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a group of one; otherwise the group."""
    while len(group.exceptions) == 1:
        only = group.exceptions[0]
        if not isinstance(only, BaseExceptionGroup):
            return only
        group = only
    return group
