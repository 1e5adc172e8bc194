"""The session handshake: ConnectRequest in, ConnectResponse out (possibly later, when a new session is committed).

Checks stand in ZooKeeper's order (`ZooKeeperServer.processConnectRequest`). One difference: an older connection of
the same session is closed only after the password was right, so that a session id alone cannot disturb anyone.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from corekit.errors import ProtocolError
from corekit.model.sessions import password
from corekit.replica.connection import Connection
from corekit.replica.replica import Replica

_REQUEST: Final = Struct(">iqiqi")
_RESPONSE: Final = Struct(">iiiqi16s")
_NO_PASSWORD: Final = bytes(16)


def attach(replica: Replica, connection: Connection, body: bytes) -> None:
    """Handle the first frame of a connection.

    Raises:
        ProtocolError: it is no ConnectRequest.
    """
    if len(body) < _REQUEST.size:
        raise ProtocolError(f"first packet of {len(body)} bytes is no ConnectRequest")
    _, seen, timeout, session_id, size = _REQUEST.unpack_from(body)
    if size < -1 or len(body) < _REQUEST.size + size:
        raise ProtocolError("ConnectRequest is cut short")
    size = max(size, 0)  # -1 is no password
    given = body[_REQUEST.size : _REQUEST.size + size]
    flag = body[_REQUEST.size + size : _REQUEST.size + size + 1]
    if not _serves(replica, connection, read_only=flag == b"\1"):
        return
    if seen > replica.tree.zxid:
        # The client has seen more than this server: it must try another one.
        connection.close(f"client has seen zxid 0x{seen:x}, this server is at 0x{replica.tree.zxid:x}")
        return
    options = replica.options
    timeout = min(max(timeout, options.min_session_timeout_ms), options.max_session_timeout_ms)
    connection.timeout_ms = timeout
    connection.read_only = flag == b"\1"
    tail = bytes((replica.read_only,)) if flag else b""  # only if the request had the byte
    if session_id == 0:
        _open(replica, connection, timeout, tail)
    else:
        _reopen(replica, connection, session_id, given, timeout, tail)


def admit(replica: Replica, connection: Connection) -> None:
    """Let a connection read without a session. See `corekit.api.Gateway.admit`."""
    if _serves(replica, connection, read_only=False):
        connection.ready = True


def _serves(replica: Replica, connection: Connection, *, read_only: bool) -> bool:
    """Whether this server serves such a client; else the connection is closed."""
    why = None
    if not replica.serving:
        why = "not serving"
    elif replica.mode == "leader" and not replica.options.leader_serves:
        why = "the leader of this ensemble does not serve clients (leaderServes=no)"
    elif replica.mode == "read-only" and not read_only:
        why = "this server is read-only and the client did not ask for that"
    if why is not None:
        connection.close(why)
    return why is None


def _open(replica: Replica, connection: Connection, timeout: int, tail: bytes) -> None:
    session_id = replica.sessions.new_id()
    connection.session_id = session_id
    if replica.local.enabled:
        replica.open_local_session(connection, session_id, timeout, _response(timeout, session_id, tail))
        return
    if replica.read_only:
        connection.close("a read-only server opens no session unless localSessionsEnabled is on")
        return
    if replica.refuse_sessions is not None:
        connection.close(f"no new session: {replica.refuse_sessions}")
        return
    replica.open_session(connection, session_id, timeout, _response(timeout, session_id, tail))


def _reopen(replica: Replica, connection: Connection, session_id: int, given: bytes, timeout: int, tail: bytes) -> None:
    if given != password(session_id):
        connection.out.append(_refusal(tail))
        connection.close("the password of the session is wrong")
        return
    connection.session_id = session_id
    if replica.read_only and replica.local.get(session_id) is None:
        connection.close("without a quorum nobody knows whether the session lives")
        return
    replica.reopen_session(connection, session_id, timeout, (_response(timeout, session_id, tail), _refusal(tail)))


def _response(timeout: int, session_id: int, tail: bytes) -> bytes:
    return _RESPONSE.pack(36 + len(tail), 0, timeout, session_id, 16, password(session_id)) + tail


def _refusal(tail: bytes) -> bytes:
    return _RESPONSE.pack(36 + len(tail), 0, 0, 0, 16, _NO_PASSWORD) + tail
