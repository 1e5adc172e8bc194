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
    (r"Unexpected exception in LearnerHandler: \njava.io.EOFException|\\*+ GOODBYE ", "its follower was stopped"),
    (r"Unexpected exception in LearnerHandler: \njava.net.SocketException: (Connection reset|Broken pipe)", "as well"),
    (r"Unable to find proposals from txnlog for zxid: 0xf{16}", "a wiped corekit server says -1, and gets a snapshot"),
    (r"LearnerHandler - Unhandled scenario for peer sid: 3", "it may not use its log, and sends a snapshot"),
    (r"Cannot send TRUNC to peer sid: 3 peer zxid is from different epoch", "it sends a snapshot instead"),
    (r"Ignoring exception reading or writing challenge", "the tests' network reset the connection"),
    (r"Learner - Truncating log to get in sync", "told to by its leader"),
    (r"Learner - Unexpected exception, retries exceeded", "its leader was stopped before it led"),
    (r"Observer - Exception when observing", "its leader was stopped"),
    (r"QuorumPeer - PeerState set to LOOKING", "its leader was stopped, or it lost its quorum"),
    (r"QuorumCnxManager - (Cannot open channel|Connection broken|Exception when using channel)", "a peer was stopped"),
    (r"QuorumCnxManager - (Interrupt|Send worker leaving)", "the threads of that peer's connection end"),
)

_LINE = re.compile(r"^(\[.*?\] )?(WARN|ERROR) ")


def complaints(log: str) -> list[str]:
    """Lines at WARN or ERROR that are not explained, each with the first line of its trace."""
    found = []
    lines = log.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if _LINE.match(line):
            entry = line if after.startswith(("[", "\tat ")) else f"{line}\n{after}"
            if not any(re.search(pattern, entry, re.MULTILINE) for pattern, _ in KNOWN):
                found.append(entry)
    return found
