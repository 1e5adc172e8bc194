"""`export`: a tree of znodes as one JSON file or as a directory.

The JSON form
    {"format": "corekit-tree", "version": 1, "nodes": [{"path": "/a", "data": "text", "acl": "world:anyone:cdrwa"}]}
Paths are relative to the exported path ("" is that znode itself). Data that is no UTF-8 stands under "base64"; null
data is null. An ACL that everybody has (`world:anyone:cdrwa`) is left out.

The directory form
A directory for each znode, named as the znode; in it `.data` (the bytes; missing for null) and `.acl` (zkCli's text;
missing for the open ACL). Names that begin with a dot or hold `%` or a NUL are written with percent signs (`%2Ename`).

Ephemeral znodes belong to sessions and are left out. Container and TTL nodes cannot be told from others by a client;
they come back as persistent ones. Not here: the way back (`tree_import.py`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.cli.nodes import Node, below, read_all, relative
from corekit.cli.progress import Progress
from corekit.cli.text import acl_text, data_json
from corekit.client import OPEN
from corekit.errors import UserError

FORMAT = "corekit-tree"
VERSION = 1
DATA = ".data"
ACL_FILE = ".acl"


async def export(
    session: Session,
    path: PathArgument,
    target: Annotated[
        str, typer.Argument(metavar="FILE|DIR", help="A new file, `-` for standard output; DIR/ is a new directory.")
    ],
    acl: Annotated[bool, typer.Option("--acl/--no-acl", help="Write access control lists.")] = True,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that exists.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
) -> None:
    """Write a tree of znodes into a JSON file, or into a directory (if the name ends with a slash).

    [bold]Examples[/bold]

      corekit export /app app.json

      corekit export /app app/              [dim]# for version control[/dim]

      corekit export / - | gzip > all.json.gz
    """
    as_directory = _check(target, force or dry_run)
    paths = [here async for here, children in below(session.zk, path) if not children.stat.ephemeral_owner]
    size = 0
    nodes = []
    with Progress("reading", len(paths), session.json) as progress:
        async for node in read_all(session.zk, paths):
            size += len(node.data or b"")
            nodes.append(node._replace(path=relative(node.path, path), acl=node.acl if acl else OPEN))
            progress.advance()
    if not dry_run:
        if as_directory:
            _write_directory(Path(target), nodes)
        else:
            _write_json(target, nodes)
    if target != "-":
        verb = "would be written" if dry_run else "written"
        value = {"znodes": len(nodes), "bytes": size, "target": target, "dry_run": dry_run}
        session.answer(value, f"{len(nodes)} znodes with {size} bytes of data {verb} to {target}")


def _check(target: str, force: bool) -> bool:
    """Whether a directory is to be written.

    Raises:
        UserError: something is there.
    """
    place = Path(target)
    if target.endswith("/") or place.is_dir():
        if place.is_dir() and any(place.iterdir()):
            raise UserError(f"the directory {target} is not empty")
        return True
    if target != "-" and place.exists() and not force:
        raise UserError(f"{target} exists; --force replaces it")
    return False


def _write_json(target: str, nodes: list[Node]) -> None:
    entries = []
    for node in nodes:
        entry: dict[str, Any] = {"path": node.path, **data_json(node.data)}
        if set(node.acl) != set(OPEN):
            entry["acl"] = acl_text(node.acl)
        entries.append(json.dumps(entry, ensure_ascii=False))
    # One line a znode, so that versions of the file can be compared.
    lines = ",\n  ".join(entries)
    text = f'{{"format": "{FORMAT}", "version": {VERSION}, "nodes": [\n  {lines}\n]}}\n'
    if target == "-":
        sys.stdout.write(text)
        return
    partial = f"{target}.part"
    try:
        with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}", 1) from error


def _write_directory(target: Path, nodes: list[Node]) -> None:
    try:
        for node in nodes:
            here = target.joinpath(*(file_name(part) for part in node.path.split("/") if part))
            here.mkdir(parents=True, exist_ok=True)
            if node.data is not None:
                (here / DATA).write_bytes(node.data)
            if set(node.acl) != set(OPEN):
                (here / ACL_FILE).write_text(acl_text(node.acl) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}", 1) from error


def file_name(name: str) -> str:
    """A znode's name as a directory's."""
    name = name.replace("%", "%25").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def znode_name(file: str) -> str:
    """The znode's name that `file_name` made a directory's of."""
    return file.replace("%2E", ".").replace("%00", "\0").replace("%25", "%")
