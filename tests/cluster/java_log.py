"""What Apache ZooKeeper writes into its log, judged: everything at WARN or above must be known and explained here.

A line that nobody has explained fails a test. A digest mismatch always does.
"""

from __future__ import annotations

import re

# Pattern of a line -> why it is no complaint about a corekit member. Only lines with a level are looked at, not the
# traces of exceptions below them.
KNOWN: tuple[tuple[str, str], ...] = (
    (r"maxCnxns is not configured|No server failure will be tolerated", "said at every start"),
    (r"Close of session 0x0$", "a client came while there was no leader: ZooKeeperServer not running"),
    (r"NIOServerCnxn - (Close of session|Unexpected exception$)", "a client's connection ended, as tests end them"),
    (r"NIOServerCnxn - Error sending data synchronously \njava.nio.channels.\w+Exception", "one that asked `srvr`"),
    (
        r"NIOServerCnxnFactory - Ignoring unexpected runtime exception\njava.nio.channels.CancelledKeyException",
        "a client's connection ended while it was looked at",
    ),
    (
        r"Learner - Got zxid 0x[0-9a-f]+ expected 0x1$",
        "the first entry that a follower gets; so among Java servers too",
    ),
    (r"Learner - Exception when following the leader(?!\njava.lang.NullPointer)", "its leader was stopped"),
    (r"Learner - (Unexpected exception, tries=|Failed connect)", "its leader was stopped"),
    (r"Unexpected exception in LearnerHandler: \njava.io.EOFException|\\*+ GOODBYE ", "its follower was stopped"),
    (
        r"(Unexpected exception|Exception while sending packets) in LearnerHandler:? ?\n"
        r"java.net.SocketException: (Connection reset|Broken pipe|Socket closed)",
        "as well",
    ),
    (r"Unable to find proposals from txnlog for zxid: 0xf{16}", "a wiped corekit server says -1, and gets a snapshot"),
    (r"LearnerHandler - Unhandled scenario for peer sid: \d", "it may not use its log, and sends a snapshot"),
    (r"Cannot send TRUNC to peer sid: \d peer zxid is from different epoch", "it sends a snapshot instead"),
    (r"Ignoring exception reading or writing challenge", "the tests' network reset the connection"),
    (r"SendAckRequestProcessor - Closing connection to leader, exception during packet send", "its leader was stopped"),
    (
        r"Severe unrecoverable error, from thread : SyncThread.*\njava.lang.NullPointerException.*learner.sock",
        "its leader was stopped while it acknowledged (ZOOKEEPER-4409)",
    ),
    (r"Unable to find proposals from txnlog for zxid: 0x0$", "a Java server without data gets a snapshot"),
    (r"Learner - Truncating log to get in sync", "told to by its leader"),
    (r"Learner - Unexpected exception, retries exceeded", "its leader was stopped before it led"),
    (r"Leader - Exception while shutting down acceptor", "it stopped leading"),
    (
        r"QuorumPeer - Unexpected exception\njava.lang.InterruptedException: Timeout while waiting for epoch from",
        "it decided to lead while its voters turned to a later candidate (as in ZOOKEEPER-3109), and looked again",
    ),
    (r"LearnerHandler - Ignoring unexpected exception\njava.lang.InterruptedException", "it stopped leading"),
    (r"Observer - Exception when observing", "its leader was stopped"),
    (r"QuorumPeer - PeerState set to LOOKING", "its leader was stopped, or it lost its quorum"),
    (r"QuorumCnxManager - (Cannot open channel|Connection broken|Exception when using channel)", "a peer was stopped"),
    (
        r"QuorumCnxManager - (Interrupt|Send worker leaving|Failed to send last message)",
        "the threads of that peer's connection end",
    ),
)

# Java servers of 3.8.0 do this to each other: a follower that joins under load gets proposals before NEWLEADER and
# fails (ZOOKEEPER-4394), its log thread goes on and logs what comes again (4541), and its MBeans are left over.
JOINED_UNDER_LOAD = r"Exception when following the leader\njava.lang.NullPointerException.*\"pif\" is null"
AMONG_JAVA: tuple[tuple[str, str], ...] = (
    (JOINED_UNDER_LOAD, "ZOOKEEPER-4394"),
    (r"FileTxnLog - Current zxid (\d+) is <= \1 for \w+", "ZOOKEEPER-4541"),
    (r"Failed to register (MBean|with JMX)", "it follows again"),
)
AFTER_THAT = (r"FileTxnLog - Current zxid \d+ is <= \d+ for \w+", "several that come again (4541)")

_LINE = re.compile(r"^(\[.*?\] )?(WARN|ERROR) ")


def complaints(log: str, java_leads: bool = False) -> list[str]:
    """Lines at WARN or ERROR that are not explained, each with the first line of its trace.

    Args:
        java_leads: it may have followed a Java server under load, see `AMONG_JAVA`.
    """
    found = []
    known = (*KNOWN, *AMONG_JAVA) if java_leads else KNOWN
    if java_leads and re.search(JOINED_UNDER_LOAD, log):
        known += (AFTER_THAT,)
    lines = log.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if _LINE.match(line):
            entry = line if after.startswith(("[", "\tat ")) else f"{line}\n{after}"
            if not any(re.search(pattern, entry, re.MULTILINE) for pattern, _ in known):
                found.append(entry)
    return found
