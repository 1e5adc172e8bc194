"""`import`: znodes from what `export` has written; the writing half of `cp` too.

Rules
- Parents before children. Everything is compared first, so that `--existing fail` changes nothing at all.
- A znode with children and an ACL of its own is made with an ACL that lets its children be made, and without its data;
  its data and then its ACL are set when everything below it is there.
- Nothing is atomic: others may change the tree meanwhile, and an error in the middle leaves what was done before.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from corekit.cli.complete import PathArgument
from corekit.cli.connection import Session
from corekit.cli.nodes import Node, moved
from corekit.cli.progress import Progress
from corekit.cli.tree_export import ACL_FILE, DATA, FORMAT, VERSION, znode_name
from corekit.client import ACL, CREATOR_ALL, OPEN, Client, Stat, op, parse_acl
from corekit.client.paths import parent
from corekit.errors import KeeperError, NodeExistsError, NoNodeError, UserError

NO_STAT = Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Existing(StrEnum):
    """What to do with a znode that exists and differs."""

    FAIL = "fail"
    KEEP = "keep"
    OVERWRITE = "overwrite"


async def import_tree(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FILE|DIR", help="What `export` wrote; `-` for standard input.")],
    path: PathArgument = "/",
    existing: Annotated[
        Existing, typer.Option("--existing", help="What to do with znodes that exist and differ.")
    ] = Existing.FAIL,
    acl: Annotated[bool, typer.Option("--acl/--no-acl", help="Set access control lists.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Create znodes below a path from what `corekit export` has written.

    [bold]Examples[/bold]

      corekit import app.json /app --dry-run

      corekit import app.json /app

      corekit import app/ /app --existing overwrite
    """
    nodes = [node._replace(path=moved(node.path, "", path)) for node in load(source)]
    importer = Importer(session.zk, existing, acl, dry_run, bool(session.target.credentials()))
    with Progress("writing", len(nodes), session.json) as progress:
        await importer.run(nodes, progress)
    importer.report(session)


class Importer:
    """Brings znodes into an ensemble. `created`, `changed`, `equal` and `kept` hold the paths of each kind."""

    def __init__(self, zk: Client, existing: Existing, acl: bool, dry_run: bool, known: bool) -> None:
        """`known`: this client has credentials, so that an ACL for its creator lets it in again."""
        self._zk = zk
        self._existing = existing
        self._acl = acl
        self._dry_run = dry_run
        self._passing = CREATOR_ALL if known else OPEN
        self.created: list[str] = []
        self.changed: list[str] = []
        self.equal: list[str] = []
        self.kept: list[str] = []

    async def run(self, nodes: Sequence[Node], progress: Progress) -> None:
        """Create and change what is needed.

        Raises:
            UserError: something differs and may not be changed.
        """
        nodes = sorted(nodes, key=lambda node: node.path.count("/") if node.path != "/" else 0)
        fresh, other = await self._compare(nodes)
        if self._dry_run:
            return
        with_children = {parent(node.path) for node in nodes if node.path != "/"}
        late: list[Node] = []
        if fresh:
            await self._zk.ensure(parent(fresh[0].path))
        for level in _levels(fresh):
            requests = []
            for node in level:
                acl = node.acl if self._acl and node.acl else OPEN
                if set(acl) != set(OPEN) and node.path in with_children:
                    late.append(node)
                    requests.append(op.create(node.path, None, acl=self._passing))
                else:
                    requests.append(op.create(node.path, node.data, acl=acl))
            async for answer in self._zk.stream(requests, flight=200, errors=True):
                progress.advance()
                if isinstance(answer, KeeperError) and not isinstance(answer, NodeExistsError):
                    raise answer
        for node in [*reversed(other), *reversed(late)]:
            if node.path != "/" or node.data is not None:
                await self._zk.set(node.path, node.data)
            if self._acl and node.acl:
                await self._zk.set_acl(node.path, node.acl)

    async def _compare(self, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """What is new, and what must be changed."""
        fresh: list[Node] = []
        other: list[Node] = []
        answers = self._zk.stream((op.get_nullable(node.path) for node in nodes), flight=200, errors=True)
        for node in nodes:
            answer = await anext(answers)
            if isinstance(answer, NoNodeError):
                fresh.append(node)
                self.created.append(node.path)
                continue
            if isinstance(answer, KeeperError):
                raise answer
            same = answer[0] == node.data or (node.path == "/" and not node.data)
            if same and self._acl and node.acl:
                same = set((await self._zk.get_acl(node.path))[0]) == set(node.acl)
            if same:
                self.equal.append(node.path)
            elif self._existing is Existing.KEEP:
                self.kept.append(node.path)
            else:
                other.append(node)
                self.changed.append(node.path)
        if other and self._existing is Existing.FAIL and not self._dry_run:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise UserError(
                f"{other[0].path}{more} exist already and differ; nothing was changed. "
                "Use --existing keep or --existing overwrite",
                1,
            )
        return fresh, other

    def report(self, session: Session) -> None:
        """Print what was done, or would be."""
        value = {
            "created": self.created,
            "changed": self.changed,
            "equal": len(self.equal),
            "kept": self.kept,
            "dry_run": self._dry_run,
        }
        lines = []
        if self._dry_run:
            lines = [f"+ {path}" for path in self.created]
            sign = "x" if self._existing is Existing.FAIL else "!"
            lines += [f"{sign} {path}" for path in self.changed] + [f"= {path}" for path in self.kept]
        would = "would be " if self._dry_run else ""
        changed = "in the way" if self._dry_run and self._existing is Existing.FAIL else f"{would}changed"
        lines.append(
            f"znodes: {len(self.created)} {would}created, {len(self.changed)} {changed}, "
            f"{len(self.equal)} equal, {len(self.kept)} kept"
        )
        session.answer(value, "\n".join(lines))


def _levels(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that are sorted by depth, in groups of one depth."""
    found: dict[int, list[Node]] = {}
    for node in nodes:
        found.setdefault(node.path.count("/"), []).append(node)
    return list(found.values())


# ------------------------------------------------------------------------------------------ reading
def load(source: str) -> list[Node]:
    """The znodes in a file or a directory, with relative paths, parents first.

    Raises:
        UserError: it cannot be read, or `export` has not written it.
    """
    try:
        if source != "-" and Path(source).is_dir():
            return list(_from_directory(Path(source)))
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UserError(f"{source} is no text: `corekit export` writes JSON") from None
    try:
        value = json.loads(text)
        if value["format"] != FORMAT or value["version"] != VERSION:
            raise UserError(f"{source} has format {value['format']} {value['version']}, not {FORMAT} {VERSION}")
        return [_node(entry, source) for entry in value["nodes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source} is not what `corekit export` writes: {error}") from error


def _node(entry: dict[str, Any], source: str) -> Node:
    path = entry["path"]
    if path and not path.startswith("/"):
        raise UserError(f"{source}: the path {path!r} does not begin with a slash")
    acl: tuple[ACL, ...] = tuple(parse_acl(entry["acl"])) if entry.get("acl") else OPEN
    if "base64" in entry:
        try:
            return Node(path, NO_STAT, base64.b64decode(entry["base64"], validate=True), acl)
        except binascii.Error as error:
            raise UserError(f"{source}: the data of {path} is not base64: {error}") from error
    data = entry.get("data")
    return Node(path, NO_STAT, None if data is None else data.encode(), acl)


def _from_directory(base: Path) -> list[Node]:
    found = []
    stack = [(base, "")]
    while stack:
        here, path = stack.pop()
        data, acl = here / DATA, here / ACL_FILE
        entries = tuple(parse_acl(acl.read_text("utf-8").strip())) if acl.exists() else OPEN
        found.append(Node(path, NO_STAT, data.read_bytes() if data.exists() else None, entries))
        inner = (entry for entry in sorted(here.iterdir()) if entry.is_dir() and not entry.name.startswith("."))
        stack += [(entry, f"{path}/{znode_name(entry.name)}") for entry in inner]
    return found
