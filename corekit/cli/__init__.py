"""The command `corekit`."""
