"""Stock clients against a running server; `COREKIT_INTEROP_KIND=java` runs the same checks on Apache ZooKeeper."""
