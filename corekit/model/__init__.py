"""What ZooKeeper is: paths, ACLs, znodes, sessions, watches. Pure state: no bytes of a connection, no time, no I/O."""
