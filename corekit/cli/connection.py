"""How commands reach an ensemble: the options that all of them share, the session they work in, and what errors become.

Rules
- A command is an async function whose first parameter is a `Session`. `command` turns it into what typer wants: its
  own parameters, then those of `Target`, then `--json`.
- The same function serves one command of the process's own and one line of `corekit shell`, which lends its session.
- An error becomes one line on stderr and an exit code (docs/cli.md lists them); `failure` is the only table of that.
- What a command needs is imported when it runs, so that `--help` and completion stay fast.

Not here: the commands (`tree_*.py`, `status.py`, plugins), the shell (`shell.py`).
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from corekit.cli.output import print_json, print_json_line, reader_left
from corekit.errors import (
    EXIT_LOST,
    EXIT_NO_PERMISSION,
    EXIT_NOT_ACQUIRED,
    EXIT_UNAVAILABLE,
    EXIT_UNEXPECTED,
    EXIT_UNKNOWN_OUTCOME,
    EXIT_USAGE,
    CorekitError,
    UserError,
)

if TYPE_CHECKING:
    import ssl

    from corekit.client import Client, Watch

T = TypeVar("T")

PANEL = "Connection"
DEFAULT_HOSTS = "127.0.0.1:2181"
TIMEOUT = 10.0  # seconds, unless --timeout says otherwise

HostsOption = Annotated[
    str,
    typer.Option(
        "--hosts",
        "-H",
        envvar="COREKIT_HOSTS",
        metavar="HOST:PORT,...[/CHROOT]",
        help="Servers of the ensemble; unix:/PATH is a socket of this machine.",
        rich_help_panel=PANEL,
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.0,
        help=f"How long to wait for a session, and for each answer (default {TIMEOUT:g}).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
AuthOption = Annotated[
    list[str] | None,
    typer.Option(
        "--auth",
        metavar="SCHEME:DATA",
        help="Credentials, as digest:user:password. May be repeated; $COREKIT_AUTH holds several with spaces between.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
SessionTimeoutOption = Annotated[
    float,
    typer.Option(
        "--session-timeout",
        metavar="SECONDS",
        min=0.001,
        help="How long the ensemble waits for a silent client.",
        rich_help_panel=PANEL,
    ),
]
ReadOnlyOption = Annotated[
    bool,
    typer.Option("--read-only", help="Also accept a server that has lost its quorum.", rich_help_panel=PANEL),
]
TlsCaOption = Annotated[
    str | None,
    typer.Option(
        "--tls-ca",
        envvar="COREKIT_TLS_CA",
        metavar="FILE",
        help="Use TLS and trust the certificates in this file (`system`: those of the system).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsCertOption = Annotated[
    str | None,
    typer.Option(
        "--tls-cert",
        envvar="COREKIT_TLS_CERT",
        metavar="FILE",
        help="Use TLS and show this certificate; the file holds its key too.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass
class Target:
    """Where a command connects to, and how: the options that all commands share.

    Attributes:
        timeout: seconds for the first session and for each answer; None: 10, and no patience with servers that refuse.
    """

    hosts: HostsOption = DEFAULT_HOSTS
    timeout: TimeoutOption = None
    auth: AuthOption = None
    session_timeout: SessionTimeoutOption = 10.0
    read_only: ReadOnlyOption = False
    tls_ca: TlsCaOption = None
    tls_cert: TlsCertOption = None

    def credentials(self) -> list[tuple[str, str]]:
        """What `--auth`, or else `$COREKIT_AUTH`, gives.

        Raises:
            UserError: one of them is not of the form scheme:data.
        """
        found = []
        for text in self.auth or os.environ.get("COREKIT_AUTH", "").split():
            scheme, separator, data = text.partition(":")
            if not scheme or not separator:
                raise UserError("--auth is written scheme:data, for example --auth digest:user:password")
            found.append((scheme, data))
        return found

    def context(self) -> ssl.SSLContext | None:
        """What TLS is to be done with; None for none.

        Raises:
            UserError: a file cannot be used.
        """
        if not self.tls_ca and not self.tls_cert:
            return None
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.tls_ca if self.tls_ca not in (None, "system") else None)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert)
        except OSError as error:
            why = "it holds no PEM that fits" if isinstance(error, ssl.SSLError) else error.strerror
            options = {"--tls-ca": self.tls_ca, "--tls-cert": self.tls_cert}
            given = " or ".join(f"{name} {value}" for name, value in options.items() if value)
            raise UserError(f"{given} cannot be used: {why}") from error
        return context

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """The client's `connect` with these options. Without `--timeout` no server that refuses is tried again."""
        given = self.timeout
        seconds = TIMEOUT if given is None else given
        return self._connect(seconds, patient=given is not None, call_timeout=seconds)

    def connect_for_long(self, wait: float | None) -> AbstractAsyncContextManager[Client]:
        """For commands that wait: calls have no limit, since they are to outlast the failures of servers.

        Args:
            wait: seconds for the first session; None: 10.
        """
        return self._connect(TIMEOUT if wait is None else wait, patient=True, call_timeout=None)

    def _connect(
        self, seconds: float, *, patient: bool, call_timeout: float | None
    ) -> AbstractAsyncContextManager[Client]:
        from corekit.client import connect

        return connect(
            self.hosts,
            timeout=self.session_timeout,
            auth=self.credentials(),
            read_only=self.read_only,
            connect_timeout=seconds,
            patient=patient,
            call_timeout=call_timeout,
            tls=self.context(),
        )


@dataclass
class Session:
    """What a command works with.

    Attributes:
        zk: the client, connected.
        target: how it was connected.
        json: print JSON.
        shell: the shell that lends the session, None for a command of its own.
    """

    zk: Client
    target: Target
    json: bool
    shell: Any = None

    def answer(self, value: Any, text: str | None = None) -> None:
        """Print a result: `value` as JSON if that was asked for, else `text` (nothing if it is None)."""
        if self.json and self.shell is not None and self.shell.json:
            print_json_line(value)
        elif self.json:
            print_json(value)
        elif text is not None:
            print(text)

    async def wait_for(self, path: str, watch: Watch) -> None:
        """See a one-shot watch to its end: the shell prints the event when it comes, a single command waits for it."""
        if self.shell is not None:
            self.shell.watches.expect(path, watch)
            return
        from corekit.cli.text import EVENT_NAMES, event_json, event_text

        event = await watch
        self.answer(event_json(event), event_text(EVENT_NAMES[event.type], event.path))


Command = Callable[..., Awaitable[int | None]]


def command(
    function: Callable[..., Any], *, shared: bool = True, defaults: dict[str, Any] | None = None
) -> Callable[..., None]:
    """Make a typer command of a function whose first parameter is a `Session` or a `Target`.

    Args:
        function: returns an exit code, or None for 0. Its docstring is the help. With a `Session` it is async, and
            connected before it runs; with a `Target`, async or not, it connects itself.
        shared: add the options of `Target`; without them it works in a shell's session only.
        defaults: other defaults for options of `Target`, by name. An option that `function` has itself is left out.
    """
    hints = get_type_hints(function, include_extras=True)
    first, *others = inspect.signature(function).parameters.values()
    connected = hints[first.name] is Session
    own = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in others]
    names = {one.name for one in own}
    target_hints = get_type_hints(Target, include_extras=True)
    target_names = [field.name for field in fields(Target) if field.name not in names] if shared else []
    parameters = [_parameter("ctx", typer.Context), *own]
    for name in target_names:
        default = (defaults or {}).get(name, getattr(Target, name))
        parameters.append(_parameter(name, target_hints[name], default))
    if connected:
        parameters.append(_parameter("json", JsonOption, False))

    @functools.wraps(function)
    def run(ctx: typer.Context, **values: Any) -> None:
        target = Target(**{name: values.pop(name) for name in target_names})
        if not connected:
            if inspect.iscoroutinefunction(function):
                code = run_async(lambda: function(target, **values))
            else:
                try:
                    code = function(target, **values)
                except BaseException as error:
                    raise failure(error) from error
        else:
            json = values.pop("json")
            if ctx.obj is not None:
                code = ctx.obj.run(function, json, values)
            else:
                code = run_async(lambda: _once(function, target, json, values))
        raise typer.Exit(code or 0)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


async def _once(function: Command, target: Target, json: bool, values: dict[str, Any]) -> int:
    async with target.connect() as zk:
        return await function(Session(zk, target, json), **values) or 0


def run_async(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end; what goes wrong is raised as a `UserError` with its exit code."""
    import anyio

    from corekit.cli.output import show_warnings

    show_warnings()
    try:
        return anyio.run(main, backend="trio")
    except BaseException as error:
        raise failure(error) from error


def failure(error: BaseException) -> BaseException:
    """What the process ends with because of `error`: a `UserError` in one line, or the error itself."""
    error = _chief(error)
    if isinstance(error, KeyboardInterrupt):
        return typer.Exit(128 + signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        reader_left()
        return typer.Exit(128 + signal.SIGPIPE)
    if isinstance(error, UnicodeEncodeError):  # the command line and standard input are the only text from outside
        return UserError(f"{error.object!r} is not UTF-8")
    if isinstance(error, UserError) or not isinstance(error, CorekitError):
        return error
    return UserError(describe(error), exit_code(error))


def _chief(error: BaseException) -> BaseException:
    """The error of a group that says why it ended: an interrupt before what it brought about, which tells no more."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_chief(one) for one in error.exceptions]
    unexpected = [one for one in inner if not isinstance(one, CorekitError)]
    stop = [one for one in unexpected if isinstance(one, KeyboardInterrupt | BrokenPipeError)]
    if not stop and len(unexpected) > 1:
        return error
    return (stop or unexpected or inner)[0]


@contextmanager
def one_is_an_answer() -> Iterator[None]:
    """Around a command whose exit code 1 means "no": an error that would be 1 is 2, as with diff(1) and grep(1)."""
    try:
        yield
    except CorekitError as error:
        code = error.exit_code if isinstance(error, UserError) else exit_code(error)
        if code != EXIT_UNEXPECTED:
            raise
        raise UserError(str(error) if isinstance(error, UserError) else describe(error), EXIT_USAGE) from error


def exit_code(error: CorekitError) -> int:
    """The exit code for an error of the client. See docs/cli.md."""
    from corekit import errors
    from corekit.client import LeaseLost, NotAcquired, OutcomeUnknown

    if isinstance(error, OutcomeUnknown):
        return EXIT_UNKNOWN_OUTCOME
    if isinstance(error, NotAcquired):
        return EXIT_NOT_ACQUIRED
    if isinstance(error, LeaseLost | errors.SessionExpiredError):
        return EXIT_LOST
    if isinstance(error, errors.ConnectionLossError | errors.RequestTimeoutError):
        return EXIT_UNAVAILABLE
    if isinstance(error, errors.NoAuthError | errors.AuthFailedError | errors.SessionClosedRequireAuthError):
        return EXIT_NO_PERMISSION
    return EXIT_UNEXPECTED


def describe(error: CorekitError) -> str:
    """An error of the client in zkCli's words where it has some (`CliWrapperException`)."""
    from corekit import errors
    from corekit.client import OutcomeUnknown

    if isinstance(error, errors.ConnectionLossError) and "refused" in str(error):
        return f"{error}. Is the server running? Start one with `corekit serve`, or name others: -H HOST:PORT"
    if not isinstance(error, errors.KeeperError) or isinstance(error, OutcomeUnknown):
        return str(error)
    words = {
        errors.NO_NODE: "Node does not exist: ",
        errors.NODE_EXISTS: "Node already exists: ",
        errors.NOT_EMPTY: "Node not empty: ",
        errors.NO_AUTH: "Insufficient permission : ",
        errors.BAD_VERSION: "version No is not valid : ",
        errors.INVALID_ACL: "Acl is not valid : ",
        errors.BAD_ARGUMENTS: "Arguments are not valid : ",
        errors.NO_CHILDREN_FOR_EPHEMERALS: "Ephemerals cannot have children: ",
        errors.QUOTA_EXCEEDED: "Quota has exceeded : ",
    }.get(error.code)
    detail = Exception.__str__(error)
    return str(error) if words is None or detail else f"{words}{error.path or ''}"
