"""Conformance suites, checkers and fixtures for the authors of plugins."""
