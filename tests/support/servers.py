"""Real servers for tests: corekit or Apache ZooKeeper, each in a process of its own, on loopback.

Rules: a server is ready when it has granted a session, not when its port answers; every wait is bounded and its error
carries the process's log; a process is only ever signalled through the object that started it; whatever is still
running when the interpreter leaves is killed. The readiness check creates and closes one session, so the first zxid a
test sees on a fresh server is 3.

Not here: ZooKeeper's own answers (see `rawzk`), pytest fixtures (see `tests/conftest.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.rawzk import RawClient, RawError

KINDS = ("corekit", "java")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02

BASE_SETTINGS: Mapping[str, object] = {
    "tickTime": 2000,
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "*",
    "maxClientCnxns": 0,
}
# A test server lives for seconds: the quick compiler and the small collector start sooner and leave the cores alone.
JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

PORT_RANGE = (10_000, 32_000)  # below those that Linux gives to outgoing connections
_ports = random.SystemRandom()
_given_ports: set[int] = set()
_running: weakref.WeakSet[Server] = weakref.WeakSet()


class MissingSoftware(RuntimeError):
    """A program that is not Python is not installed; `package` is what Debian calls it."""

    def __init__(self, package: str, what: str) -> None:
        super().__init__(f"{what} not found: install Debian's package {package}")
        self.package = package


class ServerFailed(RuntimeError):
    """A server did not start, or did not stop, in time; the message ends with its log."""


def find_program(name: str, package: str) -> str:
    """Return the path of a program on PATH, or raise `MissingSoftware`."""
    path = shutil.which(name)
    if path is None:
        raise MissingSoftware(package, f"program {name}")
    return path


@functools.cache
def package_file(package: str, ending: str) -> str:
    """Return the first file of an installed Debian package whose path ends so, or raise `MissingSoftware`."""
    if shutil.which("dpkg") is None:
        raise MissingSoftware(package, f"dpkg, needed to find {ending},")
    listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False).stdout
    for path in listing.splitlines():
        if path.endswith(ending) and os.path.exists(path):
            return path
    raise MissingSoftware(package, ending)


def zookeeper_jar() -> str:
    """The jar of Apache ZooKeeper (its manifest names the jars it needs); `ZOOKEEPER_JAR` overrides."""
    return os.environ.get("ZOOKEEPER_JAR") or package_file("libzookeeper-java", "/zookeeper.jar")


def java_class_path(*more: str) -> str:
    """The class path of ZooKeeper's server and client, with a logger that writes to stderr."""
    jars = [zookeeper_jar()]
    with contextlib.suppress(MissingSoftware):
        jars.append(package_file("libslf4j-java", "/slf4j-simple.jar"))
    return os.pathsep.join([*jars, *more])


def free_port(count: int = 1) -> int:
    """A TCP port of 127.0.0.1 that is free now, given once, and not one that the system gives to clients meanwhile.

    Args:
        count: so many in a row are free; the first is returned.
    """
    while True:
        port = _ports.randrange(*PORT_RANGE)
        row = range(port, port + count)
        if not _given_ports.isdisjoint(row):
            continue
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for one in row:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", one))
            _given_ports.update(row)
            return port


class Server:
    """One server process. Create it with `Server.start`; use it as a context manager or call `kill`/`terminate`."""

    def __init__(
        self,
        kind: str,
        directory: Path | str,
        settings: Mapping[str, object] | None = None,
        port: int = 0,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare without starting. `extra_args` go to `corekit serve`, or to the JVM before the class name."""
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
        self.kind = kind
        self.directory = Path(directory)
        self.settings = {**BASE_SETTINGS, **(settings or {})}
        self.extra_args = list(extra_args)
        self.env = dict(env or {})
        self._port_is_given = port != 0
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @classmethod
    def start(
        cls,
        kind: str,
        directory: Path | str,
        settings: Mapping[str, object] | None = None,
        port: int = 0,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Server:
        """Write the configuration, start the process and wait until it grants a session.

        A free port is chosen when `port` is 0. Raises `ServerFailed` with the log, or `MissingSoftware`.
        """
        server = cls(kind, directory, settings, port, extra_args, env)
        server.spawn()
        server.wait_ready()
        return server

    # What tests look at

    @property
    def hosts(self) -> str:
        """`127.0.0.1:port`, as clients take it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; raises when the server was never started."""
        if self.process is None:
            raise ServerFailed("the server was not started")
        return self.process.pid

    @property
    def config_path(self) -> Path:
        return self.directory / "zoo.cfg"

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    def log(self) -> str:
        """Everything the process wrote to stdout and stderr since its last start."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[self._log_from :].decode("utf-8", "replace")

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def four(self, word: str | bytes, timeout: float = 10.0) -> str:
        """The whole answer to a four-letter word."""
        data = word if isinstance(word, bytes) else word.encode("ascii")
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as sock:
            sock.sendall(data)
            chunks = []
            with contextlib.suppress(ConnectionResetError):
                while chunk := sock.recv(65536):
                    chunks.append(chunk)
        return b"".join(chunks).decode("utf-8", "replace")

    # Starting

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        if self.is_running():
            raise ServerFailed("the server is running already")
        self._write_config()
        with open(self.log_path, "ab") as log:
            self._log_from = log.tell()
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.directory,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        _running.add(self)

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Return once a session was granted; kill the process and raise `ServerFailed` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            if not self.is_running():
                if self._lost_port():
                    self.port = free_port()
                    self.spawn()
                    continue
                raise ServerFailed(f"{self.kind} exited with {self._exit_code()} before it was ready{self._tail()}")
            if self.grants_session():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.kind} granted no session within {timeout:g} s{self._tail()}")
            time.sleep(POLL_SECONDS)

    def grants_session(self, timeout: float = 1.0) -> bool:
        """Whether a client gets a session now (it is closed again)."""
        try:
            with RawClient("127.0.0.1", self.port, timeout=timeout) as client:
                client.handshake(read_only=True)
                client.close_session()
        except (OSError, RawError):
            return False
        return True

    # Stopping

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. Harmless when it has stopped already."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(STOP_SECONDS)
        _running.discard(self)

    def terminate(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM; return the exit code. Raises `ServerFailed` (after SIGKILL) when it does not stop in time."""
        if self.process is None:
            raise ServerFailed("the server was not started")
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"{self.kind} did not stop within {timeout:g} s{self._tail()}") from None
        _running.discard(self)
        return code

    def restart(self, hard: bool = False) -> None:
        """Stop (SIGTERM, or SIGKILL when `hard`) and start again on the same port and data; wait until ready."""
        if hard:
            self.kill()
        elif self.is_running():
            self.terminate()
        self._port_is_given = True
        self.spawn()
        self.wait_ready()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # Inside

    def _write_config(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True)
        settings = {"dataDir": self.data_directory, "clientPort": self.port, "clientPortAddress": "127.0.0.1"}
        settings.update(self.settings)
        self.config_path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")

    def _command(self) -> list[str]:
        if self.kind == "corekit":
            return [sys.executable, "-m", "corekit", "serve", "--config", str(self.config_path), *self.extra_args]
        # Java takes dotted keys partly from the file (as zookeeper.KEY) and partly as plain system properties only.
        properties = [f"-D{key}={value}" for key, value in self.settings.items() if "." in key and key[:7] != "server."]
        return [
            find_program("java", "default-jre-headless"),
            *JVM_OPTIONS,
            *properties,
            *self.extra_args,
            "-cp",
            java_class_path(),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.config_path),
        ]

    def _exit_code(self) -> int | None:
        return None if self.process is None else self.process.returncode

    def _lost_port(self) -> bool:
        """Whether another process took the free port between our choice and the server's bind."""
        return not self._port_is_given and "address already in use" in self.log().lower()

    def _tail(self) -> str:
        return f"; its log:\n{self.log()[-8000:]}"


class Ensemble:
    """Several servers with `server.N` lines and a `myid` each; member N is `members[N - 1]`."""

    def __init__(
        self,
        kinds: Sequence[str],
        directory: Path | str,
        settings: Mapping[str, object] | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        observers: Sequence[int] = (),
    ) -> None:
        """Prepare without starting; `observers` are member numbers, `extra_args` go to corekit members only."""
        self.members: list[Server] = []
        lines: dict[str, object] = {}
        for number in range(1, len(kinds) + 1):
            role = ":observer" if number in observers else ""
            lines[f"server.{number}"] = f"127.0.0.1:{free_port()}:{free_port()}{role}"
        base: dict[str, object] = {"tickTime": 500, "initLimit": 20, "syncLimit": 10, **(settings or {}), **lines}
        for number, kind in enumerate(kinds, start=1):
            own = {**base, "peerType": "observer"} if number in observers else base
            home = Path(directory) / f"server{number}"
            server = Server(kind, home, own, free_port(), extra_args if kind == "corekit" else (), env)
            server.data_directory.mkdir(parents=True, exist_ok=True)
            (server.data_directory / "myid").write_text(f"{number}\n", encoding="ascii")
            self.members.append(server)

    @classmethod
    def start(
        cls,
        kinds: Sequence[str],
        directory: Path | str,
        settings: Mapping[str, object] | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        observers: Sequence[int] = (),
    ) -> Ensemble:
        """Start all members and wait until each of them grants sessions."""
        ensemble = cls(kinds, directory, settings, extra_args, env, observers)
        try:
            for member in ensemble.members:
                member.spawn()
            for member in ensemble.members:
                member.wait_ready()
        except BaseException:
            ensemble.kill()
            raise
        return ensemble

    @property
    def hosts(self) -> str:
        """All members' client addresses, comma separated."""
        return ",".join(member.hosts for member in self.members)

    def mode(self, member: Server) -> str:
        """`leader`, `follower`, `observer`, `read-only`, or `` when it does not serve."""
        try:
            answer = member.four("srvr")
        except OSError:
            return ""
        return next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), "")

    def leader(self, timeout: float = START_SECONDS) -> Server:
        """The member that says it leads; waits for one up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for member in self.members:
                if member.is_running() and self.mode(member) == "leader":
                    return member
            time.sleep(POLL_SECONDS)
        logs = "\n".join(f"--- {member.directory.name}\n{member.log()[-3000:]}" for member in self.members)
        raise ServerFailed(f"no leader within {timeout:g} s\n{logs}")

    def kill(self) -> None:
        """SIGKILL to every member."""
        for member in self.members:
            member.kill()

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@atexit.register
def _kill_leftovers() -> None:
    for server in list(_running):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            server.kill()
