"""Numbers of the client protocol: operations, special xids, create flags, watch modes, events (`ZooDefs`, `Watcher`).

Plain ints, because both sides dispatch on them for every request.
"""

from __future__ import annotations

from typing import Final

# Operations (the `type` of a RequestHeader, a MultiHeader and a TxnHeader).
NOTIFICATION: Final = 0
CREATE: Final = 1
DELETE: Final = 2
EXISTS: Final = 3
GET_DATA: Final = 4
SET_DATA: Final = 5
GET_ACL: Final = 6
SET_ACL: Final = 7
GET_CHILDREN: Final = 8
SYNC: Final = 9
PING: Final = 11
GET_CHILDREN2: Final = 12
CHECK: Final = 13
MULTI: Final = 14
CREATE2: Final = 15
RECONFIG: Final = 16
CHECK_WATCHES: Final = 17
REMOVE_WATCHES: Final = 18
CREATE_CONTAINER: Final = 19
DELETE_CONTAINER: Final = 20
CREATE_TTL: Final = 21
MULTI_READ: Final = 22
AUTH: Final = 100
SET_WATCHES: Final = 101
SASL: Final = 102
GET_EPHEMERALS: Final = 103
GET_ALL_CHILDREN_NUMBER: Final = 104
SET_WATCHES2: Final = 105
ADD_WATCH: Final = 106
WHO_AM_I: Final = 107
CREATE_SESSION: Final = -10
CLOSE_SESSION: Final = -11
ERROR: Final = -1

# Special xids.
XID_NOTIFICATION: Final = -1
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8

# Flags of the create operations.
PERSISTENT: Final = 0
EPHEMERAL: Final = 1
PERSISTENT_SEQUENTIAL: Final = 2
EPHEMERAL_SEQUENTIAL: Final = 3
CONTAINER: Final = 4
PERSISTENT_TTL: Final = 5
PERSISTENT_SEQUENTIAL_TTL: Final = 6

# Modes of addWatch.
WATCH_PERSISTENT: Final = 0
WATCH_PERSISTENT_RECURSIVE: Final = 1

# Types of checkWatches and removeWatches; the last two are understood by 3.9 and later.
WATCHER_CHILDREN: Final = 1
WATCHER_DATA: Final = 2
WATCHER_ANY: Final = 3
WATCHER_PERSISTENT: Final = 4
WATCHER_PERSISTENT_RECURSIVE: Final = 5

# Types of a WatcherEvent; the last three are made by clients only.
EVENT_NONE: Final = -1
EVENT_NODE_CREATED: Final = 1
EVENT_NODE_DELETED: Final = 2
EVENT_NODE_DATA_CHANGED: Final = 3
EVENT_NODE_CHILDREN_CHANGED: Final = 4
EVENT_DATA_WATCH_REMOVED: Final = 5
EVENT_CHILD_WATCH_REMOVED: Final = 6
EVENT_PERSISTENT_WATCH_REMOVED: Final = 7

# States in a WatcherEvent. Servers only send STATE_SYNC_CONNECTED.
STATE_DISCONNECTED: Final = 0
STATE_SYNC_CONNECTED: Final = 3
STATE_AUTH_FAILED: Final = 4
STATE_CONNECTED_READ_ONLY: Final = 5
STATE_SASL_AUTHENTICATED: Final = 6
STATE_CLOSED: Final = 7
STATE_EXPIRED: Final = -112

# Permission bits of an ACL entry.
PERM_READ: Final = 1
PERM_WRITE: Final = 2
PERM_CREATE: Final = 4
PERM_DELETE: Final = 8
PERM_ADMIN: Final = 16
PERM_ALL: Final = 31

_NAMES: Final = {
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
