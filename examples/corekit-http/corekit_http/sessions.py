"""Sessions that clients named: opened with POST /session, used with the header `Session`, on this server or another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from corekit.api import Gateway, Peer
from corekit_http.forms import Problem, hexed
from corekit_http.link import Link

SESSIONS_MAX = 10_000  # that one server keeps open for HTTP clients

_TOKEN = re.compile("0x([0-9a-f]{1,16})-([0-9]{1,9})-([0-9a-f]{32})")

Failed = Callable[[int, str], None]


class HttpSession:
    """A session and the requests that wait for it.

    Attributes:
        token: what the client shows; who has it, has the session.
        waiting: for each of them what to call if the session's link is lost, and what when there is news.
    """

    def __init__(self, sessions: Sessions, gateway: Gateway, peer: Peer) -> None:
        self._sessions = sessions
        self.address = peer.address
        self.waiting: dict[Failed, Callable[[], None]] = {}
        self.logins: set[str] = set()
        self.link = Link(gateway, peer, self._changed, self._lost)
        self.token = ""

    def opened(self) -> dict[str, Any]:
        """It is open: from now on it is found by its token. What its client is told."""
        answer = self.link.session
        assert answer is not None
        token = f"{hexed(answer.session_id)}-{answer.timeout_ms}-{(answer.password or b'').hex()}"
        self._sessions.named(self, token)
        return {"session": token, "id": hexed(answer.session_id), "timeout_ms": answer.timeout_ms}

    def _changed(self) -> None:
        for woken in self.waiting.values():
            woken()

    def _lost(self, code: int, why: str) -> None:
        self._sessions.forget(self)
        waiting, self.waiting = self.waiting, {}
        for failed in waiting:
            failed(code, why)


class Sessions:
    """The sessions of a server's HTTP clients.

    Args:
        per_address: how many clients of one address may have (`maxClientCnxns`); 0: no limit.
    """

    def __init__(self, per_address: int) -> None:
        self._per_address = per_address
        self._all: dict[HttpSession, None] = {}
        self._by_token: dict[str, HttpSession] = {}

    def __len__(self) -> int:
        return len(self._all)

    def new(self, gateway: Gateway, peer: Peer) -> HttpSession:
        """A session that is not attached yet.

        Raises:
            Problem: there are too many.
        """
        here = sum(session.address == peer.address for session in self._all) if self._per_address else -1
        if here >= self._per_address or len(self._all) >= SESSIONS_MAX:
            raise Problem(429, "too many sessions", detail="of one address maxClientCnxns, in all 10,000")
        session = HttpSession(self, gateway, peer)
        self._all[session] = None
        return session

    def find(self, token: str, gateway: Gateway, peer: Peer) -> HttpSession:
        """The session of a token; one that was opened on another server, or lost its link, comes back to life here.

        Raises:
            Problem: this is no token.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise Problem(400, "the header Session holds no token of POST /session")
        session = self._by_token.get(token)
        if session is not None:
            session.link.step()  # it may be over
            session = self._by_token.get(token)
        if session is None:
            session = self.new(gateway, peer)
            self.named(session, token)
            number = int(match[1], 16)
            session.link.attach(int(match[2]), number - (number >> 63 << 64), bytes.fromhex(match[3]))
        return session

    def named(self, session: HttpSession, token: str) -> None:
        """From now on it is found."""
        session.token = token
        self._by_token[token] = session

    def step(self) -> None:
        """Notice which are over."""
        for session in list(self._all):
            session.link.step()

    def forget(self, session: HttpSession) -> None:
        """It is over, or elsewhere."""
        self._all.pop(session, None)
        if self._by_token.get(session.token) is session:
            del self._by_token[session.token]
