"""Runs the conformance suite of corekit."""

from corekit_sqlite.conformance import TestSqlite as TestSqlite
