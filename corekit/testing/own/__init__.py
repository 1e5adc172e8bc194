"""The conformance tests of those of corekit's own plugins that must be told how; `corekit plugin test` runs them."""
