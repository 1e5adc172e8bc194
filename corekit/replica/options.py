"""The settings that decide how a replica behaves, apart from where they come from."""

from __future__ import annotations

from dataclasses import dataclass

from corekit import limits


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """Behaviour of a replica. Times in milliseconds, sizes in bytes; names follow `config.Settings`."""

    tick_time_ms: int = 2000
    min_session_timeout_ms: int = 4000
    max_session_timeout_ms: int = 40000
    jute_max_buffer: int = limits.JUTE_MAX_BUFFER
    global_outstanding_limit: int = limits.GLOBAL_OUTSTANDING_LIMIT
    skip_acl: bool = False
    extended_types: bool = False
    emulate_353_ttl: bool = False
    enforce_quota: bool = False
    enforced_schemes: frozenset[str] = frozenset()  # who has proved none of them may only prove one
    close_session_paths: bool = True
    container_never_used_ms: int = 0
    leader_serves: bool = True
    tree_digest: bool = True
    local_sessions: bool = False
    local_sessions_upgrading: bool = False
