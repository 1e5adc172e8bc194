"""Runs the conformance suite of corekit."""

from corekit_token.conformance import *  # noqa: F403
