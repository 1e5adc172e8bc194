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
    (
        r"Learner - Got zxid 0x[0-9a-f]+ expected 0x1$",
        "the first entry that a follower gets; so among Java servers too",
    ),
    (r"Learner - (Exception when following|Unexpected exception, tries=|Failed connect)", "its leader was stopped"),
    (r"Learner - Unexpected exception, retries exceeded", "its leader was stopped before it led"),
    (r"Observer - Exception when observing", "its leader was stopped"),
    (r"QuorumPeer - PeerState set to LOOKING", "its leader was stopped, or it lost its quorum"),
    (r"QuorumCnxManager - (Cannot open channel|Connection broken|Exception when using channel)", "a peer was stopped"),
    (r"QuorumCnxManager - (Interrupt|Send worker leaving)", "the threads of that peer's connection end"),
)

_LINE = re.compile(r"^(\[.*?\] )?(WARN|ERROR) ")


def complaints(log: str) -> list[str]:
    """Lines at WARN or ERROR that are not explained."""
    found = []
    for line in log.splitlines():
        if _LINE.match(line) and not any(re.search(pattern, line) for pattern, _ in KNOWN):
            found.append(line)
    return found
