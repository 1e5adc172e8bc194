"""Shared helpers: real servers in their own processes, and a client that shares no code with the project."""
