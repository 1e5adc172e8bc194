"""Error codes of the ZooKeeper protocol and the exceptions of corekit.

Rules: one exception class per wire code (`KeeperError` subclasses, found by `keeper_error(code)`);
`ProtocolError` is for bytes that no well-behaved peer sends; `UserError` is for anything the person at the
keyboard can mend, and is printed without a traceback.

Source of the codes: ZooKeeper `KeeperException.Code`.
"""

from __future__ import annotations

from typing import ClassVar, Final

# Process exit codes. 1-14 follow ZooKeeper's `ExitCode`; the others are corekit's own.
EXIT_OK: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DATA_DIR: Final = 3
EXIT_ADMIN: Final = 4
EXIT_PORT: Final = 14
EXIT_DISK: Final = 20  # a write or fsync failed: nothing after it may be acknowledged
EXIT_DAMAGED: Final = 21  # the log or the state on disk is damaged
EXIT_UNAVAILABLE: Final = 69  # sysexits EX_UNAVAILABLE: no server gave a session or an answer in time
EXIT_LOST: Final = 70  # a lock or leadership was lost while held
EXIT_UNKNOWN_OUTCOME: Final = 74  # sysexits EX_IOERR: a write was sent, its answer never came
EXIT_NOT_ACQUIRED: Final = 75  # sysexits EX_TEMPFAIL: not acquired in time
EXIT_NO_PERMISSION: Final = 77  # sysexits EX_NOPERM

OK: Final = 0
SYSTEM_ERROR: Final = -1
RUNTIME_INCONSISTENCY: Final = -2
DATA_INCONSISTENCY: Final = -3
CONNECTION_LOSS: Final = -4
MARSHALLING_ERROR: Final = -5
UNIMPLEMENTED: Final = -6
OPERATION_TIMEOUT: Final = -7
BAD_ARGUMENTS: Final = -8
UNKNOWN_SESSION: Final = -12
NEW_CONFIG_NO_QUORUM: Final = -13
RECONFIG_IN_PROGRESS: Final = -14
API_ERROR: Final = -100
NO_NODE: Final = -101
NO_AUTH: Final = -102
BAD_VERSION: Final = -103
NO_CHILDREN_FOR_EPHEMERALS: Final = -108
NODE_EXISTS: Final = -110
NOT_EMPTY: Final = -111
SESSION_EXPIRED: Final = -112
INVALID_CALLBACK: Final = -113
INVALID_ACL: Final = -114
AUTH_FAILED: Final = -115
SESSION_MOVED: Final = -118
NOT_READ_ONLY: Final = -119
EPHEMERAL_ON_LOCAL_SESSION: Final = -120
NO_WATCHER: Final = -121
REQUEST_TIMEOUT: Final = -122
RECONFIG_DISABLED: Final = -123
SESSION_CLOSED_REQUIRE_AUTH: Final = -124
QUOTA_EXCEEDED: Final = -125
THROTTLED_OP: Final = -127


class CorekitError(Exception):
    """Base of everything corekit raises on purpose."""


class UserError(CorekitError):
    """Something the user can mend: a setting, a path, an argument, a plugin.

    The message names the thing and the way out. The command line prints it as one line and exits with `exit_code`.
    """

    exit_code: int = EXIT_USAGE

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class ConfigError(UserError):
    """A setting that cannot be used."""


class PluginError(UserError):
    """A plugin that is unknown, broken, doubled or breaks its contract."""


class ContractError(CorekitError):
    """A part that a plugin made breaks its contract: a wrong type, a call out of order or too late. The process stops.

    Attributes:
        part: the object that breaks it, or None if it is the plugin that the call came from.
    """

    def __init__(self, message: str, part: object = None) -> None:
        super().__init__(message)
        self.part = part


class StorageError(CorekitError):
    """The disk refused a write or an fsync. The process must stop: what is durable is no longer known."""


class DataDirError(UserError):
    """A data directory that is locked, foreign, or of another format."""

    exit_code = EXIT_DATA_DIR


class DamagedError(UserError):
    """The log or the state on disk is damaged: acknowledged data may be missing, so it is not served."""

    exit_code = EXIT_DAMAGED


class ProtocolError(CorekitError):
    """Bytes from a client or a peer that break the protocol. The connection they came on is closed."""


class KeeperError(CorekitError):
    """An error code of the ZooKeeper protocol.

    Attributes:
        code: the code on the wire (negative).
        path: the znode concerned, if one is.
        where: what the client library adds: the operation, the server and the session, as text.
        index: which part of a multi failed, counted from 0; -1 outside a multi.
    """

    code: ClassVar[int] = SYSTEM_ERROR
    where: str = ""
    index: int = -1

    def __init__(self, message: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        text = super().__str__() or _NAMES.get(self.code, type(self).__name__)
        if self.path is not None:
            text = f"{text} [{self.path}]"
        return f"{text} ({self.where})" if self.where else text


_NAMES: dict[int, str] = {}
_CLASSES: dict[int, type[KeeperError]] = {}


def _define(code: int, name: str, text: str) -> type[KeeperError]:
    cls = type(name, (KeeperError,), {"code": code, "__doc__": f"{text} ({code}).", "__module__": __name__})
    _NAMES[code] = text
    _CLASSES[code] = cls
    return cls


SystemErrorKeeper: Final = _define(SYSTEM_ERROR, "SystemErrorKeeper", "system error")
RuntimeInconsistencyError = _define(RUNTIME_INCONSISTENCY, "RuntimeInconsistencyError", "runtime inconsistency")
DataInconsistencyError = _define(DATA_INCONSISTENCY, "DataInconsistencyError", "data inconsistency")
ConnectionLossError = _define(CONNECTION_LOSS, "ConnectionLossError", "connection lost")
MarshallingError = _define(MARSHALLING_ERROR, "MarshallingError", "request could not be decoded")
UnimplementedError = _define(UNIMPLEMENTED, "UnimplementedError", "operation is not implemented")
OperationTimeoutError = _define(OPERATION_TIMEOUT, "OperationTimeoutError", "operation timed out")
BadArgumentsError = _define(BAD_ARGUMENTS, "BadArgumentsError", "bad arguments")
UnknownSessionError = _define(UNKNOWN_SESSION, "UnknownSessionError", "unknown session")
NewConfigNoQuorumError = _define(NEW_CONFIG_NO_QUORUM, "NewConfigNoQuorumError", "no quorum of the new configuration")
ReconfigInProgressError = _define(RECONFIG_IN_PROGRESS, "ReconfigInProgressError", "another reconfiguration is running")
APIError = _define(API_ERROR, "APIError", "API error")
NoNodeError = _define(NO_NODE, "NoNodeError", "node does not exist")
NoAuthError = _define(NO_AUTH, "NoAuthError", "not authorized")
BadVersionError = _define(BAD_VERSION, "BadVersionError", "version does not match")
NoChildrenForEphemeralsError = _define(
    NO_CHILDREN_FOR_EPHEMERALS, "NoChildrenForEphemeralsError", "ephemeral nodes may not have children"
)
NodeExistsError = _define(NODE_EXISTS, "NodeExistsError", "node exists already")
NotEmptyError = _define(NOT_EMPTY, "NotEmptyError", "node has children")
SessionExpiredError = _define(SESSION_EXPIRED, "SessionExpiredError", "session expired")
InvalidCallbackError = _define(INVALID_CALLBACK, "InvalidCallbackError", "invalid callback")
InvalidACLError = _define(INVALID_ACL, "InvalidACLError", "invalid ACL")
AuthFailedError = _define(AUTH_FAILED, "AuthFailedError", "authentication failed")
SessionMovedError = _define(SESSION_MOVED, "SessionMovedError", "session moved to another server")
NotReadOnlyError = _define(NOT_READ_ONLY, "NotReadOnlyError", "server is read-only, or its disk is almost full")
EphemeralOnLocalSessionError = _define(
    EPHEMERAL_ON_LOCAL_SESSION, "EphemeralOnLocalSessionError", "ephemeral nodes need a global session"
)
NoWatcherError = _define(NO_WATCHER, "NoWatcherError", "no such watch")
RequestTimeoutError = _define(REQUEST_TIMEOUT, "RequestTimeoutError", "request timed out")
ReconfigDisabledError = _define(RECONFIG_DISABLED, "ReconfigDisabledError", "reconfiguration is disabled")
SessionClosedRequireAuthError = _define(
    SESSION_CLOSED_REQUIRE_AUTH, "SessionClosedRequireAuthError", "the server demands authentication"
)
QuotaExceededError = _define(QUOTA_EXCEEDED, "QuotaExceededError", "quota exceeded")
ThrottledOpError = _define(THROTTLED_OP, "ThrottledOpError", "operation was throttled")


def error_name(code: int) -> str:
    """The short text for a wire code, or `error N` for one that ZooKeeper does not define."""
    return _NAMES.get(code, f"error {code}")


def keeper_error(code: int, message: str = "", *, path: str | None = None) -> KeeperError:
    """The exception for a wire code; an unknown code gives a plain `KeeperError` that names it."""
    cls = _CLASSES.get(code)
    if cls is None:
        return KeeperError(message or f"error {code}", path=path)
    return cls(message, path=path)
