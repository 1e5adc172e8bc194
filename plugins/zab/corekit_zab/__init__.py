"""ZAB: the consensus protocol of Apache ZooKeeper, as pure state machines.

The members come from the `server.N` lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corekit.api import API_VERSION
from corekit.errors import ConfigError
from corekit.hooks import Context, hookimpl

if TYPE_CHECKING:
    from corekit_zab.engine import Zab

kind = "consensus"
api_version = API_VERSION
suite = "corekit_zab.conformance"
simulator = "corekit_zab.simulated"


@hookimpl
def make_consensus(context: Context) -> Zab:
    """The consensus of one member of the ensemble that the settings describe."""
    from corekit_zab.engine import Zab
    from corekit_zab.options import Options
    from corekit_zab.quorum import Ensemble, Member

    s = context.settings
    if not s.servers:
        raise ConfigError("zab needs the members of the ensemble: add server.N=host:quorumPort:electionPort lines")
    if s.my_id < 0:
        raise ConfigError(f"this server's number is missing: write it into {s.data_dir}/myid, or set myid")
    members = {
        spec.sid: Member(
            spec.sid,
            tuple((a.host, a.quorum_port, a.election_port) for a in spec.addresses),
            spec.role,
            spec.text().partition(";")[2],
        )
        for spec in s.servers
    }
    try:
        ensemble = Ensemble(members, {number: frozenset(sids) for number, sids in s.groups.items()}, dict(s.weights))
    except ValueError as error:
        raise ConfigError(f"the ensemble cannot work: {error}") from None
    return Zab(
        s.my_id,
        ensemble,
        Options(
            tick_ms=s.tick_time_ms,
            init_limit=s.init_limit,
            sync_limit=s.sync_limit,
            trust_empty=_initialized({s.data_dir, s.data_log_dir or s.data_dir}),
        ),
    )


def _initialized(folders: set[str]) -> bool:
    """Whether a person says that no data is the right data: ZooKeeper's file `initialize`, which counts once."""
    found = False
    for folder in folders:
        marker = Path(folder) / "initialize"
        try:
            marker.unlink()
            found = True
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{marker} cannot be removed, but must count only once: {error.strerror}") from None
    return found
