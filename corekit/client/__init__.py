"""The client library: `connect` and what it returns.

Runs on trio and on asyncio, against corekit and Apache ZooKeeper from 3.5 on.
"""

from corekit.client import op
from corekit.client.acl import ACL, CREATOR_ALL, OPEN, READ_ONLY, digest_acl, digest_id, parse_acl
from corekit.client.client import Client
from corekit.client.connect import connect
from corekit.client.errors import ClientClosedError, LeaseLost, NotAcquired, OutcomeUnknown
from corekit.client.lease import Lease
from corekit.client.types import (
    Children,
    Created,
    Data,
    EventType,
    Identity,
    Stat,
    State,
    StateChange,
    WatchEvent,
)
from corekit.client.watches import Watch, WatchStream

__all__ = [
    "ACL",
    "CREATOR_ALL",
    "OPEN",
    "READ_ONLY",
    "Children",
    "Client",
    "ClientClosedError",
    "Created",
    "Data",
    "EventType",
    "Identity",
    "Lease",
    "LeaseLost",
    "NotAcquired",
    "OutcomeUnknown",
    "Stat",
    "State",
    "StateChange",
    "Watch",
    "WatchEvent",
    "WatchStream",
    "connect",
    "digest_acl",
    "digest_id",
    "op",
    "parse_acl",
]
