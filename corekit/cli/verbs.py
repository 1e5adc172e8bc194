"""The registry of commands that work on an ensemble: what they are called, where they are, and where they may be used.

Every name is a command of `corekit`, of `corekit shell`, or of both. Modules are imported when a command is asked for.
Names and options are those of ZooKeeper's `zkCli.sh` where it has the command.
"""

from __future__ import annotations

from enum import Flag
from importlib import import_module
from typing import NamedTuple

import typer

from corekit.cli.connection import Command, command


class Where(Flag):
    """Where a command may be used."""

    ONCE = 1  # corekit NAME
    SHELL = 2  # a line of corekit shell
    BOTH = 3


TREE = "Znodes"
BULK = "Whole trees"
ENSEMBLE = "Ensemble"
SHELL = "Shell"


class Verb(NamedTuple):
    """One command: its function stands in a module of `corekit.cli`."""

    module: str
    function: str
    panel: str
    where: Where = Where.BOTH

    def load(self) -> Command:
        """Import the function."""
        found: Command = getattr(import_module(f"corekit.cli.{self.module}"), self.function)
        return found


VERBS: dict[str, Verb] = {
    "ls": Verb("tree_read", "ls", TREE),
    "get": Verb("tree_read", "get", TREE),
    "stat": Verb("tree_read", "stat", TREE),
    "create": Verb("tree_write", "create", TREE),
    "set": Verb("tree_write", "set_data", TREE),
    "delete": Verb("tree_write", "delete", TREE),
    "deleteall": Verb("tree_write", "deleteall", TREE),
    "getAcl": Verb("tree_read", "get_acl", TREE),
    "setAcl": Verb("tree_write", "set_acl", TREE),
    "sync": Verb("tree_read", "sync", TREE),
    "getAllChildrenNumber": Verb("tree_read", "get_all_children_number", TREE),
    "getEphemerals": Verb("tree_read", "get_ephemerals", TREE),
    "watch": Verb("tree_watch", "watch", TREE),
    "setquota": Verb("tree_quota", "setquota", TREE),
    "listquota": Verb("tree_quota", "listquota", TREE),
    "delquota": Verb("tree_quota", "delquota", TREE),
    "tree": Verb("tree_find", "tree", BULK),
    "find": Verb("tree_find", "find", BULK),
    "grep": Verb("tree_find", "grep", BULK),
    "top": Verb("tree_find", "top", BULK),
    "cp": Verb("tree_copy", "cp", BULK),
    "diff": Verb("tree_copy", "diff", BULK),
    "export": Verb("tree_export", "export", BULK),
    "import": Verb("tree_import", "import_tree", BULK),
    "bench": Verb("bench", "bench", BULK),
    "whoami": Verb("tree_read", "whoami", ENSEMBLE),
    "reconfig": Verb("ensemble_config", "reconfig", ENSEMBLE),
    "config": Verb("ensemble_config", "config", ENSEMBLE, Where.SHELL),  # once: `corekit config ensemble`
    "addauth": Verb("shell_commands", "addauth", SHELL, Where.SHELL),
    "addWatch": Verb("tree_watch", "add_watch", TREE),
    "removewatches": Verb("tree_watch", "removewatches", SHELL, Where.SHELL),
    "printwatches": Verb("shell_commands", "printwatches", SHELL, Where.SHELL),
}


def register(app: typer.Typer, name: str, where: Where) -> None:
    """Add one command to an application: to `corekit` with the options of the connection, to a shell without."""
    verb = VERBS[name]
    if where in verb.where:
        function = command(verb.load(), shared=where is Where.ONCE)
        app.command(name, rich_help_panel=verb.panel)(function)
