"""A process of its own that runs a command and never lets it outlive the lock under which it runs.

    corekit (holds the session)  --socket-->  guard (parent of the command)  -->  command, in its own process group

Rules
- The guard is forked before the event loop and its threads exist. It has one thread, no session, and no work but this.
- The command's process group is ended (SIGTERM, `grace` seconds, SIGKILL) when corekit says so, when corekit is gone
  (the socket is closed: killed, crashed), and by itself when the moment comes before which the session cannot have
  expired and corekit has not moved it (corekit is stopped, or cut off). SIGKILL comes `slack` before that moment at the
  latest.
- On Linux the kernel kills the command itself when the guard is gone, so that even killing both leaves nothing behind
  but what the command has started.
- The end of the command is told after it was reaped, and after the rest of its group is gone if the group was to be
  ended. So corekit can release the lock then, and not before.
- If the command's terminal is ours, the command's group is put in front of it: it can read, and Ctrl-C is for it alone.
  A command that is stopped (Ctrl-Z) is continued, because a holder that does not run would lose its lock.

Messages are JSON, one a line. Moments are of `time.monotonic`, which all processes of a machine share.
Not here: locks and sessions (`holding.py`).
"""

from __future__ import annotations

import base64
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from corekit.errors import UserError

GONE_SECONDS = 5.0  # how long the rest of a killed group may take to vanish from the process table
POLL_SECONDS = 0.01
OUTPUT_BYTES_MAX = 512 * 1024  # fits into a znode
COMMAND_NOT_FOUND = 127
NOT_EXECUTABLE = 126
# What the guard does not die of. Handlers, not SIG_IGN: the command must not inherit them.
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM")


def exit_code(status: int) -> int:
    """The exit code that a shell would show for a `Popen.returncode`."""
    return 128 - status if status < 0 else status


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        env: added to our environment.
        grace: seconds between SIGTERM and SIGKILL.
        slack: seconds before the end of the session at which SIGKILL comes.
        input: its standard input; None: ours.
        capture: keep what it writes to standard output, up to `OUTPUT_BYTES_MAX`.
    """

    arguments: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    grace: float = 3.0
    slack: float = 0.0
    input: bytes | None = None
    capture: bool = False


class Guard:
    """The handle of the guard in corekit. Make it with `fork`, outside any event loop; use it as a context manager.

    Attributes:
        running: a command was started and has not been reported as ended.
        output: what the last command wrote, if it was to be captured.
    """

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.running = False
        self.output = b""
        self._pid = pid
        self._link = link
        self._buffer = b""
        self._command_pid = 0

    @classmethod
    def fork(cls) -> Guard:
        """Start the guard.

        Raises:
            UserError: this system cannot.
        """
        if not hasattr(os, "fork"):
            raise UserError("commands can be run under a lock on POSIX systems only")
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        foreground = _in_front()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _guard(theirs, foreground)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    async def start(self, job: Job, until: float = math.inf) -> None:
        """Run a command. One at a time.

        Args:
            until: see `extend`.
        """
        import anyio

        self.output = b""
        given = None if job.input is None else base64.b64encode(job.input).decode()
        message: dict[str, Any] = {"start": list(job.arguments), "env": {**os.environ, **job.env}, "input": given}
        message |= {"capture": job.capture, "grace": job.grace, "slack": job.slack, "until": until}
        data = memoryview(json.dumps(message).encode() + b"\n")
        with anyio.CancelScope(shield=True):  # half a message would spoil all that come after it
            while data:
                await anyio.wait_writable(self._link)
                try:
                    data = data[self._link.send(data) :]
                except BlockingIOError:
                    pass
                except OSError:
                    break  # the guard is gone; `ended` will say so
        self.running = True

    def extend(self, until: float) -> None:
        """The session cannot have expired before this moment of `time.monotonic` (infinite: there is no limit)."""
        self._send(until=until)

    def signal(self, number: int) -> None:
        """Send a signal to the command's group."""
        self._send(signal=number)

    def end(self, until: float | None = None) -> None:
        """End the command: SIGTERM, the grace, SIGKILL. `until` as in `extend`."""
        self._send(end=True, **({} if until is None else {"until": until}))
        os.kill(self._pid, signal.SIGCONT)  # in case somebody has stopped it

    def _send(self, **message: Any) -> None:
        try:
            self._link.send(json.dumps(message).encode() + b"\n")  # so short that it goes as a whole or not at all
        except OSError:
            pass  # the guard is stopped, or gone: `ended` will say so

    async def ended(self) -> int:
        """Wait until the command has been reaped; returns its exit code as shells show it.

        Raises:
            UserError: it could not be started, or the guard was killed (the command is then killed too).
        """
        import anyio

        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                message = json.loads(line)
                if "started" in message:
                    self._command_pid = message["started"]
                elif "failed" in message:
                    self.running = False
                    raise UserError(message["failed"], message["code"])
                else:
                    self.running = False
                    self.output = base64.b64decode(message["output"])
                    return int(message["exit"])
            await anyio.wait_readable(self._link)
            try:
                data = self._link.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                await self._avenge()
            self._buffer += data

    async def _avenge(self) -> NoReturn:
        """Somebody has killed the guard: nobody watches over the command any more, so it must end."""
        import anyio

        with anyio.CancelScope(shield=True):
            for _ in range(int(GONE_SECONDS / POLL_SECONDS)):
                if not self._command_pid or not send(self._command_pid, signal.SIGKILL):
                    break
                await anyio.sleep(POLL_SECONDS)
        self.running = False
        raise UserError("the process that guarded the command was killed; the command was killed too", 1)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *error: object) -> None:
        self._link.close()
        os.waitpid(self._pid, 0)


# ------------------------------------------------------------------------------- in the guard's process
def send(group: int, number: int) -> bool:
    """Send a signal to a process group; False if nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it has become another user's; there is somebody at least
    return True


def _in_front() -> bool:
    """Whether standard input is a terminal and we are what it talks to."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _guard(link: socket.socket, foreground: bool) -> NoReturn:
    """The whole life of the guard's process."""
    code = 1
    try:
        # A group of its own: a signal to corekit's whole group (kill -9 -PID, a closing terminal) must not reach it.
        front = os.getpgrp() if foreground else 0
        os.setpgid(0, 0)
        wake_out, wake_in = os.pipe()
        for end in (wake_out, wake_in):
            os.set_blocking(end, False)
        for name in (*IGNORED, "SIGCHLD"):
            number = getattr(signal, name)
            # What corekit was started to ignore (nohup), its command ignores too.
            if name == "SIGPIPE" or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        _Watchman(link, wake_out, front).run()
        code = 0
    finally:
        os._exit(code)


def _dying_with(parent: int) -> Callable[[], None] | None:
    """What a child of ours does before it becomes the command: ask the kernel to be killed when `parent` dies."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask


class _Watchman:
    """Runs commands one after another until corekit closes its end."""

    def __init__(self, link: socket.socket, wake: int, front: int) -> None:
        self._link = link
        self._wake = wake
        self._front = front  # the group to give the terminal back to; 0: it is not ours
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._closed = False
        self._until = math.inf
        self._grace = 0.0
        self._slack = 0.0
        self._kill_at: float | None = None  # set when the command is being ended
        self._killed = False
        self._output: BinaryIO | None = None

    def run(self) -> None:
        while self._child is not None or not self._closed:
            self._wait()
            if self._child is not None:
                self._reap()
            if self._child is not None:
                self._enforce()

    # Waiting
    def _wait(self) -> None:
        readers: list[Any] = [self._wake]
        if not self._closed:
            readers.append(self._link)
        ready, _, _ = select.select(readers, [], [], self._patience())
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._link in ready:
            try:
                data = self._link.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._closed = True
            self._buffer += data
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self._take(json.loads(line))

    def _patience(self) -> float | None:
        """Seconds until something must be done."""
        if self._child is None or self._killed:
            return None if self._child is None else POLL_SECONDS
        moment = self._term_at() if self._kill_at is None else min(self._kill_at, self._last_moment())
        if self._closed and self._kill_at is None:
            return 0
        # Select takes no infinity, and a day is as good.
        return min(max(0.0, moment - time.monotonic()), 86400.0)

    def _last_moment(self) -> float:
        return self._until - self._slack

    def _term_at(self) -> float:
        return self._last_moment() - self._grace

    def _take(self, message: dict[str, Any]) -> None:
        if "until" in message:
            self._until = message["until"]
        if "start" in message:
            self._grace, self._slack = message["grace"], message["slack"]
            given = message["input"]
            self._output = self._file(b"") if message["capture"] else None
            self._start(message["start"], message["env"], None if given is None else base64.b64decode(given))
        elif "signal" in message and self._child is not None:
            send(self._child.pid, message["signal"])
        elif "end" in message and self._child is not None:
            self._end()

    def _tell(self, **message: Any) -> None:
        try:
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._closed = True

    # The command
    def _file(self, data: bytes) -> BinaryIO:
        """A file of no name that holds the data."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the command has it, or has ended
        file.write(data)
        file.seek(0)
        return file

    def _start(self, arguments: list[str], env: dict[str, str], given: bytes | None) -> None:
        self._kill_at, self._killed = None, False
        source = None if given is None else self._file(given)
        try:
            self._child = subprocess.Popen(
                arguments,
                env=env,
                process_group=0,
                preexec_fn=_dying_with(os.getpid()),
                stdin=source,
                stdout=self._output,
            )
        except OSError as error:
            code = COMMAND_NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            self._tell(failed=f"cannot run {arguments[0]}: {error.strerror}", code=code)
            return
        finally:
            if source is not None:
                source.close()
        self._to_front(self._child.pid)
        self._tell(started=self._child.pid)

    def _to_front(self, group: int) -> None:
        """Let the terminal talk to a group."""
        if not self._front:
            return
        # From behind this would stop us (SIGTTOU).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            os.tcsetpgrp(0, group)
        except OSError:
            pass  # the terminal is gone
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _end(self) -> None:
        """SIGTERM now, SIGKILL later."""
        assert self._child is not None
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            send(self._child.pid, signal.SIGTERM)
            send(self._child.pid, signal.SIGCONT)

    def _enforce(self) -> None:
        assert self._child is not None
        now = time.monotonic()
        if self._kill_at is None and (self._closed or now >= self._term_at()):
            self._end()
        if self._kill_at is not None and now >= min(self._kill_at, self._last_moment()):
            self._killed = True
            send(self._child.pid, signal.SIGKILL)

    def _reap(self) -> None:
        child = self._child
        assert child is not None
        while True:
            try:
                pid, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                pid, status = child.pid, 0
            if pid == 0:
                return
            if not os.WIFSTOPPED(status):
                break
            self._to_front(child.pid)
            send(child.pid, signal.SIGCONT)
        child.returncode = os.waitstatus_to_exitcode(status)
        if self._kill_at is not None:
            self._clear(child.pid)
        self._child = None
        if self._front:
            self._to_front(self._front)
        shown = b""
        if self._output is not None:
            self._output.seek(0)
            shown = self._output.read(OUTPUT_BYTES_MAX)
            self._output.close()
        self._tell(exit=exit_code(child.returncode), output=base64.b64encode(shown).decode())

    def _clear(self, group: int) -> None:
        """Kill what is left of the group, and wait until it is gone."""
        give_up = time.monotonic() + GONE_SECONDS
        while send(group, signal.SIGKILL) and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
