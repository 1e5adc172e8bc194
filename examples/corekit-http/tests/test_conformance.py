"""Runs the conformance suite of corekit."""

from corekit_http.conformance import TestHttp as TestHttp
