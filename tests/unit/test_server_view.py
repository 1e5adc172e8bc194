"""What a running server shows of itself: heart and storage in memory, and a consensus that claims an ensemble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from corekit.api import ConsensusStatus, Peer
from corekit.builtin.memory import MemoryStorage
from corekit.builtin.solo import SoloConsensus
from corekit.codec.four_letter import run_word
from corekit.config import Settings
from corekit.config.members import parse_server
from corekit.replica.options import ReplicaOptions
from corekit.server.admin import AdminRoutes, index_commands
from corekit.server.admin_commands import zookeeper_commands
from corekit.server.admission import Admission
from corekit.server.client_port import FastPort
from corekit.server.http import Request
from corekit.server.kernel import Kernel
from corekit.server.metrics import Registry
from corekit.server.operations import readable_configuration
from corekit.server.server_metrics import ServerMetrics
from corekit.server.view import View

SERVERS = tuple(
    parse_server(sid, f"h{sid}:2888:3888:{role};2181")
    for sid, role in ((1, "participant"), (2, "participant"), (3, "observer"))
)


class Claims(SoloConsensus):
    """Solo, but says whatever the test wants."""

    claimed: ConsensusStatus | None = None

    def status(self) -> ConsensusStatus:
        return self.claimed or super().status()


class Shown:
    """A kernel without sockets, and everything that shows it."""

    def __init__(self, settings: Settings) -> None:
        self.consensus = Claims()
        self.kernel = Kernel(
            *(ReplicaOptions(), MemoryStorage(), self.consensus, {}, ()),
            server_id=1,
            retain_entries=0,
        )
        registry = Registry()
        self.view = View(self.kernel, settings, registry)
        self.port = FastPort(self.kernel.set_time, self.kernel.end_turn, Admission(0, 0, 1000))
        self.metrics = ServerMetrics(registry, self.kernel, self.view, Admission(0, 0, 1000), self.port)
        self.view.monitor_lines = self.metrics.monitor
        self.kernel.start(self.kernel.recover())
        commands = index_commands(zookeeper_commands(self.view), {}, self.kernel)
        self.routes = AdminRoutes(self.view, commands, {}, registry)

    def word(self, word: bytes) -> dict[str, str]:
        lines = run_word(word, b"", self.view).decode().splitlines()
        return dict(line.split("=" if word == b"conf" else "\t", 1) for line in lines if "=" in line or "\t" in line)

    def get(self, path: str) -> dict[str, object]:
        answer = trio.run(self.routes.handle, Request("GET", path, {}, {}, b"", Peer("127.0.0.1")))
        found: dict[str, object] = json.loads(answer.body)
        return found

    def close(self) -> None:
        self.kernel.finish()
        self.port.close()


@pytest.fixture
def alone() -> Iterator[Shown]:
    shown = Shown(Settings(four_letter_words=frozenset({"*"})))
    yield shown
    shown.close()


@pytest.fixture
def member() -> Iterator[Shown]:
    shown = Shown(Settings(four_letter_words=frozenset({"*"}), servers=SERVERS, my_id=1, config_version=0x10))
    yield shown
    shown.close()


def test_a_server_on_its_own(alone: Shown) -> None:
    assert "initLimit" not in alone.word(b"conf")
    assert alone.word(b"mntr")["zk_server_state"] == "standalone"
    assert "zk_learners" not in alone.word(b"mntr")
    assert alone.get("/commands/leader")["error"] == "server is not initialized"
    ready = alone.get("/readyz")
    assert ready["status"] == "ok"


def test_conf_of_a_member(member: Shown) -> None:
    conf = run_word(b"conf", b"", member.view).decode()
    assert conf.endswith(
        "serverId=1\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3888\nquorumPort=2888\npeerType=0\n"
        "membership: \n"
        "server.1=h1:2888:3888:participant;0.0.0.0:2181\n"
        "server.2=h2:2888:3888:participant;0.0.0.0:2181\n"
        "server.3=h3:2888:3888:observer;0.0.0.0:2181\n"
        "version=10"
    )


def test_a_leader_shows_learners_under_old_and_new_names(member: Shown) -> None:
    details: dict[str, int | float | str] = {
        "peer_state": "leading - broadcast",
        "learners": 2,
        "synced_followers": 1,
        "synced_observers": 1,
        "pending_syncs": 0,
        "quorum_size": 2,
    }
    member.consensus.claimed = ConsensusStatus("leader", 3, 1, details)
    lines = member.word(b"mntr")
    assert (lines["zk_learners"], lines["zk_synced_followers"], lines["zk_followers"]) == ("2", "1", "1")
    assert lines["zk_peer_state"] == "leading - broadcast"
    answer = member.get("/commands/zabstate")
    assert (answer["zabstate"], answer["is_leader"], answer["voting"]) == ("broadcast", True, True)
    assert answer["election_address"] == "h1:3888"
    answer = member.get("/commands/voting_view")
    assert answer["current_config"] == {
        str(sid): {
            "server_addresses": [f"h{sid}:2888"],
            "election_addresses": [f"h{sid}:3888"],
            "client_address": "0.0.0.0:2181",
            "learner_type": "participant",
        }
        for sid in (1, 2)
    }


def test_a_follower_knows_its_leader(member: Shown) -> None:
    member.consensus.claimed = ConsensusStatus("follower", 3, 2, {"peer_state": "following - broadcast"})
    answer = member.get("/commands/leader")
    assert (answer["is_leader"], answer["leader_id"], answer["leader_ip"]) == (False, 2, "h2")


def test_without_a_quorum_it_lives_but_is_not_ready(member: Shown) -> None:
    member.consensus.claimed = ConsensusStatus("looking", 3, None, {"peer_state": "looking"})
    member.kernel.suspend("no quorum")
    assert run_word(b"srvr", b"", member.view) == b"This ZooKeeper instance is not currently serving requests\n"
    assert run_word(b"isro", b"", member.view) == b"null"
    assert member.get("/livez")["status"] == member.get("/startupz")["status"] == "ok"
    assert member.get("/readyz")["status"] == "failing"


def test_refused_writes_are_told_and_leave_the_server_ready(alone: Shown) -> None:
    alone.kernel.replica.refuse_writes = "only 5 bytes are free"
    ready = alone.get("/readyz")
    assert ready["status"] == "ok"
    assert ready["details"]["writes_refused"] == "only 5 bytes are free"  # type: ignore[index]
    assert alone.word(b"mntr")["zk_writes_refused"] == "1"


def test_secrets_of_the_configuration_file_are_hidden(tmp_path: Path) -> None:
    file = tmp_path / "zoo.cfg"
    name = "DigestAuthenticationProvider.superDigest"
    file.write_text(f"tickTime=2000\n{name}=super:abc=\nssl.keyStore.password = x\n# a=b\ndataDir=/d\n")
    shown = readable_configuration(str(file))
    assert shown == f"tickTime=2000\n{name}=********\nssl.keyStore.password =********\n# a=b\ndataDir=/d\n"
    assert readable_configuration(None) is None
    assert readable_configuration(str(file) + ".gone") is None
