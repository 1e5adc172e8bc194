"""Every bound of the server in one place, each with what it protects.

Values that a user may change are the defaults of settings in `config.py`; the others are fixed. No I/O, no imports.
"""

from __future__ import annotations

from typing import Final

# Sockets
RECV_BYTES: Final = 256 * 1024  # received at once, at most

# Client port
JUTE_MAX_BUFFER: Final = 0xFFFFF  # largest request body in bytes (ZooKeeper's jute.maxbuffer)
CLIENT_OUT_BYTES_MAX: Final = 64 * 1024 * 1024  # replies and events a client has not read; more closes it
CLIENT_OUT_PAUSE_BYTES: Final = 1024 * 1024  # above this its requests wait until it reads
CLIENT_BIG_REPLY_BYTES: Final = 4096  # larger replies are counted while a packet's worth of requests is answered
CLIENT_HELD_MAX: Final = 20_000  # requests of one connection that wait behind its own writes
GLOBAL_OUTSTANDING_LIMIT: Final = 1000  # writes in flight before connections with work pending are paused
MAX_CLIENT_CNXNS: Final = 60  # connections from one address (0: no limit)
SESSIONLESS_TIMEOUT_MS: Final = 10_000  # a connection that has not finished its handshake
FOUR_LETTER_BYTES_MAX: Final = 64 * 1024 * 1024  # output of one four-letter word

# Requests
MULTI_OPS_MAX: Final = 100_000  # operations in one multi
ACL_ENTRIES_MAX: Final = 10_000  # entries in one ACL
MULTI_READ_BYTES_MAX: Final = 16 * 1024 * 1024  # reply to one multiRead; stock clients take a megabyte
IDENTITIES_MAX: Final = 64  # that one connection may prove; with long ACLs they multiply
ACL_VERDICTS_MAX: Final = 4096  # answers of access checks that are remembered

# Log and state
BATCH_ENTRIES_MAX: Final = 4096  # entries handed to storage at once
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
# Znodes in the view of what is proposed, before it is reduced to what is not committed.
PENDING_VIEW_MAX: Final = 50_000
STATE_STEP_NODES: Final = 2048  # changed znodes in one background write of the state
COMMIT_LOG_COUNT: Final = 500  # committed entries kept in memory for followers that lag

# Metrics and admin port
METRIC_KEYS_MAX: Final = 1000  # namespaces or peers with metrics of their own
ADMIN_CONNECTIONS_MAX: Final = 64  # HTTP connections at once; more wait in the backlog
ADMIN_REQUEST_HEAD_BYTES_MAX: Final = 16 * 1024  # request line and headers
ADMIN_REQUEST_BODY_BYTES_MAX: Final = 1024 * 1024  # body of a command that does not take a stream
ADMIN_REQUESTS_PER_CONNECTION: Final = 1000  # then the connection is closed
ADMIN_REQUEST_TIMEOUT_MS: Final = 10_000  # from the first byte of a request to its last
ADMIN_WRITE_TIMEOUT_MS: Final = 30_000  # a client that does not read its answer

# Plugins
API_VERSION: Final = 1
