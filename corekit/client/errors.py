"""What the client raises beside the server's own error codes (`corekit.errors`), and how errors get their context."""

from __future__ import annotations

from corekit.codec import ops
from corekit.errors import CONNECTION_LOSS, CorekitError, KeeperError, keeper_error

_CHECK = {
    ops.CREATE: "see whether the node exists and is yours (data, ephemeral owner)",
    ops.CREATE2: "see whether the node exists and is yours (data, ephemeral owner)",
    ops.CREATE_CONTAINER: "see whether the node exists",
    ops.CREATE_TTL: "see whether the node exists and holds your data",
    ops.DELETE: "see whether the node is gone",
    ops.SET_DATA: "compare the node's data and version with what you wrote",
    ops.SET_ACL: "compare the node's ACL and ACL version with what you wrote",
    ops.MULTI: "look at one node that the transaction changes: all of it happened, or nothing",
    ops.RECONFIG: "read the configuration and compare its version",
}


class OutcomeUnknown(KeeperError):
    """The connection broke after a write was sent and before its reply came: it happened, or it did not.

    The client never repeats such a write by itself, because that could do it twice.

    Attributes:
        op: the operation's number (`corekit.codec.ops`).
        check: what to look at to find out.
    """

    code = CONNECTION_LOSS

    def __init__(self, op: int, path: str | None, why: str) -> None:
        self.op = op
        self.check = _CHECK.get(op, "read what the operation would have changed")
        super().__init__(f"{ops.op_name(op)} was sent but not answered ({why}); {self.check}", path=path)


class ClientClosedError(CorekitError):
    """The client was closed: its `async with` block has ended, or is ending."""


class LeaseLost(CorekitError):
    """The body ran under a lease, and was cancelled (or outlived it) because the session may no longer be alive."""


class NotAcquired(CorekitError):
    """A lock, a permit, a leadership or a claim was not got in the time allowed."""


def server_error(code: int, path: str | None, op: int, where: str) -> KeeperError:
    """The exception for a code on the wire, with its context."""
    error = keeper_error(code, path=path)
    error.where = f"{ops.op_name(op)} at {where}"
    return error
