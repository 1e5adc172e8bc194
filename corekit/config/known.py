"""Keys of ZooKeeper that corekit knows and does not act on, each with the reason that the user is told.

An entry that ends in a dot or a star covers every key that begins so. Values are never looked at: a file written for
Java loads, and what it asks for in vain is said once. Not here: keys that are acted on (`settings.py`).
"""

from __future__ import annotations

_JVM = "it tunes threads and buffers of the Java server; there is one event loop here"
_FILES = "it tunes ZooKeeper's log and snapshot files; the storage plugin has its own format"
_COMMIT = "group commit forms its batches by itself"
_TLS = "TLS is not part of this version: connections are NOT encrypted"
_SASL = "SASL is not part of this version: nothing is authenticated by it"
_ASYNC = "nothing in this server waits for a slow peer"
_NODELAY = "TCP_NODELAY is always on"
_WATCH = "watches need no cleaner here"
_LOGS = "it is for log4j and logback; logs go to stderr, their level and form are log.level and log.format"

NOT_HONOURED: dict[str, str] = {
    "electionAlg": "there is one algorithm, ZooKeeper's number 3",
    # log and snapshot files
    "preAllocSize": _FILES,
    "snapSizeLimitInKb": _FILES,
    "txnLogSizeLimitInKb": _FILES,
    "snapshot.compression.method": _FILES,
    "snapshot.trust.empty": _FILES,
    "serializeLastProcessedZxid.enabled": _FILES,
    "forceSync": "an acknowledged write is always on disk; that cannot be turned off",
    "flushDelay": _COMMIT,
    "maxWriteQueuePollTime": _COMMIT,
    "maxBatchSize": _COMMIT,
    # threads and buffers
    "serverCnxnFactory": "transports are plugins: name one in plugins",
    "nio.": _JVM,
    "netty.": _JVM,
    "commitProcessor.": _JVM,
    "request_throttler.shutdownTimeout": _JVM,
    "intBufferStartingSizeBytes": _JVM,
    "quorum.cnxn.threads.size": _JVM,
    "maxResponseCacheSize": "replies are encoded fast enough without a cache",
    "maxGetChildrenResponseCacheSize": "replies are encoded fast enough without a cache",
    "watchManagerName": _WATCH,
    "watcherCleanThreadsNum": _WATCH,
    "watcherCleanThreshold": _WATCH,
    "watcherCleanIntervalInSeconds": _WATCH,
    "maxInProcessingDeadWatchers": _WATCH,
    "bitHashCacheSize": _WATCH,
    # between servers
    "leader.ackLoggingFrequency": _JVM,
    "learner.asyncSending": _ASYNC,
    "learner.closeSocketAsync": _ASYNC,
    "leader.closeSocketAsync": _ASYNC,
    "leader.nodelay": _NODELAY,
    "follower.nodelay": _NODELAY,
    "forward_learner_requests_to_commit_processor_disabled": _JVM,
    "follower.skipLearnerRequestToNextProcessor": _JVM,
    "observerMaster.sizeLimit": "observers join the leader in this version",
    "multiAddress.": "a further address of a server is tried when the first does not answer; nothing else is tuned",
    "oraclePath": "two servers with an oracle are not supported; use three servers",
    # authentication
    "authProvider.": "Java classes cannot be loaded; an installed corekit plugin of kind auth is named in plugins",
    "superUser": _SASL,
    "superUser.": _SASL,
    "SASLAuthenticationProvider.": _SASL,
    "X509AuthenticationProvider.": _TLS,
    "allowSaslFailedClients": _SASL,
    "sasl.": _SASL,
    "quorum.auth.": _SASL,
    "security.auth_to_local": _SASL,
    "kerberos.": _SASL,
    "java.security.auth.login.config": _SASL,
    # TLS
    "sslQuorum": _TLS,
    "sslQuorumReloadCertFiles": _TLS,
    "portUnification": _TLS,
    "client.portUnification": _TLS,
    "client.certReload": _TLS,
    "ssl.": _TLS,
    "fips-mode": _TLS,
    # admin, metrics, audit
    "admin.httpVersion": "the admin port speaks HTTP/1.1",
    "admin.portUnification": _TLS,
    "admin.forceHttps": _TLS,
    "admin.needClientAuth": _TLS,
    "metricsProvider.": "the metrics port has a host and a port, nothing else to tune",
    "audit.impl.class": "Java classes cannot be loaded; an observer plugin can keep an audit log",
    "messageTracker.": "messages between servers are not recorded",
    "pathStats.": "there are no statistics by path",
    "log.dir": _LOGS,
    "log.file": _LOGS,
    "log.threshold": _LOGS,
    "root.logger": _LOGS,
    "console.threshold": _LOGS,
    "jvm.": _JVM,
}

# Settings that are read and checked but not acted on yet, by field name: whoever sets one is told.
_TLS_YET = "TLS listeners are not part of this version"
_REST_YET = "this version does not act on it"
_THROTTLE_YET = "requests are bounded by globalOutstandingLimit only, connections by maxClientCnxns and maxCnxns"
_ENSEMBLE_YET = "ensembles do not use it in this version"

PENDING: dict[str, str] = {
    "data_dir_autocreate": "a data directory that is missing is always created",
    "db_autocreate": _ENSEMBLE_YET,
    "secure_client_port": _TLS_YET,
    "secure_client_port_address": _TLS_YET,
    "client_tcp_keep_alive": _REST_YET,
    "jute_max_buffer_extra_size": "transactions have no limit of their own",
    "large_request_threshold": _THROTTLE_YET,
    "large_request_max_bytes": _THROTTLE_YET,
    "request_throttle_max_requests": _THROTTLE_YET,
    "request_throttle_stall_time_ms": _THROTTLE_YET,
    "request_throttle_drop_stale": _THROTTLE_YET,
    "request_stale_connection_check": _THROTTLE_YET,
    "request_stale_latency_check": _THROTTLE_YET,
    "throttled_op_wait_time_ms": _THROTTLE_YET,
    "connection_throttle_tokens": _THROTTLE_YET,
    "connection_throttle_fill_time_ms": _THROTTLE_YET,
    "connection_throttle_fill_count": _THROTTLE_YET,
    "connection_throttle_freeze_time_ms": _THROTTLE_YET,
    "connection_throttle_drop_increase": _THROTTLE_YET,
    "connection_throttle_drop_decrease": _THROTTLE_YET,
    "connection_throttle_decrease_ratio": _THROTTLE_YET,
    "connection_throttle_weight_enabled": _THROTTLE_YET,
    "connection_throttle_global_session_weight": _THROTTLE_YET,
    "connection_throttle_renew_session_weight": _THROTTLE_YET,
    "connection_throttle_local_session_weight": _THROTTLE_YET,
    "enable_eager_acl_check": _ENSEMBLE_YET,
    "ip_use_x_forwarded_for": _REST_YET,
    "ensemble_auth_name": "the ensemble scheme is not part of this version",
    "commit_log_count": _ENSEMBLE_YET,
    "snapshot_size_factor": _ENSEMBLE_YET,
    "connect_to_learner_master_limit": _ENSEMBLE_YET,
    "reconfig_enabled": "membership changes are not part of this version; reconfig answers as with reconfig disabled",
    "observer_master_port": "observers join the leader in this version",
    "sync_enabled": _ENSEMBLE_YET,
    "force_snapshot_sync": _ENSEMBLE_YET,
    "leader_max_concurrent_snap_syncs": _ENSEMBLE_YET,
    "leader_max_concurrent_diff_syncs": _ENSEMBLE_YET,
    "leader_max_time_to_wait_for_epoch_ms": _ENSEMBLE_YET,
    "leader_connect_delay_during_retry_ms": _ENSEMBLE_YET,
    "observer_reconnect_delay_ms": _ENSEMBLE_YET,
    "observer_election_delay_ms": _ENSEMBLE_YET,
    "election_min_notification_interval_ms": _ENSEMBLE_YET,
    "election_max_notification_interval_ms": _ENSEMBLE_YET,
    "election_port_bind_retry": _ENSEMBLE_YET,
    "quorum_cnxn_timeout_ms": _ENSEMBLE_YET,
    "admin_snapshot_enabled": "snapshot and restore over the admin port are not part of this version",
    "admin_restore_enabled": "snapshot and restore over the admin port are not part of this version",
    "admin_rate_limiter_interval_ms": "snapshot and restore over the admin port are not part of this version",
    "audit_enabled": "use an observer plugin that keeps an audit log",
    "stall_monitor_enabled": "stalls of the event loop are always measured",
}

# Variables of the official container image that have no key.
ZOO_VARIABLES_WITHOUT_KEY = frozenset({"ZOO_CONF_DIR", "ZOO_LOG_DIR", "ZOO_LOG4J_PROP", "ZOO_CFG_EXTRA", "ZOO_SERVERS"})

# Variables that begin with COREKIT_ and are no settings of the server.
OTHER_VARIABLES = frozenset({"COREKIT_CONFIG", "COREKIT_LOAD_PLUGINS", "COREKIT_TRACE_PLUGINS", "COREKIT_SERVERS"})


def reason_not_honoured(key: str) -> str | None:
    """Why corekit does not act on a key of ZooKeeper, or None if it is not such a key."""
    if key in NOT_HONOURED:
        return NOT_HONOURED[key]
    for known, reason in NOT_HONOURED.items():
        if known.endswith(".") and key.startswith(known):
            return reason
    return None
