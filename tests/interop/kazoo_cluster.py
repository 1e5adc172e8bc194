"""A pytest plugin that runs the tests inside the kazoo package against servers of ours.

kazoo's harness builds its own cluster of Apache ZooKeeper; here its cluster is one server of `tests.support.servers`,
or as many as `COREKIT_INTEROP_SERVERS` says.
The modules it imports only to make certificates and to count objects are replaced, so that nothing else is needed.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from unittest import mock

from tests.support.servers import Ensemble, Server

for name in ("OpenSSL", "OpenSSL.crypto", "jks"):
    sys.modules.setdefault(name, mock.MagicMock())
if "objgraph" not in sys.modules:
    counter = mock.MagicMock()
    counter.count = lambda kind: sum(type(thing).__name__ == kind for thing in gc.get_objects())
    sys.modules["objgraph"] = counter
os.environ["ZOOKEEPER_VERSION"] = "3.8.0"

import kazoo.testing.harness  # noqa: E402 - it needs the modules above

# The password that kazoo's tests use for the super user is `test`.
SETTINGS = {"DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU="}


class Member:
    """What kazoo's harness asks of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def address(self) -> str:
        return self.server.hosts

    @property
    def running(self) -> bool:
        return self.server.is_running()

    def run(self) -> None:
        self.server.spawn()
        self.server.wait_ready()

    def stop(self) -> None:
        if self.server.is_running():
            self.server.terminate()


class Cluster:
    """What kazoo's harness asks of a cluster."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        kind = os.environ.get("COREKIT_INTEROP_KIND", "corekit")
        size = int(os.environ.get("COREKIT_INTEROP_SERVERS", "1"))
        servers = [Server(kind, self.folder.name, SETTINGS)]
        if size > 1:
            servers = Ensemble([kind] * size, self.folder.name, SETTINGS).members
        self.members = [Member(server) for server in servers]

    def __getitem__(self, number: int) -> Member:
        return self.members[number]

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def start(self) -> None:
        for member in self.members:
            if not member.running:
                member.server.spawn()
        for member in self.members:
            member.server.wait_ready()

    def terminate(self) -> None:
        for member in self.members:
            member.server.kill()

    def get_logs(self) -> list[str]:
        return [member.server.log() for member in self.members]


cluster = Cluster()
atexit.register(cluster.folder.cleanup)
atexit.register(cluster.terminate)
kazoo.testing.harness.get_global_cluster = lambda: cluster
