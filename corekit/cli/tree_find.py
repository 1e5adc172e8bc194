"""Commands that look through whole trees: tree, find, grep, top. Not atomic; see `nodes`.

What may not be read is named on stderr and left out, and the exit code is 3.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session, describe, one_is_an_answer
from corekit.cli.nodes import below, read_data
from corekit.cli.output import print_table
from corekit.cli.text import size_text, stat_json
from corekit.client import Children, Stat
from corekit.client.paths import name as last_name
from corekit.client.paths import parent
from corekit.codec.java_text import hex64
from corekit.errors import EXIT_OK, KeeperError, UserError

EXIT_UNREAD = 3  # of these commands: something could not be read

DepthOption = Annotated[
    int | None, typer.Option("--depth", "-d", min=0, metavar="N", help="Only N levels below.", show_default=False)
]


async def tree(
    session: Session,
    path: PathArgument = "/",
    depth: DepthOption = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, version and kind of each znode.")] = False,
) -> int:
    """Draw a tree of znodes. Ends with 3 if something could not be read.

    [bold]Examples[/bold]

      corekit tree /app

      corekit tree / --depth 2 --long
    """
    refused: list[KeeperError] = []
    found = {here: children async for here, children in below(session.zk, path, depth, refused)}
    inner: dict[str, list[str]] = defaultdict(list)
    for here in found:
        if here != path:
            inner[parent(here)].append(here)
    if session.json:
        session.answer(_nested(path, found, inner))
        return told(refused)
    print(path + (_long(found[path]) if long else ""))
    stack = [(here, "", at == len(inner[path]) - 1) for at, here in enumerate(sorted(inner[path]))][::-1]
    while stack:
        here, indent, last = stack.pop()
        print(f"{indent}{'└── ' if last else '├── '}{last_name(here)}{_long(found[here]) if long else ''}")
        children = sorted(inner[here])
        indent += "    " if last else "│   "
        stack += [(child, indent, at == len(children) - 1) for at, child in enumerate(children)][::-1]
    return told(refused)


def told(refused: list[KeeperError]) -> int:
    """Name on stderr what could not be read; the exit code."""
    for error in refused:
        print(f"corekit: {describe(error)}", file=sys.stderr)
    return EXIT_UNREAD if refused else EXIT_OK


def _nested(path: str, found: dict[str, Children], inner: dict[str, list[str]]) -> dict[str, Any]:
    objects: dict[str, dict[str, Any]] = {
        here: {"name": last_name(here) or "/", "stat": stat_json(children.stat), "children": []}
        for here, children in found.items()
    }
    for above, paths in inner.items():
        objects[above]["children"] = [objects[here] for here in sorted(paths)]
    return objects[path]


def _long(children: Children) -> str:
    stat = children.stat
    owner = f", ephemeral of 0x{hex64(stat.ephemeral_owner)}" if stat.ephemeral_owner else ""
    return f"  ({size_text(stat.data_length)}, version {stat.version}{owner})"


# -------------------------------------------------------------------------------------------- find
async def find(
    session: Session,
    path: PathArgument = "/",
    name: Annotated[
        str | None, typer.Option("--name", "-name", "-n", metavar="GLOB", help="The last part of the path fits.")
    ] = None,
    regex: Annotated[str | None, typer.Option("--regex", metavar="RE", help="Found somewhere in the path.")] = None,
    ephemeral: Annotated[
        bool | None, typer.Option("--ephemeral/--persistent", "-e", help="Of a session, or not.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="0xID", help="Ephemeral of this session.")] = None,
    leaf: Annotated[bool, typer.Option("--leaf", help="Has no children.")] = False,
    larger: Annotated[int | None, typer.Option("--larger", metavar="BYTES", help="Data of more bytes.")] = None,
    smaller: Annotated[int | None, typer.Option("--smaller", metavar="BYTES", help="Data of fewer bytes.")] = None,
    newer: Annotated[
        float | None, typer.Option("--newer", metavar="SECONDS", help="Changed in the last SECONDS.")
    ] = None,
    older: Annotated[
        float | None, typer.Option("--older", metavar="SECONDS", help="Not changed in the last SECONDS.")
    ] = None,
    depth: DepthOption = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, version, owner and time of each znode.")] = False,
) -> int:
    """Print the paths of znodes that fulfil all conditions given. Ends with 3 if something could not be read.

    [bold]Examples[/bold]

      corekit find /app --name "lock-*" --ephemeral

      corekit find / --larger 100000 --long

      corekit find /jobs --older 86400 --leaf
    """
    conditions = _conditions(name, regex, ephemeral, owner, leaf, larger, smaller, newer, older)
    rows = []
    refused: list[KeeperError] = []
    async for here, children in below(session.zk, path, depth, refused):
        if not all(condition(here, children.stat) for condition in conditions):
            continue
        if session.json:
            rows.append({"path": here, "stat": stat_json(children.stat)})
        elif long:
            stat = children.stat
            changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stat.mtime / 1000))
            owned = f"0x{hex64(stat.ephemeral_owner)}" if stat.ephemeral_owner else "-"
            print(f"{stat.data_length:>9} {stat.version:>6} {owned:>18} {changed} {here}")
        else:
            print(here)
    if session.json:
        session.answer(rows)
    return told(refused)


Condition = Callable[[str, Stat], bool]


def _conditions(
    name: str | None,
    regex: str | None,
    ephemeral: bool | None,
    owner: str | None,
    leaf: bool,
    larger: int | None,
    smaller: int | None,
    newer: float | None,
    older: float | None,
) -> list[Condition]:
    now = time.time() * 1000
    found: list[Condition] = []
    if name is not None:
        found.append(lambda path, stat: fnmatch.fnmatchcase(last_name(path), name))
    if regex is not None:
        pattern = compiled(regex)
        found.append(lambda path, stat: pattern.search(path) is not None)
    if ephemeral is not None:
        found.append(lambda path, stat: (stat.ephemeral_owner != 0) is ephemeral)
    if owner is not None:
        try:
            number = int(owner, 16)
        except ValueError:
            raise UserError(f"--owner {owner}: a session is a hexadecimal number") from None
        found.append(lambda path, stat: stat.ephemeral_owner & (1 << 64) - 1 == number)
    if leaf:
        found.append(lambda path, stat: stat.num_children == 0)
    if larger is not None:
        found.append(lambda path, stat: stat.data_length > larger)
    if smaller is not None:
        found.append(lambda path, stat: stat.data_length < smaller)
    if newer is not None:
        found.append(lambda path, stat: now - stat.mtime <= newer * 1000)
    if older is not None:
        found.append(lambda path, stat: now - stat.mtime > older * 1000)
    return found


def compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression.

    Raises:
        UserError: it is none.
    """
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise UserError(f"{pattern!r} is no regular expression: {error}") from error


# -------------------------------------------------------------------------------------------- grep
async def grep(
    session: Session,
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A regular expression.")],
    path: PathArgument = "/",
    ignore_case: Annotated[bool, typer.Option("-i", "--ignore-case", help="Small or capital, all the same.")] = False,
    fixed: Annotated[bool, typer.Option("-F", "--fixed-strings", help="PATTERN is plain text.")] = False,
    names_only: Annotated[bool, typer.Option("-l", "--list", help="Only the paths.")] = False,
) -> int:
    """Search the data of all znodes below a path.

    Ends with 0 if something is found, 1 if nothing is, 2 if it cannot be searched, 3 if a part could not be read.

    [bold]Examples[/bold]

      corekit grep "timeout *=" /app

      corekit grep -l -i password /
    """
    wanted = compiled(re.escape(pattern) if fixed else pattern, re.IGNORECASE if ignore_case else 0)
    refused: list[KeeperError] = []
    with one_is_an_answer():
        paths = [here async for here, children in below(session.zk, path, None, refused) if children.stat.data_length]
    rows: list[dict[str, Any]] = []
    hits = 0
    async for node in read_data(session.zk, paths):
        if isinstance(node, KeeperError):
            refused.append(node)
            continue
        lines = [
            (number, line)
            for number, line in enumerate((node.data or b"").decode("utf-8", "replace").splitlines(), 1)
            if wanted.search(line)
        ]
        hits += len(lines)
        if session.json:
            rows += [{"path": node.path, "line": number, "text": line} for number, line in lines]
        elif names_only and lines:
            print(node.path)
        elif lines:
            print("\n".join(f"{node.path}:{line}" for _, line in lines))
    if session.json:
        session.answer(rows)
    return told(refused) or (EXIT_OK if hits else 1)


# --------------------------------------------------------------------------------------------- top
class By(StrEnum):
    """What `top` ranks by."""

    SIZE = "size"
    CHILDREN = "children"
    SUBTREE = "subtree"
    DESCENDANTS = "descendants"


async def top(
    session: Session,
    path: PathArgument = "/",
    by: Annotated[
        By,
        typer.Option("--by", "-b", help="Own data, own children, bytes of the subtree, or znodes in it."),
    ] = By.SIZE,
    count: Annotated[int, typer.Option("--count", "-n", min=1, metavar="N", help="How many.")] = 10,
) -> int:
    """Print the largest znodes. Ends with 3 if something could not be read.

    [bold]Examples[/bold]

      corekit top /

      corekit top / --by children -n 20

      corekit top / --by subtree --json
    """
    stats: dict[str, Stat] = {}
    subtree: dict[str, int] = defaultdict(int)
    descendants: dict[str, int] = defaultdict(int)
    refused: list[KeeperError] = []
    async for here, children in below(session.zk, path, None, refused):
        stats[here] = children.stat
    for here in reversed(stats):  # deepest first
        subtree[here] += stats[here].data_length
        if here != path:
            subtree[parent(here)] += subtree[here]
            descendants[parent(here)] += descendants[here] + 1
    rank: dict[By, Callable[[str], int]] = {
        By.SIZE: lambda here: stats[here].data_length,
        By.CHILDREN: lambda here: stats[here].num_children,
        By.SUBTREE: lambda here: subtree[here],
        By.DESCENDANTS: lambda here: descendants[here],
    }
    chosen = sorted(stats, key=lambda here: (-rank[by](here), here))[:count]
    if session.json:
        session.answer(
            [
                {
                    "path": here,
                    "size": stats[here].data_length,
                    "children": stats[here].num_children,
                    "subtree": subtree[here],
                    "descendants": descendants[here],
                }
                for here in chosen
            ]
        )
        return told(refused)
    rows = [
        (
            here,
            size_text(stats[here].data_length),
            str(stats[here].num_children),
            size_text(subtree[here]),
            str(descendants[here]),
        )
        for here in chosen
    ]
    print_table(("path", "size", "children", "subtree", "descendants"), rows)
    return told(refused)
