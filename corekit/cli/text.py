"""How znodes are shown to people and to programs: Stat, data, ACL and events as zkCli prints them, and as JSON. Pure.

Sources: ZooKeeper `StatPrinter`, `AclParser`, `WatchedEvent.toString`, `HexDumpOutputFormatter`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from typing import Any

from corekit.client import ACL, EventType, Stat, WatchEvent
from corekit.client.acl import perms_text
from corekit.codec.java_text import hex64

EVENT_NAMES = {
    EventType.CREATED: "NodeCreated",
    EventType.DELETED: "NodeDeleted",
    EventType.DATA_CHANGED: "NodeDataChanged",
    EventType.CHILDREN_CHANGED: "NodeChildrenChanged",
    EventType.RESYNC: "Resync",
}


def date_text(ms: int) -> str:
    """A time in ms since 1970 in the local zone, as Java's `Date.toString` writes it."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(ms / 1000))


def stat_lines(stat: Stat) -> list[str]:
    """The Stat in zkCli's order and names."""
    return [
        f"cZxid = 0x{hex64(stat.czxid)}",
        f"ctime = {date_text(stat.ctime)}",
        f"mZxid = 0x{hex64(stat.mzxid)}",
        f"mtime = {date_text(stat.mtime)}",
        f"pZxid = 0x{hex64(stat.pzxid)}",
        f"cversion = {stat.cversion}",
        f"dataVersion = {stat.version}",
        f"aclVersion = {stat.aversion}",
        f"ephemeralOwner = 0x{hex64(stat.ephemeral_owner)}",
        f"dataLength = {stat.data_length}",
        f"numChildren = {stat.num_children}",
    ]


def stat_text(stat: Stat) -> str:
    """`stat_lines` as one text."""
    return "\n".join(stat_lines(stat))


def stat_json(stat: Stat) -> dict[str, Any]:
    """The Stat under zkCli's names; zxids and session ids as hexadecimal text (JSON readers keep 53 bits only)."""
    return {
        "cZxid": f"0x{hex64(stat.czxid)}",
        "ctime": stat.ctime,
        "mZxid": f"0x{hex64(stat.mzxid)}",
        "mtime": stat.mtime,
        "pZxid": f"0x{hex64(stat.pzxid)}",
        "cversion": stat.cversion,
        "dataVersion": stat.version,
        "aclVersion": stat.aversion,
        "ephemeralOwner": f"0x{hex64(stat.ephemeral_owner)}",
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    }


def data_text(data: bytes | None) -> str:
    """Data as zkCli prints it: UTF-8, what is none of it replaced; `null` for null."""
    return "null" if data is None else data.decode("utf-8", "replace")


def data_json(data: bytes | None) -> dict[str, Any]:
    """Data as `{"data": text}`, or `{"base64": text}` if it is no UTF-8."""
    if data is None:
        return {"data": None}
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def hex_dump(data: bytes) -> str:
    """Data as zkCli's `get -x` prints it."""
    if not data:
        return ""
    edge = f"+--------+{'-' * 49}+{'-' * 16}+"
    lines = [
        f"         +{'-' * 49}+",
        f"         |  {'  '.join(f'{column:x}' for column in range(16))} |",
        edge,
    ]
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"|{at:08x}| {row.hex(' '):<48}|{shown:<16}|")
    return "\n".join([*lines, edge])


def acl_lines(entries: Iterable[ACL]) -> Iterator[str]:
    """An ACL as zkCli's `getAcl` prints it: two lines an entry."""
    for perms, scheme, acl_id in entries:
        yield f"'{scheme},'{acl_id}"
        yield f": {perms_text(perms)}"


def acl_text(entries: Iterable[ACL]) -> str:
    """An ACL as it is typed: `scheme:id:perms,...`."""
    return ",".join(str(entry) for entry in entries)


def acl_json(entries: Iterable[ACL]) -> list[dict[str, str]]:
    """An ACL as a list of objects."""
    return [{"scheme": scheme, "id": acl_id, "perms": perms_text(perms)} for perms, scheme, acl_id in entries]


def list_text(names: Iterable[str]) -> str:
    """A list as Java prints it."""
    return f"[{', '.join(names)}]"


def event_text(kind: str, path: str | None, state: str = "SyncConnected") -> str:
    """An event of a watch or of the session, as zkCli prints it."""
    return f"\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{'null' if path is None else path}"


def event_json(event: WatchEvent) -> dict[str, Any]:
    """An event of a watch; the zxid is None if the server does not tell it."""
    zxid = None if event.zxid < 0 else f"0x{hex64(event.zxid)}"
    return {"type": EVENT_NAMES[event.type], "path": event.path, "zxid": zxid}


def size_text(count: int) -> str:
    """A number of bytes in short."""
    if count < 1024:
        return f"{count} B"
    for unit in ("KiB", "MiB", "GiB"):
        count_in = count / 1024
        if count_in < 1024 or unit == "GiB":
            return f"{count_in:.1f} {unit}"
        count = int(count_in)
    raise AssertionError
