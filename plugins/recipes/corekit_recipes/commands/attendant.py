"""Signals while something is waited for, held or run.

Rules
- They are received before anything else is done. While a command runs they are handed on to its process group;
  otherwise they mean: give up, leave nothing behind. A second one while giving up leaves at once (the session then
  expires by itself).
- What we were started to ignore (nohup, a background job of a script) stays ignored.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio

    from corekit_recipes.commands.guard import Guard

RECEIVED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
HARMLESS = ("SIGUSR1", "SIGUSR2")  # these alone do not make a waiting process give up


class Attendant:
    """Runs something and receives signals meanwhile.

    Attributes:
        regular: a signal is the regular end of what is being done now, so that the exit code is 0.
    """

    def __init__(self, guards: Sequence[Guard] = (), *, regular: bool = False) -> None:
        """`guards` run the commands that signals are for, if any runs."""
        self.regular = regular
        self._guards = guards
        self._given_up = 0  # the signal because of which
        self._scope: anyio.CancelScope | None = None

    async def run(self, main: Callable[[], Awaitable[int]]) -> int:
        """The exit code of `main`, or that of the signal which ended it."""
        import anyio

        numbers = [getattr(signal, name) for name in RECEIVED]
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        code = 0
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(*numbers) as received:
                tasks.start_soon(self._receive, received)
                with anyio.CancelScope() as self._scope:
                    code = await main()
                tasks.cancel_scope.cancel()
        if self._given_up:
            return 0 if self.regular else 128 + self._given_up
        return code

    async def _receive(self, received: AsyncIterator[signal.Signals]) -> None:
        async for number in received:
            running = [guard for guard in self._guards if guard.running]
            for guard in running:
                guard.signal(number)
            if running or number.name in HARMLESS:
                continue
            if self._given_up:
                os._exit(128 + number)
            self._given_up = number
            assert self._scope is not None
            self._scope.cancel()
