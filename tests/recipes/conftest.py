"""The fixtures of the client's tests."""

from tests.client.conftest import anyio_backend, expire, proxy, root, server, session, zk

__all__ = ["anyio_backend", "expire", "proxy", "root", "server", "session", "zk"]
