"""Bytes that no well-behaved client sends, and what must hold all the same."""
