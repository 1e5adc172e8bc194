"""Locks, elections, queues and the other recipes."""

from __future__ import annotations

from corekit.limits import API_VERSION

kind = "recipe"
api_version = API_VERSION
