"""The four-letter words: ZooKeeper's plain-text questions, and the exact text of the answers.

What it is for: a client protocol looks at the first four bytes of a connection, asks `is_word`, and sends back what
`run_word` returns, then closes. Monitoring tools parse these texts, so every space of them is ZooKeeper's
(`org.apache.zookeeper.server.command`, checked against 3.8.0; where releases differ, 3.9).

Rules
- Pure: everything comes from a `ServerView`; the words that change something (`crst`, `srst`, `stmk`) call it.
- A word that the whitelist does not hold is answered with a text that says so, and does nothing.
- The output is bounded by `limits.FOUR_LETTER_BYTES_MAX`; what is cut is cut at a line and said in the last line.

Not here: sockets, and where the facts come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from corekit.codec.java_text import hex64, java_date, java_double, signed64, socket_text
from corekit.limits import FOUR_LETTER_BYTES_MAX

NOT_SERVING = "This ZooKeeper instance is not currently serving requests"
DEFAULT_TRACE_MASK = 306  # CLIENT_REQUEST | SERVER_PACKET | SESSION | WARNING of ZooKeeper's ZooTrace
STMK_EXTRA_BYTES = 8  # how many bytes `stmk` reads after the word


# --------------------------------------------------------------------------------- what a server shows
@dataclass(slots=True)
class ConnectionRow:
    """One client connection, as `cons` and `stat` show it. Times in ms, `*_ms` clocks since 1970.

    Attributes:
        host, port: the peer; port 0 if it has none.
        interest_ops: 0 nothing, 1 the server waits for bytes, 4 it waits to write, 5 both.
        outstanding: requests that have come and are not answered.
        session_id: 0 before the handshake.
        last_op: ZooKeeper's four letters for the last operation (`GETD`), `NA` if there was none.
        last_cxid: xid of the client's last request, -1 if there was none.
        last_zxid: zxid in the last reply, -1 if there was none.
        last_response_ms: when the last reply was made, 0 if there was none.
        expires_ms: when the connection is closed if nothing more is heard.
        secure: it came through the TLS port.
    """

    host: str
    port: int = 0
    interest_ops: int = 1
    outstanding: int = 0
    received: int = 0
    sent: int = 0
    session_id: int = 0
    last_op: str = "NA"
    established_ms: int = 0
    timeout_ms: int = 0
    last_cxid: int = -1
    last_zxid: int = -1
    last_response_ms: int = 0
    last_latency_ms: int = 0
    min_latency_ms: int = 0
    avg_latency_ms: int = 0
    max_latency_ms: int = 0
    expires_ms: int = 0
    secure: bool = False


Buckets = Sequence[tuple[int, Sequence[int]]]  # (when they expire, ms since 1970; session ids), in order of time


@dataclass(slots=True)
class SessionsDump:
    """The sessions, as `dump` shows them.

    Attributes:
        buckets: of a server that expires sessions itself (standalone, leader); None elsewhere.
        timeouts: (session id, timeout in ms) on a follower or observer, which only knows that they exist.
        local: buckets of local sessions where those are enabled, else None.
    """

    buckets: Buckets | None = None
    timeouts: Sequence[tuple[int, int]] = ()
    local: Buckets | None = None


class ServerView(Protocol):
    """What a server tells about itself. Every member is read once a word, none on the way of a request.

    Scalars are read-only properties here: plain attributes fulfil them.
    """

    @property
    def serving(self) -> bool:
        """Clients are being served. If not, only `serving`, `whitelist`, `environment` and the trace mask are read."""

    @property
    def whitelist(self) -> frozenset[str]:
        """The words allowed (`4lw.commands.whitelist`, with what is always allowed); `*` allows all."""

    @property
    def version(self) -> str:
        """`3.9.5-something, built on some day`: the first part decides what clients believe the server can do."""

    @property
    def mode(self) -> str:
        """standalone, leader, follower, observer or read-only."""

    @property
    def latency(self) -> tuple[int, float, int]:
        """Of requests since the last reset: smallest, mean, largest, in ms."""

    @property
    def packets_received(self) -> int:
        """Packets since the last reset, four-letter words included."""

    @property
    def packets_sent(self) -> int:
        """Packets since the last reset."""

    @property
    def connection_count(self) -> int:
        """Client connections now."""

    @property
    def outstanding(self) -> int:
        """Requests taken in and not answered yet."""

    @property
    def last_zxid(self) -> int:
        """The last transaction applied."""

    @property
    def node_count(self) -> int:
        """Znodes, the reserved ones included."""

    @property
    def proposal_sizes(self) -> tuple[int, int, int]:
        """Bytes of proposals (last, smallest, largest), -1 for none yet. Only asked of a leader."""

    @property
    def trace_mask(self) -> int:
        """ZooKeeper's trace mask. Kept and shown; corekit's logs do not depend on it."""

    def set_trace_mask(self, mask: int) -> None:
        """Remember another mask."""

    def connections(self) -> Iterable[ConnectionRow]:
        """Every client connection."""

    def sessions(self) -> SessionsDump:
        """Every session."""

    def ephemerals(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        """(session id, paths of its ephemeral nodes)."""

    def watches(self) -> Iterable[tuple[int, Iterable[bytes]]]:
        """(session id, paths with a data watch), once for each connection that watches."""

    def configuration(self) -> Mapping[str, int | str]:
        """What `conf` shows, in its order, under ZooKeeper's names (`clientPort`, `dataDir` ...)."""

    def membership(self) -> str | None:
        """The ensemble's configuration text, or None on a server of its own."""

    def environment(self) -> Iterable[tuple[str, str]]:
        """What `envi` shows, in its order."""

    def monitor(self) -> Iterable[tuple[str, int | float | str]]:
        """What `mntr` shows after version and server_state, without the prefix `zk_`."""

    def directory_sizes(self) -> tuple[int, int]:
        """Bytes of the data directory and of the log directory."""

    def digests(self) -> Iterable[tuple[int, int, int]]:
        """(zxid, digest of the tree, version of the digest) as kept, oldest first."""

    def reset_statistics(self) -> None:
        """Server counters begin at 0 again (`srst`)."""

    def reset_connection_statistics(self) -> None:
        """Counters of every connection begin at 0 again (`crst`)."""


# ------------------------------------------------------------------------------------------- the text
def _connection(row: ConnectionRow, brief: bool) -> str:
    text = (
        f" /{socket_text(row.host, row.port)}[{row.interest_ops:x}]"
        f"(queued={row.outstanding},recved={row.received},sent={row.sent}"
    )
    if brief or not row.session_id:
        return f"{text})\n"
    cxid = f",lcxid=0x{row.last_cxid:x}" if row.last_cxid >= 0 else ""
    return (
        f"{text},sid=0x{hex64(row.session_id)},lop={row.last_op},est={row.established_ms},to={row.timeout_ms}{cxid}"
        f",lzxid=0x{hex64(row.last_zxid)},lresp={row.last_response_ms},llat={row.last_latency_ms}"
        f",minlat={row.min_latency_ms},avglat={row.avg_latency_ms},maxlat={row.max_latency_ms})\n"
    )


def _conf(view: ServerView) -> Iterator[str]:
    for key, value in view.configuration().items():
        yield f"{key}={value}\n"
    membership = view.membership()
    if membership is not None:
        yield "membership: \n"
        yield membership


def _cons(view: ServerView) -> Iterator[str]:
    for row in view.connections():
        yield _connection(row, brief=False)
    yield "\n"


def _crst(view: ServerView) -> Iterator[str]:
    view.reset_connection_statistics()
    yield "Connection stats reset.\n"


def _dirs(view: ServerView) -> Iterator[str]:
    data, log = view.directory_sizes()
    yield f"datadir_size: {data}\nlogdir_size: {log}\n"


def _sets(buckets: Iterable[tuple[int, Sequence[str]]]) -> Iterator[str]:
    """`ExpiryQueue.dump`."""
    listed = list(buckets)
    yield f"Sets ({len(listed)})/({sum(len(members) for _, members in listed)}):\n"
    for time_ms, members in listed:
        yield f"{len(members)} expire at {java_date(time_ms)}:\n"
        for member in members:
            yield f"\t{member}\n"


def _session_sets(buckets: Buckets) -> Iterator[str]:
    yield "Session "
    yield from _sets((time_ms, [f"0x{hex64(session)}" for session in sessions]) for time_ms, sessions in buckets)


def _dump(view: ServerView) -> Iterator[str]:
    yield "SessionTracker dump:\n"
    sessions = view.sessions()
    if sessions.local is not None:
        yield "Local "
        yield from _session_sets(sessions.local)
    if sessions.buckets is not None:
        if sessions.local is not None:
            yield "Global "
        yield from _session_sets(sessions.buckets)
    else:
        yield f"Global Sessions({len(sessions.timeouts)}):\n"
        for session, timeout_ms in sorted(sessions.timeouts):
            yield f"0x{hex64(session)}\t{timeout_ms}ms\n"
    yield "ephemeral nodes dump:\n"
    owners = list(view.ephemerals())
    yield f"Sessions with Ephemerals ({len(owners)}):\n"
    for session, paths in owners:
        yield f"0x{hex64(session)}:\n"
        for path in paths:
            yield f"\t{path.decode('utf-8', 'replace')}\n"
    yield "Connections dump:\nConnections "
    rows: dict[int, list[str]] = {}
    for row in view.connections():
        text = f"ip: /{socket_text(row.host, row.port)} sessionId: 0x{hex64(row.session_id)}"
        rows.setdefault(row.expires_ms, []).append(text)
    yield from _sets(sorted(rows.items()))


def _envi(view: ServerView) -> Iterator[str]:
    yield "Environment:\n"
    for key, value in view.environment():
        yield f"{key}={value}\n"


def _gtmk(view: ServerView) -> Iterator[str]:
    yield str(view.trace_mask)


def _ruok(view: ServerView) -> Iterator[str]:
    yield "imok"


def _isro(view: ServerView) -> Iterator[str]:
    yield ("ro" if view.mode == "read-only" else "rw") if view.serving else "null"


def _summary(view: ServerView, with_clients: bool) -> Iterator[str]:
    yield f"Zookeeper version: {view.version}\n"
    if view.mode == "read-only":
        yield "READ-ONLY mode; serving only read-only clients\n"
    if with_clients:
        yield "Clients:\n"
        for row in view.connections():
            yield _connection(row, brief=True)
        yield "\n"
    least, mean, most = view.latency
    yield (
        f"Latency min/avg/max: {least}/{java_double(mean)}/{most}\n"
        f"Received: {view.packets_received}\nSent: {view.packets_sent}\nConnections: {view.connection_count}\n"
        f"Outstanding: {view.outstanding}\nZxid: 0x{hex64(view.last_zxid)}\nMode: {view.mode}\n"
        f"Node count: {view.node_count}\n"
    )
    if view.mode == "leader":
        last, smallest, largest = view.proposal_sizes
        yield f"Proposal sizes last/min/max: {last}/{smallest}/{largest}\n"


def _srvr(view: ServerView) -> Iterator[str]:
    return _summary(view, with_clients=False)


def _stat(view: ServerView) -> Iterator[str]:
    return _summary(view, with_clients=True)


def _srst(view: ServerView) -> Iterator[str]:
    view.reset_statistics()
    yield "Server stats reset.\n"


def watches_by_path(view: ServerView) -> dict[bytes, list[int]]:
    """Path -> ids of the sessions that watch it."""
    paths: dict[bytes, list[int]] = {}
    for session, watched in view.watches():
        for path in watched:
            paths.setdefault(path, []).append(session)
    return paths


def watch_totals(view: ServerView) -> tuple[int, int, int]:
    """How many connections watch, how many paths, and the number of watches."""
    connections = total = 0
    paths: set[bytes] = set()
    for _, watched in view.watches():
        connections += 1
        before = list(watched)
        total += len(before)
        paths.update(before)
    return connections, len(paths), total


def _wchs(view: ServerView) -> Iterator[str]:
    connections, paths, total = watch_totals(view)
    yield f"{connections} connections watching {paths} paths\nTotal watches:{total}\n"


def _wchc(view: ServerView) -> Iterator[str]:
    for session, paths in view.watches():
        yield f"0x{hex64(session)}\n"
        for path in paths:
            yield f"\t{path.decode('utf-8', 'replace')}\n"
    yield "\n"


def _wchp(view: ServerView) -> Iterator[str]:
    for path, sessions in watches_by_path(view).items():
        yield f"{path.decode('utf-8', 'replace')}\n"
        for session in sessions:
            yield f"\t0x{hex64(session)}\n"
    yield "\n"


def monitor_line(key: str, value: int | float | str) -> str:
    """One line of `mntr`."""
    return f"zk_{key}\t{java_double(value) if isinstance(value, float) else value}\n"


def _mntr(view: ServerView) -> Iterator[str]:
    yield monitor_line("version", view.version)
    yield monitor_line("server_state", view.mode)
    for key, value in view.monitor():
        yield monitor_line(key, value)


def _hash(view: ServerView) -> Iterator[str]:
    for zxid, digest, _ in view.digests():
        yield f"{hex64(zxid)}: {signed64(digest)}\n"


_WORDS: dict[bytes, Callable[[ServerView], Iterator[str]]] = {
    b"conf": _conf,
    b"cons": _cons,
    b"crst": _crst,
    b"dirs": _dirs,
    b"dump": _dump,
    b"envi": _envi,
    b"gtmk": _gtmk,
    b"hash": _hash,
    b"isro": _isro,
    b"mntr": _mntr,
    b"ruok": _ruok,
    b"srst": _srst,
    b"srvr": _srvr,
    b"stat": _stat,
    b"wchc": _wchc,
    b"wchp": _wchp,
    b"wchs": _wchs,
}
_NAMES: dict[bytes, str] = {
    **{word: word.decode("ascii") for word in _WORDS},
    b"stmk": "stmk",
    b"\xff\xf4\xff\xfd": "telnet close",  # what telnet sends for an interrupt
}
_WITHOUT_SERVER = {b"envi", b"gtmk", b"isro", b"ruok"}

WORDS = frozenset(_NAMES)


def is_word(first4: bytes) -> bool:
    """Whether the first four bytes of a connection are a word rather than a packet's length."""
    return first4 in _NAMES


def extra_bytes(word: bytes) -> int:
    """How many bytes belong to the word besides its four letters."""
    return STMK_EXTRA_BYTES if word == b"stmk" else 0


def _stmk(extra: bytes, view: ServerView) -> str:
    if len(extra) < STMK_EXTRA_BYTES:  # ZooKeeper closes without an answer
        return ""
    mask = int.from_bytes(extra[:STMK_EXTRA_BYTES], "big", signed=True)
    view.set_trace_mask(mask)
    return str(mask)


def _bounded(lines: Iterable[str]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for line in lines:
        part = line.encode()
        size += len(part)
        if size > FOUR_LETTER_BYTES_MAX:
            parts.append(f"... cut: the answer is longer than {FOUR_LETTER_BYTES_MAX} bytes\n".encode())
            break
        parts.append(part)
    return b"".join(parts)


def run_word(word: bytes, extra: bytes, view: ServerView) -> bytes:
    """The answer to a word, after which the connection is closed.

    Args:
        word: four bytes for which `is_word` is true.
        extra: what came after them, as far as it has come; only `stmk` reads it (`extra_bytes`).
        view: the server.
    """
    name = _NAMES[word]
    allowed = view.whitelist
    if name not in allowed and "*" not in allowed:
        return f"{name} is not executed because it is not in the whitelist.\n".encode()
    if word == b"stmk":
        return _stmk(extra, view).encode()
    run = _WORDS.get(word)
    if run is None:  # an interrupted telnet: known, but asks nothing
        return b""
    if not view.serving and word not in _WITHOUT_SERVER:
        return NOT_SERVING.encode() if word == b"hash" else f"{NOT_SERVING}\n".encode()
    return _bounded(run(view))
