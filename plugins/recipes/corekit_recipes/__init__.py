"""Locks, elections, queues and the other recipes."""
