"""Quotas: setquota, listquota, delquota, with the options and the output of `zkCli.sh`.

A quota of PATH is two znodes, `/zookeeper/quota/PATH/zookeeper_limits` and `zookeeper_stats`; the server reads the
first and keeps the second. No path above or below a path with a quota may have one.

Sources: ZooKeeper `SetQuotaCommand`, `ListQuotaCommand`, `DelQuotaCommand`, `Quotas`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.cli.output import warn
from corekit.client import Client
from corekit.errors import NoNodeError, NotEmptyError, UserError
from corekit.model.quota import format_track, parse_track

ROOT = "/zookeeper/quota"
LIMITS = "zookeeper_limits"
STATS = "zookeeper_stats"


async def setquota(
    session: Session,
    path: PathArgument,
    count: Annotated[int | None, typer.Option("-n", metavar="N", help="Warn above N znodes.")] = None,
    size: Annotated[int | None, typer.Option("-b", metavar="N", help="Warn above N bytes.")] = None,
    hard_count: Annotated[int | None, typer.Option("-N", metavar="N", help="Refuse more than N znodes.")] = None,
    hard_size: Annotated[int | None, typer.Option("-B", metavar="N", help="Refuse more than N bytes.")] = None,
) -> None:
    """Limit how many znodes and bytes a subtree may have (the znode itself counts).

    The server must have enforceQuota set to refuse anything; without it, and beyond a soft limit, corekit logs a
    warning.

    [bold]Example[/bold]

      corekit setquota -N 1000 -B 1000000 /app
    """
    given = {"count": count, "bytes": size, "countHardLimit": hard_count, "byteHardLimit": hard_size}
    wanted = {key: value for key, value in given.items() if value is not None}
    _need_root(session)
    if not wanted:
        raise UserError("setquota needs one of -n, -b, -N, -B")
    if path == "/zookeeper" or path.startswith("/zookeeper/"):
        raise UserError("cannot set a quota under /zookeeper")
    zk = session.zk
    if await zk.exists(path) is None:
        raise UserError(f"{path} does not exist.", 1)
    await _check_relatives(zk, path)
    home = ROOT + path.rstrip("/")
    await zk.ensure(home)
    try:
        old = (await zk.get(f"{home}/{LIMITS}")).data
    except NoNodeError:
        await zk.create(f"{home}/{LIMITS}", format_track(wanted))
        await zk.create(f"{home}/{STATS}", format_track({"count": 0, "bytes": 0}))
    else:
        await zk.set(f"{home}/{LIMITS}", format_track({**parse_track(old), **wanted}))
    now = parse_track((await zk.get(f"{home}/{STATS}")).data)
    for name, limits in (("count", (count, hard_count)), ("bytes", (size, hard_size))):
        if any(limit is not None and limit < now.get(name, 0) for limit in limits):
            warn(f"the {name} quota you create is less than the existing {name}:{now[name]}")
    session.answer({"path": path, "limits": wanted, "now": now})


def _need_root(session: Session) -> None:
    if "/" in session.target.hosts.rstrip("/"):
        raise UserError(f"quotas are kept in {ROOT}: connect without a chroot (-H {session.target.hosts})")


async def _check_relatives(zk: Client, path: str) -> None:
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts)):
        above = "/" + "/".join(parts[:depth])
        if await zk.exists(f"{ROOT}{above}/{LIMITS}") is not None:
            raise UserError(f"{path} has a parent {above} which has a quota", 1)
    home = ROOT + path.rstrip("/")
    if await zk.exists(home) is None:
        return
    async for here, _ in zk.walk(home):
        below = here.removeprefix(ROOT).removesuffix(f"/{LIMITS}")
        if here.endswith(f"/{LIMITS}") and below != path:
            raise UserError(f"{path} has child {below} which has a quota", 1)


async def listquota(session: Session, path: PathArgument) -> int:
    """Print the quota of a path and what it holds now.

    [bold]Example[/bold]

      corekit listquota /app
    """
    from corekit.cli.text import data_text

    _need_root(session)
    home = ROOT + path.rstrip("/")
    if not session.json:
        print(f"absolute path is {home}/{LIMITS}")
    try:
        limits = (await session.zk.get(f"{home}/{LIMITS}")).data
        now = (await session.zk.get(f"{home}/{STATS}")).data
    except NoNodeError:
        raise UserError(f"quota for {path} does not exist.", 1) from None
    text = f"Output quota for {path} {data_text(limits)}\nOutput stat for {path} {data_text(now)}"
    session.answer({"path": path, "limits": parse_track(limits), "now": parse_track(now)}, text)
    return 0


async def delquota(
    session: Session,
    path: PathArgument,
    count: Annotated[bool, typer.Option("-n", help="Only the warning about znodes.")] = False,
    size: Annotated[bool, typer.Option("-b", help="Only the warning about bytes.")] = False,
    hard_count: Annotated[bool, typer.Option("-N", help="Only the limit of znodes.")] = False,
    hard_size: Annotated[bool, typer.Option("-B", help="Only the limit of bytes.")] = False,
) -> None:
    """Remove the quota of a path, or parts of it.

    [bold]Example[/bold]

      corekit delquota /app
    """
    _need_root(session)
    zk = session.zk
    home = ROOT + path.rstrip("/")
    given = {"count": count, "bytes": size, "countHardLimit": hard_count, "byteHardLimit": hard_size}
    try:
        old = (await zk.get(f"{home}/{LIMITS}")).data
    except NoNodeError:
        raise UserError(f"quota for {path} does not exist.", 1) from None
    if any(given.values()):
        left = {key: -1 if given.get(key) else value for key, value in parse_track(old).items()}
        await zk.set(f"{home}/{LIMITS}", format_track(left))
        session.answer({"path": path, "limits": left})
        return
    for name in (LIMITS, STATS):
        try:
            await zk.delete(f"{home}/{name}")
        except NoNodeError:
            pass
    while home != ROOT:  # parents that no other quota needs
        try:
            await zk.delete(home)
        except (NotEmptyError, NoNodeError):
            break
        home = home.rpartition("/")[0]
    session.answer({"path": path, "limits": {}})
