"""Every setting of the server, each stated once: field, default, the keys it is known by, form, meaning.

Rules
- A field has a snake_case name with its unit last. Its first key is the one people know from `zoo.cfg`; every key is
  also taken with the prefix `zookeeper.`, and every field by its own name.
- A field that follows from others when it is not given (-1 or "") is filled in by `__post_init__`, so a `Settings`
  is always complete.

Not here: files, variables and command line (`load.py`), keys that will never be acted on (`known.py`).
Source of keys and defaults: ZooKeeper 3.9 `QuorumPeerConfig` and the system properties of its administrator's guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from corekit import limits
from corekit.config.members import ServerSpec
from corekit.config.parsers import (
    address,
    at_least,
    boolean,
    choice,
    decimal,
    hours_ms,
    integer,
    metrics_provider,
    millis,
    name_set,
    names,
    port,
    port_or_off,
    size_bytes,
    text,
    yes_no,
)
from corekit.config.table import Setting, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of one server. Units stand last in the names."""

    # Where data is
    data_dir: str = setting("corekit-data", "dataDir", text, "directory of log, state and myid", zoo_env="ZOO_DATA_DIR")
    data_log_dir: str = setting(
        "", "dataLogDir", text, "directory of the transaction log (default: data_dir)", zoo_env="ZOO_DATA_LOG_DIR"
    )
    data_dir_autocreate: bool = setting(True, "datadir.autocreate", boolean, "create a data directory that is missing")
    db_autocreate: bool = setting(
        True, "db.autocreate", boolean, "an empty data directory counts as an empty database, not as a lost one"
    )

    # Client port
    client_port: int = setting(2181, "clientPort", port_or_off, "port for clients; 0 picks a free one, -1 opens none")
    client_port_address: str = setting("", "clientPortAddress", address, "address to listen on (default: all)")
    secure_client_port: int = setting(-1, "secureClientPort", port_or_off, "port for clients over TLS; -1 opens none")
    secure_client_port_address: str = setting(
        "", "secureClientPortAddress", address, "address for the TLS port (default: all)"
    )
    client_port_listen_backlog: int = setting(
        -1, "clientPortListenBacklog", integer(1, also=-1), "connections waiting for accept; -1 leaves it to the system"
    )
    client_tcp_keep_alive: bool = setting(False, "clientTcpKeepAlive", boolean, "SO_KEEPALIVE on client connections")
    max_client_cnxns: int = setting(
        limits.MAX_CLIENT_CNXNS,
        "maxClientCnxns",
        integer(0),
        "connections from one address; 0: no limit",
        zoo_env="ZOO_MAX_CLIENT_CNXNS",
    )
    max_cnxns: int = setting(0, "maxCnxns", integer(0), "client connections in all; 0: no limit")
    jute_max_buffer: int = setting(limits.JUTE_MAX_BUFFER, "jute.maxbuffer", integer(1024), "largest request in bytes")
    jute_max_buffer_extra_size: int = setting(
        -1,
        "jute.maxbuffer.extrasize",
        integer(0, also=-1),
        "bytes a stored transaction may exceed jute.maxbuffer by (default: as much again)",
    )
    sessionless_timeout_ms: int = setting(
        limits.SESSIONLESS_TIMEOUT_MS,
        "nio.sessionlessCnxnTimeout",
        millis,
        "a connection without a session is closed after this time",
    )
    four_letter_words: frozenset[str] = setting(
        frozenset(),
        "4lw.commands.whitelist",
        name_set,
        "four-letter words that are answered, * for all; srvr always is, isro too in read-only mode",
        zoo_env="ZOO_4LW_COMMANDS_WHITELIST",
    )

    # Load limits
    global_outstanding_limit: int = setting(
        limits.GLOBAL_OUTSTANDING_LIMIT,
        "globalOutstandingLimit",
        integer(1),
        "writes in flight before connections with work pending are paused",
    )
    large_request_threshold: int = setting(
        -1, "largeRequestThreshold", integer(0, also=-1), "requests of more bytes count as large; -1: off"
    )
    large_request_max_bytes: int = setting(
        100 * 1024 * 1024, "largeRequestMaxBytes", integer(1), "bytes of large requests in flight at once"
    )
    request_throttle_max_requests: int = setting(
        0, "request_throttle_max_requests", integer(0), "requests in flight before new ones wait; 0: off"
    )
    request_throttle_stall_time_ms: int = setting(
        100,
        "request_throttle_stall_time",
        integer(1),
        "longest wait of a throttled request before it is looked at again",
    )
    request_throttle_drop_stale: bool = setting(
        True, "request_throttle_drop_stale", boolean, "drop waiting requests of closed connections"
    )
    request_stale_connection_check: bool = setting(
        True, "request_stale_connection_check", boolean, "a request whose connection is closed is stale"
    )
    request_stale_latency_check: bool = setting(
        False, "request_stale_latency_check", boolean, "a request older than its session's timeout is stale"
    )
    throttled_op_wait_time_ms: int = setting(
        0, "throttled_op_wait_time", millis, "requests that waited longer are answered with ThrottledOp; 0: off"
    )
    connection_throttle_tokens: int = setting(
        0, "connection_throttle_tokens", integer(0), "size of the token bucket for new connections; 0: off"
    )
    connection_throttle_fill_time_ms: int = setting(
        1, "connection_throttle_fill_time", integer(1), "time between two fills of the bucket"
    )
    connection_throttle_fill_count: int = setting(1, "connection_throttle_fill_count", integer(0), "tokens of one fill")
    connection_throttle_freeze_time_ms: int = setting(
        -1,
        "connection_throttle_freeze_time",
        integer(0, also=-1),
        "time between changes of the drop probability; -1: off",
    )
    connection_throttle_drop_increase: float = setting(
        0.02, "connection_throttle_drop_increase", decimal(), "step up of the drop probability"
    )
    connection_throttle_drop_decrease: float = setting(
        0.002, "connection_throttle_drop_decrease", decimal(), "step down of the drop probability"
    )
    connection_throttle_decrease_ratio: float = setting(
        0.0, "connection_throttle_decrease_ratio", decimal(), "share of tokens left above which the probability falls"
    )
    connection_throttle_weight_enabled: bool = setting(
        False, "connection_throttle_weight_enabled", boolean, "kinds of connections take different numbers of tokens"
    )
    connection_throttle_global_session_weight: int = setting(
        3, "connection_throttle_global_session_weight", integer(1), "tokens of a new session"
    )
    connection_throttle_renew_session_weight: int = setting(
        2, "connection_throttle_renew_session_weight", integer(1), "tokens of a session that comes back"
    )
    connection_throttle_local_session_weight: int = setting(
        1, "connection_throttle_local_session_weight", integer(1), "tokens of a local session"
    )

    # Time and sessions
    tick_time_ms: int = setting(
        2000, "tickTime", integer(1), "length of a tick; a zoo.cfg that omits it means 3000", zoo_env="ZOO_TICK_TIME"
    )
    min_session_timeout_ms: int = setting(
        -1, "minSessionTimeout", integer(1, also=-1), "shortest session timeout granted (default: 2 ticks)"
    )
    max_session_timeout_ms: int = setting(
        -1, "maxSessionTimeout", integer(1, also=-1), "longest session timeout granted (default: 20 ticks)"
    )
    local_sessions_enabled: bool = setting(
        False, "localSessionsEnabled", boolean, "new sessions are known to one server only"
    )
    local_sessions_upgrading_enabled: bool = setting(
        False, "localSessionsUpgradingEnabled", boolean, "a local session becomes global with its first ephemeral"
    )
    read_only_mode_enabled: bool = setting(
        False, "readonlymode.enabled", boolean, "serve reads to read-only clients without a quorum"
    )
    close_session_txn_enabled: bool = setting(
        True, "closeSessionTxn.enabled", boolean, "a closeSession transaction lists the ephemerals it removes"
    )

    # Znodes
    extended_types_enabled: bool = setting(False, "extendedTypesEnabled", boolean, "allow TTL znodes")
    emulate_353_ttl_nodes: bool = setting(False, "emulate353TTLNodes", boolean, "TTL owners as 3.5.3 wrote them")
    enforce_quota: bool = setting(False, "enforceQuota", boolean, "hard quotas refuse writes")
    container_check_interval_ms: int = setting(
        60_000, "znode.container.checkIntervalMs", integer(1), "time between looks for empty containers and TTL znodes"
    )
    container_max_per_minute: int = setting(
        10_000, "znode.container.maxPerMinute", integer(1), "containers and TTL znodes removed in a minute at most"
    )
    container_max_never_used_interval_ms: int = setting(
        300_000,
        "znode.container.maxNeverUsedIntervalMs",
        millis,
        "a container that never had a child is removed after this time; 0: never",
    )
    tree_digest_enabled: bool = setting(True, "digest.enabled", boolean, "keep a digest of the tree and compare it")

    # Authentication and ACLs
    skip_acl: bool = setting(False, "skipACL", yes_no, "do not check ACLs")
    enable_eager_acl_check: bool = setting(
        False, "enableEagerACLCheck", boolean, "a follower checks ACLs before it forwards a write"
    )
    digest_auth_enabled: bool = setting(
        True, "DigestAuthenticationProvider.enabled", boolean, "the digest scheme is available"
    )
    digest_auth_alg: str = setting(
        "SHA1",
        "DigestAuthenticationProvider.digestAlg",
        choice("SHA1", "SHA-224", "SHA-256", "SHA-384", "SHA-512", "SHA3-256", "SHA3-512"),
        "hash of the digest scheme",
    )
    super_digest: str = setting(
        "", "DigestAuthenticationProvider.superDigest", text, "user:hash that may do everything", secret=True
    )
    ip_use_x_forwarded_for: bool = setting(
        False,
        "IPAuthenticationProvider.usexforwardedfor",
        boolean,
        "the admin port trusts X-Forwarded-For for the ip scheme",
    )
    ensemble_auth_name: str = setting("", "ensembleAuthName", text, "clients that name another ensemble are sent away")
    enforce_auth_enabled: bool = setting(
        False, "enforce.auth.enabled", boolean, "clients must authenticate before anything else"
    )
    enforce_auth_schemes: tuple[str, ...] = setting(
        (), "enforce.auth.schemes", names, "schemes of which one must be proved if enforce.auth.enabled"
    )
    session_require_client_sasl_auth: bool = setting(
        False, "sessionRequireClientSASLAuth", boolean, "the older way to enforce the scheme sasl"
    )

    # Log and state on disk
    snap_count: int = setting(
        100_000,
        "snapCount",
        at_least(2),
        "log entries after which the state on disk is brought up to date at the latest",
    )
    commit_log_count: int = setting(
        limits.COMMIT_LOG_COUNT,
        "commitLogCount",
        at_least(limits.COMMIT_LOG_COUNT),
        "committed entries kept in memory for followers that lag",
    )
    snapshot_size_factor: float = setting(
        0.33,
        "snapshotSizeFactor",
        decimal(),
        "a log tail above this share of the state is not sent, the state is; <0: off",
    )
    fsync_warning_threshold_ms: int = setting(
        1000, "fsync.warningthresholdms", millis, "an fsync that takes longer is warned of"
    )
    autopurge_snap_retain_count: int = setting(
        3,
        "autopurge.snapRetainCount",
        at_least(3),
        "states of which the log is kept",
        zoo_env="ZOO_AUTOPURGE_SNAPRETAINCOUNT",
    )
    autopurge_interval_ms: int = setting(
        3_600_000,
        "autopurge.purgeInterval",
        hours_ms,
        "time between purges of the log, in hours or with a unit; 0: off",
        parse_own=millis,
        zoo_env="ZOO_AUTOPURGE_PURGEINTERVAL",
    )
    free_space_watermark_bytes: int = setting(
        64 * 1024 * 1024, "freeSpaceWatermark", size_bytes, "with less space free on disk, writes are refused; 0: off"
    )

    # Ensemble
    my_id: int = setting(
        -1,
        "myid",
        integer(0, 255, also=-1),
        "number of this server (default: the file myid in data_dir)",
        zoo_env="ZOO_MY_ID",
    )
    init_limit: int = setting(10, "initLimit", integer(1), "ticks to join and synchronise", zoo_env="ZOO_INIT_LIMIT")
    sync_limit: int = setting(5, "syncLimit", integer(1), "ticks without an answer", zoo_env="ZOO_SYNC_LIMIT")
    connect_to_learner_master_limit: int = setting(
        0, "connectToLearnerMasterLimit", integer(0), "ticks to reach the leader; 0: initLimit"
    )
    peer_type: str = setting(
        "participant", "peerType", choice("participant", "observer"), "role; the server list wins over it"
    )
    leader_serves: bool = setting(True, "leaderServes", yes_no, "the leader serves clients too")
    standalone_enabled: bool = setting(
        True,
        "standaloneEnabled",
        boolean,
        "a list of one server runs alone, without elections",
        zoo_env="ZOO_STANDALONE_ENABLED",
    )
    reconfig_enabled: bool = setting(False, "reconfigEnabled", boolean, "allow changes of the membership")
    dynamic_config_file: str = setting("", "dynamicConfigFile", text, "file with the server, group and weight lines")
    quorum_listen_on_all_ips: bool = setting(
        False, "quorumListenOnAllIPs", boolean, "peers may connect on every address"
    )
    observer_master_port: int = setting(0, "observerMasterPort", port, "port where observers join a follower; 0: off")
    sync_enabled: bool = setting(
        True, "syncEnabled observer.syncEnabled", boolean, "an observer keeps its own log and state"
    )
    force_snapshot_sync: bool = setting(False, "forceSnapshotSync", boolean, "followers always get the whole state")
    leader_max_concurrent_snap_syncs: int = setting(
        10, "leader.maxConcurrentSnapSyncs", integer(1), "whole states sent at once"
    )
    leader_max_concurrent_diff_syncs: int = setting(
        100, "leader.maxConcurrentDiffSyncs", integer(1), "log tails sent at once"
    )
    leader_max_time_to_wait_for_epoch_ms: int = setting(
        -1, "leader.maxTimeToWaitForEpoch", integer(0, also=-1), "a leader without followers gives up after this time"
    )
    leader_connect_delay_during_retry_ms: int = setting(
        100, "leaderConnectDelayDuringRetryMs", millis, "time between attempts to reach the leader"
    )
    observer_reconnect_delay_ms: int = setting(
        0, "observer.reconnectDelayMs", millis, "longest time before an observer connects again"
    )
    observer_election_delay_ms: int = setting(
        200, "observer.election.DelayMs", millis, "time before an observer looks for a leader again"
    )
    election_min_notification_interval_ms: int = setting(
        200, "fastleader.minNotificationInterval", integer(1), "first wait for votes"
    )
    election_max_notification_interval_ms: int = setting(
        60_000, "fastleader.maxNotificationInterval", integer(1), "longest wait for votes"
    )
    election_port_bind_retry: int = setting(
        3, "electionPortBindRetry", integer(0), "attempts to bind the election port; 0: forever"
    )
    cnx_timeout_ms: int = setting(5000, "cnxTimeout", integer(1), "time to open a connection for elections")
    quorum_cnxn_timeout_ms: int = setting(
        -1, "quorumCnxnTimeoutMs", integer(0, also=-1), "read timeout of election connections; -1: sync limit"
    )
    tcp_keep_alive: bool = setting(False, "tcpKeepAlive", boolean, "SO_KEEPALIVE on connections between servers")

    # Admin, metrics, watching ourselves
    admin_enabled: bool = setting(
        True, "admin.enableServer", boolean, "open the admin port", zoo_env="ZOO_ADMINSERVER_ENABLED"
    )
    admin_address: str = setting("127.0.0.1", "admin.serverAddress", address, "address of the admin port")
    admin_port: int = setting(8080, "admin.serverPort", port, "admin port; 0 picks a free one")
    admin_command_url: str = setting("/commands", "admin.commandURL", text, "path of the commands")
    admin_idle_timeout_ms: int = setting(30_000, "admin.idleTimeout", integer(1), "idle admin connections are closed")
    admin_snapshot_enabled: bool = setting(
        True, "admin.snapshot.enabled", boolean, "the admin command snapshot is available"
    )
    admin_restore_enabled: bool = setting(
        True, "admin.restore.enabled", boolean, "the admin command restore is available"
    )
    admin_rate_limiter_interval_ms: int = setting(
        300_000, "admin.rateLimiterIntervalInMS", millis, "time between two snapshots or two restores"
    )
    metrics_provider: str = setting(
        "default",
        "metricsProvider.className",
        metrics_provider,
        "prometheus opens the metrics port (7000 if metricsProvider.httpPort is not given)",
    )
    metrics_http_host: str = setting("0.0.0.0", "metricsProvider.httpHost", address, "address of the metrics port")
    metrics_http_port: int = setting(
        -1, "metricsProvider.httpPort", port_or_off, "port that serves /metrics; 0 picks a free one, -1 opens none"
    )
    metrics_export_process_info: bool = setting(
        True, "metricsProvider.exportJvmInfo", boolean, "metrics of the process beside those of the server"
    )
    audit_enabled: bool = setting(False, "audit.enable", boolean, "log who changed what")
    stall_monitor_enabled: bool = setting(
        False, "jvm.pause.monitor", boolean, "measure how long the event loop was held up"
    )
    stall_warn_threshold_ms: int = setting(
        10_000, "jvm.pause.warn-threshold.ms", integer(1), "a longer stall is warned of"
    )
    stall_info_threshold_ms: int = setting(1000, "jvm.pause.info-threshold.ms", integer(1), "a longer stall is logged")
    stall_check_interval_ms: int = setting(500, "jvm.pause.sleep.time.ms", integer(1), "time between two looks")

    # corekit's own
    plugins: tuple[str, ...] = setting((), "plugins", names, "plugins to use; kinds not named get their default")
    plugins_excluded: tuple[str, ...] = setting((), "plugins.excluded", names, "plugins never to use")
    quorum_members_only: bool = setting(
        False, "quorum.membersOnly", boolean, "only the members' addresses may connect to the ports between servers"
    )
    log_format: str = setting("human", "log.format", choice("human", "json"), "form of the log lines")
    log_level: str = setting(
        "info", "log.level", choice("debug", "info", "warning", "error"), "least important messages that are logged"
    )

    # Made of several keys each: server.N, group.N, weight.N, plugin.NAME.KEY, and `version` of a dynamic file
    servers: tuple[ServerSpec, ...] = ()
    groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    config_version: int = 0
    plugin_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what follows from other settings."""
        words = self.four_letter_words | {"srvr"} | ({"isro"} if self.read_only_mode_enabled else set())
        derived: dict[str, Any] = {"four_letter_words": words}
        if self.session_require_client_sasl_auth:
            derived["enforce_auth_enabled"] = True
            derived["enforce_auth_schemes"] = (*(s for s in self.enforce_auth_schemes if s != "sasl"), "sasl")
        if not self.data_log_dir:
            derived["data_log_dir"] = self.data_dir
        if self.min_session_timeout_ms < 0:
            derived["min_session_timeout_ms"] = 2 * self.tick_time_ms
        if self.max_session_timeout_ms < 0:
            derived["max_session_timeout_ms"] = 20 * self.tick_time_ms
        if self.jute_max_buffer_extra_size < 0:
            derived["jute_max_buffer_extra_size"] = self.jute_max_buffer
        if self.metrics_provider == "prometheus" and self.metrics_http_port < 0:
            derived["metrics_http_port"] = 7000
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def distributed(self) -> bool:
        """Whether this server is a member of an ensemble (ZooKeeper's `QuorumPeerConfig.isDistributed`)."""
        voters = sum(server.voting for server in self.servers)
        return voters > 1 or (voters == 1 and not self.standalone_enabled)

    def four_letter_enabled(self, word: str) -> bool:
        """Whether the whitelist lets this four-letter word through."""
        return word in self.four_letter_words or "*" in self.four_letter_words


SETTINGS: dict[str, Setting] = {
    item.name: item.metadata["setting"](item.name, item.default)
    for item in fields(Settings)
    if "setting" in item.metadata
}
