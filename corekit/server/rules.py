"""What the kernel demands of the parts that plugins made, checked where they meet it.

A contract that is broken (a wrong type, a call out of order, too late, or from another thread) is named here at once,
and not found later as lost data. Every check is crossed once a batch or once a connection, never for each request.

Not here: whether an object has the methods of its contract (`corekit.contracts`), which plugin made it (`blame.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from operator import lt
from typing import Any

import trio

from corekit.api import ClientProtocol, ClientSession, Consensus, DiskUsage, Peer, Recovery, Storage, Transport
from corekit.contracts import breaches
from corekit.errors import ContractError

_MODES = frozenset(("standalone", "leader", "follower", "observer", "read-only"))
_LEADING = frozenset(("standalone", "leader"))
_PAIRS_AT_A_TIME = 1000


def stamped(entry: bytes) -> int:
    """The zxid in an entry's TxnHeader."""
    return int.from_bytes(entry[12:20], "big")


def recovered(storage: Storage, found: Any) -> Recovery:
    """What `Storage.open` returned."""
    if not isinstance(found, Recovery):
        raise ContractError(f"open() returned {type(found).__name__}, not a Recovery", storage)
    numbers = (found.accepted_epoch, found.current_epoch, found.state_zxid, found.last_zxid)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ContractError(f"open() returned {found}: epochs and zxids are numbers from 0", storage)
    if found.last_zxid < found.state_zxid:
        raise ContractError(f"open() returned {found}: last_zxid is below state_zxid", storage)
    if found.fresh and any(numbers):
        raise ContractError(f"open() returned {found}: it is fresh and yet holds something", storage)
    return found


def read_entries(storage: Storage, after_zxid: int, found: Any) -> list[tuple[int, bytes]]:
    """What `Storage.read_log` returned."""
    if not isinstance(found, list):
        raise ContractError(f"read_log() returned {type(found).__name__}, not a list", storage)
    at = after_zxid
    for zxid, entry in found:
        if not isinstance(entry, bytes):
            raise ContractError(f"read_log() returned an entry of type {type(entry).__name__}, not bytes", storage)
        if zxid <= at:
            raise ContractError(f"read_log() returned 0x{zxid:x} after 0x{at:x}: out of order", storage)
        if stamped(entry) != zxid:
            raise ContractError(f"read_log() returned the entry of 0x{stamped(entry):x} as 0x{zxid:x}", storage)
        at = zxid
    return found


def state_pairs(storage: Storage, found: Any) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """What `Storage.read_state` returned, as keys in order and their values: a thousand of each, there may be millions.

    They are looked at while they are drawn.
    """
    before = b""
    pairs = iter(found)
    while chunk := list(islice(pairs, _PAIRS_AT_A_TIME)):
        if set(map(type, chunk)) != {tuple} or set(map(len, chunk)) != {2}:
            odd = next(one for one in chunk if type(one) is not tuple or len(one) != 2)
            raise ContractError(f"read_state() brought {odd!r:.80}, not a pair of bytes", storage)
        keys, values = [one[0] for one in chunk], [one[1] for one in chunk]
        if set(map(type, keys)) != {bytes} or set(map(type, values)) != {bytes}:
            odd = next(one for one in chunk if type(one[0]) is not bytes or type(one[1]) is not bytes)
            raise ContractError(f"read_state() brought {odd!r:.80}, not a pair of bytes", storage)
        if before >= keys[0] or not all(map(lt, keys, keys[1:])):
            first, second = next((a, b) for a, b in pairwise([before, *keys]) if a >= b)
            raise ContractError(f"read_state() brought {second!r:.80} after {first!r:.80}: out of order", storage)
        before = keys[-1]
        yield keys, values


def used(storage: Storage, found: Any) -> DiskUsage:
    """What `Storage.usage` returned."""
    if not isinstance(found, DiskUsage):
        raise ContractError(f"usage() returned {type(found).__name__}, not a DiskUsage", storage)
    return found


def listeners(transport: Transport, found: Any) -> Sequence[Any]:
    """What `Transport.listen` returned."""
    if not isinstance(found, Sequence) or not found:
        raise ContractError(f"listen() returned {found!r}, not a list of listeners", transport)
    for listener in found:
        if not isinstance(listener, trio.abc.Listener):
            raise ContractError(f"listen() returned a {type(listener).__name__}, not a trio Listener", transport)
    return found


def peer(transport: Transport, found: Any) -> Peer:
    """What `Transport.peer` returned."""
    if not isinstance(found, Peer):
        raise ContractError(f"peer() returned {type(found).__name__}, not a Peer", transport)
    return found


def wanted_listeners(protocol: ClientProtocol, found: Any) -> Sequence[tuple[str, int, Any | None]]:
    """What `ClientProtocol.listeners` returned."""
    for one in found:
        if not (isinstance(one, tuple) and len(one) == 3 and isinstance(one[0], str) and isinstance(one[1], int)):
            raise ContractError(f"listeners() returned {one!r}, not (address, port, TLS context or None)", protocol)
    return list(found)


_known_sessions: set[type] = set()


def session(protocol: ClientProtocol, found: Any) -> ClientSession | None:
    """What `ClientProtocol.open` returned; the form of each class is looked at once."""
    if found is not None and type(found) not in _known_sessions:
        if problems := breaches(found, ClientSession):
            raise ContractError(
                f"open() returned {type(found).__name__}, no ClientSession: {'; '.join(problems)}", protocol
            )
        _known_sessions.add(type(found))
    return found  # type: ignore[no-any-return]  # its form was checked above


def no_bytes(session: ClientSession, found: Any) -> ContractError:
    """What is to be raised when `ClientSession.take` returned something that cannot be sent."""
    return ContractError(f"take() returned {found!r:.80}, not a list of bytes", session)


class ConsensusRules:
    """What a consensus may ask of the kernel, and when.

    Args:
        alone: there is no other server, so decided means durable here.

    Attributes:
        last_zxid: of the log.
        durable_zxid: the log is durable up to here.
    """

    def __init__(self, consensus: Consensus, *, alone: bool) -> None:
        self._consensus = consensus
        self._alone = alone
        self._thread = threading.get_ident()
        self._stopped = False
        self._accepted = 0
        self.last_zxid = 0
        self.durable_zxid = 0

    def _broken(self, text: str) -> ContractError:
        return ContractError(text, self._consensus)

    def start(self, recovery: Recovery) -> None:
        """The event loop runs in this thread; the log holds this."""
        self._thread = threading.get_ident()
        self._accepted = recovery.accepted_epoch
        self.last_zxid = self.durable_zxid = recovery.last_zxid

    def stop(self) -> None:
        """Nothing may follow."""
        self._stopped = True

    def call(self, name: str) -> None:
        """Some call: not late, and on the event loop."""
        if self._stopped:
            raise self._broken(f"{name}() was called after stop()")
        if threading.get_ident() != self._thread:
            raise self._broken(f"{name}() was called from another thread; everything happens on the event loop")

    def persist(self, first_zxid: int, entries: Sequence[bytes], last_zxid: int) -> None:
        """In order, and each entry under its own zxid."""
        self.call("persist")
        if last_zxid - first_zxid + 1 != len(entries) or not entries:
            raise self._broken(f"persist() of 0x{first_zxid:x} to 0x{last_zxid:x} brings {len(entries)} entries")
        if first_zxid <= self.last_zxid:
            raise self._broken(f"persist() of 0x{first_zxid:x}, but the log ends at 0x{self.last_zxid:x}: out of order")
        for zxid, entry in ((first_zxid, entries[0]), (last_zxid, entries[-1])):
            if not isinstance(entry, bytes):
                raise self._broken(f"persist() of an entry of type {type(entry).__name__}, not bytes")
            if stamped(entry) != zxid:
                raise self._broken(f"persist() of the entry of 0x{stamped(entry):x} as 0x{zxid:x}: out of order")
        self.last_zxid = last_zxid

    def committed(self, upto_zxid: int, proposing: bool) -> None:
        """Not while proposing, not above the log; on a server that is alone, not before it is durable."""
        self.call("committed")
        if proposing:
            raise self._broken("committed() was called inside propose()")
        if upto_zxid > self.last_zxid:
            raise self._broken(f"committed(0x{upto_zxid:x}), but the log ends at 0x{self.last_zxid:x}")
        if self._alone and upto_zxid > self.durable_zxid:
            raise self._broken(f"committed(0x{upto_zxid:x}), but only 0x{self.durable_zxid:x} is durable")

    def serve(self, mode: str, next_zxid: int, *, proposing: bool, serving: bool, undecided: int) -> None:
        """With everything decided and a zxid that was never used."""
        self.call("serve")
        if proposing:
            raise self._broken("serve() was called inside propose()")
        if mode not in _MODES:
            raise self._broken(f"serve({mode!r}): modes are {', '.join(sorted(_MODES))}")
        if serving:
            raise self._broken("serve() was called while clients are served; suspend() comes first")
        if mode in _LEADING and undecided:
            raise self._broken(f"serve({mode!r}) with {undecided} entries of the log undecided")
        if mode in _LEADING and next_zxid <= self.last_zxid:
            raise self._broken(f"serve() from 0x{next_zxid:x}, but the log ends at 0x{self.last_zxid:x}")

    def suspend(self, proposing: bool) -> None:
        """Not while proposing."""
        self.call("suspend")
        if proposing:
            raise self._broken("suspend() was called inside propose()")

    def save_epochs(self, accepted: int) -> None:
        """The accepted epoch never falls."""
        self.call("save_epochs")
        if accepted < self._accepted:
            raise self._broken(f"save_epochs(): the accepted epoch falls from {self._accepted} to {accepted}")
        self._accepted = accepted

    def renumber(self, next_zxid: int, proposing: bool) -> None:
        """Only while proposing, into a higher epoch."""
        self.call("renumber")
        if not proposing:
            raise self._broken("renumber() was called outside of propose()")
        if next_zxid >> 32 <= self.last_zxid >> 32:
            raise self._broken(f"renumber(0x{next_zxid:x}) does not begin a higher epoch")

    def truncate(self, zxid: int, applied_zxid: int) -> None:
        """Never what is decided."""
        self.call("truncate")
        if zxid < applied_zxid:
            raise self._broken(f"truncate(0x{zxid:x}), but 0x{applied_zxid:x} is decided: it cannot be taken back")
        self.last_zxid = min(self.last_zxid, zxid)
        self.durable_zxid = min(self.durable_zxid, zxid)

    def installed(self, zxid: int) -> None:
        """A received state replaced the log."""
        self.call("end_snapshot")
        self.last_zxid = self.durable_zxid = zxid
