"""Every configuration key of Apache ZooKeeper 3.9, by where it is read, written down from its administrator's guide.

A list of its own, not derived from `corekit.config`: it is what that is checked against.
"""


def _words(text: str) -> list[str]:
    return text.split()


# Keys that QuorumPeerConfig itself parses.
PARSED = _words("""
dataDir dataLogDir clientPort clientPortAddress secureClientPort secureClientPortAddress observerMasterPort tickTime
initLimit syncLimit connectToLearnerMasterLimit minSessionTimeout maxSessionTimeout maxClientCnxns
clientPortListenBacklog localSessionsEnabled localSessionsUpgradingEnabled electionAlg quorumListenOnAllIPs peerType
syncEnabled dynamicConfigFile server.1 group.1 weight.1 autopurge.snapRetainCount autopurge.purgeInterval
standaloneEnabled reconfigEnabled sslQuorum portUnification sslQuorumReloadCertFiles quorum.auth.enableSasl
quorum.auth.serverRequireSasl quorum.auth.learnerRequireSasl quorum.auth.learner.saslLoginContext
quorum.auth.server.saslLoginContext quorum.auth.kerberos.servicePrincipal quorum.cnxn.threads.size jvm.pause.monitor
jvm.pause.warn-threshold.ms jvm.pause.info-threshold.ms jvm.pause.sleep.time.ms metricsProvider.className
metricsProvider.httpHost metricsProvider.httpPort metricsProvider.httpsPort metricsProvider.exportJvmInfo
metricsProvider.prometheusMetricsSummaryRotateIntervalSeconds metricsProvider.workerShutdownTimeoutMs
metricsProvider.numWorkerThreads metricsProvider.maxQueueSize metricsProvider.ssl.keyStore.location
multiAddress.enabled multiAddress.reachabilityCheckTimeoutMs multiAddress.reachabilityCheckEnabled oraclePath
""")

# Keys that become the system property zookeeper.<key>.
PASSED_THROUGH = _words("""
preAllocSize snapCount snapSizeLimitInKb txnLogSizeLimitInKb commitLogCount snapshotSizeFactor forceSync
fsync.warningthresholdms flushDelay maxWriteQueuePollTime maxBatchSize snapshot.compression.method
snapshot.trust.empty db.autocreate datadir.autocreate digest.enabled serializeLastProcessedZxid.enabled
closeSessionTxn.enabled forceSnapshotSync leaderServes leader.maxConcurrentSnapSyncs leader.maxConcurrentDiffSyncs
leader.maxTimeToWaitForEpoch leader.ackLoggingFrequency leaderConnectDelayDuringRetryMs learner.asyncSending
learner.closeSocketAsync leader.closeSocketAsync forward_learner_requests_to_commit_processor_disabled
follower.skipLearnerRequestToNextProcessor observer.reconnectDelayMs observer.election.DelayMs observer.syncEnabled
observerMaster.sizeLimit fastleader.minNotificationInterval fastleader.maxNotificationInterval cnxTimeout
quorumCnxnTimeoutMs electionPortBindRetry tcpKeepAlive clientTcpKeepAlive 4lw.commands.whitelist serverCnxnFactory
nio.numSelectorThreads nio.numWorkerThreads nio.sessionlessCnxnTimeout nio.directBufferBytes nio.shutdownTimeout
netty.advancedFlowControl.enabled commitProcessor.numWorkerThreads commitProcessor.maxReadBatchSize
commitProcessor.maxCommitBatchSize commitProcessor.shutdownTimeout request_throttler.shutdownTimeout maxCnxns
intBufferStartingSizeBytes watchManagerName watcherCleanThreadsNum watcherCleanThreshold watcherCleanIntervalInSeconds
maxInProcessingDeadWatchers bitHashCacheSize extendedTypesEnabled emulate353TTLNodes enforceQuota enableEagerACLCheck
skipACL superUser superUser.x DigestAuthenticationProvider.enabled DigestAuthenticationProvider.superDigest
DigestAuthenticationProvider.digestAlg SASLAuthenticationProvider.superPassword X509AuthenticationProvider.superUser
IPAuthenticationProvider.usexforwardedfor authProvider.1 authProvider.sasl ensembleAuthName enforce.auth.enabled
enforce.auth.schemes sessionRequireClientSASLAuth allowSaslFailedClients sasl.serverconfig security.auth_to_local
kerberos.removeHostFromPrincipal kerberos.removeRealmFromPrincipal kerberos.canonicalizeHostNames
kerberos.minReLoginTimeMs kerberos.kinit fips-mode client.portUnification client.certReload
netty.server.outstandingHandshake.limit netty.server.earlyDropSecureConnectionHandshakes admin.enableServer
admin.serverAddress admin.serverPort admin.commandURL admin.idleTimeout admin.httpVersion admin.portUnification
admin.forceHttps admin.needClientAuth admin.snapshot.enabled admin.restore.enabled admin.rateLimiterIntervalInMS
audit.enable audit.impl.class messageTracker.Enabled messageTracker.BufferSize pathStats.enabled
pathStats.slotCapacity pathStats.slotDuration pathStats.maxDepth pathStats.sampleRate pathStats.initialDelay
pathStats.delay pathStats.topPathMax jute.maxbuffer.extrasize request_throttle_max_requests
request_throttle_stall_time request_throttle_drop_stale request_stale_connection_check request_stale_latency_check
throttled_op_wait_time connection_throttle_tokens connection_throttle_fill_time connection_throttle_fill_count
connection_throttle_freeze_time connection_throttle_drop_increase connection_throttle_drop_decrease
connection_throttle_decrease_ratio connection_throttle_weight_enabled connection_throttle_global_session_weight
connection_throttle_renew_session_weight connection_throttle_local_session_weight largeRequestThreshold
largeRequestMaxBytes maxResponseCacheSize maxGetChildrenResponseCacheSize ssl.keyStore.location ssl.keyStore.password
ssl.keyStore.passwordPath ssl.keyStore.type ssl.trustStore.location ssl.trustStore.password
ssl.trustStore.passwordPath ssl.trustStore.type ssl.protocol ssl.enabledProtocols ssl.ciphersuites
ssl.context.supplier.class ssl.authProvider ssl.hostnameVerification ssl.clientHostnameVerification
ssl.allowReverseDnsLookup ssl.crl ssl.ocsp ssl.clientAuth ssl.handshakeDetectionTimeoutMillis ssl.sslProvider
ssl.quorum.keyStore.location ssl.quorum.trustStore.location ssl.quorum.hostnameVerification
""")

# Properties that Java takes on its command line only.
PLAIN_PROPERTIES = _words("""
jute.maxbuffer readonlymode.enabled znode.container.checkIntervalMs znode.container.maxPerMinute
znode.container.maxNeverUsedIntervalMs leader.nodelay follower.nodelay log.dir log.file log.threshold root.logger
console.threshold java.security.auth.login.config
""")

ALL = [*PARSED, *PASSED_THROUGH, *PLAIN_PROPERTIES]

# Variables of the official container image that stand for keys.
IMAGE_VARIABLES = _words("""
ZOO_MY_ID ZOO_TICK_TIME ZOO_INIT_LIMIT ZOO_SYNC_LIMIT ZOO_AUTOPURGE_PURGEINTERVAL ZOO_AUTOPURGE_SNAPRETAINCOUNT
ZOO_MAX_CLIENT_CNXNS ZOO_STANDALONE_ENABLED ZOO_ADMINSERVER_ENABLED ZOO_4LW_COMMANDS_WHITELIST ZOO_DATA_DIR
ZOO_DATA_LOG_DIR
""")
