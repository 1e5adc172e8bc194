"""Commands on znodes, one process each: zkCli's verbs with their options, exit codes, errors in one line."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Tool, finish, until
from tests.cli.terminal import Terminal

STAT = [
    "cZxid",
    "ctime",
    "mZxid",
    "mtime",
    "pZxid",
    "cversion",
    "dataVersion",
    "aclVersion",
    "ephemeralOwner",
    "dataLength",
    "numChildren",
]


def stat_of(text: str) -> dict[str, str]:
    found = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    assert list(found) == STAT
    return found


def test_the_life_of_a_znode(tool: Tool, root: str) -> None:
    assert tool.out("create", root, "hello") == f"Created {root}\n"
    assert tool.out("get", root) == "hello\n"
    assert tool.out("get", "-s", root).splitlines()[0] == "hello"
    assert stat_of(tool.out("stat", root))["dataLength"] == "5"
    assert tool.out("set", root, "new", "-v", "0") == ""
    assert stat_of(tool.out("set", "-s", root, "newer"))["dataVersion"] == "2"
    assert tool.out("create", f"{root}/b") + tool.out("create", f"{root}/a") == f"Created {root}/b\nCreated {root}/a\n"
    assert tool.out("ls", root) == "[a, b]\n"
    assert tool.out("ls", "-R", root) == f"{root}\n{root}/a\n{root}/b\n"
    assert stat_of(tool.out("ls", "-s", root).partition("\n")[2])["numChildren"] == "2"
    assert tool.out("getAllChildrenNumber", root) == "2\n"
    assert tool.out("sync", root) == "Sync is OK\n"
    assert tool.out("delete", f"{root}/a") == ""
    assert tool.out("deleteall", root, "--dry-run") == "2 znodes would be deleted\n"
    assert tool.out("deleteall", root) == ""
    done = tool.run("deleteall", "/zookeeper/quota")
    assert (done.returncode, done.stderr.partition(":")[2]) == (
        2,
        " /zookeeper/quota is the servers' own: it is not deleted as a tree (delete removes single znodes)\n",
    )
    assert tool.run("stat", root).returncode == 1


def test_json(tool: Tool, root: str) -> None:
    assert json.loads(tool.out("create", root, "hi", "--json")) == {"path": root}
    got = json.loads(tool.out("get", root, "--json"))
    assert (got["path"], got["data"], got["stat"]["dataLength"]) == (root, "hi", 2)
    assert list(got["stat"]) == STAT
    assert got["stat"]["cZxid"].startswith("0x")
    assert json.loads(tool.out("ls", root, "--json")) == []
    assert json.loads(tool.out("getAcl", root, "--json"))["acl"] == [
        {"scheme": "world", "id": "anyone", "perms": "cdrwa"}
    ]
    assert json.loads(tool.out("whoami", "--json")) == [{"scheme": "ip", "id": "127.0.0.1"}]


def test_kinds_of_znodes(tool: Tool, root: str) -> None:
    tool.out("create", root)
    assert tool.out("create", "-s", f"{root}/s") == f"Created {root}/s0000000000\n"
    assert tool.out("create", "-c", f"{root}/c") == f"Created {root}/c\n"
    assert tool.out("create", "-t", "60000", f"{root}/t") == f"Created {root}/t\n"
    assert tool.out("create", "-e", f"{root}/e") == f"Created {root}/e\n"  # and it goes with the command's session
    assert tool.out("ls", root) == "[c, s0000000000, t]\n"
    assert tool.out("create", "-p", f"{root}/x/y/z", "deep") == f"Created {root}/x/y/z\n"
    assert tool.out("get", f"{root}/x") == "\n"
    assert tool.out("get", f"{root}/c") == "null\n"
    done = tool.run("create", "-t", "1", "-e", f"{root}/bad")
    assert (done.returncode, done.stderr) == (2, "corekit: TTLs cannot be used with Ephemeral znodes\n")


def test_data_that_is_no_text(tool: Tool, root: str, tmp_path: Path) -> None:
    data = bytes(range(256))
    (tmp_path / "data").write_bytes(data)
    tool.out("create", root, "--file", "data")
    assert tool.out("get", "-b", root) == base64.b64encode(data).decode() + "\n"
    dump = tool.out("get", "-x", root).splitlines()
    assert dump[3] == "|00000000| 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f |................|"
    assert dump[7].endswith("|@ABCDEFGHIJKLMNO|")
    assert json.loads(tool.out("get", root, "--json"))["base64"] == base64.b64encode(data).decode()
    raw = tool.start("get", "--raw", root, text=False)
    assert raw.communicate(timeout=30)[0] == data
    tool.out("set", "-b", root, base64.b64encode(b"\xff").decode())
    assert tool.out("get", "-b", root) == "/w==\n"
    tool.out("set", root, "--file", "-", text="from a pipe")
    assert tool.out("get", root) == "from a pipe\n"
    assert tool.run("set", "-b", root, "not base64!").returncode == 2
    assert tool.run("set", root).returncode == 2


def test_access_control(tool: Tool, root: str) -> None:
    ann = ("--auth", "digest:ann:secret")
    tool.out("create", root, "mine", "auth::cdrwa", *ann)
    assert tool.out("getAcl", root, *ann) == "'digest,'ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=\n: cdrwa\n"
    done = tool.run("get", root)
    assert (done.returncode, done.stderr) == (77, f"corekit: Insufficient permission : {root}\n")
    done = tool.run("get", root, env={"COREKIT_AUTH": "digest:bob:x digest:ann:secret"})
    assert (done.returncode, done.stdout) == (0, "mine\n")
    assert "digest: ann" in tool.out("whoami", *ann)
    tool.out("create", f"{root}/child", "x", *ann)
    assert tool.out("setAcl", "-R", root, "world:anyone:cdrwa", *ann) == ""
    assert tool.out("get", root) == "mine\n"
    assert stat_of(tool.out("setAcl", "-s", root, "world:anyone:cdrw"))["aclVersion"] == "2"
    assert stat_of(tool.out("getAcl", "-s", root).partition("\n: cdrw\n")[2])["aclVersion"] == "2"
    assert tool.run("setAcl", root, "nonsense").returncode == 2
    assert tool.run("ls", "/", "--auth", "digest").returncode == 2
    done = tool.run("create", f"{root}/never", "--auth", "nonsense:x")
    assert done.returncode == 77
    assert "refused the credentials" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "/nope"), 1, "Node does not exist: /nope"),
        (("create", "/"), 1, "Node already exists: /"),
        (("create", "/nope/x"), 1, "Node does not exist: /nope (-p creates missing parents)"),
        (("delete", "/zookeeper"), 1, "Arguments are not valid : /zookeeper"),
        (("listquota", "/nope"), 1, "quota for /nope does not exist."),
        (("find", "/", "--regex", "("), 2, "'(' is no regular expression: "),
        (
            ("ls", "/", "--tls-ca", "/no/such/file"),
            2,
            "--tls-ca /no/such/file cannot be used: No such file or directory",
        ),
    ],
)
def test_errors_are_one_line(tool: Tool, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = tool.run(*arguments)
    assert done.returncode == code
    assert next(line for line in done.stderr.splitlines() if not line.startswith("absolute")).startswith(
        f"corekit: {text}"
    )
    assert done.stderr.count("\n") == 1


def test_versions_that_do_not_fit(tool: Tool, root: str) -> None:
    tool.out("create", root)
    for arguments in (
        ("set", "-v", "7", root, "x"),
        ("delete", "-v", "7", root),
        ("setAcl", "-v", "7", root, "world:anyone:r"),
    ):
        done = tool.run(*arguments)
        assert (done.returncode, done.stderr) == (1, f"corekit: version No is not valid : {root}\n")
    tool.out("create", f"{root}/child")
    assert tool.run("delete", root).stderr == f"corekit: Node not empty: {root}\n"


def test_wrong_use_is_told(tool: Tool) -> None:
    for arguments in (
        ("get",),
        ("get", "relative"),
        ("get", "/a//b"),
        ("ls", "--nonsense"),
        ("get", "/", "two", "three"),
    ):
        done = tool.run(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-c", "-e"), "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential."),
        (("-c", "-s"), "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential."),
        (("-t", "9", "-e"), "TTLs cannot be used with Ephemeral znodes"),
        (("-t", "0"), "-t 0: ttl must be positive and cannot be larger than: 1099511627775"),
    ],
)
def test_kinds_that_do_not_go_together(tool: Tool, options: tuple[str, ...], text: str) -> None:
    done = tool.run("create", "/never", *options)
    assert (done.returncode, done.stderr) == (2, f"corekit: {text}\n")


def test_a_missing_parent_is_named(tool: Tool, root: str) -> None:
    done = tool.run("create", f"{root}/a/b")
    assert (done.returncode, done.stderr) == (
        1,
        f"corekit: Node does not exist: {root}/a (-p creates missing parents)\n",
    )


def test_bash_completes_commands_options_and_paths(tool: Tool, root: str, tmp_path: Path) -> None:
    """What `--show-completion bash` prints is sourced by a bash, and asked as bash does when Tab is pressed."""
    tool.out("create", root)
    tool.out("create", f"{root}/only")
    program = tmp_path / "bin" / "corekit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m corekit "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(corekit --show-completion bash)"
        words() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _corekit_completion corekit; echo "${COMPREPLY[*]}"; }
        words corekit semap; words corekit lock a; words corekit ls --rec; words corekit get "$1"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", f"{root}/o"],
        env=tool.environ(PATH=f"{program.parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["semaphore", "acquire", "--recursive", f"{root}/only"]


def test_servers_that_refuse_are_named_at_once(make_tool: Callable[[str], Tool]) -> None:
    tool = make_tool("127.0.0.1:1,localhost:2")
    done = tool.run("ls", "/")
    assert done.returncode == 69
    assert done.stderr.startswith("corekit: no session: ")  # and not "no session within 10 s": it did not wait for that
    assert "127.0.0.1:1: connection refused" in done.stderr
    assert "localhost:2: connection refused" in done.stderr
    assert "corekit serve" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_of_the_output_may_leave(tool: Tool) -> None:
    listing = tool.start("ls", "-R", "/")
    assert listing.stdout is not None
    listing.stdout.close()
    assert finish_without_output(listing) in (0, 141)


def finish_without_output(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    return process.wait(30)


def test_one_shot_watches_wait(tool: Tool, root: str) -> None:
    tool.out("create", root, "a")
    watcher = tool.start("get", "-w", root)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "a\n"
    tool.out("set", root, "b")
    assert finish(watcher)[1].splitlines()[-1] == f"WatchedEvent state:SyncConnected type:NodeDataChanged path:{root}"


def test_watch_shows_changes_live(tool: Tool, root: str) -> None:
    tool.out("create", root)
    ready = tool.start("watch", root, "--data", "--json", "-n", "3")
    # The watch is set when the server has answered, which nobody sees: changes are made until one shows.
    changes: list[dict[str, str]] = []

    def first() -> bool:
        tool.out("set", root, "x")
        assert ready.stdout is not None
        import select

        return bool(select.select([ready.stdout], [], [], 0.2)[0])

    until(first, "an event is shown")
    tool.out("create", f"{root}/a", "data")
    tool.out("delete", f"{root}/a")
    code, out, _ = finish(ready)
    changes = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(changes) == 3
    assert changes[0]["type"] == "NodeDataChanged"
    assert changes[0]["data"] == "x"


def test_quotas(tool: Tool, root: str) -> None:
    tool.out("create", root, "12345")
    tool.out("setquota", "-n", "5", "-B", "100", root)
    assert tool.out("listquota", root).splitlines() == [
        f"absolute path is /zookeeper/quota{root}/zookeeper_limits",
        f"Output quota for {root} count=5,bytes=-1=;byteHardLimit=100",
        f"Output stat for {root} count=1,bytes=5",
    ]
    shown = json.loads(tool.out("listquota", root, "--json"))
    assert shown["now"] == {"count": 1, "bytes": 5}
    tool.out("create", f"{root}/child")
    assert tool.run("setquota", "-n", "5", f"{root}/child").stderr == (
        f"corekit: {root}/child has a parent {root} which has a quota\n"
    )
    done = tool.run("setquota", "-n", "1", root)
    assert done.returncode == 0
    assert done.stderr == "corekit: warning: the count quota you create is less than the existing count:2\n"
    tool.out("delquota", "-n", root)
    assert "count=-1" in tool.out("listquota", root)
    tool.out("delquota", root)
    assert tool.run("listquota", root).returncode == 1
    assert root.strip("/") not in tool.out("ls", "/zookeeper/quota")


# ----------------------------------------------------------------------------------------- whole trees
@pytest.fixture
def plant(tool: Tool, root: str) -> None:
    for path, data in (("", ""), ("/a", "one\ntwo"), ("/a/b", "x" * 2000), ("/c", "TWO"), ("/c/.d%", "dot")):
        tool.out("create", root + path, data)


@pytest.mark.usefixtures("plant")
def test_looking_through_a_tree(tool: Tool, root: str) -> None:
    assert tool.out("tree", root) == f"{root}\n├── a\n│   └── b\n└── c\n    └── .d%\n"
    assert tool.out("tree", root, "--depth", "1") == f"{root}\n├── a\n└── c\n"
    assert "b  (2.0 KiB, version 0)" in tool.out("tree", root, "--long")
    assert json.loads(tool.out("tree", root, "--json"))["children"][0]["name"] == "a"
    assert tool.out("find", root, "--name", "?") == f"{root}/a\n{root}/c\n{root}/a/b\n"
    assert tool.out("find", root, "--larger", "100", "--leaf") == f"{root}/a/b\n"
    assert tool.out("find", root, "--ephemeral") == ""
    assert len(tool.out("find", root, "--newer", "600", "--persistent", "--long").splitlines()) == 5
    assert tool.out("grep", "two", root) == f"{root}/a:two\n"
    assert tool.out("grep", "-il", "two", root) == f"{root}/a\n{root}/c\n"
    assert tool.run("grep", "nothing", root).returncode == 1
    done = tool.run("grep", "two", f"{root}/none")
    assert (done.returncode, done.stderr) == (2, f"corekit: Node does not exist: {root}/none\n")
    assert tool.out("top", root, "-n", "1").split("\t")[0] == f"{root}/a/b"
    ranked = json.loads(tool.out("top", root, "--by", "descendants", "--json"))
    assert [(one["path"], one["descendants"]) for one in ranked[:2]] == [(root, 4), (f"{root}/a", 1)]
    assert ranked[0]["subtree"] == 7 + 2000 + 3 + 3


@pytest.mark.usefixtures("plant")
@pytest.mark.parametrize("target", ["tree.json", "tree/"])
def test_export_and_import(tool: Tool, root: str, target: str) -> None:
    acl = "world:anyone:r,ip:127.0.0.1:cdrwa"
    tool.out("setAcl", f"{root}/c", acl)
    tool.out("create", f"{root}/binary", "--file", "-", text="")
    tool.out("set", "-b", f"{root}/binary", "//4=")
    tool.out("create", f"{root}/null")
    assert "7 znodes with 2015 bytes of data would be written" in tool.out("export", root, target, "--dry-run")
    assert not (tool.directory / target).exists()
    tool.out("export", root, target)
    assert tool.run("export", root, target).returncode == 2
    copy = f"{root}-copy"
    assert f"+ {copy}/c/.d%" in tool.out("import", target, copy, "--dry-run").splitlines()
    assert tool.run("stat", copy).returncode == 1
    assert tool.out("import", target, copy) == "znodes: 7 created, 0 changed, 0 equal, 0 kept\n"
    assert tool.out("diff", root, copy, "--acl") == ""
    assert tool.out("get", f"{copy}/null") == "null\n"
    assert tool.out("import", target, copy) == "znodes: 0 created, 0 changed, 7 equal, 0 kept\n"
    tool.out("set", f"{copy}/a", "other")
    done = tool.run("import", target, copy)
    assert done.returncode == 1
    assert f"{copy}/a exist already and differ; nothing was changed" in done.stderr
    assert tool.out("import", target, copy, "--existing", "keep") == "znodes: 0 created, 0 changed, 6 equal, 1 kept\n"
    done = tool.run("diff", root, copy, "--acl")
    assert (done.returncode, done.stdout) == (1, "! /a  (data)\n")
    tool.out("import", target, copy, "--existing", "overwrite")
    assert tool.out("diff", root, copy, "--acl") == ""


def test_what_may_not_be_read_does_not_hide_the_rest(tool: Tool, root: str) -> None:
    tool.out("create", root)
    tool.out("create", f"{root}/open", "found me")
    tool.out("create", f"{root}/mine", "found me", "auth::cdrwa", "--auth", "digest:ann:secret")
    for words, shown in (
        (("tree", root), "open"),
        (("find", root), f"{root}/open"),
        (("grep", "found", root), f"{root}/open:found me"),
        (("top", root), f"{root}/open"),
        (("lock", "list", root), ""),
    ):
        done = tool.run(*words)
        assert shown in done.stdout
        # Before ZOOKEEPER-2590 anybody may see that it is there.
        refused = (3, f"corekit: Insufficient permission : {root}/mine\n")
        assert (done.returncode, done.stderr) in (refused, (0, "")), words
    assert tool.run("tree", root, "--auth", "digest:ann:secret").returncode == 0


def test_a_terminal_shows_how_far_a_large_copy_is(tool: Tool, root: str) -> None:
    tool.run("shell", text="\n".join([f"create {root}", *(f"create {root}/{number}" for number in range(600))]))
    for arguments, bar in ((("export", root, "tree.json"), "reading"), (("cp", "-r", root, f"{root}2"), "copying")):
        terminal = Terminal(tool, *arguments, env={"TERM": "xterm"})
        terminal.wait_for(bar)
        terminal.wait_for("100%")
        terminal.wait_for("601 ")
        assert terminal.close() == 0


@pytest.mark.usefixtures("plant")
def test_copying_a_tree(tool: Tool, root: str) -> None:
    copy = f"{root}-copy"
    tool.out("cp", "-r", root, copy)
    assert tool.out("diff", root, copy) == ""
    for pair in ((root, f"{root}/none"), (f"{root}/none", root)):
        done = tool.run("diff", *pair)
        assert (done.returncode, done.stderr) == (2, f"corekit: Node does not exist: {root}/none\n")
    assert tool.run("cp", "-r", root, f"{root}/inside").returncode == 2
    tool.out("cp", f"{root}/a", f"{root}/new")
    assert tool.out("get", f"{root}/new") == "one\ntwo\n"
    assert tool.out("ls", f"{root}/new") == "[]\n"
    done = tool.run("diff", root, copy, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [{"sign": "<", "path": "/new", "differs": ["znode"]}])
    elsewhere = ("--to-hosts", f"{tool.hosts}{root}")
    assert tool.out("diff", root, "/", *elsewhere) == ""
    done = tool.run("diff", copy, "/", *elsewhere, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [{"sign": ">", "path": "/new", "differs": ["znode"]}])


def test_import_refuses_what_it_does_not_know(tool: Tool, root: str, tmp_path: Path) -> None:
    for text in ("[]", '{"format": "other", "version": 1, "nodes": []}', "no json"):
        (tmp_path / "file").write_text(text)
        done = tool.run("import", "file", root)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    assert tool.run("import", "no-such-file", root).returncode == 2


def test_bench_says_how_fast_it_is_and_cleans_up(tool: Tool, root: str) -> None:
    shown = json.loads(tool.out("bench", root, "--seconds", "0.1", "--clients", "2", "--flight", "2", "--json"))
    assert [result["op"] for result in shown["results"]] == ["create", "set", "get", "exists", "delete"]
    for result in shown["results"]:
        assert result["count"] > 0
        assert result["errors"] == 0
        assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert tool.run("stat", root).returncode == 1


HEAVY = {"rich", "rocksdict", "cryptography", "prometheus_client", "h11", "pluggy", "asyncio", "corekit_zab"}


def test_simple_commands_import_only_what_they_need(tool: Tool) -> None:
    """What a command imports is most of its start-up: no server, no plugins, no other command's modules."""
    code = (
        "import atexit, sys; from corekit.cli.main import run;"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); run(['ls', '/'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=tool.environ(), capture_output=True, text=True)
    assert done.returncode == 0, done
    imported = set(done.stderr.split())
    assert {"corekit.cli.tree_read", "corekit.client"} <= imported
    packages = {module.partition(".")[0] for module in imported}
    assert not HEAVY & packages
    inside = {".".join(module.split(".")[:2]) for module in imported if module.startswith("corekit.")}
    assert not {"corekit.server", "corekit.replica", "corekit.plugins", "corekit.builtin", "corekit.testing"} & inside
    others = {module for module in imported if module.startswith("corekit.cli.tree_")}
    assert others == {"corekit.cli.tree_read"}
