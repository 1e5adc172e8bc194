"""The addresses from which members may connect, for an ensemble that lets nobody else (`quorum.membersOnly`).

Members are named by hosts, and a host may get another address at any time: when an unknown address connects, the names
are looked up anew. A name that cannot be looked up keeps the addresses it had. Not here: what a connection may say
(that is consensus).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

import trio

from corekit.server.sockets import peer_of

log = logging.getLogger("corekit.ensemble")

_LOOKUP_S = 5.0  # for one name
_PAUSE_S = 1.0  # between two lookups, however many strangers knock
_TOLD_MAX = 100  # addresses whose refusal was logged


class MemberAddresses:
    """The addresses of the members' names.

    Args:
        hosts: names or addresses, as in the `server.N` lines.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._addresses: dict[str, frozenset[str]] = {host: frozenset() for host in hosts}
        self._looked_up = float("-inf")
        self._told: set[str] = set()
        self._lock = trio.Lock()

    def knows(self, address: str) -> bool:
        """Whether this was a member's address when the names were looked up last."""
        return any(address in found for found in self._addresses.values())

    async def admits(self, address: str, kind: str) -> bool:
        """Whether this is a member's address now; a refusal is logged, once for each address."""
        async with self._lock:
            if not self.knows(address) and trio.current_time() - self._looked_up >= _PAUSE_S:
                async with trio.open_nursery() as nursery:
                    for host in self._addresses:
                        nursery.start_soon(self._look_up, host)
                self._looked_up = trio.current_time()
        if self.knows(address):
            return True
        if address not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(address)
            log.warning(
                "refused a link: no member has this address (quorum.membersOnly)",
                extra={"kind": kind, "address": address},
            )
        return False

    async def _look_up(self, host: str) -> None:
        with trio.move_on_after(_LOOKUP_S):
            try:
                found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError:
                return
            self._addresses[host] = frozenset(peer_of(name).address for *_, name in found)
