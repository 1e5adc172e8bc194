"""The session's state as a value that can be read, awaited and followed. No thread, no callback."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from weakref import WeakSet

import anyio

from corekit.client.errors import ClientClosedError
from corekit.client.types import State, StateChange

HISTORY_MAX = 64
FINAL = (State.CLOSED, State.AUTH_FAILED)


class StateBoard:
    """Holds the present `StateChange` and tells those who follow it."""

    def __init__(self) -> None:
        self.now = StateChange(State.CONNECTING, "not connected yet", "", 0)
        self.changed = anyio.Event()
        self._followers: WeakSet[StateFollower] = WeakSet()

    def set(self, change: StateChange) -> None:
        """Enter a state. Final states (CLOSED, AUTH_FAILED) are not left again."""
        if self.now.state in FINAL:
            return
        self.now = change
        for follower in self._followers:
            follower.changes.append(change)
        self.changed.set()
        self.changed = anyio.Event()

    def follow(self) -> StateFollower:
        """The present state, and every change from now on."""
        follower = StateFollower(self)
        self._followers.add(follower)
        return follower

    async def wait(self, accept: Callable[[StateChange], bool]) -> StateChange:
        """The present state if it is accepted, else the first that is.

        Raises:
            ClientClosedError: a final state came instead.
        """
        async for change in self.follow():
            if accept(change):
                return change
        raise ClientClosedError(f"the client is {self.now.state.value}: {self.now.reason}")


class StateFollower:
    """`async for change in follower`; ends after a final state. A slow reader gets the last 64 changes."""

    def __init__(self, board: StateBoard) -> None:
        self._board = board
        self._over = False
        self.changes: deque[StateChange] = deque([board.now], maxlen=HISTORY_MAX)

    def __aiter__(self) -> AsyncIterator[StateChange]:
        return self

    async def __anext__(self) -> StateChange:
        if self._over:
            raise StopAsyncIteration
        while not self.changes:
            await self._board.changed.wait()
        change = self.changes.popleft()
        self._over = change.state in FINAL
        return change
