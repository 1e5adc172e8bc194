"""Tests that read the code: who may import whom, and its form."""
