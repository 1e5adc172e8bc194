"""The tests of corekit; see tests/conftest.py for what they share."""
