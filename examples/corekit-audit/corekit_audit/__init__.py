"""An audit log for corekit: JSON lines of who changed what.

Settings
    plugin.audit.file = PATH        default: audit.log in the data directory
    plugin.audit.size-mb = 100      a file that would grow above this is put aside
    plugin.audit.keep = 10          files put aside: PATH.1 is the youngest
    plugin.audit.queue-mb = 64      what may wait for the disk; above that lines are dropped and counted
    plugin.audit.redact = FIELDS    of identities, address and path: written as "redacted"
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from corekit.api import Gateway, Observer
from corekit.errors import ConfigError
from corekit.hooks import AdminCommand, Context, Service, hookimpl
from corekit_audit.file import RotatingFile
from corekit_audit.lines import REDACTABLE
from corekit_audit.observer import AuditObserver
from corekit_audit.writer import Writer

kind = "observer"
api_version = 1
suite = "corekit_audit.conformance"

_NUMBERS = {"size-mb": (100, 1, 100_000), "keep": (10, 0, 1000), "queue-mb": (64, 1, 4096)}
_OPTIONS = ("file", "redact", *_NUMBERS)
_MB = 1024 * 1024

_writers: list[Writer] = []


def _numbers(options: Mapping[str, str]) -> dict[str, int]:
    found = {}
    for name, (default, least, most) in _NUMBERS.items():
        text = options.get(name, str(default))
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ConfigError(f"plugin.audit.{name}={text} is not accepted; accepted is {least} to {most}")
        found[name] = int(text)
    return found


@hookimpl
def register_observers(context: Context) -> Sequence[Observer]:
    """One observer a server; it only queues."""
    options = context.options
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"plugin.audit.{name} is not known; there are {', '.join(_OPTIONS)}")
    redact = frozenset(filter(None, (field.strip() for field in options.get("redact", "").split(","))))
    if unknown := redact - REDACTABLE:
        accepted = ", ".join(sorted(REDACTABLE))
        raise ConfigError(f"plugin.audit.redact: {', '.join(sorted(unknown))} is not accepted; accepted are {accepted}")
    numbers = _numbers(options)
    observer = AuditObserver(context.clock.wall_ms, numbers["queue-mb"] * _MB)
    path = options.get("file") or os.path.join(context.data_dir, "audit.log")
    file = RotatingFile(path, numbers["size-mb"] * _MB, numbers["keep"])
    _writers.append(Writer(observer, file, redact, context.logger))
    return [observer]


@hookimpl
def register_services(context: Context) -> Sequence[Service]:
    """What writes the lines; called after `register_observers`."""
    return [Service("audit", _writers[-1].run)]


@hookimpl
def register_admin_commands(context: Context) -> Sequence[AdminCommand]:
    """`/commands/audit`: whether the log is complete."""
    writer = _writers[-1]

    def run(gateway: Gateway, query: Mapping[str, str]) -> Mapping[str, Any]:
        return writer.status()

    return [AdminCommand(("audit",), "Lines written, waiting and dropped by the audit log.", run)]
