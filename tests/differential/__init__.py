"""Random operations against two servers in step: every reply, Stat and watch event must be the same."""
