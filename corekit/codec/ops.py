"""Numbers of the client protocol: operations, special xids, create flags, watch modes, events (`ZooDefs`, `Watcher`).

Plain ints, because both sides dispatch on them for every request.
"""

from __future__ import annotations

# Operations (the `type` of a RequestHeader, a MultiHeader and a TxnHeader).
NOTIFICATION = 0
CREATE = 1
DELETE = 2
EXISTS = 3
GET_DATA = 4
SET_DATA = 5
GET_ACL = 6
SET_ACL = 7
GET_CHILDREN = 8
SYNC = 9
PING = 11
GET_CHILDREN2 = 12
CHECK = 13
MULTI = 14
CREATE2 = 15
RECONFIG = 16
CHECK_WATCHES = 17
REMOVE_WATCHES = 18
CREATE_CONTAINER = 19
DELETE_CONTAINER = 20
CREATE_TTL = 21
MULTI_READ = 22
AUTH = 100
SET_WATCHES = 101
SASL = 102
GET_EPHEMERALS = 103
GET_ALL_CHILDREN_NUMBER = 104
SET_WATCHES2 = 105
ADD_WATCH = 106
WHO_AM_I = 107
CREATE_SESSION = -10
CLOSE_SESSION = -11
ERROR = -1

# Special xids.
XID_NOTIFICATION = -1
XID_PING = -2
XID_AUTH = -4
XID_SET_WATCHES = -8

# Flags of the create operations.
PERSISTENT = 0
EPHEMERAL = 1
PERSISTENT_SEQUENTIAL = 2
EPHEMERAL_SEQUENTIAL = 3
CONTAINER = 4
PERSISTENT_TTL = 5
PERSISTENT_SEQUENTIAL_TTL = 6

# Modes of addWatch.
WATCH_PERSISTENT = 0
WATCH_PERSISTENT_RECURSIVE = 1

# Types of checkWatches and removeWatches; the last two are understood by 3.9 and later.
WATCHER_CHILDREN = 1
WATCHER_DATA = 2
WATCHER_ANY = 3
WATCHER_PERSISTENT = 4
WATCHER_PERSISTENT_RECURSIVE = 5

# Types of a WatcherEvent; the last three are made by clients only.
EVENT_NONE = -1
EVENT_NODE_CREATED = 1
EVENT_NODE_DELETED = 2
EVENT_NODE_DATA_CHANGED = 3
EVENT_NODE_CHILDREN_CHANGED = 4
EVENT_DATA_WATCH_REMOVED = 5
EVENT_CHILD_WATCH_REMOVED = 6
EVENT_PERSISTENT_WATCH_REMOVED = 7

# States in a WatcherEvent. Servers only send STATE_SYNC_CONNECTED.
STATE_DISCONNECTED = 0
STATE_SYNC_CONNECTED = 3
STATE_AUTH_FAILED = 4
STATE_CONNECTED_READ_ONLY = 5
STATE_SASL_AUTHENTICATED = 6
STATE_CLOSED = 7
STATE_EXPIRED = -112

# Permission bits of an ACL entry.
PERM_READ = 1
PERM_WRITE = 2
PERM_CREATE = 4
PERM_DELETE = 8
PERM_ADMIN = 16
PERM_ALL = 31

_NAMES = {
    NOTIFICATION: "notification",
    CREATE: "create",
    DELETE: "delete",
    EXISTS: "exists",
    GET_DATA: "getData",
    SET_DATA: "setData",
    GET_ACL: "getACL",
    SET_ACL: "setACL",
    GET_CHILDREN: "getChildren",
    SYNC: "sync",
    PING: "ping",
    GET_CHILDREN2: "getChildren2",
    CHECK: "check",
    MULTI: "multi",
    CREATE2: "create2",
    RECONFIG: "reconfig",
    CHECK_WATCHES: "checkWatches",
    REMOVE_WATCHES: "removeWatches",
    CREATE_CONTAINER: "createContainer",
    DELETE_CONTAINER: "deleteContainer",
    CREATE_TTL: "createTTL",
    MULTI_READ: "multiRead",
    AUTH: "auth",
    SET_WATCHES: "setWatches",
    SASL: "sasl",
    GET_EPHEMERALS: "getEphemerals",
    GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber",
    SET_WATCHES2: "setWatches2",
    ADD_WATCH: "addWatch",
    WHO_AM_I: "whoAmI",
    CREATE_SESSION: "createSession",
    CLOSE_SESSION: "closeSession",
    ERROR: "error",
}


def op_name(op: int) -> str:
    """ZooKeeper's name of an operation, or `op N`."""
    return _NAMES.get(op, f"op {op}")
