"""Who belongs to the ensemble, and what counts as a quorum of it.

Majorities, or ZooKeeper's hierarchical quorums as soon as a group or a weight is given. Everything here is a value:
an ensemble that changes is another `Ensemble`. Host names are kept as written, they are resolved at each dial.

Sources: ZooKeeper `QuorumMaj`, `QuorumHierarchical`. Not here: reading configuration files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

PARTICIPANT: Final = "participant"
OBSERVER: Final = "observer"


@dataclass(frozen=True, slots=True)
class Member:
    """One server of the ensemble.

    Attributes:
        sid: its number.
        addresses: (host, quorum port, election port), at least one; they are tried in turn.
        role: `participant` (votes) or `observer`.
        client: where its clients connect, as text behind the `;` of its line; "" if the line does not say.
    """

    sid: int
    addresses: tuple[tuple[str, int, int], ...]
    role: str = PARTICIPANT
    client: str = ""

    def text(self) -> str:
        """The value of its `server.N` line as ZooKeeper writes it."""
        peers = "|".join(f"{_bracket(host)}:{quorum}:{election}" for host, quorum, election in self.addresses)
        return f"{peers}:{self.role}" + (f";{self.client}" if self.client else "")

    def election_addresses(self) -> list[str]:
        """Where its election port is, as initial messages say it."""
        return [f"{_bracket(host)}:{port}" for host, _, port in self.addresses]


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True)
class Ensemble:
    """The members and their weights.

    Attributes:
        members: by sid.
        groups: group number -> sids; empty for plain majorities.
        weights: sid -> weight where it is not 1.
        version: zxid of the reconfiguration that made it; 0 if it comes from the configuration file.
    """

    members: Mapping[int, Member]
    groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        voters = frozenset(sid for sid, member in self.members.items() if member.role == PARTICIPANT)
        object.__setattr__(self, "voters", voters)
        object.__setattr__(self, "_half", len(voters) // 2)
        if not voters:
            raise ValueError("an ensemble needs at least one participant")
        if self.groups or self.weights:
            grouped = [sid for sids in self.groups.values() for sid in sids]
            if len(grouped) != len(set(grouped)) or not voters <= set(grouped):
                raise ValueError("with group or weight lines every participant must be in exactly one group")
            if not any(self._group_weight(group) for group in self.groups):
                raise ValueError("every group has the weight 0: nobody could lead")

    voters: frozenset[int] = field(init=False, repr=False, compare=False)
    _half: int = field(init=False, repr=False, compare=False)

    @property
    def observers(self) -> frozenset[int]:
        """Members that do not vote."""
        return frozenset(self.members) - self.voters

    def weight(self, sid: int) -> int:
        """Weight of a vote."""
        return self.weights.get(sid, 1)

    def _group_weight(self, group: int) -> int:
        return sum(self.weight(sid) for sid in self.groups[group] if sid in self.voters)

    def has_quorum(self, sids: Collection[int]) -> bool:
        """Whether these servers together are a quorum. Observers and strangers do not count."""
        acked = self.voters.intersection(sids)
        if not self.groups:
            return len(acked) > self._half
        weighty = [group for group in self.groups if self._group_weight(group)]
        won = sum(
            1
            for group in weighty
            if sum(self.weight(sid) for sid in acked & self.groups[group]) > self._group_weight(group) // 2
        )
        return won > len(weighty) // 2

    def agreed(self, upto: Mapping[int, int]) -> int:
        """The largest zxid that a quorum has reached, given how far each voter is; 0 if there is none."""
        if not self.groups:
            voters = self.voters
            reached = sorted([zxid for sid, zxid in upto.items() if sid in voters], reverse=True)
            return reached[self._half] if len(reached) > self._half else 0
        for zxid in sorted(set(upto.values()), reverse=True):
            if self.has_quorum([sid for sid, reached_zxid in upto.items() if reached_zxid >= zxid]):
                return zxid
        return 0

    def text(self) -> bytes:
        """The configuration as notifications and NEWLEADER carry it."""
        lines = [f"server.{sid}={self.members[sid].text()}" for sid in sorted(self.members)]
        lines += [f"group.{group}={':'.join(map(str, sorted(self.groups[group])))}" for group in sorted(self.groups)]
        lines += [f"weight.{sid}={self.weights[sid]}" for sid in sorted(self.weights)]
        lines.append(f"version={self.version:x}")
        return "\n".join(lines).encode()

    def disagreement(self, text: bytes) -> str | None:
        """How a peer's configuration text differs in its members, or None. Client addresses do not matter."""
        mine, theirs = _membership(self.text()), _membership(text)
        if not theirs or mine == theirs:
            return None
        only_mine, only_theirs = sorted(mine - theirs), sorted(theirs - mine)
        return f"only here: {', '.join(only_mine) or 'nothing'}; only there: {', '.join(only_theirs) or 'nothing'}"


def _membership(text: bytes) -> set[str]:
    lines = text.decode("utf-8", "replace").splitlines()
    return {line.split(";")[0].strip() for line in lines if line.startswith(("server.", "group.", "weight."))}
