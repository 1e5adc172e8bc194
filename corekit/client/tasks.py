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
    """The one error in a group, cancellations left aside; the group if there are several (or cancellations only)."""
    _, errors = group.split(anyio.get_cancelled_exc_class())
    found: BaseException = group if errors is None else errors
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found
