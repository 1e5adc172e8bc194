"""A lease: a body that runs only while the session cannot have expired.

Rules
- The body's cancel scope ends `margin` before `Session.safe_until`, is moved on by every heartbeat that proves the
  session alive, and ends at once when a server says that the session is gone.
- Time is the event loop's clock. A process that is stopped, or a body that does not await, notices late; what it
  writes elsewhere must carry the fencing token of the recipe, which is what finally protects it.
- A lease belongs to one session. Recipes take one after they hold their znode, and then look at the znode again.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from corekit.client.errors import LeaseLost
from corekit.errors import ConnectionLossError, SessionExpiredError

if TYPE_CHECKING:
    from corekit.client.client import Client
    from corekit.client.runner import Runner
    from corekit.client.session import Session

MARGIN = 0.1  # of the session timeout


class LeaseBook:
    """The leases that are held now."""

    def __init__(self) -> None:
        self._held: list[Lease] = []

    def __len__(self) -> int:
        return len(self._held)

    def extend(self, safe_until: float) -> None:
        """The session is known to live until then."""
        for lease in self._held:
            lease.extend(safe_until)

    def lose(self, reason: str) -> None:
        """The session is gone."""
        for lease in self._held:
            lease.lose(reason)

    def add(self, lease: Lease) -> None:
        """A body begins."""
        self._held.append(lease)

    def remove(self, lease: Lease) -> None:
        """A body has ended."""
        self._held.remove(lease)


class Lease:
    """`async with zk.lease() as lease:` runs the body in a cancel scope.

    Raises `LeaseLost` on leaving if the body was cut short, outlived the lease, or was told by the end of its session
    before it was cancelled; and on entering, instead of running the body, if the lease is over already.

    Attributes:
        session_id: the session that the body depends on.
        lost: why the lease ended before the body, or None.
    """

    def __init__(self, runner: Runner, margin: float | None) -> None:
        self._runner = runner
        self._margin = margin
        self._session: Session | None = None
        self._scope = anyio.CancelScope()
        self._seconds = 0.0
        self._over = False
        self._let_go = False
        self.session_id = 0
        self.lost: str | None = None

    @property
    def deadline(self) -> float:
        """When the body will be cancelled unless another heartbeat succeeds (`anyio.current_time` clock)."""
        return self._scope.deadline

    @property
    def session(self) -> Session:
        """The session that the body depends on; only once it is proved alive."""
        assert self._session is not None, "prove() comes first"
        return self._session

    def remaining(self) -> float:
        """Seconds until `deadline`."""
        return self._scope.deadline - anyio.current_time()

    def extend(self, safe_until: float) -> None:
        """The book's: move the deadline, unless it has passed already."""
        if self.lost is None:
            if anyio.current_time() >= self._scope.deadline:
                self.lose("no heartbeat in time")
            else:
                self._scope.deadline = safe_until - self._seconds

    def lose(self, reason: str) -> None:
        """Cancel the body now."""
        if self.lost is None and not self._over:
            self.lost = reason
            self._scope.cancel()

    async def prove(self) -> Self:
        """Wait until the session is proved alive. Then enter with `with lease:`, or use `async with`, which does both.

        Raises:
            SessionExpiredError, NotReadOnlyError: it cannot be.
        """
        runner = self._runner
        while True:
            session = runner.session
            try:
                await runner.prove()
            except ConnectionLossError:
                continue  # the next try is sent as soon as there is a connection
            if session is runner.session and session.ended is None:
                break
        self._session = session
        self.session_id = session.id
        self._seconds = MARGIN * session.timeout if self._margin is None else self._margin
        return self

    def __enter__(self) -> Self:
        session = self.session
        self._scope.deadline = session.safe_until - self._seconds
        if session.ended is not None:
            self.lose("the session has ended")
        elif self.remaining() <= 0:
            self.lose("no heartbeat in time")
        if self.lost is not None:
            raise self._error()  # a cancelled body would still run to its first await
        session.leases += 1
        self._runner.leases.add(self)
        self._runner.wake_beats()
        self._scope.__enter__()
        return self

    def depend_on(self, client: Client, path: str, made: int = 0) -> None:
        """End the lease also when this node (its czxid is `made`, if given) is removed, by whomever."""

        def removed() -> None:
            if not self._let_go:
                self.lose(f"the node {path} was removed")

        client.watch_removal(path, removed, made)

    def let_go(self) -> None:
        """From now on nodes may go, because the body is about to remove them itself."""
        self._let_go = True

    async def __aenter__(self) -> Self:
        return (await self.prove()).__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, trace)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        runner = self._runner
        runner.leases.remove(self)
        if self._session is not None and self._session.leases:
            self._session.leases -= 1
        late = anyio.current_time() >= self._scope.deadline
        ours = bool(self._scope.__exit__(kind, error, trace))
        if self.lost is None and (late or self._scope.cancelled_caught):
            self.lost = "no heartbeat in time"
        self._over = True
        if self.lost is not None and (error is None or ours or isinstance(error, SessionExpiredError)):
            raise self._error() from error
        return ours

    def _error(self) -> LeaseLost:
        return LeaseLost(f"{self.lost}; session 0x{self.session_id & 0xFFFFFFFFFFFFFFFF:x}")
