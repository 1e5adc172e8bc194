"""Quotas as an operator meets them: what is refused, what is only told, and where."""

from __future__ import annotations

import pytest

from corekit.testing.process import ServerProcess
from tests.support.rawzk import RawClient


@pytest.mark.parametrize(
    ("limits", "enforced", "codes", "told", "refused"),
    [
        (b"count=3,bytes=-1", True, [0, 0, 0], 'by="count 4, soft limit 3"', None),
        (b"count=-1,bytes=3", True, [0, 0, 0], 'by="bytes 6, soft limit 3"', None),
        (b"count=1,bytes=-1=;byteHardLimit=-1;countHardLimit=3", False, [0, 0, 0], 'by="count 4, hard limit 3"', None),
        (b"count=1,bytes=-1=;byteHardLimit=-1;countHardLimit=3", True, [0, 0, -125], 'by="count 4, hard limit 3"', 1),
    ],
)
def test_who_goes_beyond_a_quota_is_told_of(
    limits: bytes, enforced: bool, codes: list[int], told: str, refused: int | None
) -> None:
    settings = ("-s", f"enforceQuota={str(enforced).lower()}", "-s", "4lw.commands.whitelist=mntr")
    with ServerProcess("-p", "memory", *settings) as server:
        with RawClient("127.0.0.1", server.port) as client:
            client.handshake()
            client.create("/q")
            client.create("/zookeeper/quota/q")
            client.create("/zookeeper/quota/q/zookeeper_limits", limits)
            client.create("/zookeeper/quota/q/zookeeper_stats")
            assert [client.create(f"/q/{n}", b"xx").err for n in range(3)] == codes
        line = server.wait_for("quota exceeded")
        assert "path=/q" in line
        assert told in line
        with RawClient("127.0.0.1", server.port) as plain:
            plain.send_bytes(b"mntr")
            shown = plain.sock.makefile().read()
        counted = [line for line in shown.splitlines() if "quota_exceeded_error" in line]
        assert counted == ([] if refused is None else [f"zk_q_quota_exceeded_error_per_namespace\t{refused}"])
        assert server.stop() == 0
