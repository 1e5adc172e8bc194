"""Transaction log and state on RocksDB."""
