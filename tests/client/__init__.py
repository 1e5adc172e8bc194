"""Tests of the client library: sans-IO parts alone, everything else against real servers."""
