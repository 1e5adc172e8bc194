"""Holding a lock, a permit or a leadership, and running a command meanwhile.

Rules
- Signals are received before anything else is done. Until the command runs they mean: give up, leave nothing behind.
  While it runs they are handed on to its process group. A second signal while giving up leaves at once (the session
  then expires by itself).
- The command is run by the guard (`guard.py`), which ends it before the session can have expired, whatever happens to
  this process. The grant is given back after the guard has reported that the command was reaped, never before.
- SIGTERM comes `grace` + `slack` before the session can have expired, SIGKILL `slack` before.

Not here: what is held (the recipes), and the commands' options (`lock_commands.py`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corekit.cli.connection import Target, run_async
from corekit.cli.output import print_json
from corekit.errors import EXIT_LOST, EXIT_NOT_ACQUIRED, UserError
from corekit_recipes.commands.guard import COMMAND_NOT_FOUND, Guard

if TYPE_CHECKING:
    import anyio

    from corekit.client import Client
    from corekit_recipes.contender import Grant

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
HARMLESS = ("SIGUSR1", "SIGUSR2")  # these alone do not make a waiting process give up
GRACE = 0.15  # of the session timeout, unless --grace says otherwise
SLACK = 0.05  # of the session timeout
MARGIN_MAX = 0.4  # of the session timeout: more would leave no time to find another server
EXTENSIONS = 20  # messages to the guard in one session timeout

# Takes the client, the identifier and the margin; returns what takes the seconds to wait (None: for ever, 0: try).
Take = Callable[["Client", str, float], Callable[[float | None], AbstractAsyncContextManager["Grant"]]]


@dataclass
class Rules:
    """What the options of the command say.

    Attributes:
        wait: seconds in all, from the start; None for ever, 0 for one try.
        conflict: exit code when it was not acquired.
        grace: seconds between SIGTERM and SIGKILL; None: a part of the session timeout.
        name: who we are, for people who look.
        stay: after a loss, wait again.
    """

    wait: float | None = None
    conflict: int = EXIT_NOT_ACQUIRED
    grace: float | None = None
    name: str = ""
    stay: bool = False
    json: bool = False


def hold(target: Target, path: str, take: Take, command: Sequence[str], rules: Rules) -> int:
    """Acquire, run the command (or hold until a signal), release; returns the exit code."""
    if not command:
        return run_async(_Holder(target, path, take, (), rules, None).main)
    if shutil.which(command[0]) is None:
        raise UserError(f"there is no command {command[0]}", COMMAND_NOT_FOUND)
    with Guard.fork() as guard:
        return run_async(_Holder(target, path, take, command, rules, guard).main)


class _Holder:
    """One run."""

    def __init__(
        self, target: Target, path: str, take: Take, command: Sequence[str], rules: Rules, guard: Guard | None
    ) -> None:
        self._target = target
        self._path = path
        self._take = take
        self._command = command
        self._rules = rules
        self._guard = guard
        self._given_up = 0  # the signal because of which
        self._told = False  # held without a command, so that a signal is the regular end
        self._scope: anyio.CancelScope | None = None

    async def main(self) -> int:
        """Everything; the exit code."""
        import anyio

        numbers = [getattr(signal, name) for name in FORWARDED]
        # What we were started to ignore (nohup, a background job of a script) stays ignored.
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        code = 0
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(*numbers) as received:
                tasks.start_soon(self._receive, received)
                with anyio.CancelScope() as self._scope:
                    code = await self._run()
                tasks.cancel_scope.cancel()
        if self._given_up:
            return 0 if self._told else 128 + self._given_up
        return code

    async def _receive(self, received: AsyncIterator[signal.Signals]) -> None:
        async for number in received:
            if self._guard is not None and self._guard.running:
                self._guard.signal(number)
            elif number.name in HARMLESS:
                continue
            elif self._given_up:
                os._exit(128 + number)
            else:
                self._given_up = number
                assert self._scope is not None
                self._scope.cancel()

    async def _run(self) -> int:
        import anyio

        from corekit.client import LeaseLost, NotAcquired

        rules = self._rules
        deadline = None if rules.wait is None else anyio.current_time() + rules.wait
        async with self._target.connect_for_long(rules.wait or None) as zk:
            slack = SLACK * zk.session_timeout
            grace = GRACE * zk.session_timeout if rules.grace is None else rules.grace
            if grace + slack > MARGIN_MAX * zk.session_timeout:
                most = (MARGIN_MAX - SLACK) * zk.session_timeout
                raise UserError(
                    f"--grace {grace:g} is too long for a session timeout of {zk.session_timeout:g} s "
                    f"(at most {most:g}); ask for a longer one with --session-timeout"
                )
            take = self._take(zk, rules.name or _identifier(self._command), grace + slack)
            while True:
                wait = deadline and max(0.001, deadline - anyio.current_time())
                try:
                    async with take(0 if rules.wait == 0 else wait) as grant:
                        return await self._body(grant, grace, slack)
                except NotAcquired as error:
                    within = f" within {rules.wait:g} s" if rules.wait else ""
                    raise UserError(
                        f"{self._path} was not acquired{within}{await self._holder(zk)}", rules.conflict
                    ) from error
                except LeaseLost as error:
                    text = f"{self._path} was lost while held: {error}"
                    if not rules.stay:
                        raise UserError(text, EXIT_LOST) from error
                    print(f"corekit: {text}; waiting again", file=sys.stderr)

    async def _holder(self, zk: Client) -> str:
        """Who is in the way, if that can be seen quickly."""
        import anyio

        from corekit.errors import KeeperError
        from corekit_recipes.lock import entries

        try:
            with anyio.move_on_after(1):
                for entry in await entries(zk, self._path):
                    return f"; {entry.identifier or entry.path} holds it"
        except KeeperError:
            pass
        return ""

    async def _body(self, grant: Grant, grace: float, slack: float) -> int:
        import anyio

        guard = self._guard
        if guard is None:
            self._tell(grant)
            await anyio.sleep_forever()
        assert guard is not None

        def until() -> float:
            """When the session may have expired, on the clock that the guard uses."""
            if grant.lease.session.ended is not None:
                return time.monotonic()
            return time.monotonic() + grant.lease.remaining() + grace + slack

        async def extend() -> None:
            while True:
                await anyio.sleep(grant.lease.session.timeout / EXTENSIONS)
                guard.extend(until())

        env = {**os.environ, **variables(self._path, grant)}
        async with anyio.create_task_group() as tasks:
            guard.start(self._command, env, grace, slack, until())
            tasks.start_soon(extend)
            try:
                code = await guard.ended()
            finally:
                if guard.running:
                    guard.end(until())
                    with anyio.CancelScope(shield=True):
                        await guard.ended()
            tasks.cancel_scope.cancel()
        return code

    def _tell(self, grant: Grant) -> None:
        found = variables(self._path, grant)
        if self._rules.json:
            print_json(found)
        else:
            print("\n".join(f"{name}={value}" for name, value in found.items()))
        sys.stdout.flush()
        self._told = True


def variables(path: str, grant: Grant) -> dict[str, str]:
    """What the command finds in its environment."""
    return {
        "COREKIT_LOCK_PATH": path,
        "COREKIT_LOCK_NODE": grant.path,
        "COREKIT_LOCK_TOKEN": str(grant.token),
        "COREKIT_SESSION": f"0x{grant.session_id & (1 << 64) - 1:x}",
    }


def _identifier(command: Sequence[str]) -> str:
    """Who we are, for people who look."""
    return " ".join((f"{socket.gethostname()}:{os.getpid()}", *command))[:200]
