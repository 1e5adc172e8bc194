"""A coordination server that speaks the ZooKeeper protocol and whose every part can be swapped."""

__version__ = "0.1.0"
