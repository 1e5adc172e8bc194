"""Runs the conformance suite of corekit."""

from corekit_audit.conformance import *  # noqa: F403
