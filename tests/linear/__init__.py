"""The linearizability checker: against brute force, on histories that are known to be bad, and at work on servers."""
