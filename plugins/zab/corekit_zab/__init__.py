"""ZAB: the consensus protocol of Apache ZooKeeper, as pure state machines."""
