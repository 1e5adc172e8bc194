"""Runs golden transcripts: commands for a small simulated ensemble, and what its servers say to each other then.

A file consists of blocks: lines of commands, a line `----`, the lines that they lead to, an empty line. Network and
disks take fixed times, nothing is random. `COREKIT_REWRITE=1 pytest tests/scripts` writes what happens into the files:
the change is reviewed as a diff.

    servers 3 [observers=1] [tick=1000] [trust=no] [rollover=5] [snap=3]      first of all
    boot|kill|power|pause|resume|wipe 1 2 ...    damage 2 lose=3     what happens to servers
    purge 1 2 [keep=1]                                               they write their state and shorten their logs
    cut 1 2      heal [1 2]     isolate 3                            directions of the network (a cut is one way)
    hang 2       go 2                                                its disk finishes no sync
    die 2 at=save_epochs [nth=2]                                     the process dies at that call
    tear 1 2 bytes=40                                                of the next bytes from 1 to 2 so many arrive
    write 1 key=value ...     read 1 key     sync 1                  clients
    stranger 1 election|quorum hex ...                               somebody dials a server and sends bytes
    run 200                                                          milliseconds
    until serving|leader [1 2]|looking [1]                           at most a minute
    after 3>1 LEADERINFO                                             until this is said (it must be shown)
    show|hide election|quorum|disk|log                               what is written down
    state                                                            of every server
    lag 1 2                                                          as they tell it themselves
    equal                                                            all servers serve and have applied the same
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corekit_zab.simulated import make as zab

from corekit.codec import quorum as wire
from corekit.codec.quorum import STATE_NAMES, ElectionReader, PacketReader, parse_notification
from corekit.testing.sim.campaign import Cluster, Setup
from corekit.testing.sim.net import Profile
from corekit.testing.sim.node import Node
from corekit.testing.sim.world import MS, SECOND, Violation, World

Block = tuple[list[str], list[str]]


def parse(text: str) -> list[Block]:
    """The blocks of a file: commands and expected lines."""
    blocks = []
    for part in text.split("\n\n"):
        if part.strip():
            commands, _, expected = part.strip("\n").partition("\n----")
            blocks.append((commands.split("\n"), [line for line in expected.split("\n") if line]))
    return blocks


def play(path: Path) -> str:
    """The file as it would have to be."""
    stage = Stage()
    parts = []
    for commands, _ in parse(path.read_text()):
        stage.lines.clear()
        for command in commands:
            if command and not command.startswith("#"):
                stage.perform(command)
        parts.append("\n".join([*commands, "----", *stage.lines]))
    return "\n\n".join(parts) + "\n"


class _World(World):
    """Writes down what servers do."""

    heard: Callable[[tuple[Any, ...]], None]

    def note(self, *words: Any) -> None:
        super().note(*words)
        self.heard(words)


class _FixedDisk:
    """Randomness that is always in the middle."""

    def random(self) -> float:
        return 0.5


class Stage:
    """One ensemble that follows commands. `lines` is what happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._shown = {"quorum", "log"}
        self._readers: dict[tuple[int, int], PacketReader] = {}
        self._elections: dict[tuple[int, int], ElectionReader] = {}
        self._raw: set[tuple[int, int]] = set()
        self._strikes: dict[tuple[int, str], int] = {}
        self._tears: dict[tuple[int, int], int] = {}
        self._cxid = 0
        self.cluster: Cluster

    def perform(self, command: str) -> None:
        """One command."""
        name, *words = command.split()
        plain = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        method = getattr(self, f"do_{name}", None)
        if method is None:
            raise ValueError(f"unknown command: {command}")
        try:
            method(plain, options)
        except (Violation, ValueError) as error:
            self.lines.append(f"{type(error).__name__.upper()} {error}")

    # ---------------------------------------------------------------------------------------- commands
    def do_servers(self, words: list[str], options: dict[str, str]) -> None:
        setup = Setup(
            servers=int(words[0]),
            observers=int(options.get("observers", "0")),
            tick_ms=int(options.get("tick", "1000")),
            rollover_at=int(options.get("rollover", "0")),
            trust_empty=options.get("trust") != "no",
            snap_after=int(options.get("snap", "0")),
        )
        world = _World("script")
        world.heard = self._heard
        self.world = world
        profile = Profile(latency=MS, jitter=0, slow_share=0, split_share=0)
        self.cluster = Cluster(world, setup, zab(setup), profile=profile)
        self.cluster.net.taps.append(self)
        for node in self.cluster.nodes:
            node.random = _FixedDisk()  # type: ignore[assignment]
            node.strike = self._strike
            node.world = world

    def _node(self, word: str) -> Node:
        return self.cluster.nodes[int(word) - 1]

    def do_boot(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            if self._node(word).up:
                raise ValueError(f"server {word} is up")
            self._node(word).boot()

    def do_kill(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).disk.finish_sync(self._node(word).disk.begin_sync())
            self._node(word).crash(power=False)

    def do_power(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            node = self._node(word)
            node.disk._random = _Nothing()  # type: ignore[assignment]
            node.crash(power=True)

    def do_pause(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).pause()

    def do_resume(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).resume()

    def do_wipe(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).impaired = True
            self._node(word).disk.wipe()

    def do_damage(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).impaired = True
            self._node(word).disk.damage(int(options["lose"]))

    def do_purge(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            node = self._node(word)
            node.replica.write_state()
            node.disk.sync()
            zxids = node.disk.durable.zxids
            node.disk.purge(zxids[-1 - int(options.get("keep", "0"))])
            node.disk.sync()

    def do_cut(self, words: list[str], options: dict[str, str]) -> None:
        self.cluster.net.cut(int(words[0]), int(words[1]))

    def do_isolate(self, words: list[str], options: dict[str, str]) -> None:
        sid = int(words[0])
        for node in self.cluster.nodes:
            if node.sid != sid:
                self.cluster.net.cut(sid, node.sid)
                self.cluster.net.cut(node.sid, sid)

    def do_heal(self, words: list[str], options: dict[str, str]) -> None:
        if words:
            self.cluster.net.heal(int(words[0]), int(words[1]))
        else:
            self.cluster.net.heal_all()

    def do_hang(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self._node(word).sync_us = 3600 * SECOND

    def do_go(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            node = self._node(word)
            node.sync_us = 2 * MS
            node.turn(node._synced, node.incarnation, node.disk.begin_sync(), len(node._answers))

    def do_die(self, words: list[str], options: dict[str, str]) -> None:
        self._strikes[int(words[0]), options["at"]] = int(options.get("nth", "1"))

    def _strike(self, node: Node, point: str) -> bool:
        left = self._strikes.get((node.sid, point))
        if left is None:
            return False
        self._strikes[node.sid, point] = left - 1
        if left > 1:
            return False
        del self._strikes[node.sid, point]
        self.lines.append(f"  {node.sid} dies at {point}")
        return True

    def do_tear(self, words: list[str], options: dict[str, str]) -> None:
        self.cluster.net.tear_next[int(words[0]), int(words[1])] = int(options["bytes"])

    def do_write(self, words: list[str], options: dict[str, str]) -> None:
        node = self._node(words[0])
        for key, value in options.items():
            self._cxid += 1
            cxid = self._cxid
            node.turn(
                node.replica.write, 1, cxid, key.encode(), value.encode(),
                lambda zxid, version, key=key: self.lines.append(f"  wrote {key}: 0x{zxid:x}, version {version}"),
            )  # fmt: skip

    def do_read(self, words: list[str], options: dict[str, str]) -> None:
        zxid, found = self._node(words[0]).replica.read(words[1].encode())
        value = found[0].decode() if found else "nothing"
        self.lines.append(f"  read {words[1]} from {words[0]}: {value} at 0x{zxid:x}")

    def do_sync(self, words: list[str], options: dict[str, str]) -> None:
        node = self._node(words[0])
        self._cxid += 1
        node.turn(
            node.replica.sync, 1, self._cxid,
            lambda zxid, _: self.lines.append(f"  synced {words[0]} at 0x{zxid:x}"),
        )  # fmt: skip

    def do_stranger(self, words: list[str], options: dict[str, str]) -> None:
        target, kind, *data = words
        self.cluster.checker.corrupting = True
        stranger = _Stranger(self, int(options.get("as", "99")), bytes.fromhex("".join(data)))
        self.cluster.net.add(stranger)
        stranger.link = self.cluster.net.dial(stranger, kind, f"n{target}")

    def do_run(self, words: list[str], options: dict[str, str]) -> None:
        self.world.run(self.world.now + int(words[0]) * MS)

    def do_until(self, words: list[str], options: dict[str, str]) -> None:
        what, *sids = words
        nodes = [self._node(sid) for sid in sids] or self.cluster.nodes

        def reached() -> bool:
            up = [node for node in nodes if node.up]
            if what == "leader":
                return any(node.serving == "leader" for node in up)
            return all(bool(node.serving) == (what == "serving") for node in up)

        if not reached() and not self.world.run(self.world.now + 60 * SECOND, reached):
            self.lines.append(f"  never {' '.join(words)}")
        self.world.run(self.world.now + 20 * MS)

    def do_after(self, words: list[str], options: dict[str, str]) -> None:
        start, said = len(self.lines), " ".join(words)
        reached = self.world.run(
            self.world.now + 60 * SECOND, lambda: any(line.startswith(said) for line in self.lines[start:])
        )
        if not reached:
            raise ValueError(f"never said: {said}")

    def do_show(self, words: list[str], options: dict[str, str]) -> None:
        self._shown.update(words)

    def do_hide(self, words: list[str], options: dict[str, str]) -> None:
        self._shown.difference_update(words)

    def do_state(self, words: list[str], options: dict[str, str]) -> None:
        for node in self.cluster.nodes:
            image = node.disk.durable
            log = f"0x{image.zxids[0]:x}..0x{image.zxids[-1]:x}" if image.zxids else "empty"
            mode = (node.serving or "looking") if node.up else "down"
            applied = f", applied 0x{node.replica.applied:x}" if node.up else ""
            state = f", state 0x{image.state_zxid:x}" if image.state_zxid else ""
            epochs = f"epochs {image.accepted}/{image.current}"
            self.lines.append(f"  {node.sid} {mode}, {epochs}, log {log}{state}{applied}")

    def do_lag(self, words: list[str], options: dict[str, str]) -> None:
        for node in map(self._node, words):
            assert node.consensus is not None
            self.lines.append(f"  {node.sid} lag {node.consensus.status().details.get('lag')}")

    def do_equal(self, words: list[str], options: dict[str, str]) -> None:
        settled = self.cluster.settled([node.sid for node in self.cluster.nodes])
        digests = {(node.replica.applied, node.replica.digest) for node in self.cluster.nodes if node.up}
        self.lines.append("  all equal" if settled and len(digests) == 1 else f"  NOT EQUAL {digests}")

    # -------------------------------------------------------------------------------------- writing down
    def _heard(self, words: tuple[Any, ...]) -> None:
        what = words[0]
        if what == "log" and "log" in self._shown and words[2] != "debug":
            self.lines.append(f"  {words[1]} {words[2]}: {words[3]}")
        elif what in ("serving", "suspended") and "log" in self._shown:
            detail = f"{words[2]}, next 0x{words[3]:x}" if what == "serving" and words[3] else words[2]
            self.lines.append(f"  {words[1]} {what}: {detail}")
        elif what == "disk" and "disk" in self._shown:
            numbers = " ".join(f"0x{word:x}" if word >> 32 else str(word) for word in words[3:])
            self.lines.append(f"  {words[1]} disk {words[2]} {numbers}")
        elif what == "durable" and "disk" in self._shown:
            self.lines.append(f"  {words[1]} disk synced")

    def sent(self, source: int, target: int, kind: str, connection: int, data: bytes) -> None:
        """A tap of the network."""
        key = (connection, source)
        if kind == "election":
            reader = self._elections.get(key)
            if reader is None:
                reader = self._elections[key] = ElectionReader(expect_hello=data[:2] == b"\xff\xff")
            known = reader.hello
            if source > len(self.cluster.nodes):
                return
            payloads = reader.feed(data)
            if "election" in self._shown:
                if reader.hello and not known:
                    self.lines.append(f"{source}>{target} hello sid={reader.hello[0]} {reader.hello[1]}")
                self.lines += [f"{source}>{target} {_vote(payload)}" for payload in payloads]
            return
        if "quorum" not in self._shown or source > len(self.cluster.nodes):
            return
        if key in self._raw:
            _, signature, data = data.partition(wire_signature)
            if not signature:
                return
            self._raw.discard(key)
            self.lines.append(f"{source}>{target} (end of the snapshot)")
        packets = self._readers.setdefault(key, PacketReader(wire.PACKET_BYTES_MAX))
        for packet in packets.feed(data):
            if packet[0] != wire.PING:
                self.lines.append(f"{source}>{target} {_packet(*packet)}")
            if packet[0] == wire.SNAP:
                self._raw.add(key)
                self.sent(source, target, kind, connection, packets.rest())


wire_signature = b"\x00\x00\x00\x0aBenWasHere"


class _Nothing:
    """A power cut keeps nothing that was not synced."""

    def choice(self, options: Any) -> int:
        return 0

    def randint(self, low: int, high: int) -> int:
        return 0


class _Stranger:
    """Dials a server and sends bytes."""

    def __init__(self, stage: Stage, sid: int, data: bytes) -> None:
        self.stage = stage
        self.sid = sid
        self.data = data
        self.link = 0

    def accepting(self) -> str:
        return "refuse"

    def link_opened(self, link: int, kind: str, peer: str, outgoing: bool) -> None:
        self.stage.cluster.net.send(link, self.data)

    def link_data(self, link: int, data: bytes) -> None:
        self.stage.lines.append(f"  the stranger is answered: {data.hex()}")

    def link_drained(self, link: int) -> None:
        pass

    def link_closed(self, link: int, why: str) -> None:
        self.stage.lines.append(f"  the stranger is sent away: {why}")


def _vote(payload: bytes) -> str:
    note = parse_notification(payload)
    if note.leader == -(1 << 63):
        return f"{STATE_NAMES[note.state]} round={note.round} for nobody"
    zxid = f"0x{note.zxid:x}" if note.zxid >= 0 else str(note.zxid)
    return f"{STATE_NAMES[note.state]} round={note.round} for {note.leader} zxid={zxid} epoch={note.peer_epoch}"


def _packet(kind: int, zxid: int, data: bytes | None, authinfo: wire.AuthInfo | None) -> str:
    name = wire.NAMES[kind]
    if kind in (wire.FOLLOWERINFO, wire.OBSERVERINFO):
        sid, version, config = wire.parse_learner_info(data)
        return f"{name} accepted={zxid >> 32} sid={sid} version=0x{version:x} config={config:x}"
    if kind == wire.LEADERINFO:
        return f"{name} epoch={zxid >> 32}"
    if kind == wire.ACKEPOCH:
        last = f"0x{zxid:x}" if zxid >= 0 else str(zxid)
        return f"{name} current={wire.parse_int(data)} last={last}"
    if kind == wire.REQUEST:
        session, cxid, op, _ = wire.parse_request(data)
        return f"{name} session={session} cxid={cxid} op={op}"
    if kind in (wire.UPTODATE, wire.SYNC, wire.REVALIDATE):
        return name
    if kind == wire.NEWLEADER:
        return f"{name} 0x{zxid:x} config={data.decode().count('server.') if data else 0} servers"
    return f"{name} 0x{zxid:x}"
