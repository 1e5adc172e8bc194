"""`corekit shell`: the commands of the registry line by line, on one session.

Two threads: the main one reads lines and waits for results; the event loop with the session runs in the other, so that
heartbeats go on and events are printed while a person thinks. Only the event loop touches the client.

Names, options and output are those of ZooKeeper's `zkCli.sh`. With `--json` everything is one JSON value a line on
stdout: results as they are, `{"error": ..., "exit_code": ...}`, and `{"event": ...}`; only help stays text.

Not here: the commands themselves (`verbs.py`).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from corekit.cli.connection import Command, JsonOption, Session, Target, failure
from corekit.cli.output import print_json_line
from corekit.cli.verbs import VERBS, Where, register
from corekit.errors import EXIT_UNEXPECTED, EXIT_USAGE, CorekitError, UserError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from corekit.cli.tree_watch import Watches
    from corekit.client import Client, StateChange

HISTORY_SHOWN = 11  # as zkCli
HISTORY_KEPT = 1000
LINE_COMMANDS = {
    "close": "Close the session.",
    "connect": "Close the session and open another: connect [HOST:PORT,...].",
    "exit": "Leave.",
    "help": "List the commands; help COMMAND explains one.",
    "history": "The last commands, with their numbers.",
    "quit": "Leave.",
    "redo": "Run a command again: redo NUMBER.",
    "version": "The version of corekit.",
}
# zkCli's names for states of the session.
STATES = {
    "connected": "SyncConnected",
    "connected, read-only": "ConnectedReadOnly",
    "suspended": "Disconnected",
    "lost": "Expired",
    "authentication failed": "AuthFailed",
    "closed": "Closed",
}


_WORD = re.compile(r"""\s*("[^"]*"|'[^']*'|\S+)""")


def split(line: str) -> list[str]:
    """The words of a line. Quotes of either kind group words if they begin one, as in zkCli: `{"a":1}` is a word."""
    words = [match.group(1) for match in _WORD.finditer(line)]
    return [word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word for word in words]


class Link:
    """A connected session in the event loop's thread."""

    def __init__(self, zk: Client, watches: Watches) -> None:
        self.zk = zk
        self.watches = watches
        self.begun = zk.state


class Shell:
    """One run of the shell.

    Attributes:
        print_watches: print events of watches and of the session.
        json: print JSON.
        exit_code: of the last command.
    """

    def __init__(self, portal: BlockingPortal, target: Target, json: bool = False) -> None:
        self.print_watches = True
        self.json = json
        self.exit_code = 0
        self._portal = portal
        self._target = target
        self._link: Link | None = None
        self._context: AbstractContextManager[Link, bool | None] | None = None
        self._history: list[str] = []
        app = typer.Typer(
            add_completion=False,
            no_args_is_help=True,
            options_metavar="",
            pretty_exceptions_enable=False,
            rich_markup_mode="rich",
            help="Commands of the shell; COMMAND --help explains one.",
        )
        app.callback()(lambda: None)
        for name in VERBS:
            register(app, name, Where.SHELL)
        for name, text in LINE_COMMANDS.items():
            app.command(name, help=text, rich_help_panel="Shell")(lambda: None)
        self.command = typer.main.get_command(app)

    # -------------------------------------------------------------------------------------- session
    @property
    def watches(self) -> Watches:
        """The watches of the present session (in the event loop's thread)."""
        assert self._link is not None
        return self._link.watches

    def open(self, hosts: str | None = None) -> None:
        """Connect, closing the session before.

        Raises:
            UserError: no session was granted.
        """
        self.close()
        if hosts is not None:
            self._target = replace(self._target, hosts=hosts)
        context = self._portal.wrap_async_context_manager(self._session())
        try:
            self._link = context.__enter__()
        except BaseException as error:
            raise failure(error) from error
        self._context = context
        self._show_state(self._link.begun)

    def close(self) -> None:
        """End the session, if there is one."""
        context, self._context, self._link = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)
            self._show_session("Closed")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Link]:
        import anyio

        from corekit.cli.tree_watch import Watches

        async with self._target.connect() as zk, anyio.create_task_group() as tasks:
            link = Link(zk, Watches(tasks, zk, self.show))
            tasks.start_soon(self._show_states, link)
            yield link
            tasks.cancel_scope.cancel()

    async def _show_states(self, link: Link) -> None:
        before = link.begun  # shown by `open`, so that it comes before the first prompt
        async for change in link.zk.states():
            if change != before:
                self._show_state(change)
            before = change

    def _show_state(self, change: StateChange) -> None:
        name = STATES.get(change.state.value)
        if name is not None and name != "Closed":
            self._show_session(name)

    def _show_session(self, state: str) -> None:
        from corekit.cli.text import event_text

        self.show({"type": "None", "path": None, "state": state}, event_text("None", None, state))

    def show(self, event: dict[str, Any], text: str) -> None:
        """Print an event, as JSON or as text, unless `printwatches off`."""
        if self.print_watches and self.json:
            print_json_line({"event": event})
        elif self.print_watches:
            print(text, flush=True)

    def run(self, function: Command, json: bool, values: dict[str, Any]) -> int:
        """Run a command of the registry on the session; called by its typer command in the main thread."""
        link = self._link
        if link is None:
            raise UserError("Not connected", EXIT_UNEXPECTED)
        session = Session(link.zk, self._target, json or self.json, self)
        future = self._portal.start_task_soon(_awaited, function, session, values)
        try:
            return future.result() or 0
        except KeyboardInterrupt:
            future.cancel()
            return 130

    # ---------------------------------------------------------------------------------------- lines
    def execute(self, line: str) -> bool:
        """Run one line; False if it is the last. Errors are printed, and are `exit_code`."""
        words = split(line)
        if not words:
            return True
        if words[0] == "redo":
            again = self._redone(words)
            if again is None:
                return True
            line = again
            words = split(line)
        self._history.append(line)
        if words[0] in ("quit", "exit"):
            return False
        self.run_words(words)
        return True

    def run_words(self, words: Sequence[str]) -> None:
        """Run one command, given as words."""
        try:
            self.exit_code = self._run_words(*words)
        except BrokenPipeError:
            raise
        except (CorekitError, UnicodeEncodeError) as error:
            known = failure(error)
            self._failed(str(known), known.exit_code if isinstance(known, UserError) else EXIT_UNEXPECTED)
        except TyperException as error:
            self._failed(f"{words[0]}: {error.format_message()}", error.exit_code)
        except OSError as error:
            self._failed(f"{words[0]}: {error}", EXIT_UNEXPECTED)
        sys.stdout.flush()

    def _failed(self, text: str, code: int) -> None:
        self.exit_code = code
        if self.json:
            print_json_line({"error": text, "exit_code": code})
        else:
            print(text, file=sys.stderr)

    def _run_words(self, name: str, *arguments: str) -> int:
        if "--help" in arguments or name not in LINE_COMMANDS:
            return self.command.main(args=[name, *arguments], prog_name="", standalone_mode=False, obj=self) or 0
        if name == "help":
            self.command.main(args=[*arguments[:1], "--help"], prog_name="", standalone_mode=False)
        elif name == "history":
            first = max(0, len(self._history) - HISTORY_SHOWN)
            shown = dict(enumerate(self._history[first:], first))
            self._answer(shown, "\n".join(f"{number} - {line}" for number, line in shown.items()))
        elif name == "close":
            self.close()
            self._answer({"connected": False})
        elif name == "connect":
            self.open(arguments[0] if arguments else None)
            self._answer({"connected": True})
        elif name == "version":
            from corekit.cli.main import version_text, versions

            self._answer(versions(), version_text())
        return 0

    def _answer(self, value: Any, text: str | None = None) -> None:
        if self.json:
            print_json_line(value)
        elif text is not None:
            print(text)

    def _redone(self, words: list[str]) -> str | None:
        if len(words) == 2 and words[1].isdigit() and int(words[1]) < len(self._history):
            return self._history[int(words[1])]
        self._failed("redo takes the number of a command in the history", EXIT_USAGE)
        return None

    def prompt(self) -> str:
        """zkCli's prompt."""
        link = self._link
        state = "CLOSED" if link is None else link.zk.state.state.name
        return f"[zk: {self._target.hosts}({state}) {len(self._history)}] "

    def completions(self, line: str, word: str) -> list[str]:
        """What the last word of a line may become: a command, an option or a path."""
        before = line[: len(line) - len(word)].split()
        if not before:
            names = [*(name for name, verb in VERBS.items() if Where.SHELL in verb.where), *LINE_COMMANDS]
            return [f"{name} " for name in sorted(names) if name.startswith(word)]
        if word.startswith("/") and self._link is not None:
            from corekit.cli.complete import complete

            return self._portal.call(complete, self._link.zk, word)
        if word.startswith("-"):
            commands: dict[str, Any] = getattr(self.command, "commands", {})
            found = commands.get(before[0])
            options = [] if found is None else [option for one in found.params for option in one.opts]
            return [f"{option} " for option in sorted(options) if option.startswith(word)]
        return []


async def _awaited(function: Command, session: Session, values: dict[str, Any]) -> int | None:
    return await function(session, **values)


# ------------------------------------------------------------------------------------- the terminal
def history_file() -> Path:
    """Where the lines typed are kept: `$COREKIT_HISTORY`, else a file of the user's state directory."""
    named = os.environ.get("COREKIT_HISTORY")
    if named is not None:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base, "corekit", "shell_history")


@contextmanager
def terminal(shell: Shell) -> Iterator[None]:
    """Line editing with history and completion, if there is a terminal and readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = history_file()
    try:
        readline.read_history_file(path)
    except OSError:
        pass
    readline.set_history_length(HISTORY_KEPT)
    readline.set_completer_delims(" \t\n\"'")
    found: list[str] = []

    def complete(word: str, number: int) -> str | None:
        nonlocal found
        if number == 0:
            try:
                found = shell.completions(readline.get_line_buffer()[: readline.get_endidx()], word)
            except Exception:  # readline would print a traceback into the line
                found = []
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
            path.chmod(0o600)  # credentials may have been typed
        except OSError:
            pass


def lines(shell: Shell) -> Iterator[str]:
    """What is typed, or piped in. Ctrl-C gives up a line, Ctrl-D ends."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with terminal(shell):
        while True:
            try:
                yield input(shell.prompt())
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()


@contextmanager
def _event_loop() -> Iterator[BlockingPortal]:
    """The event loop in its thread. Ctrl-C is put off until it runs: anyio would then wait for its end for ever."""
    from anyio.from_thread import start_blocking_portal

    with ExitStack() as stack:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            portal = stack.enter_context(start_blocking_portal(backend="trio"))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield portal


def shell(
    target: Target,
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND...]", help="Run this and leave.")] = None,
    server: Annotated[str | None, typer.Option("-server", metavar="HOSTS", help="As --hosts.")] = None,
    timeout_ms: Annotated[int | None, typer.Option("-timeout", metavar="MS", help="As --session-timeout.")] = None,
    read_only_too: Annotated[bool, typer.Option("-r", help="As --read-only.")] = False,
    secure: Annotated[bool, typer.Option("-secure", help="As --tls-ca system.")] = False,
    _wait: Annotated[bool, typer.Option("-waitforconnection", help="Changes nothing: it always waits.")] = False,
    properties: Annotated[
        str | None, typer.Option("-client-configuration", metavar="FILE", help="Refused: it is for Java's client.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Type commands on one session: those of zkCli.sh, and more. Tab completes commands, options and paths.

    Lines are also taken from a pipe; without a terminal there is no prompt. A command that is given as arguments is
    run alone. Options with one dash are zkCli.sh's. The exit code is that of the last command.

    With --json every result, event and error is one JSON value on a line of standard output.

    [bold]Examples[/bold]

      corekit shell -H h1:2181,h2:2181/app

      echo "ls /" | corekit shell

      corekit shell -server h1:2181 ls -s /

      printf 'get /a\\nls /\\n' | corekit shell --json
    """
    if properties is not None:
        raise UserError(
            f"-client-configuration {properties}: these are properties of ZooKeeper's Java client; use --tls-ca and "
            "--tls-cert (PEM files) for its zookeeper.ssl.* and zookeeper.client.secure, --timeout for "
            "zookeeper.request.timeout"
        )
    target = replace(
        target,
        hosts=server or target.hosts,
        session_timeout=target.session_timeout if timeout_ms is None else timeout_ms / 1000,
        read_only=target.read_only or read_only_too,
        tls_ca=target.tls_ca or ("system" if secure else None),
    )
    with _event_loop() as portal:
        run = Shell(portal, target, json)
        try:
            if words:
                run.print_watches = False
                run.open()
                run.run_words(words)
                return run.exit_code
            run.open()
            if sys.stdin.isatty() and not json:
                print(f"Connected to {target.hosts}. Type help for the commands, quit to leave.")
            for line in lines(run):
                if not run.execute(line.strip()):
                    break
        finally:
            run.close()
    return run.exit_code
