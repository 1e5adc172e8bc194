"""Who may connect: connections from one address and in all, and how long a connection may go without a session."""

from __future__ import annotations

from corekit.api import ClientSession, Peer


class Admission:
    """Counts connections and watches over handshakes.

    Args:
        per_address: connections from one address (maxClientCnxns); 0: no limit.
        total: connections in all (maxCnxns); 0: no limit.
        handshake_ms: how long a connection may take to establish a session.
    """

    def __init__(self, per_address: int, total: int, handshake_ms: int) -> None:
        self._per_address = per_address
        self._total = total
        self._handshake_ms = handshake_ms
        self._by_address: dict[str, int] = {}
        self._count = 0
        self._deadlines: dict[ClientSession, int] = {}
        self.now_ms = 0
        self.rejected = 0
        self.handshakes_expired = 0

    def refuse(self, peer: Peer) -> str | None:
        """Why this client may not connect; None counts it in."""
        here = self._by_address.get(peer.address, 0)
        if self._per_address and here >= self._per_address:
            self.rejected += 1
            return f"too many connections from {peer.address}: maxClientCnxns is {self._per_address}"
        if self._total and self._count >= self._total:
            self.rejected += 1
            return f"too many connections: maxCnxns is {self._total}"
        self._by_address[peer.address] = here + 1
        self._count += 1
        return None

    def gone(self, peer: Peer) -> None:
        """A connection that was counted in has ended."""
        self._count -= 1
        here = self._by_address[peer.address] - 1
        if here:
            self._by_address[peer.address] = here
        else:
            del self._by_address[peer.address]

    def opened(self, session: ClientSession) -> None:
        """Its handshake has begun."""
        self._deadlines[session] = self.now_ms + self._handshake_ms

    def closed(self, session: ClientSession) -> None:
        """It ended."""
        self._deadlines.pop(session, None)

    def overdue(self) -> list[ClientSession]:
        """Connections that took too long for their handshake; established ones are forgotten."""
        due = []
        for session, deadline in list(self._deadlines.items()):
            established = getattr(session, "established", None)
            if established is None or established():
                del self._deadlines[session]
            elif self.now_ms >= deadline:
                del self._deadlines[session]
                self.handshakes_expired += 1
                due.append(session)
        return due
