"""Sessions that clients named: opened with POST /session, used with the header `Session`, on this server or another."""

from __future__ import annotations

import re
from collections.abc import Callable

from corekit.api import Gateway, Peer
from corekit_http.forms import Problem
from corekit_http.link import Link

SESSIONS_MAX = 10_000  # that one server keeps open for HTTP clients

_TOKEN = re.compile("0x([0-9a-f]{1,16})-([0-9]{1,9})-([0-9a-f]{32})")

Failed = Callable[[int, str], None]


class HttpSession:
    """A session and the requests that wait for it.

    Attributes:
        token: what the client shows; who has it, has the session.
        waiting: what to call for each of them if the session's link is lost.
    """

    def __init__(self, sessions: Sessions, gateway: Gateway, peer: Peer) -> None:
        self._sessions = sessions
        self.address = peer.address
        self.waiting: list[Failed] = []
        self.logins: set[str] = set()
        self.link = Link(gateway, peer, self._lost)
        self.token = ""

    def _lost(self, code: int, why: str) -> None:
        self._sessions.forget(self)
        waiting, self.waiting = self.waiting, []
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

    def forget(self, session: HttpSession) -> None:
        """It is over, or elsewhere."""
        self._all.pop(session, None)
        if self._by_token.get(session.token) is session:
            del self._by_token[session.token]
