"""Runs the conformance suites of corekit."""

from corekit_unix.conformance import TestScheme as TestScheme
from corekit_unix.conformance import TestTcp as TestTcp
from corekit_unix.conformance import TestUnix as TestUnix
