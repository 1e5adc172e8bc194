"""Bulk work: many requests in flight, results in order, no task per request."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

from corekit.client.op import Request
from corekit.client.protocol import Call
from corekit.client.runner import Runner
from corekit.client.session import Session

T = TypeVar("T")


class Stream(Generic[T]):
    """`async for result in zk.stream(requests)`; made by `Client.stream`."""

    def __init__(
        self,
        runner: Runner,
        session: Session | None,
        chroot: bytes,
        seconds: float | None,
        requests: Iterable[Request[T]],
        flight: int,
        errors: bool,
    ) -> None:
        self._calls: deque[Call[T]] = deque()
        self._runner = runner
        self._session = session
        self._chroot = chroot
        self._seconds = seconds
        self._requests = iter(requests)
        self._flight = max(1, flight)
        self._errors = errors

    def __del__(self) -> None:
        for call in self._calls:  # the loop was left: what is not sent yet is not sent any more
            call.abandoned = True

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        calls = self._calls
        # Refilled by halves: one write then carries many requests, and replies come while the next are encoded.
        if len(calls) <= self._flight // 2:
            self._fill()
        if not calls:
            raise StopAsyncIteration
        call = calls.popleft()
        if not call.done:
            try:
                await self._runner.finish(call, self._seconds)
            except Exception:
                if not call.done:  # too late: not an answer, and the same must be true of a stream of errors
                    raise
        if call.error is not None:
            if self._errors:
                return call.error  # type: ignore[return-value]  # asked for with `errors`
            raise call.error
        return call.value  # type: ignore[return-value]  # without an error there is one

    def _fill(self) -> None:
        runner = self._runner
        for request in self._requests:
            call = Call(request, self._chroot)
            self._calls.append(call)
            runner.submit(call, self._session)
            if len(self._calls) >= self._flight:
                return
