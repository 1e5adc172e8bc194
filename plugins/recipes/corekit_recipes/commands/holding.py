"""Holding a lock, a permit, a leadership or an item, and running a command meanwhile.

Rules
- The command is run by the guard (`guard.py`), which ends it before the session can have expired, whatever happens to
  this process. What is held is given back after the guard has reported that the command was reaped, never before.
- SIGTERM comes `grace` + `slack` before the session can have expired, SIGKILL `slack` before.
- Signals: see `attendant.py`.

Not here: what is held (the recipes), and the commands' options (`lock_commands.py` and others).
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corekit.cli.connection import Target, run_async
from corekit.cli.output import print_json
from corekit.errors import EXIT_LOST, EXIT_NOT_ACQUIRED, UserError
from corekit_recipes.commands.attendant import Attendant
from corekit_recipes.commands.guard import COMMAND_NOT_FOUND, NOT_EXECUTABLE, Guard, Job

if TYPE_CHECKING:
    from corekit.client import Client
    from corekit_recipes.contender import Grant

GRACE = 0.15  # of the session timeout, unless --grace says otherwise
SLACK = 0.05  # of the session timeout
MARGIN_MAX = 0.4  # of the session timeout: more would leave no time to find another server
EXTENSIONS = 20  # messages to the guard in one session timeout


@dataclass(frozen=True)
class Held:
    """What is held while the command runs.

    Attributes:
        grant: what must not be outlived; None if nothing excludes others.
        env: what the command finds in its environment, and what is printed without a command.
        input: what it finds on its standard input; None: ours.
        must_succeed: if the command fails, what is held is given back as it was.
    """

    grant: Grant | None
    env: Mapping[str, str] = field(default_factory=dict)
    input: bytes | None = None
    must_succeed: bool = False


# Waits so many seconds (None: for ever, 0: one try), and holds.
Hold = Callable[[float | None], AbstractAsyncContextManager[Held]]
# Takes the client, the identifier and the margin of the lease.
Take = Callable[["Client", str, float], Hold]


@dataclass(kw_only=True)
class Rules:
    """What the options of the command say.

    Attributes:
        wait: seconds in all, from the start; None for ever, 0 for one try.
        conflict: exit code when it was not acquired.
        grace: seconds between SIGTERM and SIGKILL; None: a part of the session timeout.
        name: who we are, for people who look.
        stay: after a loss, wait again.
        times: how often the command is run, as long as it succeeds; None: until a signal.
    """

    wait: float | None = None
    conflict: int = EXIT_NOT_ACQUIRED
    grace: float | None = None
    name: str = ""
    stay: bool = False
    times: int | None = 1
    json: bool = False


def find_command(command: Sequence[str]) -> None:
    """See that a command exists before anything is waited for.

    Raises:
        UserError: it does not, or cannot be run.
    """
    if shutil.which(command[0]) is None:
        if os.path.dirname(command[0]) and os.path.exists(command[0]):
            raise UserError(f"cannot run {command[0]}: it is not an executable file", NOT_EXECUTABLE)
        raise UserError(f"there is no command {command[0]}", COMMAND_NOT_FOUND)


def hold(target: Target, path: str, take: Take, command: Sequence[str], rules: Rules) -> int:
    """Acquire, run the command (or hold until a signal), give back; returns the exit code."""
    if not command:
        return run_async(_Holder(target, path, take, (), rules, None).main)
    find_command(command)
    with Guard.fork() as guard:
        return run_async(_Holder(target, path, take, command, rules, guard).main)


def granted(
    path: str, make: Callable[[float | None], AbstractAsyncContextManager[Grant]]
) -> Callable[[float | None], AbstractAsyncContextManager[Held]]:
    """A `Hold` of a recipe that gives a grant."""

    @asynccontextmanager
    async def hold_grant(wait: float | None) -> AsyncIterator[Held]:
        async with make(wait) as grant:
            yield Held(grant, variables(path, grant))

    return hold_grant


def variables(path: str, grant: Grant) -> dict[str, str]:
    """What the command finds in its environment."""
    return {
        "COREKIT_LOCK_PATH": path,
        "COREKIT_LOCK_NODE": grant.path,
        "COREKIT_LOCK_TOKEN": str(grant.token),
        "COREKIT_SESSION": f"0x{grant.session_id & (1 << 64) - 1:x}",
    }


class _Failed(Exception):
    """The command has failed, and what it held must be given back as it was."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


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
        self._attendant = Attendant(() if guard is None else (guard,))

    async def main(self) -> int:
        """Everything; the exit code."""
        return await self._attendant.run(self._run)

    async def _run(self) -> int:
        import anyio

        from corekit.client import LeaseLost, NotAcquired

        rules = self._rules
        deadline = None if rules.wait is None else anyio.current_time() + rules.wait
        async with self._target.connect_for_long(rules.wait or None) as zk:
            grace, slack = self._margins(zk.session_timeout)
            take = self._take(zk, rules.name or _identifier(self._command), grace + slack)
            done = 0
            while True:
                wait = None if deadline is None else max(0.001, deadline - anyio.current_time())
                try:
                    async with take(0 if rules.wait == 0 else wait) as held:
                        code = await self._body(held, grace, slack)
                    done += 1
                    if done == rules.times:
                        return code
                except _Failed as failed:
                    return failed.code
                except NotAcquired as error:
                    within = f" within {rules.wait:g} s" if rules.wait else ""
                    text = f"{self._path} was not acquired{within}{await self._holder(zk)}"
                    raise UserError(text, rules.conflict) from error
                except LeaseLost as error:
                    text = f"{self._path} was lost while held: {error}"
                    if not rules.stay:
                        raise UserError(text, EXIT_LOST) from error
                    print(f"corekit: {text}; waiting again", file=sys.stderr)

    def _margins(self, session_timeout: float) -> tuple[float, float]:
        """Grace and slack, in seconds.

        Raises:
            UserError: they do not fit into the session timeout that the server has granted.
        """
        slack = SLACK * session_timeout
        grace = GRACE * session_timeout if self._rules.grace is None else self._rules.grace
        if grace + slack > MARGIN_MAX * session_timeout:
            raise UserError(
                f"--grace {grace:g} is too long for a session timeout of {session_timeout:g} s "
                f"(at most {(MARGIN_MAX - SLACK) * session_timeout:g}); ask for a longer one with --session-timeout"
            )
        return grace, slack

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

    async def _body(self, held: Held, grace: float, slack: float) -> int:
        import anyio

        if self._guard is None:
            self._tell(held)
            await anyio.sleep_forever()
        assert self._guard is not None
        job = Job(self._command, held.env, grace, slack, held.input)
        grant = held.grant

        def until() -> float:
            assert grant is not None
            if grant.lease.session.ended is not None:
                return time.monotonic()
            return time.monotonic() + grant.lease.remaining() + grace + slack

        timeout = 0.0 if grant is None else grant.lease.session.timeout
        code = await run_under(self._guard, job, None if grant is None else until, timeout)
        if code and held.must_succeed:
            raise _Failed(code)
        return code

    def _tell(self, held: Held) -> None:
        if self._rules.json:
            print_json(dict(held.env))
        else:
            print("\n".join(f"{name}={value}" for name, value in held.env.items()))
        sys.stdout.flush()
        self._attendant.regular = True


async def run_under(guard: Guard, job: Job, until: Callable[[], float] | None, session_timeout: float) -> int:
    """Run a command that is ended before what it runs under can be anybody else's; returns its exit code.

    When this is cancelled (as it is when a lease ends), the command is ended, and waited for.

    Args:
        until: tells when the session may have expired (`Guard.extend`); None: the command runs under nothing.
        session_timeout: in seconds; the guard is told `EXTENSIONS` times in it.
    """
    import anyio

    async def extend() -> None:
        assert until is not None
        while True:
            await anyio.sleep(session_timeout / EXTENSIONS)
            guard.extend(until())

    async with anyio.create_task_group() as tasks:
        await guard.start(job, math.inf if until is None else until())
        if until is not None:
            tasks.start_soon(extend)
        try:
            code = await guard.ended()
        finally:
            if guard.running:
                guard.end(None if until is None else until())
                with anyio.CancelScope(shield=True):
                    await guard.ended()
        tasks.cancel_scope.cancel()
    return code


def _identifier(command: Sequence[str]) -> str:
    """Who we are, for people who look."""
    return " ".join((f"{socket.gethostname()}:{os.getpid()}", *command))[:200]
