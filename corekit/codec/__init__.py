"""Bytes of the ZooKeeper protocol and of its transaction log, to and from records. Pure: no I/O, no state."""
